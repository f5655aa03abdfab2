"""Is there an edge? An edge is a rise that stays.

At each place where the absorption climbs, a straight line with a step is fitted to both sides, without the
edge itself. The place where climb and step are largest together is the edge, if its step stands out of what
the line leaves over: its contrast. Noise, glitches and drifts climb as steeply, but nothing of it stays.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import FloatArray

BEFORE = (-100.0, -12.0)
"""Part of a scan below a rise that the line is fitted to [eV]."""
AFTER = (15.0, 100.0)
"""The same above it, beyond the white line [eV]."""
CONTRAST = 5.0
"""A step that exceeds the scatter around the line less often is no edge. Of the spectra that beamline staff
judged, in the half that this was chosen on, the bad ones reach 3.8, the least of the good ones 10.4."""
BIN = 3.0
"""Width of the bins whose slopes are compared [eV]."""
CLIMBS = 30
"""So many of the steepest places are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A place where the absorption rises, and how much of the rise stays."""

    energy: float
    """Energy of the steepest place [eV]."""
    height: float
    """Of the step between the lines before and after [unit of mu]."""
    scatter: float
    """Standard deviation of what the lines leave over [unit of mu]."""

    @property
    def contrast(self) -> float:
        """Return how often the step exceeds the scatter."""
        if self.scatter > 0.0:
            return self.height / self.scatter
        return math.inf if self.height > 0.0 else 0.0


def find_edge(energy: FloatArray, mu: FloatArray) -> Step:
    """Find the largest rise of a scan that stays.

    Parameters
    ----------
    energy
        Strictly ascending energies [eV], (n,).
    mu
        Absorption [any unit], (n,).

    Raises
    ------
    ReductionError
        If nothing rises, or what rises is no more than the scatter around it.

    Examples
    --------
    >>> energy = np.arange(7000.0, 7300.0)
    >>> rise = find_edge(energy, np.arctan((energy - 7112.0) / 2.0) - 0.01 * (energy - 7000.0))
    >>> abs(rise.energy - 7112.0) < 2.0, 2.8 < rise.height < 3.2
    (True, True)
    """
    if energy.size < 10 or not np.ptp(mu) > 0.0:
        raise ReductionError(
            f"no absorption edge: {energy.size} points between {mu.min(initial=np.inf):.4g} and "
            f"{mu.max(initial=-np.inf):.4g}; check that the shutter was open and the detector was read"
        )
    rise = largest_rise(energy, mu)
    if rise is not None and rise.contrast >= CONTRAST:
        return rise
    fall = largest_rise(energy, -mu)
    if fall is not None and fall.contrast >= CONTRAST:
        raise ReductionError(
            f"no absorption edge: the absorption falls by {fall.height:.3g} at {fall.energy:.0f} eV and "
            "rises nowhere as much; check that I0 and It are not exchanged"
        )
    most = "nothing rises and stays" if rise is None else _too_little(rise)
    raise ReductionError(
        f"no absorption edge: {most}; check that the beam hits the sample, that the scan covers the edge, "
        "and the gain of the detectors"
    )


def largest_rise(energy: FloatArray, mu: FloatArray) -> Step | None:
    """Return the place where climb and step are largest together; None where nothing rises and stays.

    Parameters
    ----------
    energy
        Strictly ascending energies [eV], (n,).
    mu
        Absorption [any unit], (n,).

    Examples
    --------
    >>> largest_rise(np.arange(7000.0, 7300.0), np.zeros(300)) is None
    True
    """
    # Scaled, so that neither tiny nor huge units meet the borders of floating point.
    scale = float(np.ptp(mu)) if energy.size >= 10 else 0.0
    if not scale > 0.0:
        return None
    values = (mu - mu[0]) / scale
    centres, slopes = _slopes(energy, values)
    rises = [
        (float(slopes[index]) * rise.height, rise)
        for index in np.argsort(-slopes)[:CLIMBS]
        if slopes[index] > 0.0 and (rise := step_at(energy, values, float(centres[index]))) is not None
    ]
    rising = [pair for pair in rises if pair[1].height > 0.0]
    if not rising:
        return None
    largest = max(rising, key=lambda pair: pair[0])[1]
    return replace(largest, height=scale * largest.height, scatter=scale * largest.scatter)


def step_at(energy: FloatArray, mu: FloatArray, e0: float) -> Step | None:
    """Fit a straight line with a step to both sides of an edge; None where a side has too few points.

    Parameters
    ----------
    energy
        Strictly ascending energies [eV], (n,).
    mu
        Absorption [any unit], (n,).
    e0
        Where the step is [eV].

    Examples
    --------
    >>> energy = np.arange(7000.0, 7300.0)
    >>> round(step_at(energy, 0.01 * energy + (energy > 7112.0), 7112.0).height, 6)
    1.0
    """
    x = energy - e0
    before, after = (x > BEFORE[0]) & (x < BEFORE[1]), (x > AFTER[0]) & (x < AFTER[1])
    if np.count_nonzero(before) < 3 or np.count_nonzero(after) < 3:
        return None
    chosen = before | after
    x, values = x[chosen] / AFTER[1], mu[chosen]
    columns = np.column_stack([np.ones_like(x), x, x > 0.0])
    coefficients, *_ = np.linalg.lstsq(columns, values, rcond=None)
    left = values - np.einsum("ij,j->i", columns, coefficients)
    return Step(energy=e0, height=float(coefficients[2]), scatter=float(np.std(left)))


def _too_little(rise: Step) -> str:
    return (
        f"the largest rise, at {rise.energy:.0f} eV, is {max(rise.contrast, 0.0):.1f} times the scatter "
        f"around it, expected {CONTRAST:.0f} or more"
    )


def _slopes(energy: FloatArray, mu: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return slopes between bins, after a median over three of them, which single glitches do not pass."""
    n_bins = max(int(min(np.ptp(energy) / BIN, 4.0 * energy.size)), 2)
    edges = np.linspace(energy[0], energy[-1], n_bins + 1)
    index = np.clip(np.searchsorted(edges, energy, side="right") - 1, 0, n_bins - 1)
    counts = np.bincount(index, minlength=n_bins)
    filled = counts > 0
    means = np.bincount(index, weights=mu, minlength=n_bins)[filled] / counts[filled]
    energies = np.bincount(index, weights=energy, minlength=n_bins)[filled] / counts[filled]
    if means.size > 2:
        means[1:-1] = np.median([means[:-2], means[1:-1], means[2:]], axis=0)
    return 0.5 * (energies[1:] + energies[:-1]), np.diff(means) / np.diff(energies)
