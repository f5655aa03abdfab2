"""Watchers of the raw runs of a Tiled server, killed, sharing, without it: every run is answered once."""

import pytest

from bluesky_xpdml.factory.bench import fault_stored


@pytest.mark.slow
def test_a_watcher_that_is_killed_again_and_again(place, require_nothing_lost):
    require_nothing_lost(fault_stored.stored_watch_killed(place, 12, kills=2))


@pytest.mark.slow
def test_what_one_of_two_watchers_leaves_is_answered_by_the_other(place, require_nothing_lost):
    require_nothing_lost(fault_stored.stored_shared(place, 12))


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back(place, require_nothing_lost):
    require_nothing_lost(fault_stored.stored_server_killed(place, 12))
