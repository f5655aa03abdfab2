"""Broadening of simulated spectra to the width that measured ones have.

Multiple-scattering spectra are too sharp: the core hole and the mean free path of the photoelectron widen
features more the further they lie above the edge.
"""

import numpy as np

from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.edge_position import smooth

LEVEL_STEP = 0.5
"""Spacing of the widths between which broadened spectra are interpolated [eV]."""
TURN = 2.0
"""The width turns from its low to its high value this far above the half edge [eV]."""
TURN_WIDTH = 5.0
"""Over this range [eV]."""


def width(x: FloatArray, half_edge: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """Return the standard deviation of the Gaussian of each spectrum at each energy [eV], (n, m).

    sigma(x) = low + (high - low) (1/2 + atan((x - half_edge - 2) / 5) / pi)
    """
    turn = np.arctan((x[None, :] - half_edge[:, None] - TURN) / TURN_WIDTH) / np.pi
    return np.asarray(low[:, None] + (high - low)[:, None] * (0.5 + turn))


def broaden(
    x: FloatArray, mu: FloatArray, half_edge: FloatArray, low: FloatArray, high: FloatArray
) -> FloatArray:
    """Broaden spectra, (n, m), by widths that grow from `low` to `high` through their half edges [eV], (n,).

    The energies x [eV], (m,), are evenly spaced. The result is interpolated between copies smoothed by fixed
    widths, 0.5 eV apart.
    """
    sigma = width(x, half_edge, low, high) / LEVEL_STEP
    lower = np.floor(sigma).astype(int)
    upper_share = sigma - lower
    result = np.zeros_like(mu)
    for level in range(int(lower.max()) + 2):
        share = np.where(lower == level, 1.0 - upper_share, np.where(lower == level - 1, upper_share, 0.0))
        touched = np.flatnonzero(share.any(axis=1))
        if touched.size:
            smoothed = mu[touched] if level == 0 else smooth(mu[touched], level * LEVEL_STEP / (x[1] - x[0]))
            result[touched] += share[touched] * smoothed
    return result
