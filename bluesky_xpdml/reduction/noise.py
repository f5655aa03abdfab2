"""Noise of a curve, read from the curve itself."""

from typing import NamedTuple

import numpy as np

from bluesky_xpdml.records import FloatArray

FLAT_POINTS = 6
"""So many equal counts in a row at a channel's maximum are a detector at its end."""


def clipped(values: FloatArray) -> str:
    """Say that a channel is clipped, or nothing where it is not.

    Parameters
    ----------
    values
        Counts or currents of either sign, (n,); points that are not finite are skipped. A channel that
        never moves is dead or ideal, not clipped.

    Examples
    --------
    >>> clipped(np.minimum(np.arange(20.0), 12.0))
    'stays at its maximum for 8 points: the detector is saturated'
    >>> clipped(np.ones(20))
    ''
    """
    size = np.abs(values[np.isfinite(values)])
    if size.size == 0 or size.min() == size.max():
        return ""
    run = _longest_run(size >= size.max())
    return f"stays at its maximum for {run} points: the detector is saturated" if run >= FLAT_POINTS else ""


def _longest_run(flags: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(int)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def noise_level(energy: FloatArray, mu: FloatArray) -> float:
    """Return the noise of a curve: how far points lie from the line between their neighbours [unit of mu].

    The median makes it blind to single glitches, the neighbours to slow structure.

    Parameters
    ----------
    energy
        Strictly ascending energies [eV], (n,).
    mu
        Absorption [any unit], (n,); with fewer than 5 points the result is 0.

    Examples
    --------
    >>> noise_level(np.arange(9.0), 0.1 * np.arange(9.0)) < 1e-12
    True
    """
    if energy.size < 5:
        return 0.0
    deviation = np.abs(neighbour_deviation(energy, mu))
    # np.median costs five times as much as the partition that it makes.
    middle = deviation.size // 2
    return 1.4826 * float(np.partition(deviation, middle)[middle])


def neighbour_deviation(energy: FloatArray, mu: FloatArray) -> FloatArray:
    """Return each inner point's distance from its neighbours' line, scaled to unit noise gain, (n - 2,).

    Parameters
    ----------
    energy
        Strictly ascending energies [eV], (n,).
    mu
        Absorption [any unit], (n,), n > 2.

    Examples
    --------
    >>> neighbour_deviation(np.arange(3.0), np.array([0.0, 3.0, 0.0])).round(3)
    array([2.449])
    """
    left = (energy[2:] - energy[1:-1]) / (energy[2:] - energy[:-2])
    right = 1.0 - left
    deviation = mu[1:-1] - left * mu[:-2] - right * mu[2:]
    return np.asarray(deviation / np.sqrt(1.0 + left**2 + right**2))


BEFORE = (-150.0, -12.0)
"""Where the level below the edge is read [eV from the edge]."""
AFTER = (15.0, 60.0)
"""Where the level above it is read [eV from the edge]."""


class Rise(NamedTuple):
    """An edge in a curve."""

    step: float
    """Mean height above the line through the pre-edge [unit of the curve]."""
    noise: float
    """Of a point of the pre-edge [unit of the curve]."""

    @property
    def relative_noise(self) -> float:
        """Return the noise in edge steps; infinite without a step upwards."""
        return self.noise / self.step if self.step > 0.0 else float("inf")


def rise_near(energy: FloatArray, mu: FloatArray, near: float) -> Rise | None:
    """Measure the rise of a curve over an edge.

    Parameters
    ----------
    energy
        Strictly ascending energies [eV], (n,).
    mu
        Curve [any unit], finite, (n,).
    near
        Where the edge should be [eV].

    Returns
    -------
    Rise or None
        None where fewer than five points lie below the edge, or none above: then nothing can be said.

    Examples
    --------
    >>> energy = np.arange(7000.0, 7200.0)
    >>> round(rise_near(energy, 0.001 * energy + 2.0 * (energy > 7112.0), 7112.0).step, 9)
    2.0
    """
    x = energy - near
    before, after = (x > BEFORE[0]) & (x < BEFORE[1]), (x > AFTER[0]) & (x < AFTER[1])
    if np.count_nonzero(before) < 5 or not after.any():
        return None
    level = mu[before]
    line = np.polyfit(x[before], level, 1) if np.ptp(x[before]) > 20.0 else np.array([0.0, level.mean()])
    step = np.mean(mu[after] - np.polyval(line, x[after]))
    return Rise(step=float(step), noise=noise_level(energy[before], level))
