"""How far a curve rises over an edge, and how noisy it is before it."""

from typing import NamedTuple

import numpy as np

from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.noise import noise_level

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
