"""Conformal sets of classes and conformal intervals: how sure an answer is, counted on unseen formulas.

The probabilities and spreads that enter come from models that saw no row of the same formula (folds grouped
by formula). A class belongs to a set if the probability that it got is not lower than what true members
of that very class got in nine cases of ten: sets then hold the truth as often within rare classes as within
common ones (class-conditional, or Mondrian, conformal prediction: Vovk, Gammerman and Shafer, 2005).

Rare classes have too few members to count a quantile of their own. To every class, `BORROWED` more members
are added that are drawn evenly from the scores of all classes. A class of three follows the others, a class
of three hundred hardly notices. Each class counts once in what is lent, so that a common, easy class does not
make the sets of rare, difficult ones too small.
"""

import numpy as np

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.records import FloatArray

BORROWED = 10.0
"""Members that each class borrows from all classes."""


def class_thresholds(
    probabilities: FloatArray, labels: FloatArray, classes: FloatArray, coverage: float
) -> FloatArray:
    """Return how improbable each class may be and still belong to a set.

    Parameters
    ----------
    probabilities
        Of each class for rows that the model did not see, (n, k).
    labels
        True classes of the rows, (n,).
    classes
        The k classes, in the order of the columns, (k,).
    coverage
        Share of true classes that sets are to hold, within every class, in (0, 1).

    Returns
    -------
    FloatArray
        Largest value of one minus the probability with which each class belongs to a set, (k,).

    Raises
    ------
    TrainingError
        If shapes disagree, no row is given, or a label is not among the classes.

    Examples
    --------
    >>> probabilities = np.repeat([[0.9, 0.1], [0.4, 0.6]], 500, axis=0)
    >>> labels = np.repeat([2.0, 3.0], 500)
    >>> class_thresholds(probabilities, labels, np.array([2.0, 3.0]), 0.9).round(2)
    array([0.1, 0.4])
    """
    _require_rows(probabilities, labels, classes)
    column = np.searchsorted(classes, labels)
    score = 1.0 - probabilities[np.arange(labels.size), column]
    counts = np.bincount(column, minlength=classes.size)
    lent = BORROWED / np.count_nonzero(counts) / counts[column]
    order = np.argsort(score, kind="stable")
    thresholds = np.empty(classes.size)
    for number in range(classes.size):
        weight = np.cumsum((lent + (column == number))[order])
        # One more member, the row that is asked about, may lie anywhere.
        rank = coverage * (counts[number] + BORROWED + 1.0)
        reached = int(np.searchsorted(weight, rank - 1e-9))
        thresholds[number] = score[order[min(reached, labels.size - 1)]]
    return thresholds


def interval_factor(errors: FloatArray, spreads: FloatArray, coverage: float) -> float:
    """Return by what spreads are to be multiplied so that value +- product holds the truth.

    Parameters
    ----------
    errors
        Answer minus truth for rows that the model did not see, (n,).
    spreads
        What the model says of its own uncertainty, in the unit of the errors and above zero, (n,).
    coverage
        Share of true values that intervals are to hold, in (0, 1).

    Returns
    -------
    float
        The (n + 1) corrected quantile of error by spread; the largest where there are too few.

    Raises
    ------
    TrainingError
        If there is no row, shapes disagree, or a spread is not above zero.

    Examples
    --------
    >>> interval_factor(np.linspace(-0.2, 0.2, 41), np.full(41, 0.1), 0.9)
    1.9
    """
    if errors.shape != spreads.shape or not errors.size:
        msg = f"{errors.size} errors and {spreads.size} spreads: expected as many of both, at least one"
        raise TrainingError(msg)
    if not np.all(spreads > 0.0):
        msg = f"the smallest spread is {float(spreads.min()):.3g}: expected all above zero, add a floor"
        raise TrainingError(msg)
    ratio = np.sort(np.abs(errors) / spreads)
    rank = int(np.ceil((ratio.size + 1) * coverage - 1e-9))
    return round(float(ratio[min(rank, ratio.size) - 1]), 9)


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
