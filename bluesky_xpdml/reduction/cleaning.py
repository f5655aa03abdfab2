"""What is done to an absorption curve before it is normalised: averaging and the repair of glitches.

Continuous scans are averaged on the grid of a step scan.

===========  ==========================================================
pre-edge     steps of 5 eV up to 20 eV below the edge
edge         steps of 0.25 eV up to 30 eV above it
EXAFS        steps of 0.05 1/angstrom in k beyond
===========  ==========================================================

Every point belongs to exactly one bin, and the energy of a bin is the mean of its points, so that the sum
over all counts is conserved and a straight line does not move.

Glitches of the monochromator are points far from the line of their neighbours; they are replaced by the
parabola through the points around them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, FloatArray
from bluesky_xpdml.reduction.channels import Signal
from bluesky_xpdml.reduction.noise import neighbour_deviation, rise_near
from bluesky_xpdml.vocabulary import Reason, ReasonCode

EDGE_RANGE = (-20.0, 30.0)
"""Range of the finest steps [eV relative to the edge]."""
EV_PER_K2 = 3.80998212
"""h^2 / (8 pi^2 m) of an electron [eV angstrom^2]: E = 3.81 k^2."""
MANY_POINTS = 2000
"""Scans with fewer points are step scans."""
WORTH_WHILE = 2.0
"""A scan with fewer points per bin keeps its own grid."""
LONGEST = 5
"""Longer structures are no glitches [points]."""
AROUND = 20
"""The noise is taken over this many points on either side."""
SIDE = 3
"""Points on either side that the parabola goes through."""
SUSPICIOUS = 8.0
"""Standard deviations of the noise that make a point suspicious."""
SMALLEST = 0.01
"""Smaller deviations are not repaired [edge steps]."""
PROTECTED = (-20.0, 30.0)
"""Range in which a glitch must also appear in I0 [eV from the edge]."""
STEEP = 0.15
"""Points with a larger part of the steepest slope are not repaired."""
IN_I0 = 1e-3
"""A glitch of I0 is at least this deep, relative to I0."""
MOST_REPAIRED = 0.03
"""With a larger part of glitches, the spectrum is suspect."""
MOST_NAMED = 8
"""Number of energies that are listed; the rest are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Steps of the grid that continuous scans are averaged on."""

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
    """Average a curve on the grid of a step scan; bins without points are left out."""
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
    """Return whether a scan has so many points that averaging them on the grid loses nothing."""
    if energy.size <= MANY_POINTS:
        return False
    across = np.count_nonzero((energy > e0 + EDGE_RANGE[0]) & (energy < e0 + EDGE_RANGE[1]))
    return bool(across >= WORTH_WHILE * (EDGE_RANGE[1] - EDGE_RANGE[0]) / grid.edge)


def bin_borders(first: float, last: float, e0: float, grid: Grid) -> FloatArray:
    """Return the borders of the bins, the first at or below `first`, the last above `last` [eV], (m + 1,).

    Examples
    --------
    >>> bin_borders(7082.0, 7092.5, 7112.0, Grid()).tolist()
    [7082.0, 7087.0, 7092.0, 7092.25, 7092.5, 7092.75]
    """
    if min(grid.pre_edge, grid.edge, grid.k) <= 0.0:
        raise ReductionError(f"expected positive steps, found {grid}", ReasonCode.SETTINGS_INVALID)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Deglitched:
    """A curve without its glitches."""

    mu: FloatArray
    """Absorption, repaired [any unit], (n,)."""
    repaired: FloatArray
    """Energies of the repaired points [eV], ascending."""


def deglitch(
    energy: FloatArray,
    mu: FloatArray,
    *,
    e0: float,
    edge_step: float,
    i0: FloatArray | None = None,
) -> Deglitched:
    """Find and repair the glitches of a spectrum; without I0, none near the edge."""
    repaired, where = mu.copy(), np.zeros(energy.size, dtype=bool)
    smallest = SMALLEST * edge_step
    groups = _groups(_suspicious(energy, mu, smallest))
    allowed = _allowed(energy, mu, e0, i0) if groups else where
    for group in groups:
        window = _window(energy, repaired, group, smallest)
        if window is None or not allowed[window[0]].all():
            continue
        where[window[0]] = True
        repaired[window[0]] = window[1]
    return Deglitched(mu=repaired, repaired=energy[where])


def _suspicious(energy: FloatArray, values: FloatArray, smallest: float) -> np.ndarray:
    """Return which points lie far from their neighbours' line, compared with the points around, (n,)."""
    if energy.size < 2 * AROUND:
        return np.zeros(energy.size, dtype=bool)
    deviation = np.abs(neighbour_deviation(energy, values))
    flags = np.zeros(energy.size, dtype=bool)
    # Most curves have nowhere a deviation worth a median.
    large = np.flatnonzero(deviation > smallest)
    if large.size:
        padded = np.pad(deviation, AROUND, mode="reflect")
        around = np.lib.stride_tricks.sliding_window_view(padded, 2 * AROUND + 1)[large]
        level = 1.4826 * np.partition(around, AROUND, axis=1)[:, AROUND]
        flags[large + 1] = deviation[large] > SUSPICIOUS * level
    return flags


def _groups(flags: np.ndarray) -> list[np.ndarray]:
    """Return runs of flagged points; gaps shorter than a glitch join them."""
    index = np.flatnonzero(flags)
    if index.size == 0:
        return []
    return np.split(index, np.flatnonzero(np.diff(index) > LONGEST) + 1)


