"""PDF features: the curve on a fixed grid of distances, and the shape of its first shell.

Measured pair distribution functions have no absolute scale, so a curve is divided by its own root mean square
over 1.5 to 6 angstrom. Six numbers describe its first prominent peak; the columns for training repeat each of
them, so that trees, which examine few columns per node, use both.
"""

import numpy as np

from bluesky_xpdml.errors import FeatureError
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import ReasonCode

GRID = np.linspace(1.5, 10.0, 86)
"""Distances at which a curve is read [angstrom], (86,)."""
SCALE_RANGE = (1.5, 6.0)
"""A curve is divided by its root mean square over this range [angstrom]."""
SHELL_GRID = np.linspace(1.5, 5.0, 176)
"""Grid of the first shell [angstrom], (176,)."""
OUTSTANDING = 0.35
"""Smallest height of the first peak, relative to the highest on the same grid."""
COARSEST = 0.1
"""Largest step of a curve [angstrom]."""
SHELL_NAMES = ("position", "centroid", "width", "skewness", "area", "height")
FEATURE_NAMES = (*[f"G({r:.1f} A)" for r in GRID], *[f"first shell {name}" for name in SHELL_NAMES])
"""Names of the features, (92,)."""
BALANCED = np.concatenate(
    [np.arange(GRID.size), np.tile(np.arange(GRID.size, len(FEATURE_NAMES)), GRID.size // len(SHELL_NAMES))]
)
"""Columns for training: the first shell's are repeated, (170,)."""


def pdf_features(r: FloatArray, g: FloatArray) -> FloatArray:
    """Compute the features of one pair distribution function.

    Parameters
    ----------
    r
        Distance [angstrom], ascending, (n,).
    g
        G(r), on any scale, (n,).

    Returns
    -------
    FloatArray
        Features named by `FEATURE_NAMES`, (92,): the same for any positive multiple of the curve.

    Raises
    ------
    FeatureError
        If the curve does not cover the grid finely enough, holds values that are not finite, or vanishes.

    Examples
    --------
    >>> r = np.arange(0.0, 12.0, 0.02)
    >>> row = pdf_features(r, np.exp(-0.5 * ((r - 2.0) / 0.1) ** 2))
    >>> row.shape, round(float(row[86]), 2)
    ((92,), 2.0)
    """
    _require_cover(r, g)
    points = np.interp(GRID, r, g)
    scaling = np.interp(SHELL_GRID[0] + 0.02 * np.arange(226), r, g)
    size = float(np.sqrt(np.mean(scaling**2)))
    if not size > 0.0 or not np.isfinite(size):
        raise FeatureError(
            f"the curve is zero over {SCALE_RANGE[0]} to {SCALE_RANGE[1]} angstrom: there is no signal"
        )
    return np.concatenate([points / size, first_shell(np.interp(SHELL_GRID, r, g) / size)])


def first_shell(shell: FloatArray) -> FloatArray:
    """Return the numbers of `SHELL_NAMES` of the first peak, (6,), the first three of them in angstrom.

    They are the moments of the curve on `SHELL_GRID`, clipped at zero, between the zeros or minima around its
    first prominent maximum.
    """
    top = _first_peak(shell)
    start, stop = _flanks(shell, top)
    r, height = SHELL_GRID[start:stop], np.clip(shell[start:stop], 0.0, None)
    total = float(height.sum())
    if total <= 0.0:
        return np.array([SHELL_GRID[top], SHELL_GRID[top], 0.0, 0.0, 0.0, shell[top]])
    centroid = float(height @ r) / total
    width = float(np.sqrt(height @ (r - centroid) ** 2 / total))
    skewness = float(height @ (r - centroid) ** 3 / total) / width**3 if width > 0.0 else 0.0
    step = SHELL_GRID[1] - SHELL_GRID[0]
    position = SHELL_GRID[top] + step * _vertex(shell, top)
    return np.array([position, centroid, width, skewness, total * step, shell[top]])


def _require_cover(r: FloatArray, g: FloatArray) -> None:
    if r.shape != g.shape or r.size < 2:
        raise FeatureError(f"{r.size} distances and {g.size} values: expected as many of both")
    if not np.all(np.isfinite(r)) or not np.all(np.diff(r) > 0.0):
        raise FeatureError("the distances do not ascend: sort the curve by r")
    inside = (r >= GRID[0] - COARSEST) & (r <= GRID[-1] + COARSEST)
    if r[0] > GRID[0] + 1e-9 or r[-1] < GRID[-1] - 1e-9:
        raise FeatureError(
            f"the curve covers {r[0]:.2f} to {r[-1]:.2f} angstrom, the model needs {GRID[0]:.1f} to "
            f"{GRID[-1]:.1f}: transform it further"
        )
    widest = float(np.diff(r[inside]).max(initial=0.0))
    if widest > COARSEST + 1e-9 or np.count_nonzero(inside) < 2:
        raise FeatureError(
            f"the curve has steps of {widest:.2f} angstrom, expected at most {COARSEST}: transform it finer"
        )
    missing = int(np.count_nonzero(~np.isfinite(g[inside])))
    if missing:
        raise FeatureError(
            f"{missing} values between {GRID[0]:.1f} and {GRID[-1]:.1f} angstrom are not finite",
            ReasonCode.NOT_FINITE,
        )


def _first_peak(shell: FloatArray) -> int:
    inner = shell[1:-1]
    is_peak = (inner >= shell[:-2]) & (inner > shell[2:]) & (inner >= OUTSTANDING * shell.max())
    return int(np.argmax(is_peak)) + 1 if is_peak.any() else int(np.argmax(shell))


def _flanks(shell: FloatArray, top: int) -> tuple[int, int]:
    """Return start and end of the peak: a zero or a minimum."""
    before, after = shell[: top + 1][::-1], shell[top:]
    return top - _descent(before), top + _descent(after) + 1


def _descent(side: FloatArray) -> int:
    ends = np.flatnonzero((np.diff(side) > 0.0) | (side[1:] <= 0.0))
    return int(ends[0]) if ends.size else side.size - 1


def _vertex(shell: FloatArray, top: int) -> float:
    """Return the distance of the vertex of the parabola through a maximum from it [steps]."""
    if not 0 < top < shell.size - 1:
        return 0.0
    left, middle, right = shell[top - 1 : top + 2]
    bend = left - 2.0 * middle + right
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < 0.0 else 0.0
