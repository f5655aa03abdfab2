"""The reference for the novelty score: a description of the training rows that a bundle contains."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.models.novelty import NoveltyReference, as_tables, from_tables, misfits, novelty_scores
from bluesky_xpdml.records import FloatArray

COMPONENTS = 44
"""Principal components that rows are reproduced from."""
LEADING = 20
"""Principal components in which distances are measured.

Measured on XANES (means over eight elements, one split; area under the curve of another element, a spike, and
an axis that is off): 44 and 20 give .969, .999, .994; 30 and 30 give .952, .995, .988; 44 and 44 give .969,
1.000, .980; 20 and 20 give .929, .932, .991.
"""
ROWS = 300
"""Stored training rows, to which distances are measured."""
SCORES = 200
"""Stored scores of familiar rows: evenly spaced quantiles."""
UNIT = 0.95
"""Share of familiar rows that stay below the unit of either misfit."""
SMALLEST_SCALE = 1e-6
"""Columns that vary less are measured in this unit."""
FEWEST = 20
"""Smallest number of rows for a reference."""


def fit_novelty(
    rows: FloatArray, calibration_rows: FloatArray, measured_rows: FloatArray | None = None, *, seed: int = 0
) -> tuple[dict[str, NDArray[np.generic]], dict[str, Any]]:
    """Fit the reference of the novelty score; return its tables and its manifest entry."""
    _require_rows(rows, calibration_rows)
    centre, scale = rows.mean(axis=0), np.maximum(rows.std(axis=0), SMALLEST_SCALE)
    standard = (rows - centre) / scale
    count = min(COMPONENTS, rows.shape[1] - 1)
    values, vectors = np.linalg.eigh(np.cov(standard, rowvar=False, bias=True))
    deviations = np.sqrt(np.maximum(values[::-1][:count], SMALLEST_SCALE**2))
    components = (vectors[:, ::-1][:, :count]).T / deviations[:, None]
    drawn = np.random.default_rng(seed).choice(len(rows), min(ROWS, len(rows)), replace=False)
    first = NoveltyReference(
        centre=centre,
        scale=scale,
        components=components,
        deviations=deviations,
        rows=np.einsum("nd,cd->nc", standard[np.sort(drawn)], components)[:, :LEADING],
        residual_unit=1.0,
        distance_unit=1.0,
        simulated=np.empty(0),
        measured=np.empty(0),
    )
    tables, entry = _stored(*as_tables(first))
    reference = from_tables(tables, entry)
    residual, distance = misfits(reference, calibration_rows)
    entry |= {
        "residual_unit": round(float(np.quantile(residual, UNIT)), 9),
        "distance_unit": round(float(np.quantile(distance, UNIT)), 9),
        "n_rows": len(rows),
        "n_calibration": len(calibration_rows),
    }
    reference = from_tables(tables, entry)
    tables["novelty_simulated"] = _quantiles(novelty_scores(reference, calibration_rows))
    if measured_rows is not None and len(measured_rows):
        tables["novelty_measured"] = _quantiles(novelty_scores(reference, measured_rows))
        entry["n_measured"] = len(measured_rows)
    return tables, entry


def _stored(
    tables: dict[str, FloatArray], entry: dict[str, Any]
) -> tuple[dict[str, NDArray[np.generic]], dict[str, Any]]:
    """Round as on disk, so that scores are the same before and after."""
    kept: dict[str, NDArray[np.generic]] = {
        name: values.astype(np.float16 if name == "novelty_rows" else np.float32)
        for name, values in tables.items()
    }
    deviations = [round(value, 9) for value in entry["deviations"]]
    return kept, {**entry, "deviations": deviations}


def _quantiles(scores: FloatArray) -> NDArray[np.generic]:
    """Return all scores, or evenly spaced quantiles of many, ascending."""
    if scores.size <= SCORES:
        return np.sort(scores).astype(np.float32)
    return np.quantile(scores, (np.arange(SCORES) + 0.5) / SCORES).astype(np.float32)


def _require_rows(rows: FloatArray, calibration_rows: FloatArray) -> None:
    if len(rows) < FEWEST or len(calibration_rows) < FEWEST:
        msg = f"{len(rows)} and {len(calibration_rows)} rows: novelty needs at least {FEWEST} of both kinds"
        raise TrainingError(msg)
    if rows.shape[1] != calibration_rows.shape[1]:
        msg = f"rows of {rows.shape[1]} and {calibration_rows.shape[1]} features: expected as many in both"
        raise TrainingError(msg)
