"""Forests of decision trees as plain arrays, and what their outputs say of descriptors.

Nodes stand in breadth-first order, tree after tree, so that the two children of a node are neighbours: a
row moves to `left[node] + (value > threshold)`. A leaf points to itself under an infinite threshold, so that
all trees are walked together, level by level, without branches.

On disk a forest is three arrays: the feature of each node (-1 for a leaf), the thresholds of inner nodes
(float16), and the quantised values of leaves. The structure follows from the order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import BundleError, FeatureError
from bluesky_xpdml.records import Estimate, FloatArray
from bluesky_xpdml.vocabulary import Descriptor

UNRESOLVED_SHARE = 0.6
"""The walk drops rows that reached a leaf as soon as fewer than this share is still on its way."""
SURROUNDINGS = "surroundings"
"""Target that one forest answers with several numbers: `Descriptor.surroundings`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """An averaged ensemble of decision trees."""

    feature: NDArray[np.int32]
    """Feature that a node compares (0 for leaves), (n_nodes,)."""
    threshold: NDArray[np.float32]
    """A row moves right if its feature is larger; infinite for leaves, (n_nodes,)."""
    left: NDArray[np.int32]
    """Left child, the right one follows it; a leaf names itself, (n_nodes,)."""
    value: NDArray[np.float32]
    """Output of a leaf (zeros for inner nodes), (n_nodes, n_outputs)."""
    roots: NDArray[np.int32]
    """First node of each tree, (n_trees,)."""
    n_features: int
    """Features that rows must have at the least."""

    def leaves(self, rows: FloatArray) -> NDArray[np.int32]:
        """Return the leaf of each row in each tree: node numbers, (n, n_trees).

        Raises
        ------
        FeatureError
            If the rows are shorter than the forest needs.
        """
        table = np.ascontiguousarray(rows, dtype=np.float32)
        width, flat = table.shape[1], table.ravel()
        if width < self.n_features:
            # Unchecked, the flat index would read the next row.
            msg = f"expected rows of at least {self.n_features} features, found {width}"
            raise FeatureError(msg)
        node = np.tile(self.roots, len(table))
        offset = np.repeat(np.arange(len(table), dtype=np.int32) * width, self.roots.size)
        result = node.copy()
        place = np.arange(node.size)
        while True:
            # `take` is markedly faster than indexing here.
            goes_right = flat.take(offset + self.feature.take(node)) > self.threshold.take(node)
            child = self.left.take(node) + goes_right
            moving = np.flatnonzero(child != node)
            if moving.size == 0:
                result[place] = node
                return result.reshape(len(table), self.roots.size)
            if moving.size < UNRESOLVED_SHARE * node.size:
                result[place] = child
                place, offset, child = place.take(moving), offset.take(moving), child.take(moving)
            node = child

    def predict(self, rows: FloatArray) -> FloatArray:
        """Return the mean over all trees: class probabilities or values, (n, n_outputs).

        Parameters
        ----------
        rows
            Features, (n, n_features).
        """
        return np.asarray(self.value[self.leaves(rows)].mean(axis=1, dtype=np.float64))

    def quantised(self, *, levels: int) -> dict[str, NDArray[np.generic]]:
        """Return the arrays that are stored: `feature`, `threshold`, `value`, `scale`, `size`.

        `levels` is the number of steps between the smallest and the largest leaf value: 255 for
        probabilities, 65535 for lengths.
        """
        is_leaf = self.left == np.arange(self.left.size)
        values = self.value[is_leaf]
        low, high = float(values.min()), float(values.max())
        step = (high - low) / levels or 1.0
        kind = np.uint8 if levels <= 255 else np.uint16
        return {
            "feature": np.where(is_leaf, -1, self.feature).astype(np.int16),
            "threshold": self.threshold[~is_leaf].astype(np.float16),
            "value": np.round((values - low) / step).astype(kind),
            "scale": np.array([low, step]),
            "size": np.diff(np.append(self.roots, self.left.size)).astype(np.int32),
        }


