"""Answers about formulas that were not seen, and what sets and intervals hold of them."""

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

from bluesky_xpdml.factory.training.conformal import (
    halves_by_formula,
    interval_coverage,
    mean_thresholds,
    predict_unseen,
    set_coverage,
)
from bluesky_xpdml.factory.training.forests import compact_forest
from bluesky_xpdml.models.forest import Forest


def memory(rows: np.ndarray, labels: np.ndarray) -> Forest:
    """A forest that knows its training by heart."""
    return compact_forest(ExtraTreesRegressor(3, random_state=0).fit(rows, labels))


def test_no_answer_comes_from_a_forest_that_saw_the_formula() -> None:
    formula = np.repeat([f"F{number}O" for number in range(12)], 3)
    random = np.random.default_rng(0)
    # A formula of its own value: whoever saw it answers exactly, whoever did not cannot.
    value = np.repeat(random.permutation(12) * 10.0, 3)
    table = np.stack([np.repeat(np.arange(12.0), 3)[:, None]] * 2)
    found = predict_unseen(table, value, formula, memory, classes=np.empty(0), folds=3, seed=0)
    assert found.value.shape == (2, 36, 1)
    assert np.abs(found.value[..., 0] - value).min() > 1.0
    np.testing.assert_array_equal(found.value[0], found.value[1])
    assert set(formula[found.test]).isdisjoint(np.delete(formula, found.test))


def test_a_class_that_a_fold_lacks_has_no_share() -> None:
    formula = np.array([f"F{number}O" for number in range(9)])
    labels = np.array([2.0] * 4 + [3.0] * 4 + [4.0])
    table = np.random.default_rng(1).normal(size=(1, 9, 2))

    def fit(rows: np.ndarray, truth: np.ndarray) -> Forest:
        return compact_forest(ExtraTreesClassifier(5, random_state=0).fit(rows, truth))

    found = predict_unseen(table, labels, formula, fit, classes=np.array([2.0, 3.0, 4.0]), folds=3, seed=0)
    np.testing.assert_allclose(found.value.sum(axis=2), 1.0, atol=0.01)
    assert found.value[0, 8, 2] == 0.0


@pytest.mark.parametrize("rare", [30, 300])
def test_sets_hold_within_common_and_rare_classes(rare: int) -> None:
    random = np.random.default_rng(2)
    labels = np.repeat([2.0, 3.0], [3000, rare])
    odds = np.exp(random.normal(np.where(labels == 3.0, 0.3, -2.0), 1.0, size=(2, labels.size)))
    shares = np.stack([1.0 / (1.0 + odds), odds / (1.0 + odds)], axis=2)
    classes = np.array([2.0, 3.0])
    halves = random.integers(0, 2, labels.size).astype(float)
    found = set_coverage(shares, labels, classes, ["2", "3"], halves)
    assert found["share"] == pytest.approx(0.9, abs=0.02)
    assert found["classes"]["2"] == pytest.approx(0.9, abs=0.02)
    assert found["classes"]["3"] >= 0.8
    assert found["members"] == {"2": 3000.0, "3": float(rare)}
    thresholds = mean_thresholds(shares, labels, classes)
    own = 1.0 - shares[:, labels == 2.0, 0]
    assert thresholds[0] == pytest.approx(np.quantile(own, 0.9), abs=0.03)


def test_intervals_hold_on_the_other_half() -> None:
    random = np.random.default_rng(3)
    spreads = random.uniform(0.01, 0.05, (2, 2000))
    errors = spreads * random.normal(size=spreads.shape)
    found = interval_coverage(errors, spreads, random.integers(0, 2, 2000).astype(float))
    assert found["share"] == pytest.approx(0.9, abs=0.02)
    assert found["half_width"] == pytest.approx(1.645 * spreads.mean(), rel=0.05)


def test_formulas_stay_in_one_half() -> None:
    formula = np.array([f"F{number % 17}O" for number in range(100)])
    halves = halves_by_formula(formula, 0)
    for name in np.unique(formula):
        assert np.unique(halves[formula == name]).size == 1
    assert set(halves.tolist()) == {0.0, 1.0}
