"""Physics of an absorption beamline: resolution, absorption by matter, foils, and intensities.

Definitions (intensities per second; mu t of the sample and the foil as `sample` and `foil`):

    I0 = e0 F                                       absorbed in the first chamber
    It = et F (1 - e0) exp(-sample)                 in the second
    Ir = er F (1 - e0) (1 - et) exp(-sample - foil) in the third, behind the reference foil
    If = F (1 - e0) (w edge / (1 + s edge) + b)     solid angle and yield w, self-absorption s, scatter b

The K edge of a 3d metal foil rises in two steps: a shoulder, whose steepest point defines the tabulated
energy, and the main edge some 9 eV above it, followed by weak oscillations. Steps are error functions and
oscillations are Gaussians, so that the resolution of a monochromator enters by adding variances.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bluesky_xpdml.errors import BeamlineError
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES

SI111_RESOLUTION = 1.4e-4
"""Relative full width at half maximum of the Si(111) reflection."""
FWHM = 2.3548
"""Full width at half maximum of a Gaussian in standard deviations."""
SHOULDER = {"Ti": 0.32, "V": 0.34, "Cr": 0.36, "Mn": 0.38, "Fe": 0.40, "Co": 0.44, "Ni": 0.48, "Cu": 0.54}
"""Height of a foil's shoulder by element [edge steps]; it grows along the row of the 3d metals."""
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
"""Of a foil above its edge: height [edge steps], centre above the shoulder, standard deviation [eV]."""


def resolution(energy: float) -> float:
    """Return the standard deviation of a Si(111) monochromator's energy resolution [eV] at an energy [eV]."""
    return SI111_RESOLUTION * energy / FWHM


def victoreen(energy: FloatArray, edge_energy: float) -> FloatArray:
    """Return how absorption falls with energy, C E^-3 - D E^-4, relative to its value at the edge, (n,)."""
    ratio = edge_energy / energy
    return np.asarray(1.25 * ratio**3 - 0.25 * ratio**4)


def foil_absorption(element: str, energy: FloatArray, resolution: float = 0.0) -> FloatArray:
    """Return the absorption of a metal foil near its K edge [edge steps], (n,).

    The energy, (n,), and the standard deviation of its resolution are in eV.
    """
    if element not in SHOULDER:
        msg = f"no foil of {element!r}: expected one of {', '.join(SHOULDER)}"
        raise BeamlineError(msg)
    offset = energy - FOIL_ENERGIES[element] + _steepest_point(SHOULDER[element])
    return _foil_shape(offset, SHOULDER[element], resolution)


def _foil_shape(x: FloatArray, shoulder: float, resolution: float) -> FloatArray:
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
    """Return the steepest point of the shape: the main edge shifts it slightly off the shoulder's centre."""
    x = np.arange(-2.0, 2.0, 0.001)
    return float(x[np.argmax(np.gradient(_foil_shape(x, shoulder, 0.0)))])


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Photon flux in front of the first chamber."""

    flux: float = 5e9
    """Flux at 7000 eV at the start [photons/s]."""
    lifetime: float = 36000.0
    """The flux decays with the stored current [s]."""
    ripple: float = 0.01
    """Relative height of a slow beat."""
    period: float = 240.0
    """Period of the beat [s]."""

    def at(self, energy: float, time: float) -> float:
        """Return the flux at a photon energy [eV] and a time since the start [s], in photons/s."""
        beat = 1.0 + self.ripple * np.sin(2.0 * np.pi * time / self.period)
        return float(self.flux * np.exp(-time / self.lifetime) * beat * (energy / 7000.0) ** -0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """Efficiencies of the chambers and of the fluorescence detector."""

    i0: float = 0.15
    """Fraction of the photons counted by the first chamber."""
    it: float = 0.4
    """Fraction of those behind the sample counted by the second chamber."""
    ir: float = 0.9
    """Fraction of those behind the foil counted by the third chamber."""
    fluorescence: float = 2e-3
    """Solid angle, yield and efficiency of the fluorescence detector, together."""
    scatter: float = 1e-4
    """Scattered photons in the fluorescence window, relative to those on the sample."""
    self_absorption: float = 0.0
    """Damping s of the fluorescence signal edge / (1 + s edge); 0 for thin samples."""

    def rates(self, flux: float, *, sample: float, edge: float, foil: float) -> FloatArray:
        """Return the mean counting rates of I0, It, Ir and If [counts/s], (4,), for a flux [photons/s].

        The absorptions mu t are those of the sample, of its absorbing shell, and of the reference foil.
        """
        behind = flux * (1.0 - self.i0)
        transmitted = behind * np.exp(-sample)
        referenced = transmitted * (1.0 - self.it) * np.exp(-foil)
        fluorescent = self.fluorescence * edge / (1.0 + self.self_absorption * edge) + self.scatter
        return np.array([flux * self.i0, transmitted * self.it, referenced * self.ir, behind * fluorescent])
