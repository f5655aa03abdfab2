"""Shapley values of forests, against the definition: every coalition of features, one by one."""

import itertools
from dataclasses import replace
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

from bluesky_xpdml.errors import FeatureError
from bluesky_xpdml.factory.training.forests import compact_forest
from bluesky_xpdml.models.forest import Forest, expand
from bluesky_xpdml.models.tree_shap import leaf_paths, shapley_values


def by_definition(forest: Forest, row: np.ndarray, background: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Return Shapley values of v(S) = mean over the background of f(features of S from the row)."""
    n = row.size

    def worth(coalition: tuple[int, ...]) -> float:
        mixed = background.copy()
        mixed[:, list(coalition)] = row[list(coalition)]
        return float((forest.predict(mixed) @ outputs).mean())

    worths = {s: worth(s) for size in range(n + 1) for s in itertools.combinations(range(n), size)}
    values = np.zeros(n)
    for feature in range(n):
        for coalition, alone in worths.items():
            if feature not in coalition:
                weight = factorial(len(coalition)) * factorial(n - len(coalition) - 1) / factorial(n)
                joined = tuple(sorted((*coalition, feature)))
                values[feature] += weight * (worths[joined] - alone)
    return values


def trained(seed: int, n_features: int, *, classes: bool) -> tuple[Forest, np.ndarray, np.ndarray]:
    """Return a small forest, rows it did not see, and weights of its outputs."""
    random = np.random.default_rng(seed)
    rows = random.random((80, n_features)).round(2)
    signal = rows[:, 0] + rows[:, -1] * rows[:, n_features // 2]
    if classes:
        labels = np.digitize(signal, np.quantile(signal, [0.3, 0.6]))
        fitted = ExtraTreesClassifier(5, min_samples_leaf=2, random_state=seed).fit(rows, labels)
        outputs = np.array([2.0, 3.0, 5.0])
    else:
        fitted = ExtraTreesRegressor(5, min_samples_leaf=2, random_state=seed).fit(rows, signal)
        outputs = np.ones(1)
    return compact_forest(fitted), random.random((7, n_features)).round(2), outputs


@pytest.mark.parametrize(("seed", "n_features", "classes"), [(0, 3, False), (1, 8, True), (2, 8, False)])
def test_values_are_those_of_the_definition(seed: int, n_features: int, classes: bool) -> None:
    forest, rows, outputs = trained(seed, n_features, classes=classes)
    values, base = shapley_values(forest, rows[0], rows[1:], outputs)
    np.testing.assert_allclose(values, by_definition(forest, rows[0], rows[1:], outputs), atol=1e-6)
    assert base == pytest.approx((forest.predict(rows[1:]) @ outputs).mean(), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.booleans(), n_features=st.integers(1, 12))
def test_values_add_up_to_the_answer(seed: int, classes: bool, n_features: int) -> None:
    forest, rows, outputs = trained(seed, n_features, classes=classes)
    values, base = shapley_values(forest, rows[0], rows[1:], outputs)
    assert base + values.sum() == pytest.approx(float((forest.predict(rows[:1]) @ outputs)[0]), abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n_features=st.integers(2, 10))
def test_unused_features_get_zero(seed: int, n_features: int) -> None:
    forest, rows, outputs = trained(seed, n_features, classes=False)
    # One feature equals the background's, one more is not looked at by any tree.
    rows[1:, 0] = rows[0, 0]
    wider = np.column_stack([rows, np.arange(len(rows))])
    values, _ = shapley_values(forest, wider[0], wider[1:], outputs)
    assert values.size == n_features + 1
    assert (values[0], values[-1]) == (0.0, 0.0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n_features=st.integers(2, 10))
def test_equal_features_get_equal_values(seed: int, n_features: int) -> None:
    forest, rows, outputs = trained(seed, n_features, classes=False)
    # The forest beside its mirror image treats its first two features alike.
    swapped = np.array([1, 0, *range(2, n_features)])
    both = replace(
        forest,
        feature=np.concatenate([forest.feature, swapped[forest.feature]]).astype(np.int32),
        threshold=np.tile(forest.threshold, 2),
        left=np.concatenate([forest.left, forest.left + forest.left.size]).astype(np.int32),
        value=np.tile(forest.value, (2, 1)),
        roots=np.concatenate([forest.roots, forest.roots + forest.left.size]).astype(np.int32),
        n_features=n_features,
    )
    rows[:, 1] = rows[:, 0]
    values, _ = shapley_values(both, rows[0], rows[1:], outputs)
    assert values[0] == pytest.approx(values[1], abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.floats(-3.0, 3.0))
def test_values_are_linear_in_the_outputs(seed: int, factor: float) -> None:
    forest, rows, outputs = trained(seed, 6, classes=True)
    other = np.array([1.0, -1.0, 0.5])
    parts = [shapley_values(forest, rows[0], rows[1:], each)[0] for each in (outputs, other)]
    together, _ = shapley_values(forest, rows[0], rows[1:], outputs + factor * other)
    np.testing.assert_allclose(together, parts[0] + factor * parts[1], atol=1e-9)


def test_two_conditions_on_one_feature_are_merged() -> None:
    # x <= 0.75, then x > 0.25: three leaves, of which the middle one demands an interval.
    forest = expand(
        {
            "feature": np.array([0, 0, -1, -1, -1]),
            "threshold": np.array([0.75, 0.25]),
            "value": np.array([[30.0], [10.0], [20.0]]),
            "scale": np.array([0.0, 1.0]),
            "size": np.array([5]),
        }
    )
    paths = leaf_paths(forest)
    assert paths.node.tolist() == [2, 3, 4]
    assert list(zip(paths.leaf, paths.low, paths.high, strict=True)) == [
        (0, 0.75, np.inf),
        (1, -np.inf, 0.25),
        (2, 0.25, 0.75),
    ]
    values, base = shapley_values(forest, np.array([0.5]), np.array([[0.9], [0.1]]), np.ones(1))
    assert (values.tolist(), base) == ([0.0], 20.0)


def test_a_tree_of_one_leaf_attributes_nothing() -> None:
    leaf = {"feature": np.array([-1]), "threshold": np.empty(0), "value": np.array([[4.0]])}
    forest = expand(leaf | {"scale": np.array([0.0, 1.0]), "size": np.array([1])})
    values, base = shapley_values(replace(forest, n_features=2), np.ones(2), np.zeros((3, 2)), np.ones(1))
    assert (values.tolist(), base) == ([0.0, 0.0], 4.0)


@pytest.mark.parametrize("background", [np.empty((0, 6)), np.ones((3, 5)), np.ones(6)])
def test_a_background_of_other_features_is_refused(background: np.ndarray) -> None:
    forest, rows, outputs = trained(3, 6, classes=False)
    with pytest.raises(FeatureError, match="expected background rows of 6 features"):
        shapley_values(forest, rows[0], background, outputs)