def _window(
    energy: FloatArray, mu: FloatArray, group: np.ndarray, smallest: float
) -> tuple[slice, FloatArray] | None:
    """Return the points of a glitch and their repaired values; None if no short window explains it."""
    first, last = int(group[0]), int(group[-1])
    if last - first > LONGEST + 1:
        return None
    best: tuple[float, slice, FloatArray] | None = None
    for length in range(1, LONGEST + 1):
        for start in range(max(first, SIDE), min(last, energy.size - SIDE - length) + 1):
            part = slice(start, start + length)
            expected, misfit = _parabola(energy, mu, part)
            if best is None or misfit < 0.5 * best[0]:
                best = (misfit, part, expected)
    if best is None:
        return None
    misfit, part, expected = best
    deviation = np.abs(mu[part] - expected)
    if deviation.max() <= max(0.5 * SUSPICIOUS * misfit, smallest):
        return None
    # Good points at the ends of the window stay as they were measured.
    bad = np.flatnonzero(deviation > 0.5 * smallest)
    return slice(part.start + bad[0], part.start + bad[-1] + 1), expected[bad[0] : bad[-1] + 1]


def _parabola(energy: FloatArray, mu: FloatArray, part: slice) -> tuple[FloatArray, float]:
    """Interpolate by the parabola through the points on either side; return it and its residual."""
    sides = np.r_[part.start - SIDE : part.start, part.stop : part.stop + SIDE]
    middle = energy[part].mean()
    width = energy[sides[-1]] - energy[sides[0]]
    powers = np.vander((energy[sides] - middle) / width, 3)
    coefficients, *_ = np.linalg.lstsq(powers, mu[sides], rcond=None)
    rest = mu[sides] - powers @ coefficients
    expected = np.vander((energy[part] - middle) / width, 3) @ coefficients
    return expected, float(np.sqrt(np.sum(rest**2) / (sides.size - 3)))


def _allowed(energy: FloatArray, mu: FloatArray, e0: float, i0: FloatArray | None) -> np.ndarray:
    """Return which points may be repaired, (n,)."""
    x = energy - e0
    protected = (x > PROTECTED[0]) & (x < PROTECTED[1])
    if i0 is None:
        return ~protected
    slope = np.abs(np.gradient(mu, energy))
    near = protected & (np.abs(x) < 10.0)
    steep = protected & (slope > STEEP * (slope[near].max() if near.any() else np.inf))
    with np.errstate(invalid="ignore", divide="ignore"):
        logarithm = np.log(np.abs(i0))
    if not np.isfinite(logarithm).all():
        return ~protected
    glitches = _suspicious(energy, logarithm, IN_I0)
    return ~protected | (np.convolve(glitches, np.ones(3), mode="same") > 0.0) & ~steep


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """An absorption curve, and what was done to it."""

    signal: Signal
    variance: FloatArray | None = None
    """Variance of mu if points were averaged [its unit squared], (n,)."""
    settings: Mapping[str, float | int | str | tuple[float, float]] = field(default_factory=dict)
    """Further resolved settings of the reduction."""
    doubts: tuple[Reason, ...] = ()
    """Why the spectrum is suspect."""


def average_continuous(signal: Signal, e0: float, grid: Grid | Literal["none"]) -> Cleaned:
    """Average a continuous scan on the grid of a step scan; return a step scan unchanged."""
    if grid == "none" or not is_continuous(signal.energy, e0=e0, grid=grid):
        return Cleaned(signal=signal)
    binned = rebin(signal.energy, signal.mu, e0=e0, grid=grid)
    text = f"{signal.energy.size} points were averaged in {binned.energy.size} bins"
    remark = Reason(text, ReasonCode.POINTS_AVERAGED)
    return Cleaned(
        signal=replace(signal, energy=binned.energy, mu=binned.mu, remarks=(*signal.remarks, remark)),
        variance=binned.variance,
        settings={"points_averaged": signal.energy.size, "smallest_bin": int(binned.counts.min())},
    )


def repair_glitches(cleaned: Cleaned, scan: AbsorptionScan, e0: float, *, wanted: bool) -> Cleaned:
    """Repair the glitches of a curve if that is wanted, and list their energies.

    A glitch near the edge must also appear in the I0 of the scan.
    """
    signal = cleaned.signal
    rise = rise_near(signal.energy, signal.mu, e0) if wanted else None
    if rise is None or rise.step <= 0.0:
        return cleaned
    i0 = scan.i0 if scan.i0 is not None and np.array_equal(scan.energy, signal.energy) else None
    clean = deglitch(signal.energy, signal.mu, e0=e0, edge_step=rise.step, i0=i0)
    n = clean.repaired.size
    if n == 0:
        return cleaned
    named = ", ".join(f"{energy:.1f}" for energy in clean.repaired[:MOST_NAMED])
    more = f" and {n - MOST_NAMED} more" if n > MOST_NAMED else ""
    points = "point" if n == 1 else "points"
    reason = Reason(
        f"{n} {points} standing out like a monochromator's spike repaired: {named} eV{more}",
        ReasonCode.GLITCH,
    )
    doubtful = n > MOST_REPAIRED * signal.energy.size
    return replace(
        cleaned,
        signal=replace(signal, mu=clean.mu, remarks=(*signal.remarks, *(() if doubtful else (reason,)))),
        settings={**cleaned.settings, "points_repaired": n},
        doubts=(reason,) if doubtful else (),
    )
