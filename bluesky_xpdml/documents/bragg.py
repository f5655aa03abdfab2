"""Angles of a monochromator and the energies that it lets through."""

import numpy as np
from numpy.typing import ArrayLike

from bluesky_xpdml.records import FloatArray

HC = 12398.41984
"""Planck constant times speed of light [eV angstrom]."""


def bragg_energy(angle: ArrayLike, plane_distance: float) -> FloatArray:
    """Return the photon energy by Bragg's law, E = hc / (2 d sin(theta)) [eV].

    Parameters
    ----------
    angle
        Between the beam and the lattice planes [rad], (n,).
    plane_distance
        Between the lattice planes [angstrom].

    Examples
    --------
    >>> float(bragg_energy(np.deg2rad(16.1376), 3.1356).round(0))
    7113.0
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(HC / (2.0 * plane_distance * np.sin(np.asarray(angle, dtype=np.float64))))
