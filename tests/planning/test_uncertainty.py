"""The least certain point is measured, once, until all are certain enough or the budget is spent."""

import numpy as np
import pytest
from bluesky_adaptive.protocols import Optimizer, SupportsStoppingCriteria, TrialFaultAware

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.space import Parameter, Space
from bluesky_xpdml.planning.uncertainty import UncertaintyOptimizer

LINE = Space(parameters=(Parameter(name="x", low=0.0, high=10.0),))
PLANE = Space(parameters=(*LINE.parameters, Parameter(name="y", low=0.0, high=1.0)))


def outcome(trial, value, width):
    ends = {"oxidation_state_low": value - width / 2, "oxidation_state_high": value + width / 2}
    return {"_id": trial["_id"], "oxidation_state": value, **ends, "quality": "good"}


def measure(optimizer, value, width, *, at_most=60):
    places = []
    while not optimizer.should_stop()[0] and len(places) < at_most:
        (trial,) = optimizer.suggest()
        place = optimizer.space.to_unit([trial])[0]
        optimizer.ingest([outcome(trial, value(place), width(place))])
        places.append(place)
    return np.array(places)


def smooth(place):
    return 2.5 + 0.5 * np.tanh((place[0] - 0.5) / 0.15)


def test_it_ends_when_everything_is_certain_enough():
    optimizer = UncertaintyOptimizer(LINE, "oxidation_state", width=0.3, at_most=40)
    assert isinstance(optimizer, Optimizer)
    assert isinstance(optimizer, TrialFaultAware)
    assert isinstance(optimizer, SupportsStoppingCriteria)
    places = measure(optimizer, smooth, lambda _: 0.15)
    x = np.linspace(0.0, 10.0, 101)
    assert len(places) < 40
    assert optimizer.should_stop()[0]
    assert np.max(optimizer.expected_widths([{"x": value} for value in x])) < 0.32
    ordered = np.sort(places[:, 0])
    guess = np.interp(x / 10.0, ordered, [smooth([place]) for place in ordered])
    assert np.max(np.abs(guess - [smooth([value / 10.0]) for value in x])) < 0.15


def test_no_point_is_measured_twice_and_it_ends_if_nothing_is_left():
    optimizer = UncertaintyOptimizer(LINE, "oxidation_state", width=0.3, at_most=200, apart=0.05)
    places = measure(optimizer, lambda _: 2.5, lambda _: 1.0)
    gaps = np.diff(np.sort(places[6:, 0]))
    assert gaps.min() > 0.05
    assert "measured already" in optimizer.should_stop()[1]


def test_it_measures_where_answers_are_wide():
    optimizer = UncertaintyOptimizer(PLANE, "oxidation_state", width=0.2, at_most=20)
    places = measure(optimizer, lambda _: 2.5, lambda place: 0.1 + 1.5 * (place[0] > 0.6))
    assert np.mean(places[10:, 0] > 0.55) > 0.6


def test_the_budget_ends_it_and_failures_count():
    optimizer = UncertaintyOptimizer(LINE, "oxidation_state", width=0.01, at_most=9)
    for trial in optimizer.suggest(9):
        optimizer.ingest([outcome(trial, float("nan"), 1.0)])
    assert optimizer.should_stop() == (True, "9 measurements were made, at most 9 were allowed")
    assert optimizer.n_failed == 9


def test_a_batch_is_spread():
    optimizer = UncertaintyOptimizer(LINE, "oxidation_state", width=0.01, at_most=50)
    measure(optimizer, smooth, lambda _: 0.1, at_most=8)
    rows = np.sort(optimizer.space.to_unit(optimizer.suggest(3))[:, 0])
    assert np.diff(rows).min() > 0.03


def test_equal_answers_can_be_fitted():
    optimizer = UncertaintyOptimizer(LINE, "oxidation_state", width=0.5, at_most=30)
    for trial in optimizer.suggest(8):
        optimizer.ingest([{"_id": trial["_id"], "oxidation_state": 2.0}])
    assert optimizer.should_stop()[0]
    assert optimizer.get_best_points()[0][2]["oxidation_state"] == 2.0


def test_settings_are_checked():
    with pytest.raises(PlanningError, match="positive width"):
        UncertaintyOptimizer(LINE, "oxidation_state", width=0.0)
    with pytest.raises(PlanningError, match="at least 6"):
        UncertaintyOptimizer(LINE, "oxidation_state", width=0.1, at_most=3)
    with pytest.raises(PlanningError, match="two answers or more"):
        UncertaintyOptimizer(LINE, "oxidation_state", width=0.1).expected_widths([{"x": 1.0}])
