"""The RunEngine is suspended with a reason after novel or failed predictions, until a person acknowledges."""

import threading

import pytest
from bluesky import plan_stubs

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.suspenders import PredictionAlarm, SuspendOnAlarm
from bluesky_xpdml.publish import derived_run
from bluesky_xpdml.publish.published import published
from bluesky_xpdml.publish.query import Query

NOVEL = {"novelty_score": 3.0, "novelty_threshold": 1.8}


@pytest.fixture
def seen(analysis):
    """Return a function that makes a prediction as the catalog gives it back."""
    count = iter(range(1000))

    def make(kind):
        start = {"uid": f"raw-{next(count)}", "time": 1.0, "sample_name": "LFP"}
        if kind == "failed":
            return published(derived_run(analysis.failure(start))[0][1])
        diagnostics = {"pdf_novelty_score": 3.0, "pdf_novelty_threshold": 1.8} if kind == "novel" else None
        return published(derived_run(analysis.answer(start, diagnostics=diagnostics))[0][1])

    return make


@pytest.mark.parametrize(
    ("kinds", "alarm"),
    [
        ("novel novel", True),
        ("novel good novel", False),
        ("novel failed novel", True),
        ("failed failed failed", True),
        ("failed failed novel failed", False),
        ("good good failed failed", False),
    ],
)
def test_an_alarm_is_so_many_in_a_row(seen, kinds, alarm):
    watch = PredictionAlarm(novel=2, failed=3)
    for kind in kinds.split():
        watch.take(seen(kind))
    assert bool(watch.reason) is alarm
    assert not alarm or "in a row, the last of LFP" in watch.reason


def test_one_prediction_counts_once_and_acknowledging_begins_anew(seen):
    watch = PredictionAlarm(novel=2, failed=3)
    novel = seen("novel")
    watch.take(novel)
    watch.take(novel)
    assert watch.reason == ""
    watch.take(seen("novel"))
    assert watch.reason != ""
    watch.acknowledge()
    assert watch.reason == ""
    watch.take(seen("novel"))
    assert watch.reason == ""


def test_at_least_one_makes_an_alarm():
    with pytest.raises(PlanningError, match="one or more"):
        PredictionAlarm(novel=0, failed=1)


def test_the_run_engine_is_suspended_until_the_alarm_is_acknowledged(measuring, analysis, catalog, capsys):
    analysis.rule = lambda start: [analysis.answer(start, diagnostics=NOVEL)]
    alarm = PredictionAlarm(novel=2, failed=9)
    suspended, looked = threading.Event(), threading.Event()

    def shut():
        suspended.set()
        return iter(())

    def look():
        assert suspended.wait(300.0)
        looked.set()
        alarm.acknowledge()

    def plan():
        for _ in range(3):
            yield from analysis.measured({"sample_name": "odd"})
        yield from plan_stubs.checkpoint()
        for _ in range(3000):
            if looked.is_set():
                break
            yield from plan_stubs.sleep(0.1)
        return (yield from analysis.measured({"sample_name": "after"}))

    suspender = SuspendOnAlarm(alarm, pre_plan=shut)
    measuring.install_suspender(suspender)
    person = threading.Thread(target=look)
    person.start()
    with catalog.subscribe(alarm.take, query=Query(sample="odd"), interval=0.2):
        after = measuring(plan()).plan_result
    person.join()
    measuring.remove_suspender(suspender)
    assert looked.is_set()
    assert analysis.starts[after]["sample_name"] == "after"
    assert "novel in a row, the last of odd" in capsys.readouterr().out
