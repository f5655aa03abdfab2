"""Curves come back from Tiled as they were written, to the last bit."""

from dataclasses import replace

import numpy as np
import pytest

from bluesky_xpdml import BundleStore, TiledPublisher, analyse_scan
from bluesky_xpdml.demo.simulated_scan import simulated_scan
from bluesky_xpdml.errors import MissingDataError, PublishError
from bluesky_xpdml.publish import derived_run, published
from bluesky_xpdml.publish.curves import is_whole, read_distribution, read_xanes
from bluesky_xpdml.records import PairDistribution, Prediction, Quality, Sample
from bluesky_xpdml.reduction.xanes import XanesSettings
from bluesky_xpdml.vocabulary import Reason, ReasonCode, Technique

R, Q = np.linspace(0.0, 20.0, 40), np.linspace(0.8, 24.0, 30)
CURVE = PairDistribution(
    r=R,
    g=np.sin(R) / 3.0,
    q=Q,
    intensity=np.cos(Q) / 7.0,
    f=np.sin(Q) / 7.0,
    composition={"Fe": 1.0 / 3.0, "O": 2.0 / 3.0},
    settings={"q_max": 1.0 / 3.0, "q_range": [0.8, 24.0], "steps": {"polynomial": 0.9}},
    scale_uncertainty=0.1 / 3.0,
    sample=Sample(name="a", uid="1", composition="FeO2"),
    raw_uids=("p", "dark"),
    source="scan 7",
    completeness=0.75,
    quality=Quality().suspect(Reason("little light", ReasonCode.NOISE)),
)


@pytest.fixture(scope="module")
def publisher(tiled_server):
    opened = TiledPublisher.from_uri(tiled_server.uri, path="curves")
    yield opened
    opened.close()


def sent(publisher, prediction, *, leave_out=()):
    """Publish a prediction and return what a catalog gives back of it."""
    documents = derived_run(prediction)
    publisher.publish([document for document in documents if document[0] not in leave_out])
    return published(publisher.container[documents[0][1]["uid"]].metadata["start"])


def scattered(**changes):
    curve = replace(CURVE, **changes)
    record = {name: getattr(curve, name) for name in ("sample", "raw_uids", "source", "completeness")}
    judged = curve.quality.note(Reason("said by the models", ReasonCode.NOVEL))
    settings = {"reduction": dict(curve.settings)}
    return Prediction(
        technique=Technique.PDF, element="Fe", edge="", quality=judged, settings=settings, pdf=curve, **record
    )


def assert_same(found, expected, *, but=()):
    for name in type(expected).__dataclass_fields__:
        one, other = getattr(found, name), getattr(expected, name)
        if name in but:
            assert one is None
        elif isinstance(other, np.ndarray):
            assert one.dtype == np.float64
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other, name


def test_a_spectrum_comes_back_as_it_was(publisher):
    scan = replace(simulated_scan(seed=2), sample=Sample(name="LFO"), raw_uids=("x",), source="scan 3")
    prediction = analyse_scan(scan, store=BundleStore.default(), settings=XanesSettings())
    found = read_xanes(publisher.container, sent(publisher, prediction))
    # Tuples are lists in JSON.
    expected = replace(
        prediction.xanes,
        settings={
            name: list(value) if isinstance(value, tuple) else value
            for name, value in prediction.xanes.settings.items()
        },
    )
    assert_same(found, expected, but=("mu_variance",))


def test_a_distribution_comes_back_as_it_was_with_the_quality_of_its_own(publisher):
    single = sent(publisher, scattered())
    assert_same(read_distribution(publisher.container, single, over_q=True), CURVE)
    short = read_distribution(publisher.container, single, over_q=False)
    assert_same(short, CURVE, but=("q", "intensity", "f"))


def test_a_curve_from_a_file_has_none_over_q(publisher):
    single = sent(publisher, scattered(q=None, intensity=None, f=None, raw_uids=("file",)))
    assert read_distribution(publisher.container, single, over_q=True).q is None


def test_a_run_without_a_curve_says_what_to_do(publisher):
    failed = Prediction(
        technique=Technique.XANES,
        element="Fe",
        edge="K",
        quality=Quality().failed(Reason("no edge", ReasonCode.EDGE_NOT_COVERED)),
        raw_uids=("f",),
    )
    with pytest.raises(MissingDataError, match="analyse its raw run again"):
        read_xanes(publisher.container, sent(publisher, failed))


def test_half_a_run_is_to_be_asked_again(publisher):
    single = sent(publisher, scattered(raw_uids=("half",)), leave_out=("stop",))
    assert is_whole(publisher.container, single.uid) is False
    with pytest.raises(PublishError, match="it is being written, ask again"):
        read_distribution(publisher.container, single, over_q=False)
    assert is_whole(publisher.container, sent(publisher, scattered(raw_uids=("half",))).uid) is True
    assert is_whole(publisher.container, "nothing") is None
