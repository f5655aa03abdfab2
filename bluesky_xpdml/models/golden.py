"""Golden predictions: the outputs of a bundle's forests for a few rows, stored with the bundle.

Hashes prove that the files are those that were written. Golden predictions prove that this version of the
package, with these versions of its dependencies, still gives the same answers. The rows are the table
`golden_rows` (float32) of the bundle, the raw outputs of the forests stand in its manifest::

    "golden": {"oxidation_state": [[0.01, 0.97, 0.02], ...], "bond_length": [[-0.012], ...]}
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import BundleError, FeatureError
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.forest import expand
from bluesky_xpdml.records import FloatArray

ROWS = "golden_rows"
"""Name of the table that holds the rows."""
GOLDEN = "golden"
"""Entry of the manifest that holds the answers."""
MOST_ROWS = 8
"""Number of rows that are stored; rows are the part of a bundle that is hardest to compress."""
DECIMALS = 6
"""Number of decimals that are stored."""
TOLERANCE = 1e-5
"""Answers that differ by no more than this are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenCheck:
    """Difference between the outputs of a bundle's forests and the stored ones."""

    n_rows: int
    """Rows that were compared; 0 if the bundle holds no golden predictions."""
    deviation: float
    """Largest difference from a golden answer, in the output's own unit."""
    target: str
    """Forest with that difference; empty if nothing was compared."""

    @property
    def checked(self) -> bool:
        """Whether the bundle holds golden predictions."""
        return self.n_rows > 0

    @property
    def ok(self) -> bool:
        """Whether no output changed by more than the tolerance; also true if nothing was compared."""
        return self.deviation <= TOLERANCE


def golden_answers(
    forests: Mapping[str, Mapping[str, NDArray[np.generic]]], rows: FloatArray
) -> tuple[dict[str, NDArray[np.generic]], dict[str, list[list[float]]]]:
    """Return the golden predictions of a new bundle: its tables, and `golden` of its manifest.

    The forests are given as `write_bundle` takes them. Eight of the rows (n, n_features), evenly spaced, are
    stored; the forest with most features reads all columns, others the first ones. A FeatureError is raised
    if there are no rows, they are too narrow, or not finite.
    """
    wanted = np.asarray(rows, dtype=np.float32)
    if wanted.ndim != 2 or not len(wanted) or not np.all(np.isfinite(wanted)):
        raise FeatureError(
            f"expected finite rows of features, (n, n_features), found the shape {wanted.shape}"
        )
    chosen = np.unique(np.linspace(0, len(wanted) - 1, MOST_ROWS).round().astype(int))
    kept = wanted[chosen]
    answers = {
        target: expand(arrays).predict(kept.astype(np.float64)).round(DECIMALS).tolist()
        for target, arrays in forests.items()
    }
    return {ROWS: kept}, answers


def check_golden(bundle: Bundle) -> GoldenCheck:
    """Compare the outputs of a loaded bundle's forests with the stored ones.

    Raises
    ------
    BundleError
        If rows and answers do not fit each other or the forests.
    """
    golden = bundle.manifest.get(GOLDEN)
    rows = bundle.tables.get(ROWS)
    if golden is None and rows is None:
        return GoldenCheck(n_rows=0, deviation=0.0, target="")
    if not golden or rows is None or set(golden) != set(bundle.forests):
        raise _unusable(bundle, "answers for every forest and the rows they belong to")
    deviations = {target: _deviation(bundle, target, rows, golden[target]) for target in golden}
    worst = max(deviations, key=lambda target: deviations[target])
    return GoldenCheck(n_rows=len(rows), deviation=deviations[worst], target=worst)


def _deviation(bundle: Bundle, target: str, rows: FloatArray, expected: object) -> float:
    try:
        found, kept = bundle.forests[target].predict(rows), np.asarray(expected, dtype=float)
    except (FeatureError, TypeError, ValueError) as error:
        raise _unusable(bundle, f"rows and answers of numbers for {target}") from error
    if found.shape != kept.shape:
        raise _unusable(bundle, f"answers of the shape {found.shape} for {target}")
    return float(np.abs(found - kept).max())


def _unusable(bundle: Bundle, wanted: str) -> BundleError:
    return BundleError(
        f"the golden predictions of {bundle.name} cannot be compared: expected {wanted}; fetch or train "
        "it again"
    )
