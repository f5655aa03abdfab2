"""Samples of the simulated beamline: computed spectra of compounds that no committed model was trained on."""

import json
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from bluesky_xpdml.demo.beamline.physics import resolution, victoreen
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.edge_position import edge_position, smooth
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.simulation.broadening import broaden

WIDTHS = (0.6, 3.0)
"""Widths below and above the edge to which computed spectra are broadened [eV]."""
LEAD = 3.0
"""Below its start a computed spectrum decays over this length [eV]."""
RELAXATION = 8.0
"""Above its end a computed spectrum approaches one over this length [eV]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedSample:
    """A compound on the sample wheel, and the truth about it."""

    name: str
    element: str
    """Absorbing element."""
    formula: str
    """Reduced formula under which training holds the compound out."""
    material: str
    """Identifier of the structure."""
    site: int
    """Index of the absorbing atom in the structure."""
    energy_shift: float
    """Added to the computed energies to reach the measured axis [eV]."""
    edge_step: float
    """Edge step of the sample, mu t."""
    background: float
    """Absorption by everything else at the edge, mu t."""
    oxidation_state: float
    """Truth [e]."""
    coordination_number: float
    """Truth."""
    bond_length: float
    """Truth: mean nearest-neighbour distance [angstrom]."""
    energy: FloatArray = field(repr=False)
    """Energy on the measured axis [eV], (n,)."""
    mu: FloatArray = field(repr=False)
    """Absorption at the resolution of the beamline [edge steps], (n,)."""

    @property
    def truth(self) -> dict[str, float]:
        """What a prediction is compared with, by descriptor."""
        return {
            "oxidation_state": self.oxidation_state,
            "coordination_number": self.coordination_number,
            "bond_length": self.bond_length,
        }

    @property
    def edge_energy(self) -> float:
        """Edge of the element's metal foil [eV]: where a scan is centred."""
        return FOIL_ENERGIES[self.element]

    def edge_absorption(self, energy: FloatArray) -> FloatArray:
        """Return the absorption by the absorbing shell, mu t, (n,).

        Parameters
        ----------
        energy
            Photon energy [eV], (n,).
        """
        return np.asarray(self.edge_step * self._extended(energy) * victoreen(energy, self.edge_energy))

    def absorption(self, energy: FloatArray) -> FloatArray:
        """Return the absorption by the whole sample, mu t, (n,).

        Parameters
        ----------
        energy
            Photon energy [eV], (n,).

        Examples
        --------
        >>> sample = load_samples()[0]
        >>> step = sample.absorption(sample.edge_energy + np.array([-100.0, 300.0]))
        >>> bool(step[1] > step[0])
        True
        """
        background = self.background * victoreen(energy, self.edge_energy)
        return np.asarray(background + self.edge_absorption(energy))

    def _extended(self, energy: FloatArray) -> FloatArray:
        """Return the spectrum, decaying to zero below what was computed and relaxing to one above it."""
        before = self.mu[0] * np.exp(np.minimum(energy - self.energy[0], 0.0) / LEAD)
        past = np.maximum(energy - self.energy[-1], 0.0)
        height = self.mu[-1] - 1.0
        slope = (self.mu[-1] - self.mu[-9]) / (self.energy[-1] - self.energy[-9])
        after = 1.0 + (height + (slope + height / RELAXATION) * past) * np.exp(-past / RELAXATION)
        inside = np.interp(energy, self.energy, self.mu)
        return np.where(energy < self.energy[0], before, np.where(past > 0.0, after, inside))


@lru_cache
def load_samples() -> tuple[SimulatedSample, ...]:
    """Return the samples that come with the package.

    Examples
    --------
    >>> {sample.element for sample in load_samples()} <= set(FOIL_ENERGIES)
    True
    """
    text = files("bluesky_xpdml.demo.beamline").joinpath("samples.json").read_text(encoding="utf-8")
    return tuple(_sample(entry) for entry in json.loads(text)["samples"])


def held_out_formulas() -> tuple[str, ...]:
    """Return the reduced formulas that training must leave out, so that the demonstration is honest.

    Examples
    --------
    >>> "LaMnO3" in held_out_formulas()
    True
    """
    return tuple(sorted({sample.formula for sample in load_samples()}))


def _sample(entry: dict[str, Any]) -> SimulatedSample:
    """Broaden a computed spectrum to the width of measured ones and put it on the measured axis."""
    labels = {
        key: value
        for key, value in entry.items()
        if key not in {"energy_start", "energy_step", "mu", "truth"}
    }
    step, computed = entry["energy_step"], np.array(entry["mu"])
    foil = FOIL_ENERGIES[entry["element"]]
    x = entry["energy_start"] - foil + step * np.arange(computed.size)
    half = np.array([edge_position(x, computed)[1]])
    low, high = (np.array([width]) for width in WIDTHS)
    broad = broaden(x, computed[None, :], half, low, high)[0]
    measured = smooth(broad, resolution(foil) / step)
    return SimulatedSample(**labels, **entry["truth"], energy=x + foil + entry["energy_shift"], mu=measured)
