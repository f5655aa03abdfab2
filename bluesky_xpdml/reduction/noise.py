"""Noise, saturation and steps of a measured curve, read from the curve itself."""

from typing import NamedTuple

import numpy as np

from bluesky_xpdml.records import FloatArray

FLAT_POINTS = 6
"""A channel that stays at its maximum for this many points is saturated."""
BEFORE = (-150.0, -12.0)
"""Range of the level below an edge [eV from the edge]."""
AFTER = (15.0, 60.0)
"""Range of the level above an edge [eV from the edge]."""


def saturation(values: FloatArray) -> str:
    """Return how long a channel stays at its maximum, in words; empty if it is not saturated.

    Points that are not finite are skipped, and a constant channel is not called saturated.
    """
    size = np.abs(values[np.isfinite(values)])
    if size.size == 0 or size.min() == size.max():
        return ""
    flat = _longest_run(size >= size.max())
    return f"stays at its maximum for {flat} points: the detector is saturated" if flat >= FLAT_POINTS else ""


def _longest_run(flags: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(int)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def noise_level(energy: FloatArray, mu: FloatArray) -> float:
    """Return the noise of a curve [unit of mu]: 1.4826 times the median of `|neighbour_deviation|`.

    The median ignores single glitches, the neighbours ignore slow structure. 0 for fewer than 5 points.
    """
    if energy.size < 5:
        return 0.0
    deviation = np.abs(neighbour_deviation(energy, mu))
    # np.median costs five times as much as the partition that it makes.
    middle = deviation.size // 2
    return 1.4826 * float(np.partition(deviation, middle)[middle])


def neighbour_deviation(energy: FloatArray, mu: FloatArray) -> FloatArray:
    """Return the distance of each inner point from the line between its neighbours, (n - 2,).

    It is scaled to unit noise gain, d_i = (mu_i - a mu_(i-1) - b mu_(i+1)) / sqrt(1 + a^2 + b^2) with the
    weights a, b of linear interpolation: its standard deviation is that of a point.
    """
    left = (energy[2:] - energy[1:-1]) / (energy[2:] - energy[:-2])
    right = 1.0 - left
    deviation = mu[1:-1] - left * mu[:-2] - right * mu[2:]
    return np.asarray(deviation / np.sqrt(1.0 + left**2 + right**2))


class Rise(NamedTuple):
    """Step of a curve at an edge."""

    step: float
    """Mean height above the line through the pre-edge [unit of the curve]."""
    noise: float
    """Noise of a point in the pre-edge [unit of the curve]."""

    @property
    def relative_noise(self) -> float:
        """Noise in edge steps; infinite if there is no step upwards."""
        return self.noise / self.step if self.step > 0.0 else float("inf")


def fit_line(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Return slope and offset of the least-squares line: `np.polyfit(x, y, 1)`, at a third of its time."""
    columns = np.stack([x, np.ones_like(x)], axis=1)
    scale = np.sqrt((columns * columns).sum(axis=0))
    coefficients = np.linalg.lstsq(columns / scale, y, rcond=x.size * np.finfo(float).eps)[0] / scale
    return float(coefficients[0]), float(coefficients[1])


def rise_near(energy: FloatArray, mu: FloatArray, near: float) -> Rise | None:
    """Measure the step of a finite curve at an energy; None with fewer than 5 points below or none above."""
    x = energy - near
    before, after = (x > BEFORE[0]) & (x < BEFORE[1]), (x > AFTER[0]) & (x < AFTER[1])
    if np.count_nonzero(before) < 5 or not after.any():
        return None
    level = mu[before]
    slope, offset = fit_line(x[before], level) if np.ptp(x[before]) > 20.0 else (0.0, float(level.mean()))
    step = np.mean(mu[after] - (slope * x[after] + offset))
    return Rise(step=float(step), noise=noise_level(energy[before], level))


def binned_slopes(
    energy: FloatArray, mu: FloatArray, width: float, *, median: bool = False
) -> tuple[FloatArray, FloatArray]:
    """Return the slopes between bins of a width [eV], and the energies halfway between the bins.

    Single noisy points hardly affect them; with `median`, over three bins, single glitches do not either.
    """
    n_bins = max(int(min(np.ptp(energy) / width, 4.0 * energy.size)), 2)
    edges = np.linspace(energy[0], energy[-1], n_bins + 1)
    index = np.clip(np.searchsorted(edges, energy, side="right") - 1, 0, n_bins - 1)
    counts = np.bincount(index, minlength=n_bins)
    filled = counts > 0
    means = np.bincount(index, weights=mu, minlength=n_bins)[filled] / counts[filled]
    energies = np.bincount(index, weights=energy, minlength=n_bins)[filled] / counts[filled]
    if median and means.size > 2:
        means[1:-1] = np.median([means[:-2], means[1:-1], means[2:]], axis=0)
    return 0.5 * (energies[1:] + energies[:-1]), np.diff(means) / np.diff(energies)
