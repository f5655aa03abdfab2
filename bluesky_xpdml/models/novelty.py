"""How unlike the training a row of features is: a score, and the share of familiar rows that score as high.

With the row standardised to x, the principal components C of the training and z = C x at unit variance::

    residual = rms(x - C^T C x)                      what the components do not reproduce
    distance = mean distance of the leading z to its 3 nearest training rows
    score    = max(residual / residual_95, distance / distance_95)

residual_95 and distance_95 are what 95 % of familiar rows stay below, so that every twentieth familiar row
scores above 1. A row is novel either because it leaves the surface that the training rows span, or because
it lies on that surface far from all of them. The leading components have unit variance, so that a shift of
the axis and a missing pre-edge peak count alike.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import Reason, ReasonCode

NOVELTY = "novelty"
"""Entry of a manifest: threshold and units of the scores."""
TABLES = ("novelty_centre", "novelty_scale", "novelty_components", "novelty_rows", "novelty_simulated")
"""Tables of a bundle that every reference needs."""
MEASURED = "novelty_measured"
"""Table of the scores of measured rows, if there are any."""
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
    """Scores of measured rows, ascending; empty if there were none, (q,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Novelty:
    """How unlike the training one row is."""

    score: float
    """Every twentieth familiar row scores above 1."""
    p_value: float
    """Share of simulated familiar rows that score as high, this one included."""
    p_value_measured: float | None
    """The same for measured rows; None if there were none."""


def novelty(reference: NoveltyReference, row: FloatArray) -> Novelty:
    """Return how unlike the training one row of features is, (d,)."""
    score = float(novelty_scores(reference, row[None, :])[0])
    measured = p_value(reference.measured, score) if reference.measured.size else None
    return Novelty(score=score, p_value=p_value(reference.simulated, score), p_value_measured=measured)


def novelty_reasons(diagnostics: Mapping[str, float]) -> Iterator[Reason]:
    """Yield a reason if a row is unlike the training, given `Bundle.novelty_diagnostics` of it."""
    score, threshold = diagnostics.get("novelty_score", 0.0), diagnostics.get("novelty_threshold", 0.0)
    if score > threshold:
        yield Reason(
            f"not like what the models were trained on: novelty {score:.1f}, familiar up to {threshold:.1f}; "
            "another element or compound class, a damaged spectrum, or the axis is off",
            ReasonCode.NOVEL,
        )


def novelty_scores(reference: NoveltyReference, rows: FloatArray) -> FloatArray:
    """Return the scores of rows of features (n, d), (n,)."""
    residual, distance = misfits(reference, rows)
    return np.maximum(residual / reference.residual_unit, distance / reference.distance_unit)


def misfits(reference: NoveltyReference, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return residual and distance of rows of features (n, d), both (n,).

    The residual is in standard deviations of the columns, the distance in those of the components.
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
    """Return (1 + number of ascending scores >= score) / (1 + number of scores).

    Examples
    --------
    >>> p_value(np.array([1.0, 2.0, 3.0]), 2.5)
    0.5
    """
    higher = scores.size - int(np.searchsorted(scores, score, side="left"))
    return (1 + higher) / (scores.size + 1)


def as_tables(reference: NoveltyReference) -> tuple[dict[str, FloatArray], dict[str, Any]]:
    """Return a reference as a bundle stores it: its tables by name, and the entry of the manifest.

    Parameters
    ----------
    reference
        Of the training rows; its arrays may be stored as float16 or wider.
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
    """Return the reference that a bundle stores, from its tables and the entry of its manifest."""
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
