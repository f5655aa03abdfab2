"""A boundary is found with few, noisy and failing measurements, and a restart costs nothing."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bluesky_adaptive.protocols import (
    CanRegisterSuggestions,
    Optimizer,
    SupportsStoppingCriteria,
    TrialFaultAware,
)

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.boundary import BoundaryOptimizer
from bluesky_xpdml.planning.space import Parameter, Space
from bluesky_xpdml.records import Verdict

PLANE = Space(
    parameters=(
        Parameter(name="position", low=0.0, high=10.0, unit="mm"),
        Parameter(name="temperature", low=300.0, high=800.0, unit="K"),
    )
)
LINE = Space(parameters=(Parameter(name="temperature", low=300.0, high=700.0, unit="K"),))
GRID = np.stack(np.meshgrid(*[(np.arange(100) + 0.5) / 100] * 2, indexing="ij"), axis=-1).reshape(-1, 2)

Field = Callable[[np.ndarray], np.ndarray]


def front(rows: np.ndarray) -> np.ndarray:
    """Height above a curved front that crosses the plane, (n,)."""
    return rows[:, 1] - 0.45 - 0.2 * np.sin(4.0 * rows[:, 0] + 0.5)


def island(rows: np.ndarray) -> np.ndarray:
    """Depth inside a round phase in the middle of the plane, (n,)."""
    return 0.28 - np.hypot(rows[:, 0] - 0.55, rows[:, 1] - 0.45)


def steer(
    optimizer: BoundaryOptimizer, field: Field, *, noise: float, failing: float, seed: int
) -> list[Any]:
    """Measure suggestions until the optimizer stops, and return failures; the descriptor goes from 2 to 3."""
    chance = np.random.default_rng(seed)
    failures = []
    while not optimizer.should_stop()[0]:
        (trial,) = optimizer.suggest()
        if chance.random() < failing:
            optimizer.register_failures([trial])
            failures.append(trial)
            continue
        state = 2.0 + 1.0 / (1.0 + np.exp(-field(optimizer.space.to_unit([trial]))[0] / 0.01))
        optimizer.ingest([{"_id": trial["_id"], "oxidation_state": state + noise * chance.normal()}])
    return failures


@pytest.mark.parametrize("field", [front, pytest.param(island, marks=pytest.mark.slow)])
def test_the_boundary_is_found_to_two_percent_with_a_quarter_of_a_raster(field: Field) -> None:
    optimizer = BoundaryOptimizer(PLANE, "oxidation_state", seed=3)
    steer(optimizer, field, noise=0.08, failing=0.05, seed=5)
    wrong = np.mean((optimizer.signed(GRID) > 0.0) != (field(GRID) > 0.0))
    assert wrong <= 0.02
    assert optimizer.n_measured <= 100
    assert optimizer.level == pytest.approx(2.5, abs=0.1)


def test_a_restarted_optimizer_suggests_what_the_first_would_have() -> None:
    first = BoundaryOptimizer(PLANE, "oxidation_state", at_most=26, seed=3)
    failures = steer(first, front, noise=0.05, failing=0.2, seed=2)
    second = BoundaryOptimizer(PLANE, "oxidation_state", at_most=26, seed=3)
    second.ingest(
        [
            {"_id": each.id, **PLANE.from_unit(np.array([each.point]))[0], "oxidation_state": each.value}
            for each in first.answered
        ]
    )
    second.register_failures(failures)
    assert failures
    assert second.n_measured == first.n_measured
    assert second.moved() == pytest.approx(first.moved(), abs=1e-3)
    (one,), (other,) = first.suggest(), second.suggest()
    assert other["temperature"] == pytest.approx(one["temperature"], abs=1e-6)
    assert other["_id"] != one["_id"]


def test_pending_points_are_not_suggested_again() -> None:
    optimizer = BoundaryOptimizer(PLANE, "oxidation_state", at_most=40)
    for _ in range(12):
        (trial,) = optimizer.suggest()
        state = 2.0 + float(front(PLANE.to_unit([trial]))[0] > 0.0)
        optimizer.ingest([{"_id": trial["_id"], "oxidation_state": state}])
    rows = PLANE.to_unit([*optimizer.suggest(3), *optimizer.suggest(2)])
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2)[np.triu_indices(5, k=1)]
    assert apart.min() > 0.02


def test_pending_points_are_not_suggested_again_near_a_known_boundary() -> None:
    optimizer = BoundaryOptimizer(LINE, "oxidation_state", at_most=40)
    for _ in range(16):
        (trial,) = optimizer.suggest()
        state = 2.0 + (trial["temperature"] > 485.0)
        optimizer.ingest([{"_id": trial["_id"], "oxidation_state": state}])
    (one,), (other,) = optimizer.suggest(), optimizer.suggest()
    assert abs(one["temperature"] - other["temperature"]) >= 0.005 * 400.0


def test_a_region_that_always_fails_does_not_hold_the_search() -> None:
    optimizer = BoundaryOptimizer(LINE, "oxidation_state", at_most=40)
    while not optimizer.should_stop()[0]:
        (trial,) = optimizer.suggest()
        if 480.0 < trial["temperature"] < 490.0:
            optimizer.register_failures([trial])
        else:
            state = 2.0 + (trial["temperature"] > 485.0)
            optimizer.ingest([{"_id": trial["_id"], "oxidation_state": state}])
    assert optimizer.n_measured < 40
    assert optimizer.is_above([{"temperature": 470.0}, {"temperature": 500.0}]).tolist() == [False, True]


def test_a_given_level_replaces_the_middle() -> None:
    optimizer = BoundaryOptimizer(LINE, "bond_length", level=1.95, at_most=40)
    while not optimizer.should_stop()[0]:
        (trial,) = optimizer.suggest()
        length = 1.9 + 0.2 * (trial["temperature"] - 300.0) / 400.0
        optimizer.ingest([{"_id": trial["_id"], "bond_length": length}])
    assert optimizer.is_above([{"temperature": 390.0}, {"temperature": 410.0}]).tolist() == [False, True]
    ((_, best, outcome),) = optimizer.get_best_points()
    assert best["temperature"] == pytest.approx(400.0, abs=20.0)
    assert outcome["bond_length"] == pytest.approx(1.95, abs=0.01)


def test_failed_and_rejected_predictions_are_failed_trials() -> None:
    optimizer = BoundaryOptimizer(LINE, "oxidation_state", accept=(Verdict.GOOD,))
    trials = optimizer.suggest(3)
    said = [(2.0, "good"), (2.5, "suspect"), (float("nan"), "failed")]
    optimizer.ingest(
        [
            {"_id": trial["_id"], "oxidation_state": value, "quality": verdict}
            for trial, (value, verdict) in zip(trials, said, strict=True)
        ]
    )
    assert [each.value for each in optimizer.answered] == [2.0]
    assert optimizer.n_failed == 2


def test_it_is_an_optimizer_of_bluesky_adaptive() -> None:
    optimizer = BoundaryOptimizer(LINE, "oxidation_state")
    for protocol in (Optimizer, TrialFaultAware, CanRegisterSuggestions, SupportsStoppingCriteria):
        assert isinstance(optimizer, protocol)
    assert list(optimizer.get_best_points()) == []


def test_without_both_sides_there_is_no_boundary() -> None:
    optimizer = BoundaryOptimizer(LINE, "oxidation_state", level=2.5, at_most=10)
    with pytest.raises(PlanningError, match="both sides"):
        optimizer.is_above([{"temperature": 400.0}])
    while not optimizer.should_stop()[0]:
        (trial,) = optimizer.suggest()
        optimizer.ingest([{"_id": trial["_id"], "oxidation_state": 2.0}])
    assert "at most 10" in str(optimizer.should_stop()[1])
    temperatures = sorted(each.point[0] for each in optimizer.answered)
    assert np.diff(temperatures).max() < 0.25


def test_an_unknown_descriptor_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PlanningError, match=r"expected a descriptor, one of oxidation_state, .*'valence'"):
        BoundaryOptimizer(LINE, "valence")


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"tolerance": 0.0}, "tolerance between 0 and 0.5"),
        ({"at_most": 3}, "at least 8 measurements"),
    ],
)
def test_invalid_settings_are_refused(wrong: dict[str, float], expected: str) -> None:
    with pytest.raises(PlanningError, match=expected):
        BoundaryOptimizer(LINE, "oxidation_state", **wrong)


def test_an_outcome_needs_descriptor_and_point() -> None:
    optimizer = BoundaryOptimizer(LINE, "oxidation_state")
    with pytest.raises(PlanningError, match="expected an outcome with oxidation_state"):
        optimizer.ingest([{"_id": "a", "bond_length": 2.0}])
    with pytest.raises(PlanningError, match="expected a number for temperature"):
        optimizer.ingest([{"_id": "a", "oxidation_state": 2.0}])
