"""Model of the metal foils in the reference channel.

The K edge of a 3d metal rises in two steps: a shoulder, whose steepest point defines the tabulated energy,
and the main edge some 9 eV above it, followed by weak oscillations. Steps are error functions and
oscillations are Gaussians, so that the resolution of a monochromator enters by adding variances.
"""

from functools import lru_cache

import numpy as np

from bluesky_xpdml.errors import BeamlineError
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES

SHOULDER = {"Ti": 0.32, "V": 0.34, "Cr": 0.36, "Mn": 0.38, "Fe": 0.40, "Co": 0.44, "Ni": 0.48, "Cu": 0.54}
"""Height of the shoulder by element [edge steps]; it grows along the row of the 3d metals."""
SHOULDER_WIDTH = 1.3
"""Standard deviation of the shoulder's rise [eV]."""
MAIN_EDGE = (9.0, 3.8)
"""Centre above the shoulder and standard deviation of the main rise [eV]."""
OSCILLATIONS = (
    (0.14, 18.0, 4.0),
    (-0.06, 30.0, 5.0),
    (0.06, 42.0, 7.0),
    (-0.03, 63.0, 10.0),
    (0.02, 88.0, 13.0),
)
"""Height [edge steps], centre above the shoulder and standard deviation [eV] of what follows the edge."""


def foil_absorption(element: str, energy: FloatArray, resolution: float = 0.0) -> FloatArray:
    """Return the absorption of a metal foil near its K edge.

    Parameters
    ----------
    element
        Chemical symbol of the metal.
    energy
        Photon energy [eV], (n,).
    resolution
        Standard deviation of the energy resolution [eV].

    Returns
    -------
    FloatArray
        Absorption in units of the edge step, (n,): zero far below the edge, one far above it.

    Raises
    ------
    BeamlineError
        If there is no such foil.

    Examples
    --------
    >>> energy = np.arange(7100.0, 7200.0, 0.01)
    >>> slope = np.gradient(foil_absorption("Fe", energy), energy)
    >>> print(round(float(energy[np.argmax(slope)]), 1), FOIL_ENERGIES["Fe"])
    7110.8 7110.75
    """
    if element not in SHOULDER:
        msg = f"no foil of {element!r}: expected one of {', '.join(SHOULDER)}"
        raise BeamlineError(msg)
    offset = energy - FOIL_ENERGIES[element] + _steepest_point(SHOULDER[element])
    return _shape(offset, SHOULDER[element], resolution)


def _shape(x: FloatArray, shoulder: float, resolution: float) -> FloatArray:
    from scipy.special import ndtr

    centre, width = MAIN_EDGE
    total = shoulder * ndtr(x / np.hypot(SHOULDER_WIDTH, resolution))
    total += (1.0 - shoulder) * ndtr((x - centre) / np.hypot(width, resolution))
    for height, position, spread in OSCILLATIONS:
        wide = np.hypot(spread, resolution)
        total += height * spread / wide * np.exp(-0.5 * ((x - position) / wide) ** 2)
    return np.asarray(total)


@lru_cache
def _steepest_point(shoulder: float) -> float:
    """Find where the shape rises most: the main edge draws it slightly off the shoulder's centre."""
    x = np.arange(-2.0, 2.0, 0.001)
    return float(x[np.argmax(np.gradient(_shape(x, shoulder, 0.0)))])
