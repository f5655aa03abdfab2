"""A planner at a real RE manager, whose runs are answered in a real Tiled server."""

import subprocess
import sys
import time
from threading import Event

import pytest

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.queue.client import QueueAccess, RunQueue, UnreachableError
from bluesky_xpdml.planning.space import Parameter, Space

OTHER_ITEM = {"item_type": "plan", "name": "measure", "kwargs": {"kelvin": 400.0}}


def steps_until(planner, condition):
    """Repeat steps until a report fulfils a condition, and return all reports."""
    reports = []
    end = time.monotonic() + 300.0
    while not reports or not condition(reports[-1]):
        assert time.monotonic() < end, reports[-1]
        time.sleep(0.05)
        reports.append(planner.step())
    return reports


def finish(planner):
    return steps_until(planner, lambda report: report.finished)


def test_no_more_items_wait_than_allowed_and_those_of_others_stay(manager, campaign):
    others = [manager.api.item_add(OTHER_ITEM)["item"]["item_uid"] for _ in range(2)]
    planner = manager.planner(campaign, at_most_queued=2)
    reports = [planner.step() for _ in range(3)]
    assert [len(report.added) for report in reports] == [2, 0, 0]
    assert [report.waiting for report in reports] == [2, 2, 2]
    assert "the queue is stopped: start it" in reports[-1].note
    items = manager.waiting()
    assert [item["item_uid"] for item in items[:2]] == others
    assert manager.trials(campaign, items) == [each["_id"] for each in reports[0].added]
    assert items[2]["kwargs"] == {"kelvin": reports[0].added[0]["temperature"]}
    assert items[2]["user"] == "xpdml"


def test_items_can_be_added_at_the_front(manager, campaign):
    manager.api.item_add(OTHER_ITEM)
    queue = RunQueue(QueueAccess(address=manager.address, position="front", timeout=60.0))
    (added,) = manager.planner(campaign, queue=queue, at_most_queued=1).step().added
    queue.close()
    assert manager.trials(campaign, manager.waiting()[:1]) == [added["_id"]]


def test_nothing_is_added_before_a_person_approves(manager, campaign):
    planner = manager.planner(campaign, ask=True, at_most_queued=2)
    assert planner.step().added == ()
    first, second = planner.proposals
    assert planner.step().waiting == 0
    assert planner.proposals == (first, second)
    planner.reject(first["_id"])
    planner.approve(second["_id"])
    report = planner.step()
    assert [each["_id"] for each in report.added] == [second["_id"]]
    assert manager.trials(campaign, manager.waiting()) == [second["_id"]]
    assert (report.waiting, report.measured) == (1, 0)
    # The sweep goes on in steps of 3 %; the next within 5 % of the rejected point is passed over.
    (third,) = planner.proposals
    assert abs(third["temperature"] - first["temperature"]) > 0.05 * 500.0
    with pytest.raises(PlanningError, match="expected the id of a proposal, found 'other'"):
        planner.approve("other")


def test_a_trial_that_a_person_removes_is_no_measurement_and_not_requested_again(manager, campaign):
    planner = manager.planner(campaign, at_most_queued=2, measurements=2)
    first, second = planner.step().added
    manager.api.item_remove(uid=manager.waiting()[0]["item_uid"])
    report = planner.step()
    assert report.removed == (first["_id"],)
    (third,) = report.added
    assert abs(third["temperature"] - first["temperature"]) > 0.05 * 500.0
    assert manager.trials(campaign, manager.waiting()) == [second["_id"], third["_id"]]
    assert planner.step().removed == ()


def test_a_locked_queue_is_left_alone(manager, campaign):
    manager.api.lock_queue("a key", note="changing the sample")
    try:
        report = manager.planner(campaign).step()
    finally:
        manager.api.unlock("a key")
    assert (report.added, report.note) == ((), "the queue is locked: unlock it")


def test_it_ends_by_itself_and_a_restarted_planner_measures_nothing_twice(manager, campaign):
    other_item = manager.api.item_add(OTHER_ITEM)["item"]["item_uid"]
    manager.planner(campaign, measurements=3).step()
    manager.start()
    second = manager.planner(campaign, measurements=3)
    steps_until(second, lambda report: report.measured >= 2)
    optimizer = manager.sweep()
    reports = finish(manager.planner(campaign, measurements=3, optimizer=optimizer))
    assert reports[-1].enough == "the 3 measurements of the campaign are used up"
    assert max(report.waiting for report in reports) <= 2
    history = manager.history()
    trials = manager.trials(campaign, history)
    assert len(trials) == len(set(trials)) == 3
    assert other_item in [item["item_uid"] for item in history]
    assert manager.waiting() == []
    found = {each.outcome["temperature"]: each.value for each in optimizer.answered}
    asked = [item["kwargs"]["kelvin"] for item in history if item["item_uid"] != other_item]
    assert found == pytest.approx({kelvin: 2.0 if kelvin < 500.0 else 3.0 for kelvin in asked})
    assert not optimizer._pending_points.size, "nothing is believed to be on its way"
    # What is known also survives the history, and the campaign has nothing left to spend.
    manager.api.history_clear()
    report = manager.planner(campaign, measurements=3).step()
    assert (report.finished, len(report.answered), report.added) == (True, 3, ())