def expand(arrays: Mapping[str, NDArray[np.generic]]) -> Forest:
    """Rebuild a forest from its stored arrays.

    Raises
    ------
    BundleError
        If the arrays do not fit together.
    """
    feature = arrays["feature"].astype(np.int32)
    is_leaf = feature < 0
    size = arrays["size"].astype(np.int64)
    first = np.cumsum(size) - size
    inner = np.flatnonzero(~is_leaf)
    counts = (int(size.sum()), arrays["threshold"].size, len(arrays["value"]))
    if counts != (feature.size, inner.size, feature.size - inner.size):
        msg = (
            f"a forest of {feature.size} nodes, {inner.size} inner, holds trees of {counts[0]} nodes, "
            f"{counts[1]} thresholds and {counts[2]} leaf values: the file is damaged, fetch the bundle again"
        )
        raise BundleError(msg)
    tree = np.repeat(np.arange(size.size), size)[inner]
    inner_before = np.cumsum(~is_leaf) - 1
    order = inner_before[inner] - (np.cumsum(~is_leaf)[first] - (~is_leaf)[first])[tree]
    left = np.arange(feature.size, dtype=np.int32)
    left[inner] = first[tree] + 1 + 2 * order
    if np.any(left[inner] + 1 >= first[tree] + size[tree]):
        raise BundleError("a node of a forest names a child outside its tree: fetch the bundle again")
    low, step = (float(number) for number in arrays["scale"])
    threshold = np.full(feature.size, np.inf, dtype=np.float32)
    threshold[inner] = arrays["threshold"].astype(np.float32)
    value = np.zeros((feature.size, arrays["value"].shape[1]), dtype=np.float32)
    value[is_leaf] = low + step * arrays["value"].astype(np.float32)
    return Forest(
        feature=np.where(is_leaf, 0, feature),
        threshold=threshold,
        left=left,
        value=value,
        roots=first.astype(np.int32),
        n_features=int(feature.max()) + 1,
    )


def prediction_set(probabilities: FloatArray, thresholds: FloatArray) -> NDArray[np.bool_]:
    """Return which classes belong to the set of each row, (..., k), by their probabilities, (..., k).

    Class k belongs to the set if 1 - p_k <= threshold_k (class-conditional split-conformal prediction). A set
    that would be empty holds the likeliest class. Other sets may lack it: if a common class, usually
    predicted with certainty, is only just likelier than a rare one, the row looks more like members of the
    rare one.
    """
    found = 1.0 - probabilities <= thresholds + 1e-12
    likeliest = probabilities == probabilities.max(axis=-1, keepdims=True)
    return np.asarray(found | (likeliest & ~found.any(axis=-1, keepdims=True)))


def mean_of_classes(target: Mapping[str, Any], probabilities: FloatArray) -> Estimate:
    """Return the mean of numbered classes; the interval spans the conformal set and the mean.

    `target` is an entry of a manifest with `classes`, their `thresholds` and the `unit`; the probabilities
    (k,) need not sum to one.
    """
    classes = np.asarray(target["classes"], dtype=float)
    probabilities = probabilities / probabilities.sum()
    mean = float(np.dot(probabilities, classes))
    names = [f"{value:.0f}" for value in classes.tolist()]
    return _with_set(target, classes, probabilities, mean, names)


def likeliest_polyhedron(target: Mapping[str, Any], probabilities: FloatArray) -> Estimate:
    """Return the likeliest polyhedron by the number of its corners.

    `target` is an entry of a manifest with `classes` such as `"T4"`, their `thresholds` and the `unit`; the
    probabilities (k,) need not sum to one.
    """
    corners = np.array([float(name[1:]) for name in target["classes"]])
    probabilities = probabilities / probabilities.sum()
    likeliest = float(corners[np.argmax(probabilities)])
    return _with_set(target, corners, probabilities, likeliest, target["classes"])


def means_of_members(
    forest: Forest, target: Mapping[str, Any], row: FloatArray
) -> dict[Descriptor, Estimate]:
    """Return the means over the trees of one forest that answers several numbers at once.

    The interval is value -+ factor max(standard deviation of the trees, floor). `target` is an entry of a
    manifest with `names`, and by name `units`, `interval_factor` and `spread_floor`.
    """
    members = forest.value[forest.leaves(row)[0]].astype(np.float64)
    values, spreads = members.mean(axis=0), members.std(axis=0)
    found = {}
    for name, value, spread in zip(target["names"], values.tolist(), spreads.tolist(), strict=True):
        half_width = target["interval_factor"][name] * max(spread, target["spread_floor"][name])
        found[Descriptor(name)] = Estimate(
            value=value,
            low=max(value - half_width, 0.0),
            high=value + half_width,
            unit=target["units"][name],
        )
    return found


def _with_set(
    target: Mapping[str, Any], numbers: FloatArray, probabilities: FloatArray, value: float, names: list[str]
) -> Estimate:
    inside = numbers[prediction_set(probabilities, np.asarray(target["thresholds"]))]
    return Estimate(
        value=value,
        low=min(float(inside.min()), value),
        high=max(float(inside.max()), value),
        unit=target["unit"],
        probabilities=dict(zip(names, probabilities.tolist(), strict=True)),
    )
