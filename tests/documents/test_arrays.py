"""Tables of continuous scans in events and in files: what the profile asks for is read, nothing else is."""

import h5py
import numpy as np
import pytest

from bluesky_xpdml.documents import RunCollector, collector_for, read_run
from bluesky_xpdml.documents import arrays as arrays_module
from bluesky_xpdml.documents.arrays import joined, table_of
from bluesky_xpdml.errors import DocumentError

TICK = 8.0051232e-9
SAMPLES = np.array([(1.5, 3), (2.5, 4)], dtype=[("timestamp", "f8"), ("i0", "i4")])


@pytest.mark.parametrize(
    "value",
    [
        SAMPLES,
        SAMPLES.reshape(1, 2),
        {"timestamp": [1.5, 2.5], "i0": np.array([3, 4])},
        SAMPLES.view(np.recarray),
    ],
)
def test_named_columns_in_every_spelling(value):
    table = table_of(value)
    assert {name: values.tolist() for name, values in table.items()} == {
        "timestamp": [1.5, 2.5],
        "i0": [3.0, 4.0],
    }


@pytest.mark.parametrize("value", [[[1, 2], [3, 4]], [[[1, 2], [3, 4]]], np.array([[1, 2], [3, 4]])])
def test_rows_without_names_are_numbered(value):
    assert {name: values.tolist() for name, values in table_of(value).items()} == {
        "0": [1.0, 3.0],
        "1": [2.0, 4.0],
    }


@pytest.mark.parametrize(
    "value",
    [
        "counts",
        ["a", "b"],
        [1 + 2j, 3],
        np.zeros((2, 487, 195)),
        np.zeros((10, 4096)),
        {},
        {"a": [1, 2], "b": [1]},
        {"a": {"b": 1}},
        np.array([("x", 1)], dtype=[("a", "U1"), ("b", "i4")]),
    ],
)
def test_values_that_are_no_table_are_refused(value):
    with pytest.raises(DocumentError):
        table_of(value)


def test_tables_are_joined_by_the_columns_that_all_hold():
    first, second = {"a": np.ones(1), "b": np.ones(1)}, {"a": np.zeros(2)}
    assert joined([first, second])["a"].tolist() == [1.0, 0.0, 0.0]
    assert list(joined([first, second])) == ["a"]
    assert joined([]) == {}


def first_scan(run, profile="auto"):
    measurement = read_run(run, profile)
    if measurement.error is not None:
        raise measurement.error
    return measurement.scans[0]


def fed(documents, **how):
    collector = collector_for(documents[0][1], **how)
    for name, document in documents[1:]:
        collector.feed(name, document)
    return collector.finish()


def in_files(documents, folder):
    """Move the tables of a run into files, and name them in its events as ISS does."""
    moved = []
    for name, document in documents:
        if name != "event_page":
            moved.append((name, document))
            continue
        (key,) = document["data"]
        spec = {"apb_stream": "APB", "pb9_enc1": "PIZZABOX_ENC_FILE_TXT_PD"}[key]
        path = folder / f"{key}.dat"
        write(spec, path, document["data"][key][0])
        resource = {"uid": f"r-{key}", "spec": spec, "root": "/there", "resource_path": path.name}
        moved.append(("resource", resource | {"resource_kwargs": {}, "run_start": documents[0][1]["uid"]}))
        moved.append(("datum", {"datum_id": f"r-{key}/0", "resource": f"r-{key}", "datum_kwargs": {}}))
        moved.append((name, document | {"data": {key: [f"r-{key}/0"]}}))
    return moved


def write(spec, path, table):
    if spec == "APB":
        whole = np.floor(table["timestamp"])
        ticks = np.round((table["timestamp"] - whole) / TICK)
        columns = [table[name] for name in table.dtype.names[1:]]
        np.column_stack([*columns, whole, ticks]).astype("<i4").tofile(path)
    else:
        np.savetxt(path, np.array(table.tolist()), fmt="%d")


