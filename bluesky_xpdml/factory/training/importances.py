"""How much a forest relies on each feature: at training, and on formulas that it has not seen."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.features import pdf, xanes
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
    places: NDArray[np.int64]
    """Where on the curve each feature is read, in grid points: neighbours are shuffled together,
    (n_features,)."""

    def score(self, rows: FloatArray, labels: FloatArray) -> float:
        """Return the accuracy, or R2 for a regression."""
        answer = self.forest.predict(rows)
        if self.classes.size:
            return float((self.classes[answer.argmax(axis=1)] == labels).mean())
        return 1.0 - float(((answer[:, 0] - labels) ** 2).sum() / ((labels - labels.mean()) ** 2).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class PermutationSettings:
    """How features are shuffled."""

    reach: int = 2
    """Features this many grid points to either side are shuffled together."""
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

    Neighbouring points of a curve say nearly the same: shuffled alone, none is missed. All features within
    reach of a place are therefore shuffled together, and all features of that place get the loss. Losses
    tell places apart; they do not add up to the score.

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
    for place in np.unique(held_out.places):
        together = np.abs(held_out.places - place) <= settings.reach
        shuffled = np.tile(rows, (settings.repeats, 1))
        order = np.concatenate([random.permutation(n) for _ in range(settings.repeats)])
        shuffled[:, together] = rows[order][:, together]
        lost[held_out.places == place] = whole - held_out.score(shuffled, np.tile(labels, settings.repeats))
    return lost


def xanes_places(n_features: int) -> NDArray[np.int64]:
    """Return the places of spectrum and running integral, and one far off for what follows them.

    Parameters
    ----------
    n_features
        Columns of the forest: more than those of the curve where it also sees the answers of another one.

    Examples
    --------
    >>> xanes_places(74)[[0, 35, 36, 71, 72, 73]]
    array([ 0, 35,  0, 35, 72, 72])
    """
    return _places(np.tile(np.arange(xanes.GRID.size), 2), n_features)


def pdf_places() -> NDArray[np.int64]:
    """Return the places of the points of G(r), and one far off for the shape of the first shell."""
    return _places(np.arange(pdf.GRID.size), len(pdf.FEATURE_NAMES))


def _places(of_curve: NDArray[np.int64], n_features: int) -> NDArray[np.int64]:
    far = 2 * (int(of_curve.max()) + 1)
    return np.concatenate([of_curve, np.full(n_features - of_curve.size, far)])
