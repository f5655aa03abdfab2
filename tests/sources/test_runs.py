"""Documents of stored runs: from a real Tiled server, and from text files."""

import numpy as np
import pytest
from event_model import DocumentNames, schema_validators

from bluesky_xpdml.documents import RunCollector
from bluesky_xpdml.documents.stored import StoredRow
from bluesky_xpdml.errors import DocumentError, FileFormatError, MissingDataError, PublishError
from bluesky_xpdml.records import AbsorptionScan
from bluesky_xpdml.sources.replay import scan_documents
from bluesky_xpdml.sources.runs import documents_in, open_runs, stored_documents

SCANS = [
    AbsorptionScan(
        energy=np.linspace(7000.0, 7200.0, 40), mu=np.linspace(0.0, high, 40), element="Fe", edge="K"
    )
    for high in (1.0 / 3.0, np.pi)
]


@pytest.fixture(scope="module")
def stored(tiled_server):
    """Return the documents of two runs that were written to a container, and that container."""
    from bluesky_tiled_plugins import TiledWriter
    from tiled.structures.core import Spec

    runs = [list(scan_documents(scan, when=1.5)) for scan in SCANS]
    with open_runs(tiled_server.uri) as root:
        parent = root.create_container("stored_runs", specs=[Spec("CatalogOfBlueskyRuns", version="3.0")])
        writer = TiledWriter(parent, max_array_size=0)
        for run in runs:
            for name, document in run:
                writer(name, document)
    with open_runs(tiled_server.uri, path="stored_runs") as container:
        yield runs, container


def test_documents_of_a_stored_run_are_valid_and_in_order(stored):
    runs, container = stored
    for run in runs:
        uid = run[0][1]["uid"]
        documents = list(stored_documents(container, uid))
        assert documents[0][1]["uid"] == uid
        assert [name for name, _ in documents] == ["start", "descriptor", "event_page", "stop"]
        for name, document in documents:
            schema_validators[DocumentNames[name]].validate(document)


def test_stored_numbers_come_back_bit_by_bit(stored):
    runs, container = stored
    for run in runs:
        original = dict(run)
        back = dict(stored_documents(container, original["start"]["uid"]))
        assert back["start"] == original["start"]
        assert back["stop"] == original["stop"]
        assert back["descriptor"]["data_keys"] == original["descriptor"]["data_keys"]
        assert back["event_page"]["data"] == original["event_page"]["data"]
        assert back["event_page"]["seq_num"] == original["event_page"]["seq_num"]


def spectra_run():
    """Return a run whose events hold a spectrum of 64 channels and a table of 5 rows each."""
    shapes = {"Fe1_xrf": [64], "apb_stream": [5, 9]}
    keys = {
        key: {"source": "x", "dtype": "array", "dtype_numpy": "<f8", "shape": shape}
        for key, shape in shapes.items()
    }
    yield "start", {"uid": "spectra", "time": 1.0}
    described = {
        "uid": "spectra-d",
        "run_start": "spectra",
        "time": 1.0,
        "name": "primary",
        "data_keys": keys,
    }
    more = {"object_keys": {}, "hints": {}, "configuration": {}}
    yield "descriptor", described | more
    for number in (1, 2, 3):
        data = {key: np.full(shape, float(number)).tolist() for key, shape in shapes.items()}
        event = {"uid": f"spectra-{number}", "descriptor": "spectra-d", "seq_num": number, "time": 1.0}
        yield "event", event | {"data": data, "timestamps": dict.fromkeys(data, 1.0), "filled": {}}
    ended = {"uid": "spectra-z", "run_start": "spectra", "time": 2.0, "exit_status": "success"}
    yield "stop", ended | {"reason": "", "num_events": {"primary": 3}}


def test_spectra_of_stored_events_are_fetched_on_access(stored):
    from bluesky_tiled_plugins import TiledWriter

    writer = TiledWriter(stored[1], max_array_size=0)
    for name, document in spectra_run():
        writer(name, document)
    collector = RunCollector({"uid": "spectra"}, array_keys=("apb_stream",))
    pages = []
    for name, document in stored_documents(stored[1], "spectra"):
        collector.feed(name, document)
        pages += [document] if name == "event_page" else []
    (page, *_) = pages
    assert isinstance(page["data"]["Fe1_xrf"][0], StoredRow)
    assert np.asarray(page["data"]["Fe1_xrf"][0]).tolist() == [1.0] * 64
    stream = collector.finish().streams["primary"]
    assert list(stream.arrays) == ["apb_stream"]
    assert stream.arrays["apb_stream"]["0"].tolist() == [1.0] * 5 + [2.0] * 5 + [3.0] * 5
    assert stream.columns == {}


def test_a_missing_run_is_refused(stored):
    with pytest.raises(MissingDataError, match="no run nowhere in the container"):
        list(stored_documents(stored[1], "nowhere"))


def test_a_container_that_is_no_run_is_refused(tiled_server, stored):
    with (
        open_runs(tiled_server.uri) as root,
        pytest.raises(DocumentError, match="stored_runs is no Bluesky run"),
    ):
        list(stored_documents(root, "stored_runs"))


def test_a_missing_container_is_refused(tiled_server):
    with (
        pytest.raises(MissingDataError, match="expected a container 'no/such'"),
        open_runs(tiled_server.uri, path="no/such"),
    ):
        pass


def test_a_server_that_is_away_is_reported_at_once():
    with (
        pytest.raises(PublishError, match="expected a Tiled server at"),
        open_runs("http://127.0.0.1:9", path="raw"),
    ):
        pass


def test_both_formats_of_lines_are_read(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text('["start", {"uid": "a"}]\n\n{"name": "stop", "doc": {"uid": "z"}}\n')
    assert list(documents_in(path)) == [("start", {"uid": "a"}), ("stop", {"uid": "z"})]


@pytest.mark.parametrize("line", ["{", "3", "[1]", '["start", 3]', '[1, {"uid": "a"}]', '{"name": "start"}'])
def test_a_line_that_is_no_document_is_named(tmp_path, line):
    path = tmp_path / "run.jsonl"
    path.write_text(f'["start", {{"uid": "a"}}]\n{line}\n')
    with pytest.raises(FileFormatError, match="line 2"):
        list(documents_in(path))


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(MissingDataError, match="cannot be opened"):
        list(documents_in(tmp_path / "none.jsonl"))