def test_tables_in_files_of_analog_and_encoder_boxes(conventions, tmp_path):
    documents = conventions.iss_documents(conventions.Known(), n_samples=2_000)
    expected = first_scan(fed(documents))
    run = fed(in_files(documents, tmp_path), root_map={"/there": str(tmp_path)})
    found = first_scan(run)
    # A clock of 8 ns moves an energy by less than a millionth of an eV.
    np.testing.assert_allclose(found.energy, expected.energy, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found.i0, expected.i0)


def test_a_missing_file_is_named(conventions, tmp_path):
    documents = in_files(conventions.iss_documents(conventions.Known(), n_samples=2_000), tmp_path)
    (tmp_path / "apb_stream.dat").unlink()
    run = fed(documents, root_map={"/there": str(tmp_path)})
    assert any("apb_stream.dat" in remark for remark in run.remarks())
    with pytest.raises(DocumentError, match=r"expected a table of currents .*apb_stream\.dat"):
        first_scan(run)


def test_tables_in_hdf5_files_of_stream_data(conventions, tmp_path):
    documents = conventions.iss_documents(conventions.Known(), n_samples=2_000)
    expected = first_scan(fed(documents))
    path = tmp_path / "scan.h5"
    moved = []
    with h5py.File(path, "w") as file:
        for name, document in documents:
            if name != "event_page":
                moved.append((name, document))
                continue
            (key,) = document["data"]
            file[key] = document["data"][key][0]
            resource = {"uid": f"r-{key}", "mimetype": "application/x-hdf5", "data_key": key}
            address = {"uri": f"file://localhost{path}", "parameters": {"dataset": key}}
            moved.append(("stream_resource", resource | address | {"run_start": documents[0][1]["uid"]}))
            for first in (0, 1_000):
                rows = {"start": first, "stop": 1_000 if first == 0 else 5_000}
                datum = {"uid": f"d-{key}-{first}", "stream_resource": f"r-{key}", "indices": rows}
                moved.append(("stream_datum", datum | {"descriptor": document["descriptor"]}))
    found = first_scan(fed(moved))
    np.testing.assert_array_equal(found.energy, expected.energy)
    np.testing.assert_array_equal(found.it, expected.it)


def test_arrays_under_other_keys_are_never_read():
    class Untouchable:
        def __array__(self, *_args, **_kwargs):
            raise AssertionError("a spectrum of the detector was read")

    collector = RunCollector({"uid": "a"}, array_keys=("apb_stream",))
    keys = {"Fe1_xrf": {}, "apb_stream": {}}
    collector.feed("descriptor", {"uid": "d", "run_start": "a", "name": "primary", "data_keys": keys})
    data = {"Fe1_xrf": Untouchable(), "apb_stream": SAMPLES}
    collector.feed("event", {"uid": "e", "descriptor": "d", "seq_num": 1, "time": 0.0, "data": data})
    arrays = collector.finish().streams["primary"].arrays
    assert list(arrays) == ["apb_stream"]


def test_a_repeated_measurement_replaces_its_table():
    collector = RunCollector({"uid": "a"}, array_keys=("apb_stream",))
    collector.feed("descriptor", {"uid": "d", "run_start": "a", "name": "s", "data_keys": {"apb_stream": {}}})
    for uid, value in (("x", 1.0), ("x", 1.0), ("y", 2.0)):
        data = {"apb_stream": [value, value]}
        event = {"uid": uid, "descriptor": "d", "seq_num": 1, "time": value, "data": data}
        collector.feed("event", event)
    assert collector.finish().streams["s"].arrays["apb_stream"][""].tolist() == [2.0, 2.0]


def test_numbers_beyond_the_limit_are_left_out(monkeypatch):
    monkeypatch.setattr(arrays_module, "MAXIMUM_VALUES", 5)
    collector = RunCollector({"uid": "a"}, array_keys=("t",))
    collector.feed("descriptor", {"uid": "d", "run_start": "a", "name": "s", "data_keys": {"t": {}}})
    for number in (1, 2):
        event = {
            "uid": str(number),
            "descriptor": "d",
            "seq_num": number,
            "time": 0.0,
            "data": {"t": [1, 2, 3]},
        }
        collector.feed("event", event)
    run = collector.finish()
    assert run.streams["s"].arrays["t"][""].size == 3
    assert run.remarks()[-1] == "tables beyond 5 numbers were left out (1)"
