"""Conformal sets of classes and conformal intervals: uncertainties counted on unseen formulas.

The probabilities and spreads that enter come from models that saw no row of the same formula (folds grouped
by formula). A class belongs to a set if the probability that it got is not lower than what true members
of that very class got in nine cases of ten: sets then hold the truth as often within rare classes as within
common ones (class-conditional, or Mondrian, conformal prediction: Vovk, Gammerman and Shafer, 2005).

Rare classes have too few members to count a quantile of their own. To every class, `BORROWED` more members
are added that are drawn evenly from the scores of all classes. A class of three follows the others, a class
of three hundred hardly notices. Each class counts once in what is lent, so that a common, easy class does not
make the sets of rare, difficult ones too small.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.library import StringArray
from bluesky_xpdml.models.forest import Forest, prediction_set
from bluesky_xpdml.records import FloatArray

Places = NDArray[np.int64]

COVERAGE = 0.9
"""Share of true values that intervals and sets are to hold."""
BORROWED = 10.0
"""Members that each class borrows from all classes."""


def class_thresholds(
    probabilities: FloatArray, labels: FloatArray, classes: FloatArray, coverage: float
) -> FloatArray:
    """Return how improbable each class may be and still belong to a set, (k,)."""
    _require_rows(probabilities, labels, classes)
    column = np.searchsorted(classes, labels)
    score = 1.0 - probabilities[np.arange(labels.size), column]
    counts = np.bincount(column, minlength=classes.size)
    lent = BORROWED / np.count_nonzero(counts) / counts[column]
    order = np.argsort(score, kind="stable")
    thresholds = np.empty(classes.size)
    for number in range(classes.size):
        weight = np.cumsum((lent + (column == number))[order])
        # One more member, the row to be predicted, may lie anywhere.
        rank = coverage * (counts[number] + BORROWED + 1.0)
        reached = int(np.searchsorted(weight, rank - 1e-9))
        thresholds[number] = score[order[min(reached, labels.size - 1)]]
    return thresholds


def conformal_quantile(scores: Sequence[float], coverage: float = COVERAGE) -> float:
    """Return the score that the next one stays below with the given probability.

    The (n + 1) corrected empirical quantile of split-conformal prediction; the largest score where there
    are too few.
    """
    if not len(scores):
        raise TrainingError("no compound of known label was answered: intervals need at least one")
    ordered = np.sort(np.asarray(scores, dtype=float))
    rank = int(np.ceil((ordered.size + 1) * coverage - 1e-9))
    return float(ordered[min(rank, ordered.size) - 1])


def interval_factor(errors: FloatArray, spreads: FloatArray, coverage: float) -> float:
    """Return the factor of the spreads with which value +- factor * spread holds the truth."""
    if errors.shape != spreads.shape or not errors.size:
        msg = f"{errors.size} errors and {spreads.size} spreads: expected as many of both, at least one"
        raise TrainingError(msg)
    if not np.all(spreads > 0.0):
        msg = f"the smallest spread is {float(spreads.min()):.3g}: expected all above zero, add a floor"
        raise TrainingError(msg)
    return round(conformal_quantile((np.abs(errors) / spreads).tolist(), coverage), 9)


def _require_rows(probabilities: FloatArray, labels: FloatArray, classes: FloatArray) -> None:
    if not labels.size or probabilities.shape != (labels.size, classes.size):
        msg = (
            f"probabilities of shape {probabilities.shape} for {labels.size} labels and {classes.size} "
            "classes: expected one row a label, at least one, and one column a class"
        )
        raise TrainingError(msg)
    if np.any(np.diff(classes) <= 0.0) or not np.all(np.isin(labels, classes)):
        msg = f"classes {classes.tolist()} must ascend and hold every label, found {np.unique(labels)}"
        raise TrainingError(msg)


def split_groups(groups: NDArray[Any], share: float, seed: int) -> tuple[Places, Places]:
    """Hold out a share of the groups, such as formulas; return the rows of either side."""
    from sklearn.model_selection import GroupShuffleSplit

    divider = GroupShuffleSplit(1, test_size=share, random_state=seed)
    train, test = next(divider.split(groups, groups=groups))
    return train, test


def group_folds(groups: NDArray[Any], folds: int, seed: int) -> Iterator[tuple[Places, Places]]:
    """Yield the rows of either side of each fold; no group is on both sides."""
    from sklearn.model_selection import GroupKFold

    yield from GroupKFold(folds, shuffle=True, random_state=seed).split(groups, groups=groups)


DECIMALS = 4

Fit = Callable[[FloatArray, FloatArray], Forest]
"""Trains a forest on rows (n, n_features) and labels (n,) or (n, m)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """Predictions for n materials in several copies, each by a forest that saw no such formula."""

    value: FloatArray
    """Shares of the classes, or means over trees, (copies, n, k)."""
    spread: FloatArray
    """Standard deviations over trees, (copies, n, k)."""
    forest: Forest
    """The forest of the first fold."""
    test: Places
    """Materials that it was not trained on."""


def predict_unseen(
    table: FloatArray,
    labels: FloatArray,
    formula: StringArray,
    fit: Fit,
    *,
    classes: FloatArray,
    folds: int,
    seed: int,
) -> Unseen:
    """Train on some formulas and predict the others, fold by fold."""
    copies, n, width = table.shape
    outputs = classes.size or (labels.shape[1] if labels.ndim > 1 else 1)
    value, spread = np.zeros((copies, n, outputs)), np.zeros((copies, n, outputs))
    first: tuple[Forest, Places] | None = None
    for train, test in group_folds(formula, folds, seed):
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
    """
    found = [class_thresholds(copy, labels, classes, COVERAGE) for copy in shares]
    return np.asarray(np.mean(found, axis=0).round(DECIMALS))


def set_coverage(
    shares: FloatArray, labels: FloatArray, classes: FloatArray, names: Sequence[str], halves: FloatArray
) -> dict[str, float | dict[str, float]]:
    """Return how often sets hold the true class if thresholds are counted on other formulas."""
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
    """Return how often intervals hold the truth if their factor is counted on other formulas."""
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
    """Divide materials by their formulas into two halves, 0 and 1."""
    unique, inverse = np.unique(formula, return_inverse=True)
    order = np.random.default_rng(seed).permutation(unique.size)
    return (order % 2).astype(float)[inverse]
