"""Random copies of simulated spectra, as wide, shifted, saturated and noisy as measured ones are."""

from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.factory.training.alignment import AlignedSpectra, on_fine_grid
from bluesky_xpdml.features.xanes import features_of_shifts
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.simulation.broadening import broaden


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Ranges of what is varied between copies."""

    copies: int = 6
    width_below: tuple[float, float] = (0.3, 1.0)
    """Gaussian standard deviation below the edge [eV]."""
    width_above: tuple[float, float] = (1.5, 5.0)
    """Gaussian standard deviation above the edge [eV]."""
    axis_sigma: float = 0.5
    """Standard deviation of the shift of the axis [eV]."""
    stretch: float = 0.05
    """Largest relative stretch of the axis about the half edge."""
    slope: float = 0.05
    """Largest relative slope over the window."""
    self_absorption: float = 0.2
    """Largest strength of self-absorption, applied to half of the copies."""
    noise: float = 0.01
    """Largest standard deviation of the noise [edge steps]."""


def augmented_features(
    spectra: AlignedSpectra, settings: Augmentation, random: np.random.Generator
) -> FloatArray:
    """Draw copies of simulated spectra and compute their features.

    Parameters
    ----------
    spectra
        n simulated spectra with their shifts.
    settings
        Number of copies and ranges.
    random
        Source of randomness; the same state gives the same features.

    Returns
    -------
    FloatArray
        Features, (copies * n, 72), copy after copy.
    """
    return np.concatenate([_one_copy(spectra, settings, random) for _ in range(settings.copies)])


def _one_copy(spectra: AlignedSpectra, settings: Augmentation, random: np.random.Generator) -> FloatArray:
    n = len(spectra.mu)
    mu = broaden(
        spectra.x,
        spectra.mu,
        spectra.half_edge,
        random.uniform(*settings.width_below, n),
        random.uniform(*settings.width_above, n),
    )
    shift = spectra.shift + random.normal(0.0, settings.axis_sigma, n)
    signal = on_fine_grid(spectra, mu, shift, random.uniform(-settings.stretch, settings.stretch, n))
    absorbed = random.uniform(0.0, settings.self_absorption, (n, 1)) * (random.random((n, 1)) < 0.5)
    signal = signal * (1.0 + absorbed) / (1.0 + absorbed * signal)
    ramp = np.linspace(-0.5, 0.5, signal.shape[1])
    signal = signal * (1.0 + random.uniform(-settings.slope, settings.slope, (n, 1)) * ramp)
    noise = random.uniform(0.0, settings.noise, (n, 1)) * random.normal(size=signal.shape)
    return features_of_shifts(signal + noise, np.zeros(1))[:, 0, :]
