"""Files that never end or claim gigabytes, among good runs: those at fault fail, the rest is answered."""

import pytest

from bluesky_xpdml.factory.bench import fault_files
from bluesky_xpdml.factory.bench.faults import TRIALS


@pytest.mark.slow
def test_files_that_documents_name(place, require_nothing_lost):
    rows = require_nothing_lost(fault_files.files_named(place, 2))
    assert len(rows) == 3


def test_a_bundle_that_bursts(place, require_nothing_lost):
    require_nothing_lost(fault_files.bundle_bomb(place, 1))


def test_every_trial_is_in_the_table():
    assert all(trial.runs >= trial.quick_runs for trial in TRIALS.values())
    assert max(trial.runs for trial in TRIALS.values()) == 1000


@pytest.mark.slow
def test_a_day_of_a_beamline_takes_no_more_memory_at_its_end(place, require_nothing_lost):
    row = fault_files.day(place, 1440)
    require_nothing_lost([{key: value for key, value in row.items() if key != "growth"}])
    assert row["growth"] <= 1.1
