"""Samples are repeated until they are narrow enough, and at most as often as allowed."""

import pytest
from bluesky_adaptive.protocols import (
    CanRegisterSuggestions,
    Optimizer,
    SupportsStoppingCriteria,
    TrialFaultAware,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.count import CountOptimizer, WidthKind, answer_width

SAMPLES = [{"sample": "A"}, {"sample": "B"}, {"x": 1.5, "y": 2.0}]


def outcome(trial, value=2.5, width=1.0, quality="good"):
    ends = {"oxidation_state_low": value - width / 2, "oxidation_state_high": value + width / 2}
    return {"_id": trial["_id"], "oxidation_state": value, **ends, "quality": quality}


def test_it_satisfies_the_protocols():
    optimizer = CountOptimizer(SAMPLES, "oxidation_state", width=0.5, at_most=3)
    assert isinstance(optimizer, Optimizer)
    assert isinstance(optimizer, TrialFaultAware)
    assert isinstance(optimizer, CanRegisterSuggestions)
    assert isinstance(optimizer, SupportsStoppingCriteria)


def test_a_sample_is_finished_when_it_is_narrow():
    optimizer = CountOptimizer(SAMPLES, "oxidation_state", width=0.5, at_most=9)
    widths = iter([1.0, 0.7, 0.4, 0.3, 0.6, 0.5])
    measured = []
    while not optimizer.should_stop()[0]:
        (trial,) = optimizer.suggest(1)
        measured.append(trial.get("sample", trial.get("x")))
        optimizer.ingest([outcome(trial, width=next(widths))])
    assert measured == ["A", "A", "A", "B", 1.5, 1.5]
    assert optimizer.should_stop() == (True, "3 of 3 samples are narrower than 0.5")
    assert [point for _, point, _ in optimizer.get_best_points()] == SAMPLES


def test_the_scatter_of_repeats_is_a_students_interval():
    # t(0.95, 3) = 2.3534 from tables; s of 1, 2, 3, 4 is sqrt(5 / 3).
    assert answer_width([1, 2, 3, 4], [9, 9, 9, 9], WidthKind.SCATTER) == pytest.approx(
        2 * 2.3534 * (5 / 3) ** 0.5 / 2, rel=1e-4
    )
    assert answer_width([1.0], [0.1], WidthKind.SCATTER) == float("inf")
    assert answer_width([1.0], [float("nan")], WidthKind.INTERVAL) == float("inf")


@settings(deadline=None)
@given(st.lists(st.sampled_from(["good", "suspect", "failed"]), min_size=12, max_size=12), st.integers(1, 4))
def test_failures_count_and_it_ends(qualities, at_most):
    optimizer = CountOptimizer(SAMPLES, "oxidation_state", width=0.1, at_most=at_most)
    for quality in qualities[: 3 * at_most]:
        assert not optimizer.should_stop()[0]
        (trial,) = optimizer.suggest(1)
        optimizer.ingest([outcome(trial, quality=quality)])
    assert optimizer.should_stop()[0]
    assert optimizer.n_measured == 3 * at_most
    assert optimizer.n_failed == qualities[: 3 * at_most].count("failed")
    assert list(optimizer.suggest(5)) == []


def test_pending_repeats_are_not_suggested_again():
    optimizer = CountOptimizer(SAMPLES[:2], "oxidation_state", width=0.5, at_most=2)
    suggested = optimizer.suggest(9)
    assert [trial["sample"] for trial in suggested] == ["A", "A", "B", "B"]
    with pytest.raises(PlanningError, match=f"expected answers to {suggested[0]['_id']}, "):
        optimizer.suggest(9)
    optimizer.register_failures([suggested[0]])
    optimizer.ingest([outcome(suggested[1], width=0.2), outcome(suggested[2], width=0.3)])
    assert optimizer.should_stop() == (True, "2 of 2 samples are narrower than 0.5")


def test_earlier_measurements_count_once():
    optimizer = CountOptimizer(SAMPLES, "oxidation_state", width=0.5, at_most=2)
    before = {**outcome({"_id": "old"}), "x": 1.5, "y": 2.0}
    optimizer.ingest([before])
    optimizer.ingest([before])
    optimizer.register_failures([{"_id": "lost", "x": 1.5, "y": 2.0}])
    assert optimizer.progress[2].finished
    assert optimizer.n_measured == 2


def test_other_samples_are_refused():
    optimizer = CountOptimizer(SAMPLES, "oxidation_state", width=0.5, at_most=2)
    with pytest.raises(PlanningError, match="expected one of the samples"):
        optimizer.register_suggestions([{"sample": "C"}])
    with pytest.raises(PlanningError, match="samples that differ"):
        CountOptimizer([{"x": 1}, {"x": 1}], "oxidation_state", width=0.5, at_most=2)
    with pytest.raises(PlanningError, match="positive width"):
        CountOptimizer(SAMPLES, "oxidation_state", width=0.0, at_most=2)
