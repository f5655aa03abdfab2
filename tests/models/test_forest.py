"""Compact forests answer what the forests they were made of answer."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)

from bluesky_xpdml.errors import BundleError, FeatureError
from bluesky_xpdml.factory.training.forests import CLASS_LEVELS, LENGTH_LEVELS, compact_forest
from bluesky_xpdml.models.forest import Forest, expand

shapes = st.fixed_dictionaries(
    {
        "n": st.integers(4, 60),
        "width": st.integers(1, 6),
        "classes": st.integers(2, 5),
        "trees": st.integers(1, 6),
        "leaf": st.integers(1, 4),
        "seed": st.integers(0, 2**31),
    }
)


def table(shape: dict[str, int]) -> tuple[np.ndarray, np.random.Generator]:
    """Whole numbers: thresholds of random forests lie halfway between them, exact in half precision."""
    random = np.random.default_rng(shape["seed"])
    return random.integers(0, 20, (shape["n"], shape["width"])).astype(float), random


@settings(max_examples=40, deadline=None)
@given(shape=shapes)
def test_class_probabilities_are_those_of_scikit_learn(shape: dict[str, int]) -> None:
    rows, random = table(shape)
    labels = np.append([0, 1], random.integers(0, shape["classes"], shape["n"] - 2))
    theirs = RandomForestClassifier(
        shape["trees"], min_samples_leaf=shape["leaf"], random_state=shape["seed"], class_weight="balanced"
    ).fit(rows, labels)
    unseen = random.integers(-3, 24, (30, shape["width"])).astype(float)
    ours = compact_forest(theirs).predict(unseen)
    np.testing.assert_allclose(ours, theirs.predict_proba(unseen), rtol=0, atol=0.51 / CLASS_LEVELS)


@settings(max_examples=40, deadline=None)
@given(shape=shapes)
def test_regression_is_that_of_scikit_learn(shape: dict[str, int]) -> None:
    rows, random = table(shape)
    values = random.normal(1.95, 0.1, shape["n"])
    theirs = RandomForestRegressor(
        shape["trees"], min_samples_leaf=shape["leaf"], random_state=shape["seed"]
    ).fit(rows, values)
    unseen = random.integers(-3, 24, (30, shape["width"])).astype(float)
    ours = compact_forest(theirs).predict(unseen)
    step = np.ptp(values) / LENGTH_LEVELS
    np.testing.assert_allclose(ours[:, 0], theirs.predict(unseen), rtol=1e-6, atol=step)


def spectra_like(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, 400)
    return random.normal(0.3 * labels[:, None], 0.4, (400, 12)), labels


def extra_trees() -> tuple[ExtraTreesClassifier, Forest, np.ndarray]:
    rows, labels = spectra_like()
    theirs = ExtraTreesClassifier(25, min_samples_leaf=3, random_state=1).fit(rows, labels)
    return theirs, compact_forest(theirs), spectra_like(7)[0]


def test_half_precision_thresholds_do_not_change_the_answers_of_extra_trees() -> None:
    theirs, ours, unseen = extra_trees()
    expected, found = theirs.predict_proba(unseen), ours.predict(unseen)
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.005
    assert np.mean(theirs.classes_[found.argmax(axis=1)] == theirs.predict(unseen)) > 0.99

    rows, labels = spectra_like()
    regression = ExtraTreesRegressor(25, min_samples_leaf=3, random_state=1).fit(rows, labels.astype(float))
    difference = compact_forest(regression).predict(unseen)[:, 0] - regression.predict(unseen)
    assert np.sqrt(np.mean(difference**2)) < 0.01


def test_a_batch_answers_like_its_rows_one_by_one() -> None:
    _, forest, unseen = extra_trees()
    alone = np.concatenate([forest.predict(row[None, :]) for row in unseen])
    np.testing.assert_array_equal(forest.predict(unseen), alone)
    assert forest.leaves(unseen).shape == (len(unseen), 25)
    assert forest.predict(unseen[:0]).shape == (0, 3)


@pytest.mark.parametrize("levels", [CLASS_LEVELS, LENGTH_LEVELS])
def test_storing_and_expanding_changes_nothing(levels: int) -> None:
    _, forest, unseen = extra_trees()
    stored = forest.quantised(levels=levels)
    again = expand(stored)
    for name in ("feature", "threshold", "left", "roots"):
        np.testing.assert_array_equal(getattr(again, name), getattr(forest, name), err_msg=name)
    for name, values in again.quantised(levels=levels).items():
        np.testing.assert_array_equal(values, stored[name], err_msg=name)
        assert values.dtype == stored[name].dtype
    np.testing.assert_allclose(again.predict(unseen), forest.predict(unseen), atol=1e-6)


def test_a_constant_forest_survives_storage() -> None:
    rows = np.arange(8.0)[:, None]
    forest = compact_forest(RandomForestRegressor(3, random_state=0).fit(rows, np.full(8, 2.0)))
    assert forest.predict(rows).tolist() == [[2.0]] * 8


def grown_leaf(stored: dict[str, Any]) -> dict[str, Any]:
    """Turn the last leaf into an inner node whose children do not exist."""
    feature = stored["feature"].copy()
    feature[-1] = 0
    return {
        "feature": feature,
        "threshold": np.append(stored["threshold"], stored["threshold"][:1]),
        "value": stored["value"][:-1],
    }


DAMAGES = {
    "a threshold is missing": lambda stored: {"threshold": stored["threshold"][:-1]},
    "a leaf's value is missing": lambda stored: {"value": stored["value"][1:]},
    "a tree is missing": lambda stored: {"size": stored["size"][:-1]},
    "nodes are missing": lambda stored: {"feature": stored["feature"][:-2]},
    "a child lies outside its tree": grown_leaf,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_arrays_are_refused(damage: str) -> None:
    stored: dict[str, Any] = extra_trees()[1].quantised(levels=CLASS_LEVELS)
    expand(stored)
    with pytest.raises(BundleError, match="fetch the bundle again"):
        expand(stored | DAMAGES[damage](stored))


def test_rows_too_short_for_the_forest_are_refused() -> None:
    _, forest, unseen = extra_trees()
    with pytest.raises(FeatureError, match="expected rows of at least 12 features, found 11"):
        forest.predict(unseen[:, :11])
