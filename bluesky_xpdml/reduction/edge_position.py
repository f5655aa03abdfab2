"""Position of an absorption edge relative to the metal foil.

Unlike the largest first derivative, which may sit on a pre-edge peak or hop between two inflections, the
mean of four crossings of the rising edge moves smoothly with the oxidation state: on measured oxides of
the 3d metals it lies 13.7 + 3.2 (v - 3) - 0.6 (v - 3)^2 eV above the foil of the same metal.
"""

from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.noise import fit_line
from bluesky_xpdml.vocabulary import ReasonCode

GRID_STEP = 0.1
"""Grid of the crossings [eV]."""
SMOOTHING = 0.5
"""Standard deviation of the Gaussian applied before [eV]."""
LEVELS = (0.3, 0.5, 0.7, 0.9)
"""Fractions of the edge step whose crossings are averaged."""
FIRST_GUESS = 11.0
"""Initial position of the half edge [eV above the foil]."""
PRE_EDGE_RANGE = (-162.0, -12.0)
"""Range of the pre-edge line [eV above the foil]."""
SHORTEST_LINE = 20.0
"""A shorter pre-edge range is fitted by a constant [eV]."""
PEAK_LEVEL = 0.25
"""A pre-edge peak exceeds this share of the edge step before the edge finally rises through it."""
PEAK_START = -8.0
"""Pre-edge peaks lie above this energy [eV above the foil]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeShape:
    """Position and width of an absorption edge, and the peak before it."""

    edge: float
    """Mean of the crossings at 30, 50, 70 and 90 % of the edge step [eV above the foil]."""
    half_edge: float
    """The 50 % crossing alone [eV above the foil]."""
    width: float
    """From the 30 % to the 90 % crossing [eV]. Oxides rise within 8 eV; metals, sulfides and phosphides,
    whose spectra have no white line, take longer."""
    pre_edge_peak: float
    """Height of the largest pre-edge signal above a quarter of the step [edge steps]; 0 if there is no such
    peak. Metal sites without inversion centre and with empty d states, as in chromates, have one."""


def edge_shape(x: FloatArray, mu: FloatArray) -> EdgeShape:
    """Find the edge of a spectrum, and the peak before it.

    The step is the mean signal from 6 to 18 eV above the half edge; step and half edge are found in turn,
    three times. Each crossing is the last one before the maximum near the edge.

    Parameters
    ----------
    x
        Energy above the metal foil [eV], ascending, (n,).
    mu
        Absorption with or without its pre-edge [any unit], (n,).

    Raises
    ------
    ReductionError
        If the scan does not cover the edge, or no rise is found at the expected energy.

    Examples
    --------
    >>> x = np.arange(-50.0, 60.0, 0.5)
    >>> edge = 0.5 + np.arctan((x - 16.0) / 0.5) / np.pi
    >>> round(edge_shape(x, edge).edge), round(edge_shape(x, edge).half_edge)
    (16, 16)
    >>> round(edge_shape(x, edge + 0.6 * np.exp(-0.5 * (x - 5.0) ** 2)).pre_edge_peak, 1)
    0.3
    """
    if x[0] > 3.0 or x[-1] < 25.0:
        raise ReductionError(
            f"the scan covers {x[0]:+.1f} to {x[-1]:+.1f} eV around the foil's edge; "
            "finding the edge needs at least +3 to +25 eV: scan further, or check the energy axis",
            ReasonCode.EDGE_NOT_COVERED,
        )
    grid = np.arange(max(x[0], -20.0), min(x[-1], 60.0), GRID_STEP)
    signal = smooth(np.interp(grid, x, mu - pre_edge_line(x, mu)), SMOOTHING / GRID_STEP)
    half, low, high = FIRST_GUESS, 3.0, 30.0
    for _ in range(3):
        step = _step(grid, signal, half)
        half = _crossing(grid, signal, 0.5 * step, low, high)
        low, high = half - 3.0, half + 12.0
    crossings = [_crossing(grid, signal, level * step, low, high) for level in LEVELS]
    rise = _crossing(grid, signal, PEAK_LEVEL * step, low, high)
    before = signal[(grid >= PEAK_START) & (grid <= rise)] / step
    return EdgeShape(
        edge=float(np.mean(crossings)),
        half_edge=half,
        width=crossings[-1] - crossings[0],
        pre_edge_peak=float(max(before.max(initial=0.0) - PEAK_LEVEL, 0.0)),
    )


def pre_edge_line(x: FloatArray, mu: FloatArray) -> FloatArray:
    """Return the pre-edge baseline: a line, a constant on short ranges, zero if no pre-edge was measured."""
    chosen = (x >= PRE_EDGE_RANGE[0]) & (x <= PRE_EDGE_RANGE[1])
    if chosen.sum() < 3:
        chosen = x < PRE_EDGE_RANGE[1] + 4.0
    if not chosen.any():
        return np.zeros_like(mu)
    if np.ptp(x[chosen]) < SHORTEST_LINE:
        return np.full_like(mu, mu[chosen].mean())
    slope, offset = fit_line(x[chosen] / 100.0, mu[chosen])
    return np.asarray(slope * x / 100.0 + offset)


def smooth(values: FloatArray, sigma: float) -> FloatArray:
    """Convolve with a Gaussian whose standard deviation is `sigma` samples, repeating the ends.

    Parameters
    ----------
    values
        Evenly sampled signal, (..., n); the last axis is smoothed.
    sigma
        Standard deviation [samples].

    Examples
    --------
    >>> smooth(np.array([0.0, 0.0, 1.0, 0.0, 0.0]), 0.5).round(3)
    array([0.   , 0.106, 0.787, 0.106, 0.   ])
    """
    from scipy.ndimage import gaussian_filter1d

    return np.asarray(gaussian_filter1d(values, sigma, axis=-1, mode="nearest"))


def _step(grid: FloatArray, signal: FloatArray, half: float) -> float:
    after = (grid >= half + 6.0) & (grid <= half + 18.0)
    step = float(signal[after].mean()) if after.any() else 0.0
    if step <= 0.0:
        raise ReductionError(
            f"no rise {half + 6:.0f} to {half + 18:.0f} eV above the foil (mean signal {step:.3g}): "
            "expected an absorption edge; check the element and the energy axis",
            ReasonCode.EDGE_STEP,
        )
    return step


def _crossing(grid: FloatArray, signal: FloatArray, level: float, low: float, high: float) -> float:
    """Walk left from the largest signal within [low, high] to the first point below the level."""
    window = np.flatnonzero((grid >= low) & (grid <= high))
    peak = window[np.argmax(signal[window])]
    below = np.flatnonzero(signal[: peak + 1] < level)
    if below.size == 0 or below[-1] == peak:
        raise ReductionError(
            f"the signal never falls below {level:.3g} on the low-energy side of its maximum at "
            f"{grid[peak]:+.1f} eV above the foil: the scan starts above the edge, or the axis is far off",
            ReasonCode.AXIS_DOUBTFUL,
        )
    left = below[-1]
    rise = signal[left + 1] - signal[left]
    return float(grid[left] + GRID_STEP * (level - signal[left]) / rise)
