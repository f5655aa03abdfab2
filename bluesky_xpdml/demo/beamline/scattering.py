"""Intensities of a total-scattering measurement: powder, Compton scattering, container and air.

What arrives in a direction of momentum transfer Q, in electron units and before geometry:

    I(Q) = sample (I_coherent + R sum c_i S_i) + background (silica + air)

with the incoherent scattering functions S_i and R = (E'/E)^2 for the recoil. The container is silica, whose
shells of neighbours end in a continuum at R0, the air is N2:

    silica   <f^2> + sum c_i n_ij f_i f_j sinc(Q r_ij) exp(-s_ij^2 Q^2 / 2) - <f>^2 4 pi rho h(Q R0) / Q^3
    N2       f^2 (1 + sinc(Q d)),   sinc x = sin x / x,   h(x) = sin x - x cos x
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from bluesky_xpdml.demo.beamline.powder import powder_pattern
from bluesky_xpdml.demo.beamline.scattering_samples import ScatteringSample
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.calibration import energy_of
from bluesky_xpdml.reduction.scattering_factors import compton, form_factor, mean_factors

REST_ENERGY = 510998.95
"""Of the electron [eV]."""
N2_LENGTH = 1.098
"""Bond length of nitrogen [angstrom]."""
SILICA_DENSITY = 0.066
"""Atoms a volume of fused silica [1/angstrom^3]."""
EDGE_WIDTH = 0.45
"""Standard deviation over which the continuum around an atom begins [angstrom]."""
COARSE_POINTS = 400
"""Smooth curves are computed at so many points and interpolated."""


class Shell(NamedTuple):
    """Neighbours of an atom in silica."""

    centre: str
    neighbour: str
    number: float
    distance: float
    """[angstrom]"""
    width: float
    """Standard deviation of the distance [angstrom]."""


SILICA_SHELLS = (
    Shell("Si", "O", 4.0, 1.61, 0.06),
    Shell("O", "Si", 2.0, 1.61, 0.06),
    Shell("O", "O", 6.0, 2.63, 0.10),
    Shell("Si", "Si", 4.0, 3.08, 0.14),
)
SILICA = {"Si": 1.0 / 3.0, "O": 2.0 / 3.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Illumination:
    """How strongly sample, container and air scatter, and with which X-rays."""

    wavelength: float = 0.1836
    """Of the X-rays [angstrom]."""
    sample: float = 3000.0
    """Scattering of an average sample at Q = 0, were it a gas [photons/s a pixel]."""
    container: float = 250.0
    """The same for the container."""
    air: float = 60.0
    """The same for the air."""
    q_damp: float = 0.03
    """Standard deviation of the resolution, besides that of the pixels [1/angstrom]."""

    def background_rate(self, q: FloatArray) -> FloatArray:
        """Return what container and air scatter [photons/s a pixel, before geometry], (n,).

        Parameters
        ----------
        q
            Momentum transfer [1/angstrom], above 0, (n,).

        Examples
        --------
        >>> rate = Illumination().background_rate(np.array([2.0, 20.0]))
        >>> bool(rate[0] > 4.0 * rate[1] > 0.0)
        True
        """
        glass = silica_pattern(q) + compton_pattern(SILICA, q, self.wavelength)
        air = nitrogen_pattern(q) + compton_pattern({"N": 1.0}, q, self.wavelength)
        return np.asarray(
            self.container * glass / _forward(SILICA) + self.air * air / (2.0 * _forward({"N": 1.0}))
        )

    def sample_rate(self, sample: ScatteringSample, q: FloatArray) -> FloatArray:
        """Return what the sample scatters [photons/s a pixel, before geometry], (n,).

        Parameters
        ----------
        sample
            Structure and displacements.
        q
            Momentum transfer [1/angstrom], evenly spaced from above 0, (n,).
        """
        coherent = powder_pattern(sample.structure, q, u_iso=sample.u_iso, q_damp=self.q_damp)
        incoherent = compton_pattern(sample.composition, q, self.wavelength)
        return np.asarray(self.sample * (coherent + incoherent) / _forward(sample.composition))


def compton_pattern(composition: dict[str, float], q: FloatArray, wavelength: float) -> FloatArray:
    """Return Compton scattering with its recoil [electron units per atom], (n,).

    Parameters
    ----------
    composition
        Amounts by element.
    q
        Momentum transfer [1/angstrom], (n,).
    wavelength
        Of the incident X-rays [angstrom].

    Examples
    --------
    >>> compton_pattern({"O": 1.0}, np.array([1.0, 25.0]), 0.1836).round(1)
    array([0.7, 7.2])
    """
    points = np.linspace(0.0, float(q.max()), COARSE_POINTS)
    smooth = np.interp(q, points, compton(composition, points))
    sine = np.clip(q * wavelength / (4.0 * np.pi), 0.0, 1.0)
    recoil = 1.0 + 2.0 * energy_of(wavelength) / REST_ENERGY * sine**2
    return np.asarray(smooth / recoil**2)


def silica_pattern(q: FloatArray) -> FloatArray:
    """Return the coherent scattering of fused silica [electron units per atom], (n,).

    Parameters
    ----------
    q
        Momentum transfer [1/angstrom], above 0, (n,).

    Examples
    --------
    >>> q = np.linspace(0.3, 6.0, 200)
    >>> bool(0.8 < q[np.argmax(silica_pattern(q))] < 1.8)
    True
    """
    factors = mean_factors(SILICA, q)
    total = factors.mean_square.copy()
    for shell in SILICA_SHELLS:
        pair = form_factor(shell.centre, q) * form_factor(shell.neighbour, q)
        decay = np.exp(-0.5 * (shell.width * q) ** 2)
        total += SILICA[shell.centre] * shell.number * pair * np.sinc(q * shell.distance / np.pi) * decay
    # As many atoms are missing around each one as it is itself and as the shells hold.
    taken = 1.0 + sum(SILICA[shell.centre] * shell.number for shell in SILICA_SHELLS)
    x = q * (3.0 * taken / (4.0 * np.pi * SILICA_DENSITY)) ** (1.0 / 3.0)
    hole = 4.0 * np.pi * SILICA_DENSITY * (np.sin(x) - x * np.cos(x)) / q**3
    total -= factors.squared_mean * hole * np.exp(-0.5 * (EDGE_WIDTH * q) ** 2)
    return np.maximum(total, 0.0)


def nitrogen_pattern(q: FloatArray) -> FloatArray:
    """Return the coherent scattering of nitrogen gas [electron units per atom], (n,).

    Parameters
    ----------
    q
        Momentum transfer [1/angstrom], (n,).

    Examples
    --------
    >>> nitrogen_pattern(np.array([0.0])).round()
    array([98.])
    """
    return np.asarray(form_factor("N", q) ** 2 * (1.0 + np.sinc(q * N2_LENGTH / np.pi)))


def _forward(composition: dict[str, float]) -> float:
    return _forward_of(tuple(sorted(composition.items())))


@lru_cache
def _forward_of(composition: tuple[tuple[str, float], ...]) -> float:
    """Return <f^2> at Q = 0 [electron units per atom]."""
    return float(mean_factors(dict(composition), np.zeros(1)).mean_square[0])
