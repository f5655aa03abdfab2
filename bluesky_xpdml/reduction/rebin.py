"""Many points of a continuous scan become the grid of a step scan, with their statistics.

===========  ==========================================================
pre-edge     steps of 5 eV up to 20 eV below the edge
edge         steps of 0.25 eV up to 30 eV above it
EXAFS        steps of 0.05 1/angstrom in k beyond
===========  ==========================================================

Every point belongs to exactly one bin, and a bin stands at the mean energy of its points, so that the sum
over all counts is kept and a straight line stays where it is.
"""

from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.noise import neighbour_deviation

EDGE_RANGE = (-20.0, 30.0)
"""Where the steps are finest [eV relative to the edge]."""
EV_PER_K2 = 3.80998212
"""h^2 / (8 pi^2 m) of an electron [eV angstrom^2]: E = 3.81 k^2."""
MANY_POINTS = 2000
"""Scans of more points than this are looked at: step scans have fewer."""
WORTH_WHILE = 2.0
"""A scan with fewer points than this in each filled bin keeps its own grid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Steps of the grid that continuous scans are averaged on.

    Examples
    --------
    >>> Grid(edge=0.5).edge
    0.5
    """

    pre_edge: float = 5.0
    """[eV]"""
    edge: float = 0.25
    """[eV]"""
    k: float = 0.05
    """[1/angstrom]"""


DEFAULT_GRID = Grid()
"""The steps of the table above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebinned:
    """A curve averaged in bins. All arrays have the shape (m,)."""

    energy: FloatArray
    """Mean energy of the points of each bin [eV], strictly ascending."""
    mu: FloatArray
    """Their mean [any unit]."""
    variance: FloatArray
    """Variance of that mean [unit of mu squared], from how far points lie from their neighbours' line."""
    counts: FloatArray
    """How many points each bin holds."""


def rebin(energy: FloatArray, mu: FloatArray, *, e0: float, grid: Grid) -> Rebinned:
    """Average a curve on the grid of a step scan; bins without points are left out.

    Parameters
    ----------
    energy
        Strictly ascending energies [eV], (n,), at least five.
    mu
        Absorption [any unit], finite, (n,).
    e0
        Edge energy [eV].
    grid
        The steps.

    Raises
    ------
    ReductionError
        If the arrays differ in length or hold fewer than five points, or a step is not positive.

    Examples
    --------
    >>> energy = np.linspace(6900.0, 7400.0, 100_000)
    >>> binned = rebin(energy, 2.0 * energy, e0=7112.0, grid=Grid())
    >>> binned.energy.size, int(binned.counts.sum()), bool(np.allclose(binned.mu, 2.0 * binned.energy))
    (357, 100000, True)
    """
    if energy.shape != mu.shape or energy.size < 5:
        raise ReductionError(
            f"expected five or more energies and as many values, found {energy.size}, {mu.size}"
        )
    borders = bin_borders(float(energy[0]), float(energy[-1]), e0, grid)
    index = np.clip(np.searchsorted(borders, energy, side="right") - 1, 0, borders.size - 2)
    counts = np.bincount(index, minlength=borders.size - 1)
    deviation = neighbour_deviation(energy, mu)
    # The ends have one neighbour only: they count like the points beside them.
    single = np.concatenate([deviation[:1], deviation, deviation[-1:]]) ** 2
    filled = counts > 0
    n = counts[filled]

    def mean(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(index, weights=values, minlength=counts.size)[filled] / n)

    return Rebinned(
        energy=mean(energy), mu=mean(mu), variance=mean(single) / n, counts=np.asarray(n, dtype=float)
    )


def is_continuous(energy: FloatArray, *, e0: float, grid: Grid) -> bool:
    """Return whether a scan has so many points that averaging them on the grid loses nothing.

    Parameters
    ----------
    energy
        Strictly ascending energies [eV], (n,).
    e0
        Edge energy [eV].
    grid
        The steps.

    Examples
    --------
    >>> [is_continuous(np.linspace(6900.0, 7400.0, n), e0=7112.0, grid=Grid()) for n in (500, 100_000)]
    [False, True]
    """
    if energy.size <= MANY_POINTS:
        return False
    across = np.count_nonzero((energy > e0 + EDGE_RANGE[0]) & (energy < e0 + EDGE_RANGE[1]))
    return bool(across >= WORTH_WHILE * (EDGE_RANGE[1] - EDGE_RANGE[0]) / grid.edge)


def bin_borders(first: float, last: float, e0: float, grid: Grid) -> FloatArray:
    """Return the borders of the bins, the first at or below `first`, the last above `last` [eV], (m + 1,).

    Parameters
    ----------
    first, last
        Range of the scan [eV].
    e0
        Edge energy [eV].
    grid
        The steps.

    Raises
    ------
    ReductionError
        If a step is not positive.

    Examples
    --------
    >>> bin_borders(7082.0, 7092.5, 7112.0, Grid()).tolist()
    [7082.0, 7087.0, 7092.0, 7092.25, 7092.5, 7092.75]
    """
    if min(grid.pre_edge, grid.edge, grid.k) <= 0.0:
        raise ReductionError(f"expected positive steps, found {grid}")
    low, high = e0 + EDGE_RANGE[0], e0 + EDGE_RANGE[1]
    before = np.arange(low, first - grid.pre_edge, -grid.pre_edge)[::-1]
    middle = np.arange(low, high - 0.5 * grid.edge, grid.edge)
    k = np.arange(
        np.sqrt(EDGE_RANGE[1] / EV_PER_K2),
        np.sqrt(max(last - e0, EDGE_RANGE[1]) / EV_PER_K2) + 2.0 * grid.k,
        grid.k,
    )
    borders = np.unique(np.concatenate([before, middle, e0 + EV_PER_K2 * k**2]))
    start = max(int(np.searchsorted(borders, first, side="right")) - 1, 0)
    end = int(np.searchsorted(borders, last, side="right"))
    return borders[start : max(end + 1, start + 2)]
