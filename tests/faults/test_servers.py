"""Servers, networks and disks that fail within some runs: every run has one answer afterwards."""

import pytest

from bluesky_xpdml.factory.bench import fault_trials as trials


@pytest.mark.parametrize(
    "emptied", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["kept", "emptied"]
)
def test_a_server_that_is_killed_and_comes_back(place, require_nothing_lost, emptied):
    (row,) = require_nothing_lost(trials.server_killed(place, 20, emptied=emptied))
    assert row["sent"] == 20 or emptied


def test_a_key_that_is_refused_for_some_time(place, require_nothing_lost):
    require_nothing_lost(trials.key_refused(place, 9))


def test_a_server_that_answers_each_third_request_with_an_error(place, require_nothing_lost):
    rows = require_nothing_lost(trials.server_failing(place, 1))
    assert [row["sent"] for row in rows] == [1, 1]


@pytest.mark.slow
def test_a_server_that_takes_a_second_for_each_request(place, require_nothing_lost):
    require_nothing_lost(trials.server_slow(place, 1))


@pytest.mark.slow
def test_two_publishers_of_everything(place, require_nothing_lost):
    require_nothing_lost(trials.two_publishers(place, 6))


def test_a_disk_that_is_full_and_freed(place, require_nothing_lost):
    rows = trials.disk_full(place, 12)
    if not rows:
        pytest.skip("a small disk cannot be mounted here")
    require_nothing_lost(rows)


@pytest.mark.slow
def test_a_later_analysis_is_current_though_its_clock_is_an_hour_back(place, require_nothing_lost):
    require_nothing_lost(trials.clock_back(place, 2))
