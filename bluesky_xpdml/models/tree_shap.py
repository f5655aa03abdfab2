"""Which feature changed the answer of a forest, and by how much: interventional Shapley values of trees.

The answer f(x) is compared with the answers to some rows z of the training. The value of a feature is its
mean marginal contribution over all orders in which the features of x can replace those of z, so that the
values add up to f(x) minus the mean of f(z). They are exact: a leaf of value w that is reached only with a
features of x and b features of z gives

    w (a - 1)! b! / (a + b)!    to each of the a,    -w a! (b - 1)! / (a + b)!    to each of the b

(Lundberg et al., Nature Machine Intelligence 2 (2020) 56, the algorithm for independent features).
"""

from dataclasses import dataclass
from math import factorial

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import FeatureError
from bluesky_xpdml.models.forest import Forest
from bluesky_xpdml.records import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafPaths:
    """Conditions of each leaf: one row of the table for each feature on the path to it."""

    node: NDArray[np.int64]
    """Leaves, (n_leaves,)."""
    leaf: NDArray[np.int64]
    """Leaf of each condition, by number, ascending, (n_conditions,)."""
    feature: NDArray[np.int64]
    """Feature of each condition, (n_conditions,)."""
    low: NDArray[np.float32]
    """The feature must be larger than this, (n_conditions,)."""
    high: NDArray[np.float32]
    """The feature must not be larger than this, (n_conditions,)."""

    def met(self, row: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which conditions a row of features meets, (n_conditions,)."""
        values = row.take(self.feature)
        return np.asarray((values > self.low) & (values <= self.high))

    def select(self, chosen: NDArray[np.bool_]) -> "LeafPaths":
        """Return the chosen conditions, of all leaves."""
        return LeafPaths(
            node=self.node,
            leaf=self.leaf[chosen],
            feature=self.feature[chosen],
            low=self.low[chosen],
            high=self.high[chosen],
        )


def shapley_values(
    forest: Forest, row: FloatArray, background: FloatArray, outputs: FloatArray
) -> tuple[FloatArray, float]:
    """Distribute the difference between an answer and the mean answer to a background over the features.

    The answer to the row (n_features,) is `predict(row) @ outputs`, where the outputs may be the values of
    the classes; the background has the shape (n_rows, n_features). The Shapley values (n_features,) and the
    mean answer to the background add up to the answer. A FeatureError is raised if there is no background, or
    it has other features than the row.
    """
    if background.ndim != 2 or len(background) == 0 or background.shape[1] != row.size:
        msg = f"expected background rows of {row.size} features, found an array of shape {background.shape}"
        raise FeatureError(msg)
    paths = leaf_paths(forest)
    answer = forest.value[paths.node].astype(np.float64) @ np.asarray(outputs, dtype=np.float64)
    values = _summed_over_rows(paths, answer, row.astype(np.float32), background.astype(np.float32))
    base = float((forest.predict(background) @ outputs).mean())
    return values / (len(background) * forest.roots.size), base


def leaf_paths(forest: Forest) -> LeafPaths:
    """Return the conditions of the leaves of a forest, merged per feature; a tree of one leaf has none."""
    nodes = np.arange(forest.left.size)
    is_leaf = forest.left == nodes
    inner = np.flatnonzero(~is_leaf)
    parent = np.full(nodes.size, -1)
    went_right = np.zeros(nodes.size, dtype=bool)
    parent[forest.left[inner]] = inner
    parent[forest.left[inner] + 1] = inner
    went_right[forest.left[inner] + 1] = True
    leaves = np.flatnonzero(is_leaf)
    number, at, right = _climb(parent, went_right, leaves)
    threshold, feature = forest.threshold[at], forest.feature[at].astype(np.int64)
    key = number * forest.n_features + feature
    order = np.argsort(key, kind="stable")
    key = key[order]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    low = np.where(right, threshold, -np.inf).astype(np.float32)[order]
    high = np.where(right, np.inf, threshold).astype(np.float32)[order]
    return LeafPaths(
        node=leaves,
        leaf=key[first] // forest.n_features,
        feature=key[first] % forest.n_features,
        low=np.maximum.reduceat(low, first) if first.size else low,
        high=np.minimum.reduceat(high, first) if first.size else high,
    )


def _climb(
    parent: NDArray[np.int64], went_right: NDArray[np.bool_], leaves: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return every node above every leaf: number of the leaf, the node, whether the path goes right there."""
    number, node = np.arange(leaves.size), leaves
    steps: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]] = []
    while True:
        has_parent = parent[node] >= 0
        number, node = number[has_parent], node[has_parent]
        steps.append((number, parent[node], went_right[node]))
        if node.size == 0:
            numbers, nodes, rights = zip(*steps, strict=True)
            return np.concatenate(numbers), np.concatenate(nodes), np.concatenate(rights)
        node = parent[node]


def _summed_over_rows(
    paths: LeafPaths, answer: FloatArray, row: NDArray[np.float32], background: NDArray[np.float32]
) -> FloatArray:
    n_leaves, width = paths.node.size, row.size
    met = paths.met(row)
    ours, theirs = paths.select(met), paths.select(~met)
    n_theirs = np.bincount(theirs.leaf, minlength=n_leaves)
    deepest = int(np.bincount(paths.leaf, minlength=1).max(initial=0))
    gain, loss = _shares(deepest)
    total = np.zeros(width)
    for other in background:
        # A condition that neither row meets makes the leaf unreachable for every mixture of the two.
        reached = np.ones(n_leaves, dtype=bool)
        reached[theirs.leaf[~theirs.met(other)]] = False
        needed = ours.select(reached[ours.leaf])
        needed = needed.select(~needed.met(other))
        n_ours = np.bincount(needed.leaf, minlength=n_leaves)
        up, down = answer * gain[n_ours, n_theirs], answer * loss[n_ours, n_theirs] * reached
        total += np.bincount(needed.feature, weights=up[needed.leaf], minlength=width)
        total -= np.bincount(theirs.feature, weights=down[theirs.leaf], minlength=width)
    return total


def _shares(deepest: int) -> tuple[FloatArray, FloatArray]:
    """Return (a - 1)! b! / (a + b)! and a! (b - 1)! / (a + b)! by a and b, zero if a or b is."""
    gain, loss = np.zeros((2, deepest + 1, deepest + 1))
    for a in range(deepest + 1):
        for b in range(deepest + 1 - a):
            if a > 0:
                gain[a, b] = factorial(a - 1) * factorial(b) / factorial(a + b)
            if b > 0:
                loss[a, b] = factorial(a) * factorial(b - 1) / factorial(a + b)
    return gain, loss