def test_it_ends_when_the_optimizer_stops_and_withdraws_waiting_trials(manager, campaign):
    manager.start()
    planner = manager.planner(campaign, optimizer=manager.sweep(enough=1), hold=4.0)
    last = planner.run(Event(), pause=0.05)
    assert (last.finished, last.enough) == (True, "the sweep is over")
    manager.idle()
    assert manager.waiting() == []
    assert len(manager.history()) <= 2


@pytest.mark.parametrize("ignored", [False, True])
def test_a_failed_plan_is_a_failed_trial_and_is_not_run_again(manager, campaign, ignored):
    manager.api.queue_mode_set(mode={"ignore_failures": ignored})
    optimizer = manager.sweep()
    planner = manager.planner(
        campaign, optimizer=optimizer, breaks_above=0.0, at_most_queued=1, measurements=2
    )
    (added,) = planner.step().added
    manager.start()
    reports = steps_until(planner, lambda report: report.finished if ignored else report.failed)
    failed = dict(each for report in reports for each in report.failed)
    assert failed[added["_id"]].startswith("the plan ended as failed: ")
    assert "the furnace tripped" in failed[added["_id"]]
    manager.idle()
    report = planner.step()
    assert (optimizer.n_failed, report.measured) == (len(failed), len(failed))
    assert added["_id"] not in manager.trials(campaign, manager.waiting()), "put back by the manager"
    if ignored:
        assert (len(failed), report.enough) == (2, "the 2 measurements of the campaign are used up")
    else:
        assert report.note.startswith("the queue is stopped")


@pytest.mark.parametrize(
    ("analysed", "reason"),
    [("in vain", "the detector was saturated"), ("not", "no prediction came within 0.5 s of its plan")],
)
def test_a_failed_or_missing_prediction_is_a_failed_trial(manager, campaign, analysed, reason):
    optimizer = manager.sweep()
    manager.start()
    planner = manager.planner(campaign, optimizer=optimizer, measurements=1, patience=0.5, analysed=analysed)
    reports = finish(planner)
    assert [why for report in reports for _, why in report.failed] == [reason]
    assert (optimizer.n_failed, len(optimizer.answered)) == (1, 0)


def test_the_time_of_the_campaign_counts_over_restarts(manager, campaign):
    planner = manager.planner(campaign, seconds=0.2, hold=5.0)
    assert planner.step().waiting == 2, "the time has not begun"
    manager.start()
    steps_until(planner, lambda report: report.measured == 1)
    last = finish(manager.planner(campaign, seconds=0.2, hold=5.0))[-1]
    assert last.enough == "the 0.2 s of the campaign are over"
    assert manager.waiting() == []
    assert len(manager.history()) == 1


def test_an_unreachable_queue_is_waited_for(manager, campaign):
    away = RunQueue(QueueAccess(address="tcp://127.0.0.1:1", timeout=0.3))
    planner = manager.planner(campaign, queue=away)
    report = planner.step()
    assert (report.added, report.finished) == ((), False)
    assert "expected an RE manager at tcp://127.0.0.1:1, found no answer" in report.note
    with pytest.raises(UnreachableError, match="check the address, and that it runs"):
        planner.run(Event())
    away.close()


def test_an_unreachable_tiled_server_is_waited_for(manager, campaign, tiled_proxy):
    proxy, catalog = tiled_proxy
    planner = manager.planner(campaign, catalog=catalog, at_most_queued=1)
    assert len(planner.step().added) == 1
    proxy.cut()
    manager.api.queue_clear()
    report = planner.step()
    assert (report.added, report.removed, report.finished) == ((), (), False)
    assert "check that the Tiled server runs" in report.note
    assert manager.waiting() == [], "what is not known to be missing is not added"
    proxy.restore()
    report = planner.step()
    assert (len(report.removed), len(report.added)) == (1, 1)


def test_without_the_client_of_the_queue_the_extra_is_named():
    code = (
        "import sys; sys.modules['bluesky_queueserver_api'] = None\n"
        "from bluesky_xpdml.planning.queue.client import QueueAccess, RunQueue\n"
        "RunQueue(QueueAccess(address='tcp://localhost:60615'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError: expected bluesky_queueserver_api, not installed" in done.stderr
    assert "bluesky-xpdml[plan]" in done.stderr


def test_a_plan_that_is_not_allowed_is_a_clear_error(manager):
    with pytest.raises(
        PlanningError, match="expected a plan that the RE manager allows to primary, found 'x'"
    ):
        manager.queue.check_plan("x")


@pytest.mark.slow
def test_a_closed_environment_is_a_clear_error_at_first_and_waited_for_later(manager, campaign):
    planner = manager.planner(campaign)
    manager.api.environment_close()
    manager.idle()
    report = planner.step()
    with pytest.raises(PlanningError, match="qserver environment open"):
        planner.run(Event())
    manager.api.environment_open()
    manager.idle()
    assert (report.added, report.note) == ((), "the environment of the RE manager is closed: open it")
    assert len(planner.step().added) == 2


def test_trials_of_another_space_are_a_clear_error(manager, campaign):
    manager.planner(campaign).step()
    other = manager.sweep(space=Space(parameters=(Parameter(name="pressure", low=1.0, high=2.0),)))
    with pytest.raises(PlanningError, match="expected a number for pressure, found None"):
        manager.planner(campaign, optimizer=other).step()
