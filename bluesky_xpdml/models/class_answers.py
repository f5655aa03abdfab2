"""From the outputs of forests to descriptors: means of numbered classes, polyhedra, means over trees."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.models.forest import Forest
from bluesky_xpdml.records import Estimate, FloatArray


def prediction_set(probabilities: FloatArray, thresholds: FloatArray) -> NDArray[np.bool_]:
    """Return which classes belong to the set of each row.

    A set that would be empty holds the likeliest class. Other sets may lack it: where a common class,
    usually told with certainty, is only just likelier than a rare one, the row looks more like the rare
    one's members.

    Parameters
    ----------
    probabilities
        Of each class, (..., k).
    thresholds
        Largest value of one minus the probability with which each class belongs to a set, (k,).

    Returns
    -------
    array of bool
        True for the classes of the set, (..., k).

    Examples
    --------
    >>> prediction_set(np.array([0.7, 0.25, 0.05]), np.array([0.5, 0.8, 0.9]))
    array([ True,  True, False])
    """
    found = 1.0 - probabilities <= thresholds + 1e-12
    likeliest = probabilities == probabilities.max(axis=-1, keepdims=True)
    return np.asarray(found | (likeliest & ~found.any(axis=-1, keepdims=True)))


def mean_of_classes(target: Mapping[str, Any], probabilities: FloatArray) -> Estimate:
    """Return the mean of numbered classes; the interval spans the conformal set and the mean.

    Parameters
    ----------
    target
        Entry of a manifest: `classes`, their `thresholds` and the `unit`.
    probabilities
        Of the classes, up to a factor, (k,).

    Examples
    --------
    >>> target = {"classes": [2.0, 3.0, 4.0], "thresholds": [0.85, 0.85, 0.85], "unit": "e"}
    >>> found = mean_of_classes(target, np.array([0.2, 0.75, 0.05]))
    >>> round(found.value, 2), found.low, found.high
    (2.85, 2.0, 3.0)
    """
    classes = np.asarray(target["classes"], dtype=float)
    probabilities = probabilities / probabilities.sum()
    mean = float(np.dot(probabilities, classes))
    names = [f"{value:.0f}" for value in classes.tolist()]
    return _with_set(target, classes, probabilities, mean, names)


def likeliest_polyhedron(target: Mapping[str, Any], probabilities: FloatArray) -> Estimate:
    """Return the likeliest polyhedron by the number of its corners.

    Parameters
    ----------
    target
        Entry of a manifest: `classes` such as `"T4"`, their `thresholds` and the `unit`.
    probabilities
        Of the classes, up to a factor, (k,).

    Examples
    --------
    >>> target = {"classes": ["T4", "S5", "O6"], "thresholds": [0.5, 0.5, 0.5], "unit": "1"}
    >>> likeliest_polyhedron(target, np.array([0.1, 0.2, 0.7])).value
    6.0
    """
    corners = np.array([float(name[1:]) for name in target["classes"]])
    probabilities = probabilities / probabilities.sum()
    likeliest = float(corners[np.argmax(probabilities)])
    return _with_set(target, corners, probabilities, likeliest, target["classes"])


def means_of_members(forest: Forest, target: Mapping[str, Any], row: FloatArray) -> dict[str, Estimate]:
    """Return the means over the trees of one forest that answers several numbers at once.

    Parameters
    ----------
    forest
        With one output a name.
    target
        Entry of a manifest: `names`, and by name `units`, `interval_factor` and `spread_floor`.
    row
        Features, (1, n_features).
    """
    members = forest.value[forest.leaves(row)[0]].astype(np.float64)
    values, spreads = members.mean(axis=0), members.std(axis=0)
    found = {}
    for name, value, spread in zip(target["names"], values.tolist(), spreads.tolist(), strict=True):
        half_width = target["interval_factor"][name] * max(spread, target["spread_floor"][name])
        found[name] = Estimate(
            value=value,
            low=max(value - half_width, 0.0),
            high=value + half_width,
            unit=target["units"][name],
        )
    return found


def _with_set(
    target: Mapping[str, Any],
    numbers: FloatArray,
    probabilities: FloatArray,
    value: float,
    names: list[str],
) -> Estimate:
    inside = numbers[prediction_set(probabilities, np.asarray(target["thresholds"]))]
    return Estimate(
        value=value,
        low=min(float(inside.min()), value),
        high=max(float(inside.max()), value),
        unit=target["unit"],
        probabilities=dict(zip(names, probabilities.tolist(), strict=True)),
    )
