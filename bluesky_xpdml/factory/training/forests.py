"""Forests of scikit-learn: fitting them in threads, and the compact form that is shipped."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.models.forest import SURROUNDINGS, Forest, expand
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import Descriptor

CLASS_LEVELS = 255
"""Steps of a stored class probability."""
LENGTH_LEVELS = 65535
"""Steps of a stored regression value."""
REGRESSIONS = (Descriptor.BOND_LENGTH, SURROUNDINGS)
"""Targets whose leaves hold lengths and numbers, not probabilities."""


def fit_forest(forest: Any, rows: FloatArray, labels: FloatArray) -> Any:
    """Fit a forest and leave the filters of warnings as they were.

    Each thread of scikit-learn replaces the filters of the whole process and puts back those that it found.
    Where threads end in another order than they began in, the filters of a thread stay, which are none.
    """
    with warnings.catch_warnings():
        return forest.fit(rows, labels)


def compact_forest(fitted: Any) -> Forest:
    """Convert a fitted forest to the form that is shipped, rounded as it will be stored."""
    is_classifier = hasattr(fitted, "classes_")
    trees = [_breadth_first(estimator.tree_, normalise=is_classifier) for estimator in fitted.estimators_]
    sizes = np.array([len(tree["feature"]) for tree in trees])
    first = np.cumsum(sizes) - sizes
    exact = Forest(
        feature=np.concatenate([tree["feature"] for tree in trees]).astype(np.int32),
        threshold=np.concatenate([tree["threshold"] for tree in trees]).astype(np.float32),
        left=np.concatenate([tree["left"] + start for tree, start in zip(trees, first, strict=True)]).astype(
            np.int32
        ),
        value=np.concatenate([tree["value"] for tree in trees]).astype(np.float32),
        roots=first.astype(np.int32),
        n_features=int(fitted.n_features_in_),
    )
    return expand(exact.quantised(levels=CLASS_LEVELS if is_classifier else LENGTH_LEVELS))


def stored_forests(forests: Mapping[str, Forest]) -> dict[str, dict[str, NDArray[np.generic]]]:
    """Return the arrays of forests as a bundle stores them, by target."""
    return {
        target: forest.quantised(levels=LENGTH_LEVELS if target in REGRESSIONS else CLASS_LEVELS)
        for target, forest in forests.items()
    }


def _breadth_first(tree: Any, *, normalise: bool) -> dict[str, NDArray[Any]]:
    left, right = tree.children_left, tree.children_right
    order = [0]
    for node in order:
        if left[node] >= 0:
            order += [int(left[node]), int(right[node])]
    nodes = np.array(order)
    is_leaf = left[nodes] < 0
    # Classes stand on the last axis, outputs of a regression on the one before it.
    values = tree.value[nodes, 0, :] if normalise else tree.value[nodes, :, 0]
    if normalise:
        values = values / values.sum(axis=1, keepdims=True)
    new_number = np.empty(nodes.size, dtype=np.int64)
    new_number[nodes] = np.arange(nodes.size)
    return {
        "feature": np.where(is_leaf, 0, tree.feature[nodes]),
        "threshold": np.where(is_leaf, np.inf, tree.threshold[nodes]),
        "left": np.where(is_leaf, np.arange(nodes.size), new_number[left[nodes]]),
        "value": np.where(is_leaf[:, None], values, 0.0),
    }
