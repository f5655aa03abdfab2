"""Edge energy, pre-edge line, post-edge polynomial and edge step of an absorption spectrum.

With explicit ranges the arithmetic is that of the established programs of the field, index by index, so
that results can be compared to the last digits:

======================  ====================================================================
at(x)                   last point with energy <= x
near(x)                 point nearest to x
pre-edge line           least squares over points at(e0 + low) : near(e0 + high), end excluded
post-edge polynomial    least squares of mu - pre_edge over its own range, chosen likewise
edge step               post_edge - pre_edge at near(e0)
norm                    (mu - pre_edge) / edge step
flat                    norm, with (post_edge - pre_edge) / edge step held at its value at e0 above e0
======================  ====================================================================
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, FloatArray
from bluesky_xpdml.reduction.channels import Signal
from bluesky_xpdml.reduction.noise import binned_slopes
from bluesky_xpdml.vocabulary import Reason, ReasonCode

QUADRATIC_RANGE = 200.0
"""From this length on a post-edge range is fitted by a parabola [eV]."""
LINEAR_RANGE = 60.0
"""From this length on by a straight line, below by a constant [eV]."""
SLOPE_RANGE = 20.0
"""A shorter pre-edge range is fitted by a constant [eV]."""
LORENTZIAN_POINTS = 75
"""Reach of the second search for e0 around the first [points]."""
PROMINENT = 0.6
"""Fraction of the derivative's range that a candidate's neighbours must exceed."""
E0_WINDOW = 25.0
"""Largest distance of e0 from the tabulated energy [eV]; axes were seen 19 eV off."""
FAINT = 0.05
"""A rise near the tabulated edge below this part of the scan's largest is no edge."""
SLOPE_BIN = 3.0
"""Width of the bins whose slopes are compared [eV]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRanges:
    """Resolved ranges [eV relative to e0] and degrees of the two fits."""

    pre_edge: tuple[float, float]
    pre_edge_degree: int
    post_edge: tuple[float, float]
    degree: int
    remarks: tuple[Reason, ...] = ()


def fit_ranges(
    x: FloatArray,
    pre_edge: tuple[float, float] | Literal["auto"],
    post_edge: tuple[float, float] | Literal["auto"],
    degree: int | Literal["auto"],
) -> FitRanges:
    """Choose the ranges [eV relative to e0] and the degree that are `auto`, for energies x relative to e0.

    The degree is 2 for post-edge ranges from 200 eV on, 1 from 60 eV, else 0.
    """
    before, line, remarks = _pre_edge(x) if pre_edge == "auto" else (_given(pre_edge, "pre-edge"), 1, [])
    after = _post_edge(x) if post_edge == "auto" else _given(post_edge, "post-edge")
    length = min(after[1], float(x[-1])) - after[0]
    if degree == "auto":
        degree = 2 if length >= QUADRATIC_RANGE else 1 if length >= LINEAR_RANGE else 0
        if degree < 2:
            name = "straight line" if degree else "constant"
            remarks = [*remarks, f"{length:.0f} eV of post-edge: fitted by a {name}"]
    elif not 0 <= degree <= 3:
        raise ReductionError(
            f"expected a post-edge polynomial of degree 0 to 3, found {degree}", ReasonCode.SETTINGS_INVALID
        )
    return FitRanges(
        pre_edge=before,
        pre_edge_degree=line,
        post_edge=after,
        degree=degree,
        remarks=tuple(Reason(remark, ReasonCode.NORMALISATION_RANGE) for remark in remarks),
    )


def _given(given: tuple[float, float], what: str) -> tuple[float, float]:
    low, high = float(given[0]), float(given[1])
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ReductionError(
            f"expected a {what} range of two ascending numbers, found {low:g} to {high:g}",
            ReasonCode.SETTINGS_INVALID,
        )
    return low, high


def _pre_edge(x: FloatArray) -> tuple[tuple[float, float], int, list[str]]:
    """Return range and degree of the pre-edge: up to 30 eV below e0, or half of a short one."""
    if x[0] > -2.0:
        raise ReductionError(
            f"the scan begins {x[0]:+.0f} eV from the edge: without a pre-edge there is no edge step",
            ReasonCode.EDGE_NOT_COVERED,
        )
    low = max(float(np.floor(x[0])), -150.0)
    high = -30.0 if low <= -60.0 else round(0.5 * low, 1)
    inside = x[(x >= low) & (x <= high)]
    if inside.size < 3:
        high = float(np.round(x[min(3, x.size - 1)], 2))
    if inside.size >= 3 and np.ptp(inside) >= SLOPE_RANGE:
        return (low, high), 1, []
    return (low, high), 0, [f"{max(high - low, 0.0):.0f} eV of pre-edge: fitted by a constant"]


def _post_edge(x: FloatArray) -> tuple[float, float]:
    high = min(float(np.floor(x[-1])), 800.0)
    low = float(np.clip(round(high / 3.0), 15.0, 100.0))
    if high - low < 5.0:
        raise ReductionError(
            f"the scan ends {x[-1]:+.0f} eV from the edge: at least 20 eV above it are needed to normalise",
            ReasonCode.EDGE_NOT_COVERED,
        )
    return low, high


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalised:
    """A spectrum between its pre-edge and its post-edge. All arrays have the shape (n,)."""

    pre_edge: FloatArray
    """Pre-edge line [unit of mu]."""
    post_edge: FloatArray
    """Post-edge polynomial [unit of mu]."""
    norm: FloatArray
    """(mu - pre_edge) / edge_step."""
    flat: FloatArray
    """norm without the slope and curvature of the post-edge."""
    edge_step: float
    """post_edge - pre_edge at e0 [unit of mu], positive."""


def normalise(
    energy: FloatArray,
    mu: FloatArray,
    *,
    e0: float,
    pre_edge: tuple[float, float],
    post_edge: tuple[float, float],
    degree: int,
    pre_edge_degree: int = 1,
) -> Normalised:
    """Normalise a spectrum to its edge step; the formulas are those of the table above.

    Parameters
    ----------
    energy
        Strictly ascending energies [eV], (n,).
    mu
        Absorption [any unit], (n,).
    e0
        Edge energy [eV].
    pre_edge, post_edge
        Ranges of the two fits [eV relative to e0].
    degree
        Degree of the post-edge polynomial, 0 to 3.
    pre_edge_degree
        Degree of the pre-edge: 1 for a line, 0 for a constant on a short range.

    Raises
    ------
    ReductionError
        If a range holds too few points for its fit, or the edge step is not positive.

    Examples
    --------
    >>> energy = np.arange(7000.0, 7400.0, 2.0)
    >>> mu = 1.0 - 0.001 * (energy - 7000.0) + 0.8 * (energy > 7112.0)
    >>> result = normalise(energy, mu, e0=7112.0, pre_edge=(-100, -20), post_edge=(50, 250), degree=1)
    >>> round(result.edge_step, 6)
    0.8
    """
    line = _polynomial(energy, mu, _slice(energy, e0, pre_edge, pre_edge_degree, "pre-edge"), pre_edge_degree)
    above = _polynomial(energy, mu - line, _slice(energy, e0, post_edge, degree, "post-edge"), degree)
    index = _near(energy, e0)
    edge_step = float(above[index])
    # Below the rounding of mu there is no step, only what is left of its digits.
    if not edge_step > 1e-12 * np.abs(mu).max():
        raise ReductionError(
            f"the edge step at {e0:.2f} eV is {edge_step:.3g}, expected a rise: the absorption falls where "
            "the edge should be; check that I0 and It are not exchanged, the element, and the fit ranges",
            ReasonCode.EDGE_STEP,
        )
    norm = (mu - line) / edge_step
    shape = above / edge_step
    flat = norm.copy()
    flat[index:] += shape[index] - shape[index:]
    return Normalised(pre_edge=line, post_edge=line + above, norm=norm, flat=flat, edge_step=edge_step)


def find_e0(energy: FloatArray, mu: FloatArray, *, within: tuple[float, float] | None = None) -> float:
    """Return the energy of the largest first derivative that is no single-point spike, within a range [eV].

    The derivative is taken as measured, and again, near its maximum, smoothed by a narrow Lorentzian. In
    compounds without d electrons the result, a point of the grid, may sit on the pre-edge peak. A
    ReductionError is raised if fewer than five points lie within the range.
    """
    margin = max(2, round(0.02 * energy.size))
    allowed = np.zeros(energy.size, dtype=bool)
    allowed[margin:-margin] = True
    if within is not None:
        allowed &= (energy >= within[0]) & (energy <= within[1])
    if np.count_nonzero(allowed) < 5:
        low, high = within or (energy[0], energy[-1])
        raise ReductionError(
            f"expected at least 5 points within {low:.0f} to {high:.0f} eV to find the edge, found "
            f"{np.count_nonzero(allowed)} (the scan runs from {energy[0]:.0f} to {energy[-1]:.0f} eV)",
            ReasonCode.EDGE_NOT_COVERED,
        )
    derivative = np.gradient(mu) / np.gradient(energy)
    first = _prominent_maximum(derivative, allowed)
    low, high = max(0, first - LORENTZIAN_POINTS), min(energy.size, first + LORENTZIAN_POINTS)
    smoothed = _lorentzian(energy[low:high], derivative[low:high], _sharpness(energy, float(energy[first])))
    return float(energy[low + _prominent_maximum(smoothed, allowed[low:high])])


def _at(energy: FloatArray, value: float) -> int:
    return max(0, int(np.searchsorted(energy, value, side="right")) - 1)


def _near(energy: FloatArray, value: float) -> int:
    return int(np.argmin(np.abs(energy - value)))


def _slice(energy: FloatArray, e0: float, around: tuple[float, float], degree: int, what: str) -> slice:
    low, high = _at(energy, e0 + around[0]), _near(energy, e0 + around[1])
    if high - low < degree + 1:
        raise ReductionError(
            f"the {what} range {around[0]:+.0f} to {around[1]:+.0f} eV around {e0:.1f} eV holds "
            f"{max(0, high - low)} points, a polynomial of degree {degree} needs {degree + 1}; the scan runs "
            f"from {energy[0] - e0:+.0f} to {energy[-1] - e0:+.0f} eV",
            ReasonCode.NORMALISATION_RANGE,
        )
    return slice(low, high)


def _polynomial(energy: FloatArray, mu: FloatArray, part: slice, degree: int) -> FloatArray:
    """Fit a polynomial to a part of a spectrum and return it on all energies."""
    # Powers of the energy itself lose half the digits.
    low, high = energy[part][0], energy[part][-1]
    powers = np.vander((energy - 0.5 * (low + high)) / (0.5 * max(high - low, 1.0)), degree + 1)
    orthogonal, triangular = np.linalg.qr(powers[part])
    try:
        coefficients = np.linalg.solve(triangular, orthogonal.T @ mu[part])
    except np.linalg.LinAlgError:
        raise ReductionError(
            f"the points from {low:.2f} to {high:.2f} eV lie too close together for "
            f"a polynomial of degree {degree}",
            ReasonCode.NORMALISATION_RANGE,
        ) from None
    return np.asarray(powers @ coefficients)


def _prominent_maximum(derivative: FloatArray, allowed: np.ndarray) -> int:
    """Return the largest allowed derivative whose neighbours are large as well."""
    high = derivative > PROMINENT * np.ptp(derivative) + derivative.min()
    supported = np.zeros_like(allowed)
    supported[1:-1] = allowed[1:-1] & high[:-2] & high[2:]
    candidates = np.flatnonzero(supported if supported.any() else allowed)
    return int(candidates[np.argmax(derivative[candidates])])


def _sharpness(energy: FloatArray, e0: float) -> float:
    """Return the width of the Lorentzian: the mean of the grid's small steps and the core hole's [eV]."""
    # The tenth percentile: np.percentile takes five times as long.
    steps = np.diff(energy)
    below = int(0.1 * (steps.size - 1))
    low, high = np.partition(steps, (below, min(below + 1, steps.size - 1)))[below : below + 2]
    share = 0.1 * (steps.size - 1) - below
    step = low + (high - low) * share if share < 0.5 else high - (high - low) * (1.0 - share)
    return 0.5 * (min(max(float(step), 0.01), 1.0) + min(max(e0 / 25000.0, 0.01), 1.0))


def _lorentzian(energy: FloatArray, values: FloatArray, sigma: float) -> FloatArray:
    """Convolve with a Lorentzian on an uneven grid, each point weighted by its step."""
    weights = np.gradient(energy) / (1.0 + ((energy[:, None] - energy[None, :]) / sigma) ** 2)
    return np.asarray(weights @ values / weights.sum(axis=1))


def edge_energy_of(
    signal: Signal, e0: float | Literal["auto"], table: float | None, scan: AbsorptionScan
) -> tuple[float, tuple[Reason, ...]]:
    """Return e0 [eV] near the tabulated energy of the edge, and remarks on how it was found.

    If `table` is None the whole scan is searched; `scan` names element and edge for messages. A
    ReductionError is raised if a given e0 lies outside the scan, or nothing rises near the tabulated energy.
    """
    if e0 != "auto":
        if not signal.energy[0] < e0 < signal.energy[-1]:
            raise ReductionError(
                f"e0 = {e0:g} eV lies outside the scan ({signal.energy[0]:.0f} to "
                f"{signal.energy[-1]:.0f} eV)",
                ReasonCode.SETTINGS_INVALID,
            )
        return float(e0), ()
    if table is None:
        name = f"{scan.element or 'unknown element'} {scan.edge or 'unknown edge'}"
        remark = f"no tabulated energy for {name}: e0 is the largest derivative of the whole scan"
        return find_e0(signal.energy, signal.mu), (Reason(remark, ReasonCode.ELEMENT_MISSING),)
    window = (table - E0_WINDOW, table + E0_WINDOW)
    elsewhere = _require_rise(signal, window, f"{scan.element} {scan.edge}")
    found = find_e0(signal.energy, signal.mu, within=window)
    if elsewhere is None:
        return found, ()
    remark = (
        f"e0 was searched within {E0_WINDOW:.0f} eV of the tabulated {table:.0f} eV; a steeper rise lies at "
        f"{elsewhere:.0f} eV"
    )
    return found, (Reason(remark, ReasonCode.AXIS_DOUBTFUL),)


def _require_rise(signal: Signal, window: tuple[float, float], name: str) -> float | None:
    """Refuse a scan whose edge is elsewhere; return the steepest rise if it is outside the window."""
    centres, slope = binned_slopes(signal.energy, signal.mu, SLOPE_BIN)
    inside = (centres > window[0]) & (centres < window[1])
    largest, here = slope.max(), slope[inside].max() if inside.any() else 0.0
    steepest = float(centres[np.argmax(slope)])
    if here < FAINT * largest or here <= 0.0:
        raise ReductionError(
            f"no rise within {window[0]:.0f} to {window[1]:.0f} eV, where the {name} edge should be; the "
            f"scan's steepest rise is at {steepest:.0f} eV: check the element and the energy axis",
            ReasonCode.EDGE_NOT_COVERED,
        )
    return steepest if here < largest else None
