"""Physics of an absorption beamline: resolution, absorption by matter, and intensities behind it.

Definitions (intensities per second; mu t of the sample and the foil as `sample` and `foil`):

    I0 = e0 F                                       absorbed in the first chamber
    It = et F (1 - e0) exp(-sample)                 in the second
    Ir = er F (1 - e0) (1 - et) exp(-sample - foil) in the third, behind the reference foil
    If = F (1 - e0) (w edge / (1 + s edge) + b)     solid angle and yield w, self-absorption s, scatter b
"""

from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.records import FloatArray

SI111_RESOLUTION = 1.4e-4
"""Relative full width at half maximum of the Si(111) reflection."""
FWHM = 2.3548
"""Full width at half maximum of a Gaussian in standard deviations."""


def resolution(energy: float) -> float:
    """Return the standard deviation of a Si(111) monochromator's energy resolution [eV].

    Examples
    --------
    >>> round(resolution(7112.0), 2)
    0.42
    """
    return SI111_RESOLUTION * energy / FWHM


def victoreen(energy: FloatArray, edge_energy: float) -> FloatArray:
    """Return how absorption falls with energy, C E^-3 - D E^-4, relative to its value at the edge.

    Parameters
    ----------
    energy
        Photon energy [eV], (n,).
    edge_energy
        Where the result is one [eV].

    Examples
    --------
    >>> victoreen(np.array([7000.0, 7700.0]), 7000.0).round(3)
    array([1.   , 0.768])
    """
    ratio = edge_energy / energy
    return np.asarray(1.25 * ratio**3 - 0.25 * ratio**4)


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
        """Return the flux at a photon energy [eV] and a time since the start [s], in photons/s.

        Examples
        --------
        >>> Source().at(7000.0, 0.0)
        5000000000.0
        """
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
        """Return the mean counting rates of I0, It, Ir and If [counts/s], (4,).

        Parameters
        ----------
        flux
            Photons per second in front of the first chamber.
        sample
            Absorption of the sample, mu t.
        edge
            The part of it that is due to the absorbing shell.
        foil
            Absorption of the reference foil, mu t.

        Examples
        --------
        >>> rates = Detection().rates(1e9, sample=1.0, edge=0.8, foil=0.5)
        >>> [f"{rate:.1e}" for rate in rates]
        ['1.5e+08', '1.3e+08', '1.0e+08', '1.4e+06']
        """
        behind = flux * (1.0 - self.i0)
        transmitted = behind * np.exp(-sample)
        referenced = transmitted * (1.0 - self.it) * np.exp(-foil)
        fluorescent = self.fluorescence * edge / (1.0 + self.self_absorption * edge) + self.scatter
        return np.array([flux * self.i0, transmitted * self.it, referenced * self.ir, behind * fluorescent])
