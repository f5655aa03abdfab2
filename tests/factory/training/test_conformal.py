"""Sets and intervals hold the truth as often as they say, within every class."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.training.conformal import BORROWED, class_thresholds, interval_factor
from bluesky_xpdml.models.forest import prediction_set

CLASSES = np.array([2.0, 3.0, 6.0])


def drawn(counts: tuple[int, int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and labels of rows; the third class is told badly."""
    random = np.random.default_rng(seed)
    labels = np.repeat(CLASSES, counts)
    truth = np.repeat([3.0, 2.0, 0.3], counts)
    logits = random.normal(size=(labels.size, 3))
    logits[np.arange(labels.size), np.searchsorted(CLASSES, labels)] += truth
    weight = np.exp(logits)
    return weight / weight.sum(axis=1, keepdims=True), labels


def covered(probabilities: np.ndarray, labels: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    inside = prediction_set(probabilities, thresholds)
    return inside[np.arange(labels.size), np.searchsorted(CLASSES, labels)]


def test_every_class_is_covered_although_one_is_told_badly():
    thresholds = class_thresholds(*drawn((2000, 1000, 400), 1), CLASSES, 0.9)
    probabilities, labels = drawn((4000, 4000, 4000), 2)
    inside = covered(probabilities, labels, thresholds)
    for name in CLASSES:
        assert inside[labels == name].mean() == pytest.approx(0.9, abs=0.035)


def test_one_threshold_for_all_would_fail_the_badly_told_class():
    probabilities, labels = drawn((2000, 1000, 40), 1)
    score = 1.0 - probabilities[np.arange(labels.size), np.searchsorted(CLASSES, labels)]
    marginal = np.full(3, np.quantile(score, 0.9))
    unseen = drawn((10, 10, 4000), 3)
    ours = class_thresholds(probabilities, labels, CLASSES, 0.9)
    rare = unseen[1] == 6.0
    assert covered(*unseen, marginal)[rare].mean() < 0.8
    assert covered(*unseen, ours)[rare].mean() > 0.85


def test_a_class_without_members_borrows_evenly_from_the_others():
    probabilities = np.repeat([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0]], [90, 10], axis=0)
    thresholds = class_thresholds(probabilities, np.repeat([2.0, 3.0], [90, 10]), CLASSES, 0.9)
    # Half of what is lent scores .1, half .6; nine tenths of eleven members lie in the second half.
    assert BORROWED == 10.0
    assert thresholds[2] == pytest.approx(0.6)
    assert thresholds[0] == pytest.approx(0.1)


@given(st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3), st.floats(0.0, 1.0))
def test_a_set_is_never_empty_and_grows_with_the_threshold(weights, threshold):
    row = np.array(weights) / sum(weights)
    small, large = (prediction_set(row, np.full(3, t)) for t in (threshold * 0.5, threshold))
    assert small.any()
    assert large.sum() >= small.sum()


@given(st.integers(1, 200), st.floats(0.5, 0.95))
def test_the_interval_holds_the_wanted_share_of_what_calibrated_it(n, coverage):
    random = np.random.default_rng(n)
    errors, spreads = random.normal(size=n), random.uniform(0.5, 2.0, n)
    factor = interval_factor(errors, spreads, coverage)
    inside = np.abs(errors) <= factor * spreads + 1e-6
    assert inside.mean() >= coverage or inside.all()


def test_intervals_hold_what_they_say_on_fresh_rows():
    random = np.random.default_rng(4)
    spreads = random.uniform(0.01, 0.1, 4000)
    errors = random.standard_t(4, 4000) * spreads
    factor = interval_factor(errors[:2000], spreads[:2000], 0.9)
    assert (np.abs(errors[2000:]) <= factor * spreads[2000:]).mean() == pytest.approx(0.9, abs=0.025)


def test_what_cannot_be_calibrated_is_refused():
    probabilities, labels = drawn((5, 5, 5), 1)
    with pytest.raises(TrainingError, match="one column a class"):
        class_thresholds(probabilities[:, :2], labels, CLASSES, 0.9)
    with pytest.raises(TrainingError, match="hold every label"):
        class_thresholds(probabilities, labels + 1.0, CLASSES, 0.9)
    with pytest.raises(TrainingError, match="add a floor"):
        interval_factor(np.ones(3), np.zeros(3), 0.9)
    with pytest.raises(TrainingError, match="as many of both"):
        interval_factor(np.ones(3), np.ones(2), 0.9)
