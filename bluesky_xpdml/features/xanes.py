"""XANES features: the spectrum and its running integral on a fixed grid above the metal foil.

A spectrum is divided by its own mean over the last 12.5 eV of the window, so that neither the post-edge
polynomial nor the range of the scan enters (in-window normalisation).
"""

import numpy as np

from bluesky_xpdml.errors import FeatureError
from bluesky_xpdml.records import FloatArray, Xanes
from bluesky_xpdml.reduction.edge_position import pre_edge_line, smooth
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES

GRID = np.arange(0.0, 36.0)
"""Energies of the features [eV above the foil], (36,)."""
FINE_STEP = 0.25
"""Step of the grid on which spectra are smoothed and integrated [eV]."""
LARGEST_SHIFT = 4.0
"""Largest shift of the axis [eV]."""
FINE_GRID = np.arange(-4.5, 39.5 + FINE_STEP / 2, FINE_STEP)
"""Fine grid [eV above the foil], wide enough for the largest shift."""
TAIL = 12.5
"""The signal is divided by its mean over this length at the end of the window [eV]."""
SMOOTHING = 1.0
"""Standard deviation of the Gaussian applied to the signal [eV]."""
INTEGRAL_SCALE = 10.0
"""Running integrals are divided by this, so that both blocks have similar magnitudes [eV]."""
SHORTEST_END = 30.0
"""A scan that ends earlier is refused [eV above the foil]."""
FEATURE_NAMES = tuple(
    [f"mu({energy:+.0f} eV)" for energy in GRID] + [f"integral({energy:+.0f} eV)" for energy in GRID]
)
"""Names of the features, (72,)."""


def foil_scale(xanes: Xanes) -> tuple[FloatArray, FloatArray]:
    """Return energies above the metal foil [eV] and the absorption without pre-edge, both (n,).

    A FeatureError is raised if the foil energy of the element is not tabulated.
    """
    if xanes.element not in FOIL_ENERGIES:
        known = ", ".join(FOIL_ENERGIES)
        raise FeatureError(
            f"no foil energy for {xanes.element or 'an unnamed element'}: expected one of {known}"
        )
    x = xanes.energy - FOIL_ENERGIES[xanes.element]
    return x, xanes.mu - pre_edge_line(x, xanes.mu)


def fine_signal(x: FloatArray, signal: FloatArray) -> FloatArray:
    """Resample absorption without pre-edge, over energies above the metal foil [eV], onto `FINE_GRID`.

    Beyond the end of a scan that stops between 30 and 39 eV it is the mean of the last 4 eV, as in the
    training spectra. A FeatureError is raised if the scan starts above the foil's edge or ends before 30 eV
    above it.
    """
    if x[0] > GRID[0] or x[-1] < SHORTEST_END:
        raise FeatureError(
            f"the scan covers {x[0]:+.1f} to {x[-1]:+.1f} eV around the metal foil's edge, the model needs "
            f"{GRID[0]:+.0f} to {SHORTEST_END:+.0f} eV: scan further, or check the energy axis"
        )
    tail = float(signal[x >= x[-1] - 4.0].mean())
    return np.asarray(np.interp(FINE_GRID, x, signal, left=float(signal[0]), right=tail))


def features_of_shifts(signal: FloatArray, shifts: FloatArray) -> FloatArray:
    """Compute the features of one spectrum for several shifts of its axis.

    With the smoothed signal s and its integral S from the first energy of the grid, features are s / t and
    S / (10 eV t) at `GRID`, where t is the mean of s over the last 12.5 eV of the window.

    Parameters
    ----------
    signal
        Absorption without pre-edge on `FINE_GRID`, (..., k).
    shifts
        Added to the energies [eV], within +-4 eV, (s,).

    Returns
    -------
    FloatArray
        Features, (..., s, 72): the signal and its running integral at `GRID`.

    Raises
    ------
    FeatureError
        If the mean over the end of the window is not positive.

    Examples
    --------
    >>> rows = features_of_shifts(np.clip((FINE_GRID - 10.0) / 5.0, 0.0, 1.0), np.array([0.0, 0.5]))
    >>> rows.shape, round(float(rows[0, 35]), 9)
    ((2, 72), 1.0)
    """
    smoothed = smooth(signal, SMOOTHING / FINE_STEP)
    points = (GRID[None, :] - shifts[:, None] - FINE_GRID[0]) / FINE_STEP
    values = _at(smoothed, points)
    running = np.cumsum(smoothed, axis=-1) * FINE_STEP
    start = _at(running, points[:, :1])
    integrals = _at(running, points) - start
    tail = (integrals[..., -1:] - _at(running, points[:, -1:] - TAIL / FINE_STEP) + start) / TAIL
    if np.any(tail <= 0.0):
        raise FeatureError(
            f"the mean signal over {GRID[-1] - TAIL:.1f} to {GRID[-1]:.0f} eV above the foil is "
            f"{float(tail.min()):.3g}: expected a positive absorption step"
        )
    return np.concatenate([values, integrals / INTEGRAL_SCALE], axis=-1) / tail


def _at(curves: FloatArray, points: FloatArray) -> FloatArray:
    """Read evenly sampled curves (..., k) at fractional indices (s, g): (..., s, g)."""
    points = np.clip(points, 0.0, curves.shape[-1] - 1.000001)
    lower = points.astype(int)
    share = points - lower
    return np.asarray(curves[..., lower] * (1.0 - share) + curves[..., lower + 1] * share)
