"""Sessions and watchers that end in every way with runs queued: the next one answers them."""

import re

import pytest

from bluesky_xpdml.factory.bench import fault_ends, fault_trials, fault_watch

STATUS = {
    "return": {0},
    "an exception": {1},
    "sys.exit": {5},
    # `python -m` ends with status 1 at ctrl-C, a script with 130.
    "ctrl-C": {1, 130},
    "ctrl-C twice": {1, 130},
    "SIGTERM": {143},
    "SIGHUP": {129},
    "kill -9": {137},
}
WATCH_STATUS = {
    "SIGTERM, with time": {0},
    "SIGTERM": {3},
    "SIGHUP": {3},
    "ctrl-C": {3},
    "ctrl-C twice": {130},
    "kill -9": {137},
}


def statuses(rows):
    return [int(re.search(r"status (\d+)$", row["fault"])[1]) for row in rows]


SOME = ["sys.exit", "ctrl-C twice", "SIGTERM", "kill -9"]
OTHERS = [end for end in fault_ends.ENDS if end not in SOME]
WATCH_SOME = ["SIGTERM, with time", "SIGTERM", "kill -9"]
WATCH_OTHERS = [end for end in fault_watch.ENDS if end not in WATCH_SOME]


@pytest.mark.parametrize("ends", [SOME, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=["some", "others"])
def test_what_a_session_leaves_is_answered_by_the_next_one(place, require_nothing_lost, ends):
    rows = require_nothing_lost(fault_ends.session_ends(place, 5, ends=ends))
    assert all(found in STATUS[end] for end, found in zip(ends, statuses(rows), strict=True))


@pytest.mark.parametrize(
    "ends", [WATCH_SOME, pytest.param(WATCH_OTHERS, marks=pytest.mark.slow)], ids=["some", "others"]
)
def test_what_a_watcher_leaves_is_answered_by_the_next_one(place, require_nothing_lost, ends):
    rows = require_nothing_lost(fault_watch.watch_ends(place, 5, ends=ends))
    assert all(found in WATCH_STATUS[end] for end, found in zip(ends, statuses(rows), strict=True))


def test_an_analysis_that_is_killed_again_and_again(place, require_nothing_lost):
    require_nothing_lost(fault_trials.analysis_killed(place, 15, kills=3))


@pytest.mark.slow
def test_a_watcher_that_is_killed_again_and_again(place, require_nothing_lost):
    require_nothing_lost(fault_watch.watch_killed(place, 8, kills=2))


@pytest.mark.slow
def test_a_thousand_runs_in_a_burst(place, require_nothing_lost):
    require_nothing_lost([*fault_trials.burst(place, 1000), *fault_watch.watch_burst(place, 1000)])
