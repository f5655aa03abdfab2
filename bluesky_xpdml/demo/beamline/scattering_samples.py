"""Samples of the simulated total-scattering beamline: structures that no committed model was trained on."""

import json
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.simulation.measured_curve import MARGIN, measured_curve
from bluesky_xpdml.simulation.pair_distribution import Instrument, curve, reach_needed
from bluesky_xpdml.simulation.pair_histogram import pair_histogram
from bluesky_xpdml.simulation.structure import Structure

U_ISO = 0.006
"""Displacement of the atoms of samples that come with the package [angstrom^2]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScatteringSample:
    """A powder in a capillary, and the truth about it."""

    name: str
    element: str
    """The metal that predictions are about."""
    formula: str
    """Reduced formula under which training holds the compound out."""
    material: str
    """Identifier of the structure."""
    oxidation_state: float
    """Truth [e]."""
    coordination_number: float
    """Truth."""
    bond_length: float
    """Truth: mean nearest-neighbour distance, over the sites of the metal [angstrom]."""
    structure: Structure = field(repr=False)
    u_iso: float = U_ISO
    """Isotropic displacement of every atom [angstrom^2]."""

    @property
    def truth(self) -> dict[str, float]:
        """What a prediction is compared with, by descriptor."""
        return {
            "oxidation_state": self.oxidation_state,
            "coordination_number": self.coordination_number,
            "bond_length": self.bond_length,
        }

    @property
    def composition(self) -> dict[str, float]:
        """Atoms of each element in the formula unit, by symbol."""
        species = sorted(set(self.structure.species))
        counts = np.array([self.structure.species.count(symbol) for symbol in species])
        return dict(zip(species, (counts / np.gcd.reduce(counts)).tolist(), strict=True))

    def pair_distribution(self, *, r_max: float, instrument: Instrument) -> tuple[FloatArray, FloatArray]:
        """Compute G(r) directly, as the established calculator does: with form factors at Q = 0.

        Parameters
        ----------
        r_max
            End of the curve, not included [angstrom].
        instrument
            Range and resolution.

        Returns
        -------
        r, g
            Distance [angstrom] and G(r) [1/angstrom^2], both (n,).

        Examples
        --------
        >>> sample = load_scattering_samples()[0]
        >>> r, g = sample.pair_distribution(r_max=5.0, instrument=Instrument(q_max=24.0))
        >>> r.size
        500
        """
        pairs = pair_histogram(self.structure, reach=reach_needed(r_max, instrument, self.u_iso))
        return curve(pairs, r_max=r_max, instrument=instrument, u_iso=self.u_iso)

    def measurable_pair_distribution(
        self, *, r_max: float, instrument: Instrument
    ) -> tuple[FloatArray, FloatArray]:
        """Compute G(r) directly, with form factors at every Q: what a perfect measurement would give.

        Parameters
        ----------
        r_max
            End of the curve, not included [angstrom].
        instrument
            Range and resolution.

        Returns
        -------
        r, g
            Distance [angstrom] and G(r) [1/angstrom^2], both (n,).
        """
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
        """What was weighed in: all powders."""
        return "".join(f"{symbol}{amount:g}" for symbol, amount in self.composition.items())

    @property
    def composition(self) -> dict[str, float]:
        """Atoms of each element in the formula units of all powders together, whatever their fractions.

        That is what is known of a sample that reacts: what it may consist of.
        """
        total: dict[str, float] = {}
        for _, part in self.parts:
            for symbol, amount in part.composition.items():
                total[symbol] = total.get(symbol, 0.0) + amount
        return dict(sorted(total.items()))


@lru_cache
def load_scattering_samples() -> tuple[ScatteringSample, ...]:
    """Return the samples that come with the package.

    Examples
    --------
    >>> {sample.name: sample.composition for sample in load_scattering_samples()}["LaFeO3"]
    {'Fe': 1.0, 'La': 1.0, 'O': 3.0}
    """
    text = files("bluesky_xpdml.demo.beamline").joinpath("structures.json").read_text(encoding="utf-8")
    return tuple(_sample(entry) for entry in json.loads(text)["samples"])


def held_out_scattering_formulas() -> tuple[str, ...]:
    """Return the reduced formulas that training on G(r) must leave out, so that the demonstration is honest.

    Examples
    --------
    >>> "LaFeO3" in held_out_scattering_formulas()
    True
    """
    return tuple(sorted({sample.formula for sample in load_scattering_samples()}))


def _sample(entry: dict[str, Any]) -> ScatteringSample:
    structure = Structure(
        lattice=np.array(entry["lattice"]),
        fractional=np.array(entry["positions"]),
        species=tuple(entry["species"]),
    )
    labels = {key: entry[key] for key in ("name", "element", "formula", "material")}
    return ScatteringSample(**labels, **entry["truth"], structure=structure)
