"""Named parts of a curve, found from the curve itself.

Absorption, with the edge position e (mean of the crossings of the rising edge) and the main maximum m, the
highest point within 20 eV above e, and their distance d = m - e::

    pre-edge    below e - 5 eV
    edge        e - 5 eV to e + d / 2
    white line  e + d / 2 to m + d / 2
    post-edge   above

Pair distribution function, with the distance r1 of the first shell's maximum::

    first shell     up to the first minimum or zero of G(r) behind r1
    second shell    on to 2 r1: two metals that share a neighbour are no farther apart
    further shells  beyond
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.features.pdf import GRID as DISTANCES
from bluesky_xpdml.features.pdf import SHELL_GRID, first_shell
from bluesky_xpdml.features.xanes import GRID as ENERGIES
from bluesky_xpdml.features.xanes import SMOOTHING, foil_scale
from bluesky_xpdml.records import FloatArray, PairDistribution, Xanes
from bluesky_xpdml.reduction.edge_position import edge_position, smooth

BELOW_EDGE = 5.0
"""The pre-edge ends this far below the edge position [eV]."""
MAXIMUM_WITHIN = 20.0
"""The main maximum is sought this far above the edge position [eV]."""
NARROWEST = 1.0
"""Least distance between edge position and main maximum [eV], so that no region is empty."""
STEP = 0.1
"""Grid on which maxima are sought [eV]."""
BRIDGE = 2.0
"""The second shell ends at this many distances of the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Names of neighbouring regions and where they meet."""

    names: tuple[str, ...]
    """In the order of the curve."""
    ends: tuple[float, ...]
    """Start of the first region and the end of each [eV above the metal foil, or angstrom]."""

    def members(self, positions: FloatArray) -> NDArray[np.int64]:
        """Return which region each position lies in; those beyond the ends count for the outermost.

        Examples
        --------
        >>> Bounds(names=("left", "right"), ends=(0.0, 1.0, 2.0)).members(np.array([-1.0, 0.5, 1.0, 5.0]))
        array([0, 0, 1, 1])
        """
        return np.searchsorted(np.array(self.ends[1:-1]), positions, side="right")


def xanes_bounds(xanes: Xanes) -> Bounds:
    """Return pre-edge, edge, white line and post-edge of a spectrum [eV above the metal foil].

    Parameters
    ----------
    xanes
        Reduced spectrum.

    Raises
    ------
    FeatureError, ReductionError
        If the foil of the element is not known, or no edge is found.
    """
    x, signal = foil_scale(xanes)
    edge, _ = edge_position(x, xanes.mu)
    maximum = _main_maximum(x, signal, edge)
    half = 0.5 * (maximum - edge)
    inner = (edge - BELOW_EDGE, edge + half, maximum + half)
    # A region may lie beyond the window of the features: it is then named, and holds none.
    start, end = min(float(ENERGIES[0]), inner[0]), max(float(ENERGIES[-1]), inner[-1])
    return Bounds(names=("pre-edge", "edge", "white line", "post-edge"), ends=(start, *inner, end))


def pdf_bounds(distribution: PairDistribution) -> Bounds:
    """Return first, second and further shells of a pair distribution function [angstrom].

    Parameters
    ----------
    distribution
        On any scale; it covers the grid of the features.
    """
    curve = np.interp(SHELL_GRID, distribution.r, distribution.g)
    nearest = float(first_shell(curve)[0])
    behind = np.flatnonzero(nearest <= SHELL_GRID)
    falling = curve[behind]
    stops = np.flatnonzero((np.diff(falling) > 0.0) | (falling[1:] <= 0.0))
    end = float(SHELL_GRID[behind[stops[0]] + 1]) if stops.size else float(SHELL_GRID[-1])
    return Bounds(
        names=("first shell", "second shell", "further shells"),
        ends=(float(DISTANCES[0]), end, max(end, BRIDGE * nearest), float(DISTANCES[-1])),
    )


def _main_maximum(x: FloatArray, signal: FloatArray, edge: float) -> float:
    grid = np.arange(edge + NARROWEST, min(edge + MAXIMUM_WITHIN, x[-1], ENERGIES[-1]), STEP)
    if grid.size == 0:
        return edge + NARROWEST
    fine = np.arange(x[0], x[-1], STEP)
    smoothed = smooth(np.interp(fine, x, signal), SMOOTHING / STEP)
    return float(grid[np.argmax(np.interp(grid, fine, smoothed))])
