"""How a derived run is stored: few requests, and what clients of Bluesky read without this package."""

import numpy as np
import pytest
from bluesky_tiled_plugins import TiledWriter
from tiled.queries import Key

from bluesky_xpdml.publish import PredictionCatalog, Query, TiledPublisher, derived_run, find_predictions
from bluesky_xpdml.publish.curves import read_distribution, read_xanes
from bluesky_xpdml.records import DetectionMode, EnergyAxis, PairDistribution, Xanes
from bluesky_xpdml.reduction.normalisation import normalise

ENERGY = np.linspace(7000.0, 7300.0, 200)
MU = np.arctan((ENERGY - 7112.0) / 3.0) + 1e-3 * np.sin(ENERGY)
RANGES = {"e0": 7112.0, "pre_edge": (-100.0, -20.0), "post_edge": (30.0, 180.0)} | {
    "degree": 1,
    "pre_edge_degree": 1,
}
LINES = normalise(ENERGY, MU, **RANGES)
SPECTRUM = Xanes(
    energy=ENERGY,
    mu=MU,
    norm=LINES.norm,
    flat=LINES.flat,
    pre_edge=LINES.pre_edge,
    post_edge=LINES.post_edge,
    e0=7112.0,
    edge_step=LINES.edge_step,
    element="Fe",
    edge="K",
    mode=DetectionMode.MU,
    axis=EnergyAxis(),
    settings=RANGES,
)
R, Q = np.linspace(0.0, 20.0, 120), np.linspace(0.1, 25.0, 90)
CURVE = PairDistribution(
    r=R, g=np.sin(R) / 3.0, q=Q, intensity=np.cos(Q), f=np.sqrt(Q), composition={"Fe": 0.4, "O": 0.6}
)
SETTINGS = {"reduction": RANGES}


@pytest.fixture
def requests(container):
    """Return the methods of the requests to the server, in their order."""
    methods = []
    client = container.context.http_client
    noting = [*client.event_hooks["request"], lambda request: methods.append(request.method)]
    client.event_hooks = {**client.event_hooks, "request": noting}
    return methods


@pytest.mark.parametrize(
    ("more", "n_requests"),
    [({"xanes": SPECTRUM}, 8), ({"pdf": CURVE}, 8), ({}, 5)],
    ids=["xanes", "pdf", "joint"],
)
def test_a_run_takes_two_requests_and_three_per_stream(container, answer, requests, more, n_requests):
    TiledPublisher(container).publish(derived_run(answer("raw", **more)))
    assert len(requests) == n_requests


def test_clients_of_bluesky_read_numbers_for_every_variable(container, answer):
    TiledPublisher(container).publish(derived_run(answer("raw", xanes=SPECTRUM, pdf=CURVE)))
    (run,) = container.search(Key("start.descriptors.oxidation_state.value") == 2.5).values()
    assert [spec.name for spec in run.specs] == ["XpdmlPrediction", "BlueskyRun"]
    expected = {
        "xanes": {"energy": ENERGY, "mu": MU, "mu_norm": LINES.norm, "mu_flat": LINES.flat},
        "pdf": {"r": R, "g_r": CURVE.g, "q": Q, "i_q": CURVE.intensity, "f_q": CURVE.f},
        "predictions": {
            "oxidation_state": [2.5],
            "oxidation_state_low": [2.0],
            "oxidation_state_high": [3.0],
        },
    }
    assert list(run) == sorted(expected)
    for stream, columns in expected.items():
        data = run[stream].read()
        assert {name for name in data.variables if name != "time"} == set(columns)
        for name, values in columns.items():
            assert data[name].dtype == np.float64
            np.testing.assert_array_equal(data[name].values[: len(values)], values)
            assert np.isnan(data[name].values[len(values) :]).all()
        np.testing.assert_array_equal(run[stream][name].read()[: len(values)], values)


def test_the_server_exports_the_documents_of_a_whole_run(container, answer):
    documents = derived_run(answer("raw", xanes=SPECTRUM))
    TiledPublisher(container).publish(documents)
    (run,) = container.values()
    exported = list(run.documents())
    start = exported[0][1]
    assert (exported[0][0], start["uid"], start["raw_uid"]) == ("start", documents[0][1]["uid"], "raw")
    descriptors = {document["uid"]: document for name, document in exported if name == "descriptor"}
    assert sorted(each["name"] for each in descriptors.values()) == ["predictions", "xanes"]
    events = [document for name, document in exported if name == "event"]
    rows = [each for each in events if descriptors[each["descriptor"]]["name"] == "xanes"]
    rows.sort(key=lambda event: event["seq_num"])
    assert [each["data"]["mu_norm"] for each in rows] == LINES.norm.tolist()
    assert set(rows[0]["timestamps"]) == {"energy", "mu", "mu_norm", "mu_flat"}
    assert exported[-1][0] == "stop"
    assert exported[-1][1]["num_events"] == {"xanes": 200, "predictions": 1}


@pytest.mark.parametrize("layout", ["one table per stream", "one array per curve"])
def test_runs_of_both_layouts_are_found_and_their_curves_restored_bit_for_bit(container, answer, layout):
    """Versions before this one wrote with TiledWriter."""
    documents = [
        derived_run(answer("raw-1", 1.5, xanes=SPECTRUM, settings=SETTINGS)),
        derived_run(answer("raw-2", pdf=CURVE, settings=SETTINGS)),
    ]
    for each in documents:
        if layout == "one table per stream":
            TiledPublisher(container).publish(each)
        else:
            writer = TiledWriter(container, max_array_size=0)
            for name, document in each:
                writer(name, document)
    catalog = PredictionCatalog(container)
    (spectrum,) = catalog.find(Query(descriptors={"oxidation_state": (1.0, 2.0)}))
    restored = read_xanes(container, spectrum)
    for name in ("energy", "mu", "norm", "flat", "pre_edge", "post_edge"):
        np.testing.assert_array_equal(getattr(restored, name), getattr(SPECTRUM, name))
    (pattern,) = catalog.of_run("raw-2")
    curve = read_distribution(container, pattern, over_q=True)
    for name in ("r", "g", "q", "intensity", "f"):
        np.testing.assert_array_equal(getattr(curve, name), getattr(CURVE, name))
    assert curve.composition == {"Fe": 0.4, "O": 0.6}
    # A run that an earlier version wrote is not written again.
    publisher = TiledPublisher(container)
    publisher.publish(documents[0])
    assert (publisher.n_written, publisher.n_already_there) == (0, 1)
    assert len(find_predictions(container, "raw-1")) == 1
