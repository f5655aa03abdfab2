"""What forests answer about formulas that they have not seen, and how often sets and intervals hold there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.library import StringArray
from bluesky_xpdml.factory.training.conformal import class_thresholds, interval_factor
from bluesky_xpdml.factory.training.xanes import COVERAGE
from bluesky_xpdml.models.forest import Forest, prediction_set
from bluesky_xpdml.records import FloatArray

DECIMALS = 4

Fit = Callable[[FloatArray, FloatArray], Forest]
"""Trains a forest on rows (n, n_features) and labels (n,) or (n, m)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """Answers about n materials in several copies, each by a forest that saw no such formula."""

    value: FloatArray
    """Shares of the classes, or means over trees, (copies, n, k)."""
    spread: FloatArray
    """Standard deviations over trees, (copies, n, k)."""
    forest: Forest
    """The forest of the first fold."""
    test: NDArray[np.int64]
    """Materials that it was not trained on."""


def ask_unseen(
    table: FloatArray,
    labels: FloatArray,
    formula: StringArray,
    fit: Fit,
    *,
    classes: FloatArray,
    folds: int,
    seed: int,
) -> Unseen:
    """Train on some formulas and ask about the others, fold by fold.

    Parameters
    ----------
    table
        Features, (copies, n, n_features).
    labels
        Of the materials, (n,) or (n, m).
    formula
        Reduced formulas, (n,).
    fit
        Trains a forest.
    classes
        All classes, ascending, (k,); empty for a regression.
    folds, seed
        Of the division.
    """
    from sklearn.model_selection import GroupKFold

    copies, n, width = table.shape
    outputs = classes.size or (labels.shape[1] if labels.ndim > 1 else 1)
    value, spread = np.zeros((copies, n, outputs)), np.zeros((copies, n, outputs))
    first: tuple[Forest, NDArray[np.int64]] | None = None
    for train, test in GroupKFold(folds, shuffle=True, random_state=seed).split(table[0], groups=formula):
        forest = fit(table[:, train].reshape(-1, width), np.concatenate([labels[train]] * copies))
        first = first or (forest, test)
        members = forest.value[forest.leaves(table[:, test].reshape(-1, width))].astype(np.float64)
        known = np.searchsorted(classes, np.unique(labels[train])) if classes.size else np.arange(outputs)
        for array, part in ((value, members.mean(axis=1)), (spread, members.std(axis=1))):
            array[:, test[:, None], known] = part.reshape(copies, test.size, -1)
    if first is None:
        raise TrainingError("no fold to ask: expected at least two")
    return Unseen(value=value, spread=spread, forest=first[0], test=first[1])


def mean_thresholds(shares: FloatArray, labels: FloatArray, classes: FloatArray) -> FloatArray:
    """Return how improbable each class may be and still belong to a set, the mean over the copies.

    Copies of a material are no new members: each is counted on its own.

    Parameters
    ----------
    shares
        Of the classes, by forests that saw no such formula, (copies, n, k).
    labels
        True classes, (n,).
    classes
        Ascending, (k,).
    """
    found = [class_thresholds(copy, labels, classes, COVERAGE) for copy in shares]
    return np.asarray(np.mean(found, axis=0).round(DECIMALS))


def set_coverage(
    shares: FloatArray, labels: FloatArray, classes: FloatArray, names: Sequence[str], halves: FloatArray
) -> dict[str, float | dict[str, float]]:
    """Return how often sets hold the true class where thresholds were counted on other formulas.

    Parameters
    ----------
    shares, labels, classes
        As for `mean_thresholds`.
    names
        Of the classes, for people.
    halves
        0 or 1 by formula, (n,): thresholds of one half are applied to the other.

    Returns
    -------
    dict
        `share` of the true classes, mean `size` of the sets, and by class name the share in `classes` and
        the number of materials in `members`.
    """
    inside = np.zeros(shares.shape, dtype=bool)
    for half in (0.0, 1.0):
        here = halves == half
        thresholds = mean_thresholds(shares[:, ~here], labels[~here], classes)
        inside[:, here] = prediction_set(shares[:, here], thresholds)
    column = np.searchsorted(classes, labels)
    held = inside[:, np.arange(labels.size), column].mean(axis=0)
    counts = np.bincount(column, minlength=classes.size)
    return {
        "share": round(float(held.mean()), DECIMALS),
        "size": round(float(inside.sum(axis=2).mean()), DECIMALS),
        "classes": {
            name: round(float(held[column == number].mean()), DECIMALS)
            for number, name in enumerate(names)
            if counts[number]
        },
        "members": {name: float(count) for name, count in zip(names, counts.tolist(), strict=True)},
    }


def interval_coverage(errors: FloatArray, spreads: FloatArray, halves: FloatArray) -> dict[str, float]:
    """Return how often intervals hold the truth where their factor was counted on other formulas.

    Parameters
    ----------
    errors, spreads
        Answer minus truth, and spread, of forests that saw no such formula, (copies, n).
    halves
        0 or 1 by formula, (n,).

    Returns
    -------
    dict
        `share` of the true values, and the intervals' mean `half_width`.
    """
    width = np.empty_like(spreads)
    for half in (0.0, 1.0):
        here = halves == half
        factor = interval_factor(errors[:, ~here].ravel(), spreads[:, ~here].ravel(), COVERAGE)
        width[:, here] = factor * spreads[:, here]
    return {
        "share": round(float(np.mean(np.abs(errors) <= width)), DECIMALS),
        "half_width": round(float(width.mean()), DECIMALS),
    }


def halves_by_formula(formula: StringArray, seed: int) -> FloatArray:
    """Divide materials by their formulas into two halves, 0 and 1.

    Parameters
    ----------
    formula
        Reduced formulas, (n,).
    seed
        Of the division.

    Examples
    --------
    >>> halves_by_formula(np.array(["FeO", "FeO", "NiO", "CoO"]), 0).tolist().count(1.0) in (1, 2, 3)
    True
    """
    unique, inverse = np.unique(formula, return_inverse=True)
    order = np.random.default_rng(seed).permutation(unique.size)
    return (order % 2).astype(float)[inverse]
