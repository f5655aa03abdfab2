"""Dark and background runs come from a real Tiled server, by uid or sample, and the connection is closed."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest

from bluesky_xpdml.documents import collect_run, dark_of, load_profile
from bluesky_xpdml.documents.stored import StoredRuns
from bluesky_xpdml.errors import DocumentError, MissingDataError
from bluesky_xpdml.publish.tiled import connect


def timed(documents, time):
    (_, start), *rest = copy.deepcopy(documents)
    return [("start", start | {"time": time}), *rest]


@pytest.fixture(scope="module")
def container_path(tiled_server, powder):
    """Return the path of a container with runs of an empty capillary, its dark, and a sample."""
    from bluesky_tiled_plugins import TiledWriter
    from tiled.structures.core import Spec

    empty = {"sample_name": "kapton", "sample_composition": None, "composition_string": None}
    dark = powder.dark_run("dark-of-kapton")
    dark[0][1]["sample_name"] = "kapton"
    runs = [
        timed(powder.older(uid="kapton-1", **empty), 10.0),
        timed(powder.older(uid="kapton-2", **empty), 20.0),
        timed(dark, 30.0),
        timed(powder.older(uid="kapton-derived", purpose="xpdml", **empty), 40.0),
        timed(powder.older(uid="nio-1"), 50.0),
    ]
    root = connect(tiled_server.uri)
    parent = root.create_container("stored_scattering", specs=[Spec("CatalogOfBlueskyRuns", version="3.0")])
    for documents in runs:
        writer = TiledWriter(parent, max_array_size=0)
        for name, document in documents:
            writer(name, document)
    root.context.http_client.close()
    return "stored_scattering"


@pytest.fixture
def runs(tiled_server, container_path):
    with StoredRuns(connect(tiled_server.uri)[container_path]) as stored:
        yield stored


@pytest.mark.parametrize("profile", ["auto", "xpd", load_profile("xpd")])
def test_a_dark_run_is_collected_by_the_profile_of_the_caller(runs, powder, profile):
    run = collect_run(runs("dark-of-kapton"), profile=profile, dark_frames=True)
    np.testing.assert_array_equal(dark_of(run, run.profile).mean, powder.dark)


def test_a_dark_run_has_the_image_that_the_callers_profile_names(runs, powder, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('extends = "xpd"\n[scattering]\nimage = ["pe9_image"]\n')
    run = collect_run(runs("dark-of-kapton"), profile=str(own), dark_frames=True)
    assert run.profile.name == "own"
    with pytest.raises(MissingDataError, match="found none that could be read"):
        dark_of(run, run.profile)


def test_files_of_a_fetched_run_are_found_below_the_callers_root(powder, tmp_path):
    np.save(tmp_path / "dark_0.npy", powder.dark)
    resource = {
        "uid": "r",
        "spec": "NPY_SEQ",
        "root": "/there",
        "resource_path": "dark",
        "resource_kwargs": {},
    }
    datum = {"datum_id": "r/0", "resource": "r", "datum_kwargs": {"index": 0}}
    documents = powder.run(
        {"primary": [{"pe1_image": "r/0"}]},
        files=[("resource", resource), ("datum", datum)],
        dark_frame=True,
    )
    run = collect_run(documents, profile="xpd", root_map={"/there": str(tmp_path)}, dark_frames=True)
    np.testing.assert_array_equal(dark_of(run, run.profile).mean, powder.dark)


def test_a_background_is_the_newest_run_of_its_sample_without_darks_and_derived_runs(runs):
    profile = load_profile("xpd")
    assert runs.uid_of_sample("kapton", profile) == "kapton-2"
    assert runs.uid_of_sample("kapton", profile, exclude=("kapton-2",)) == "kapton-1"
    with pytest.raises(MissingDataError, match="a run of sample 'air' on the server, found none"):
        runs.uid_of_sample("air", profile)


def test_a_background_can_be_the_newest_run_before_another(runs):
    profile = load_profile("xpd")
    try:
        runs.before = 20.0
        assert runs.uid_of_sample("kapton", profile) == "kapton-1"
        runs.before = 10.0
        with pytest.raises(MissingDataError, match="found none"):
            runs.uid_of_sample("kapton", profile)
    finally:
        runs.before = math.inf


def test_the_connection_is_closed(tiled_server, container_path):
    with StoredRuns(connect(tiled_server.uri)[container_path]) as stored:
        assert next(stored.documents("nio-1"))[0] == "start"
    with pytest.raises(DocumentError, match="the server did not give run nio-1"):
        list(stored.documents("nio-1"))


def test_a_missing_run_is_refused(runs):
    with pytest.raises(MissingDataError, match="no run nowhere in the container"):
        list(runs("nowhere"))


class Malformed:
    """A stored run without descriptors, or without a start document."""

    def __init__(self, metadata):
        self.metadata = metadata

    def __iter__(self):
        return iter(["primary"])

    def __getitem__(self, name):
        return SimpleNamespace(base={"internal": SimpleNamespace(columns=[])}, descriptors=[])

    def documents(self):
        return []


@pytest.mark.parametrize("metadata", [{}, {"start": {"uid": "odd"}}, None])
def test_a_malformed_stored_run_is_refused_as_a_document(metadata):
    with pytest.raises(DocumentError, match=r"expected run odd as a stored Bluesky run, found one that"):
        list(StoredRuns({"odd": Malformed(metadata)})("odd"))
