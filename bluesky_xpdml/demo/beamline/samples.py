"""Samples of the simulated beamlines: spectra and structures that no shipped model was trained on."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from bluesky_xpdml.demo.beamline.physics import resolution, victoreen
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.edge_position import edge_shape, smooth
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.simulation.broadening import broaden
from bluesky_xpdml.simulation.measured_curve import MARGIN, measured_curve
from bluesky_xpdml.simulation.pair_distribution import Instrument, curve, reach_needed
from bluesky_xpdml.simulation.pair_histogram import pair_histogram
from bluesky_xpdml.simulation.structure import Structure
from bluesky_xpdml.vocabulary import Descriptor

WIDTHS = (0.6, 3.0)
"""Widths below and above the edge to which computed spectra are broadened [eV]."""
LEAD = 3.0
"""Below its start a computed spectrum decays over this length [eV]."""
RELAXATION = 8.0
"""Above its end a computed spectrum approaches one over this length [eV]."""
U_ISO = 0.006
"""Displacement of the atoms of the package's samples [angstrom^2]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Compound:
    """A compound and its true descriptors."""

    name: str
    element: str
    """The metal that predictions are about: the absorbing element."""
    formula: str
    """Reduced formula, which training leaves out."""
    material: str
    """Identifier of the structure."""
    oxidation_state: float
    """Truth [e]."""
    coordination_number: float
    """Truth."""
    bond_length: float
    """Truth: mean nearest-neighbour distance [angstrom]."""

    @property
    def truth(self) -> dict[Descriptor, float]:
        """The true descriptors."""
        return {name: getattr(self, name) for name in Descriptor.main()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedSample(_Compound):
    """A compound on the sample wheel, with its spectrum."""

    site: int
    """Index of the absorbing atom in the structure."""
    energy_shift: float
    """Added to the computed energies to reach the measured axis [eV]."""
    edge_step: float
    """Edge step of the sample, mu t."""
    background: float
    """Absorption by everything else at the edge, mu t."""
    energy: FloatArray = field(repr=False)
    """Energy on the measured axis [eV], (n,)."""
    mu: FloatArray = field(repr=False)
    """Absorption at the resolution of the beamline [edge steps], (n,)."""

    @property
    def edge_energy(self) -> float:
        """Edge of the element's metal foil [eV]: the centre of a scan."""
        return FOIL_ENERGIES[self.element]

    def edge_absorption(self, energy: FloatArray) -> FloatArray:
        """Return the absorption by the absorbing shell, mu t, at photon energies [eV], (n,)."""
        return np.asarray(self.edge_step * self._extended(energy) * victoreen(energy, self.edge_energy))

    def absorption(self, energy: FloatArray) -> FloatArray:
        """Return the absorption by the whole sample, mu t, at photon energies [eV], (n,)."""
        background = self.background * victoreen(energy, self.edge_energy)
        return np.asarray(background + self.edge_absorption(energy))

    def _extended(self, energy: FloatArray) -> FloatArray:
        """Return the spectrum, decaying to zero below the computed range and relaxing to one above it."""
        before = self.mu[0] * np.exp(np.minimum(energy - self.energy[0], 0.0) / LEAD)
        past = np.maximum(energy - self.energy[-1], 0.0)
        height = self.mu[-1] - 1.0
        slope = (self.mu[-1] - self.mu[-9]) / (self.energy[-1] - self.energy[-9])
        after = 1.0 + (height + (slope + height / RELAXATION) * past) * np.exp(-past / RELAXATION)
        inside = np.interp(energy, self.energy, self.mu)
        return np.where(energy < self.energy[0], before, np.where(past > 0.0, after, inside))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScatteringSample(_Compound):
    """A powder in a capillary, with its structure."""

    structure: Structure = field(repr=False)
    u_iso: float = U_ISO
    """Isotropic displacement of every atom [angstrom^2]."""

    @property
    def composition(self) -> dict[str, float]:
        """Atoms of each element in the formula unit, by symbol."""
        species = sorted(set(self.structure.species))
        counts = np.array([self.structure.species.count(symbol) for symbol in species])
        return dict(zip(species, (counts / np.gcd.reduce(counts)).tolist(), strict=True))

    def pair_distribution(self, *, r_max: float, instrument: Instrument) -> tuple[FloatArray, FloatArray]:
        """Return r [angstrom] and G(r) [1/angstrom^2] with form factors at Q = 0, as diffpy.srreal, (n,)."""
        pairs = pair_histogram(self.structure, reach=reach_needed(r_max, instrument, self.u_iso))
        return curve(pairs, r_max=r_max, instrument=instrument, u_iso=self.u_iso)

    def measurable_pair_distribution(
        self, *, r_max: float, instrument: Instrument
    ) -> tuple[FloatArray, FloatArray]:
        """Return r and G(r) with form factors at every Q: the result of a perfect measurement, (n,)."""
        pairs = pair_histogram(self.structure, reach=r_max + MARGIN)
        return measured_curve(pairs, r_max=r_max, instrument=instrument, u_iso=self.u_iso)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PowderMixture:
    """Several powders in one capillary."""

    name: str
    parts: tuple[tuple[float, ScatteringSample], ...]
    """Each powder with its fraction of the formula units; fractions add up to one."""

    @property
    def formula(self) -> str:
        """Formula of all powders together."""
        return "".join(f"{symbol}{amount:g}" for symbol, amount in self.composition.items())

    @property
    def composition(self) -> dict[str, float]:
        """Atoms of each element in the formula units of all powders together, whatever their fractions.

        That is what is known of a reacting sample: what it may consist of.
        """
        total: dict[str, float] = {}
        for _, part in self.parts:
            for symbol, amount in part.composition.items():
                total[symbol] = total.get(symbol, 0.0) + amount
        return dict(sorted(total.items()))


@lru_cache
def load_samples() -> tuple[SimulatedSample, ...]:
    """Return the package's samples of the absorption beamline."""
    return tuple(_simulated_sample(entry) for entry in _entries("samples.json"))


@lru_cache
def load_scattering_samples() -> tuple[ScatteringSample, ...]:
    """Return the package's samples of the total-scattering beamline."""
    return tuple(_scattering_sample(entry) for entry in _entries("structures.json"))


def held_out_formulas() -> tuple[str, ...]:
    """Return the reduced formulas that training on XANES must leave out, for an honest demonstration."""
    return _formulas(load_samples())


def held_out_scattering_formulas() -> tuple[str, ...]:
    """Return the reduced formulas that training on G(r) must leave out, for an honest demonstration."""
    return _formulas(load_scattering_samples())


def _formulas(samples: Iterable[_Compound]) -> tuple[str, ...]:
    return tuple(sorted({sample.formula for sample in samples}))


def _entries(name: str) -> list[dict[str, Any]]:
    text = files("bluesky_xpdml.demo.beamline").joinpath(name).read_text(encoding="utf-8")
    entries: list[dict[str, Any]] = json.loads(text)["samples"]
    return entries


def _simulated_sample(entry: dict[str, Any]) -> SimulatedSample:
    """Broaden a computed spectrum to the width of measured ones and shift it to the measured axis."""
    curve_keys = {"energy_start", "energy_step", "mu", "truth"}
    labels = {key: value for key, value in entry.items() if key not in curve_keys}
    step, computed = entry["energy_step"], np.array(entry["mu"])
    foil = FOIL_ENERGIES[entry["element"]]
    x = entry["energy_start"] - foil + step * np.arange(computed.size)
    half = np.array([edge_shape(x, computed).half_edge])
    low, high = (np.array([width]) for width in WIDTHS)
    broad = broaden(x, computed[None, :], half, low, high)[0]
    measured = smooth(broad, resolution(foil) / step)
    return SimulatedSample(**labels, **entry["truth"], energy=x + foil + entry["energy_shift"], mu=measured)


def _scattering_sample(entry: dict[str, Any]) -> ScatteringSample:
    structure = Structure(
        lattice=np.array(entry["lattice"]),
        fractional=np.array(entry["positions"]),
        species=tuple(entry["species"]),
    )
    labels = {key: entry[key] for key in ("name", "element", "formula", "material")}
    return ScatteringSample(**labels, **entry["truth"], structure=structure)
