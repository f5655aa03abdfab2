"""Where trials stand, from queue and predictions as they can be found after any interruption."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.planning.queue.client import QueueItem, QueueState
from bluesky_xpdml.planning.queue.progress import Question, Stage, campaign_progress
from bluesky_xpdml.publish.documents import derived_run
from bluesky_xpdml.publish.published import published
from bluesky_xpdml.records import Estimate, Origin, Prediction, Quality
from bluesky_xpdml.vocabulary import Descriptor, Reason, ReasonCode, Technique

QUESTION = Question(
    campaign="front", descriptor=Descriptor.OXIDATION_STATE, technique=Technique.XANES, element="Fe"
)
NOW = 1000.0


def item(trial, uid, *, campaign="front", **more):
    return QueueItem(uid=uid, campaign=campaign, trial=trial, parameters={"temperature": 400.0}, **more)


def ended(trial, uid, status, at=990.0):
    return item(trial, uid, status=status, began=at - 5.0, ended=at)


def answer(trial, *, raw="raw-1", time=900.0, campaign="front", quality=None, **more):
    state = {"oxidation_state": Estimate(value=2.5, low=2.0, high=3.0, unit="")}
    said = {"campaign": campaign, "id": trial, "parameters": {"temperature": 400.0}}
    told = {
        "technique": "xanes",
        "element": "Fe",
        "edge": "K",
        "raw_uids": (raw,),
        "origin": Origin(time=time, trial=said),
        "quality": quality or Quality(),
        "descriptors": {} if quality else state,
    } | more
    return published(derived_run(Prediction(**told), clock=lambda: time + 1.0)[0][1])


def state(waiting=(), running=None, finished=()):
    return QueueState(
        waiting=tuple(waiting),
        running=running,
        finished=tuple(finished),
        environment_open=True,
        works=True,
    )


def progress(found, predictions=(), patience=60.0):
    return campaign_progress(QUESTION, found, predictions, now=NOW, patience=patience)


def stages(found, predictions=(), **more):
    trials = progress(found, predictions, **more).trials
    return {trial: status.stage for trial, status in trials.items()}


def test_each_trial_is_where_queue_history_and_predictions_say():
    found = state(
        waiting=[item("w", "1"), item("", "2", campaign=""), item("x", "3", campaign="another")],
        running=item("r", "4", began=995.0),
        finished=[
            ended("a", "5", "completed"),
            ended("f", "6", "failed"),
            ended("n", "7", "completed", 100.0),
        ],
    )
    assert stages(found, [answer("p")]) == {
        "p": Stage.ANSWERED,
        "a": Stage.AWAITED,
        "f": Stage.FAILED,
        "n": Stage.FAILED,
        "r": Stage.RUNNING,
        "w": Stage.WAITING,
    }
    whole = progress(found, [answer("p")])
    assert (whole.n_measured, whole.waiting, whole.superfluous) == (5, ("1",), ())
    assert whole.began == 95.0
    assert whole.trials["n"].reason == "no prediction came within 60 s of its plan"


@pytest.mark.parametrize(
    ("found", "predictions"),
    [
        # The RE manager puts back what failed, and what was measured where its queue is a loop.
        (state([item("t", "again")], finished=[ended("t", "1", "aborted")]), []),
        (state([item("t", "again")], finished=[ended("t", "1", "completed")]), []),
        (state([item("t", "again")], running=item("t", "1", began=1.0)), []),
        (state([item("t", "again")]), [answer("t")]),
    ],
)
def test_what_would_be_measured_again_is_superfluous(found, predictions):
    assert progress(found, predictions).superfluous == ("again",)
    assert progress(found, predictions).waiting == ()


def test_a_trial_that_waits_twice_is_measured_once():
    found = progress(state([item("t", "1"), item("t", "2"), item("u", "3")]))
    assert (found.waiting, found.superfluous) == (("1", "3"), ("2",))


def test_an_answer_counts_whatever_became_of_its_plan():
    assert stages(state(finished=[ended("t", "1", "failed")]), [answer("t")]) == {"t": Stage.ANSWERED}


def test_a_failed_prediction_is_a_failed_trial_also_without_the_history():
    failed = answer("t", quality=Quality().failed(Reason("no edge", ReasonCode.EDGE_NOT_COVERED)))
    for found in (state(), state(finished=[ended("t", "1", "completed")])):
        entry = progress(found, [failed]).trials["t"]
        assert (entry.stage, entry.reason) == (Stage.FAILED, "no edge")
        assert entry.parameters == {"temperature": 400.0}
    running = state(running=item("t", "1", began=995.0))
    assert stages(running, [failed]) == {"t": Stage.RUNNING}, "the plan may measure once more"
    assert stages(running, [failed, answer("t", raw="raw-2")]) == {"t": Stage.ANSWERED}


def test_answers_to_other_questions_are_none():
    found = state(finished=[ended("t", "1", "completed")])
    others = [
        answer("t", technique="pdf"),
        answer("t", element="Ni"),
        answer("t", campaign="another"),
    ]
    for other in others:
        assert stages(found, [other])["t"] is Stage.AWAITED


def test_time_begins_with_the_first_measurement_also_where_the_history_was_cleared():
    assert progress(state([item("t", "1")])).began is None
    assert progress(state(), [answer("u", raw="b", time=800.0), answer("t", time=700.0)]).began == 700.0
    assert (
        progress(state(), [replace(answer("t", time=700.0), origin=Origin(trial={"id": "t"}))]).began == 701.0
    )


@settings(deadline=None)
@given(
    st.lists(st.sampled_from("abc")),
    st.none() | st.sampled_from("abc"),
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["completed", "failed", "stopped"]))),
    st.sets(st.sampled_from("abc")),
)
def test_each_trial_has_one_stage_and_waits_at_most_once(waiting, running, finished, answered):
    found = state(
        [item(trial, f"w{number}") for number, trial in enumerate(waiting)],
        item(running, "r", began=999.0) if running else None,
        [ended(trial, f"f{number}", how) for number, (trial, how) in enumerate(finished)],
    )
    predictions = [answer(trial, raw=trial) for trial in sorted(answered)]
    whole = progress(found, predictions)
    touched = answered | {running} | {trial for trial, _ in finished} - {None}
    assert set(whole.trials) == (set(waiting) | touched) - {None}
    assert set(whole.waiting + whole.superfluous) == {each.uid for each in found.waiting}
    assert len(whole.waiting) == len(set(waiting) - touched)
    assert whole.n_measured == len(touched - {None})
