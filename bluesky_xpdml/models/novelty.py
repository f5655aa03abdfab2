"""How unlike the training a row of features is: a score, and the share of familiar rows that score as high.

Two things make a row strange. It does not lie on the surface that the training rows span: principal
components do not reproduce it. Or it lies on that surface, far from every row of the training: its
neighbours are distant. Both are divided by what 95 % of familiar rows stay below, and the larger of them is
the score, so that 1 is where every twentieth familiar row begins. Components are those of standardised
columns. Distances are measured among the leading ones, each at unit variance, so that a shift of the axis and
a missing pre-edge peak count alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.records import FloatArray

TABLES = ("novelty_centre", "novelty_scale", "novelty_components", "novelty_rows", "novelty_simulated")
"""Tables of a bundle that every reference needs."""
MEASURED = "novelty_measured"
"""Table of the scores of measured rows; only where there are such."""
NEIGHBOURS = 3
"""The distance is the mean over this many nearest rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoveltyReference:
    """What familiar rows look like."""

    centre: FloatArray
    """Mean of the training rows, (d,)."""
    scale: FloatArray
    """Standard deviation of the training rows, above zero, (d,)."""
    components: FloatArray
    """Principal components of the standardised rows, each divided by its standard deviation, (c, d)."""
    deviations: FloatArray
    """Standard deviation along each component, (c,)."""
    rows: FloatArray
    """Some training rows, in the leading l components at unit variance, (k, l)."""
    residual_unit: float
    """Root mean square misfit of the components that 95 % of familiar rows stay below."""
    distance_unit: float
    """Distance to the nearest rows that 95 % of familiar rows stay below."""
    simulated: FloatArray
    """Scores of simulated rows that were not trained on, ascending, (m,)."""
    measured: FloatArray
    """Scores of measured rows, ascending; none where none were at hand, (q,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Novelty:
    """How strange one row is."""

    score: float
    """1 is what every twentieth familiar row reaches."""
    p_value: float
    """Share of simulated familiar rows that score as high, this one counted with them."""
    p_value_measured: float | None
    """The same for measured rows; None where none were at hand."""


def novelty(reference: NoveltyReference, row: FloatArray) -> Novelty:
    """Say how unlike the training one row is.

    Parameters
    ----------
    reference
        What familiar rows look like.
    row
        Features, (d,).

    Examples
    --------
    >>> reference = NoveltyReference(
    ...     centre=np.zeros(2), scale=np.ones(2), components=np.eye(1, 2), deviations=np.ones(1),
    ...     rows=np.zeros((3, 1)), residual_unit=0.5, distance_unit=2.0,
    ...     simulated=np.linspace(0.1, 1.1, 99), measured=np.empty(0),
    ... )
    >>> found = novelty(reference, np.array([5.0, 0.0]))
    >>> found.score, found.p_value, found.p_value_measured
    (2.5, 0.01, None)
    """
    score = float(novelty_scores(reference, row[None, :])[0])
    measured = p_value(reference.measured, score) if reference.measured.size else None
    return Novelty(score=score, p_value=p_value(reference.simulated, score), p_value_measured=measured)


def novelty_scores(reference: NoveltyReference, rows: FloatArray) -> FloatArray:
    """Return the scores of many rows.

    Parameters
    ----------
    reference
        What familiar rows look like.
    rows
        Features, (n, d).

    Returns
    -------
    FloatArray
        Scores, (n,).
    """
    residual, distance = misfits(reference, rows)
    return np.maximum(residual / reference.residual_unit, distance / reference.distance_unit)


def misfits(reference: NoveltyReference, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return what the components miss of each row, and how far its nearest rows are.

    Parameters
    ----------
    reference
        What familiar rows look like.
    rows
        Features, (n, d).

    Returns
    -------
    residual, distance
        Root mean square misfit [standard deviations], and mean distance of the nearest training rows
        [standard deviations of the components], both (n,).
    """
    standard = (rows - reference.centre) / reference.scale
    place = np.einsum("nd,cd->nc", standard, reference.components)
    again = np.einsum("nc,cd->nd", place * reference.deviations**2, reference.components)
    residual = np.sqrt(np.mean((standard - again) ** 2, axis=1))
    # The square of a difference, multiplied out: no array of rows by rows by components.
    leading = place[:, : reference.rows.shape[1]]
    products = np.einsum("nc,kc->nk", leading, reference.rows)
    squares = np.sum(leading**2, axis=1)[:, None] + np.sum(reference.rows**2, axis=1) - 2.0 * products
    count = min(NEIGHBOURS, squares.shape[1])
    nearest = np.partition(squares, count - 1, axis=1)[:, :count]
    return residual, np.sqrt(np.maximum(nearest, 0.0)).mean(axis=1)


def p_value(scores: FloatArray, score: float) -> float:
    """Return the share of scores that are as high, the new one counted with them.

    Parameters
    ----------
    scores
        Of familiar rows, ascending, (m,).
    score
        Of the new row.

    Examples
    --------
    >>> p_value(np.array([1.0, 2.0, 3.0]), 2.5)
    0.5
    """
    higher = scores.size - int(np.searchsorted(scores, score, side="left"))
    return (1 + higher) / (scores.size + 1)


def as_tables(reference: NoveltyReference) -> tuple[dict[str, FloatArray], dict[str, Any]]:
    """Return a reference as a bundle keeps it.

    Parameters
    ----------
    reference
        What familiar rows look like.

    Returns
    -------
    tables, entry
        Arrays by name, to be stored as float16 or wider, and what the manifest says of them.
    """
    tables = {
        "novelty_centre": reference.centre,
        "novelty_scale": reference.scale,
        "novelty_components": reference.components * reference.deviations[:, None],
        "novelty_rows": reference.rows,
        "novelty_simulated": reference.simulated,
    }
    if reference.measured.size:
        tables[MEASURED] = reference.measured
    entry = {
        "residual_unit": reference.residual_unit,
        "distance_unit": reference.distance_unit,
        "deviations": reference.deviations.tolist(),
    }
    return tables, entry


def from_tables(tables: Mapping[str, NDArray[Any]], entry: Mapping[str, Any]) -> NoveltyReference:
    """Return the reference that a bundle keeps.

    Parameters
    ----------
    tables
        Arrays of the bundle by name.
    entry
        What its manifest says of them.
    """
    centre, scale, components, rows, simulated = (
        np.asarray(tables[name], dtype=np.float64) for name in TABLES
    )
    deviations = np.asarray(entry["deviations"], dtype=np.float64)
    return NoveltyReference(
        centre=centre,
        scale=scale,
        components=components / deviations[:, None],
        deviations=deviations,
        rows=rows,
        residual_unit=float(entry["residual_unit"]),
        distance_unit=float(entry["distance_unit"]),
        simulated=simulated,
        measured=np.asarray(tables.get(MEASURED, np.empty(0)), dtype=np.float64),
    )
