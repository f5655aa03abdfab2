"""Noise of a curve, read from the curve itself."""

import numpy as np

from bluesky_xpdml.records import FloatArray


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
