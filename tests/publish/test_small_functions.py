"""Small functions that publish and read predictions, each with one example that can be checked by hand."""

from tiled.queries import Key

from bluesky_xpdml.pairing.pairing import joint_origin
from bluesky_xpdml.publish.documents import derived_run, plain_mapping, summary
from bluesky_xpdml.publish.live import LiveRun
from bluesky_xpdml.publish.published import current, published
from bluesky_xpdml.publish.query import parameters
from bluesky_xpdml.records import Origin, Prediction, Quality
from bluesky_xpdml.vocabulary import Reason, ReasonCode, Technique


def xanes(**more):
    values = {"technique": Technique.XANES, "element": "Fe", "edge": "K", "quality": Quality()}
    return Prediction(**(values | more))


def test_plain_values():
    assert plain_mapping({"a/b": None, "c": 1}) == {"c": 1}
    query = parameters([Key("start.element") == "Fe"])
    assert query["filter[eq][condition][value]"] == ['"Fe"']
    found = joint_origin(Origin(time=9.0, beamline="a", proposal="1"), Origin(time=5.0, beamline="b"))
    assert (found.time, found.beamline, found.proposal) == (5.0, "a + b", "1")


def test_a_failed_prediction_is_summarised_with_text_and_code():
    failed = xanes(quality=Quality().failed(Reason("no model for Zn", ReasonCode.MODEL_MISSING)))
    expected = {"verdict": "failed", "reasons": ["no model for Zn"], "codes": ["model-missing"]}
    assert summary(failed)["quality"] == expected


def test_a_good_answer_stays_current_when_a_later_one_fails():
    good = xanes(raw_uids=("raw",))
    failed = good.with_quality(Quality().failed(Reason("no model", ReasonCode.MODEL_MISSING)))
    answers = [
        published(derived_run(prediction, clock=lambda at=at: at)[0][1])
        for prediction, at in ((good, 1.0), (failed, 2.0))
    ]
    assert [str(each.quality.verdict) for each in current(answers)] == ["good"]


def test_a_live_run_has_one_event_per_update():
    partial = xanes(technique=Technique.PDF, edge="", completeness=0.5)
    live = LiveRun()
    names = [name for name, _ in (*live.update(partial), *live.update(partial), *live.finish())]
    assert names == ["start", "descriptor", "event", "event", "stop"]
