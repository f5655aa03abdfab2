"""How much a forest relies on each feature: at training, and on formulas that it has not seen."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.models.forest import Forest
from bluesky_xpdml.records import FloatArray

DIGITS = 5
"""Decimals that a manifest holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """A forest with rows of formulas that it has not seen."""

    forest: Forest
    """Trained on other formulas, in the same way as the one that is shipped."""
    rows: FloatArray
    """Features, (n, n_features)."""
    labels: FloatArray
    """What the forest should answer, (n,)."""
    classes: FloatArray
    """Labels in the order of the forest's outputs; empty for a regression."""

    def score(self, rows: FloatArray, labels: FloatArray) -> float:
        """Return the accuracy, or R2 for a regression."""
        answer = self.forest.predict(rows)
        if self.classes.size:
            return float((self.classes[answer.argmax(axis=1)] == labels).mean())
        return 1.0 - float(((answer[:, 0] - labels) ** 2).sum() / ((labels - labels.mean()) ** 2).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class PermutationSettings:
    """How features are shuffled."""

    repeats: int = 3
    most_rows: int = 400
    """More rows than this are drawn from at random."""
    seed: int = 0


def forest_importances(
    fitted: Any, columns: NDArray[np.int64], held_out: HeldOut, settings: PermutationSettings
) -> dict[str, list[float]]:
    """Return both importances of every feature, as a manifest holds them.

    Parameters
    ----------
    fitted
        Fitted scikit-learn forest, the one that is shipped.
    columns
        Feature that each column of its training stands for: features may be repeated, (n_columns,).
    held_out
        Forest and rows on which features are shuffled.
    settings
        How.

    Returns
    -------
    dict
        `impurity`, shares of 1, and `permutation`, loss of accuracy or R2, a number a feature each.

    Raises
    ------
    TrainingError
        If columns, features and rows do not fit together.
    """
    n_features = held_out.rows.shape[1]
    found = {
        "impurity": impurity_importances(fitted, columns, n_features),
        "permutation": permutation_importances(held_out, settings),
    }
    return {name: values.round(DIGITS).tolist() for name, values in found.items()}


def impurity_importances(fitted: Any, columns: NDArray[np.int64], n_features: int) -> FloatArray:
    """Return the share of the impurity decrease that each feature brought, the mean over trees.

    Parameters
    ----------
    fitted
        Fitted scikit-learn forest.
    columns
        Feature that each column of its training stands for, (n_columns,).
    n_features
        Number of features.

    Raises
    ------
    TrainingError
        If the forest was trained on other columns.
    """
    if columns.size != fitted.n_features_in_ or columns.max() >= n_features:
        msg = (
            f"expected a feature below {n_features} for each of {fitted.n_features_in_} columns, "
            f"found {columns.size} up to {columns.max()}"
        )
        raise TrainingError(msg)
    shares = np.asarray(fitted.feature_importances_, dtype=float)
    return np.asarray(np.bincount(columns, weights=shares, minlength=n_features), dtype=float)


def permutation_importances(held_out: HeldOut, settings: PermutationSettings) -> FloatArray:
    """Return the accuracy or R2 that is lost where a feature is shuffled among unseen rows, (n_features,).

    Neighbouring points of a curve say nearly the same, so that little is lost where one of them is shuffled:
    the numbers tell features apart, they do not add up to the score.

    Parameters
    ----------
    held_out
        Forest and rows.
    settings
        How features are shuffled.

    Raises
    ------
    TrainingError
        If there are fewer than two rows.
    """
    if len(held_out.rows) < 2:
        raise TrainingError(f"expected rows to shuffle, found {len(held_out.rows)}")
    random = np.random.default_rng(settings.seed)
    n = min(len(held_out.rows), settings.most_rows)
    chosen = np.sort(random.choice(len(held_out.rows), n, replace=False))
    rows, labels = held_out.rows[chosen], held_out.labels[chosen]
    whole = held_out.score(rows, labels)
    lost = np.empty(rows.shape[1])
    for feature in range(lost.size):
        shuffled = np.tile(rows, (settings.repeats, 1))
        shuffled[:, feature] = np.concatenate(
            [random.permutation(rows[:, feature]) for _ in range(settings.repeats)]
        )
        lost[feature] = whole - held_out.score(shuffled, np.tile(labels, settings.repeats))
    return lost
