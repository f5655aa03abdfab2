"""Choice of the compounds that stand on the simulated beamline's sample wheel.

Their spectra were computed with FEFF10, their material has one kind of site of the element, and their
formulas are held out of training.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.library import SiteSpectra, load_site_spectra
from bluesky_xpdml.factory.dataset.tables import load_structures
from bluesky_xpdml.factory.training.alignment import align
from bluesky_xpdml.factory.training.materials import load_materials
from bluesky_xpdml.models.edge_model import EdgeModel
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.simulation.structure import Structure
from bluesky_xpdml.vocabulary import Descriptor

BACKGROUND = 0.8
"""Absorption of a sample by everything but the absorbing shell, mu t at the edge."""
VALENCE_GRID = np.arange(1.0, 5.66, 0.05)
"""The measured curve turns over where it ends [e]."""


class DemoSite(NamedTuple):
    """A computed site that was chosen for the demonstration."""

    name: str
    element: str
    material: str
    site: int
    edge_step: float
    """Of the sample, mu t."""


DEMO_SITES = (
    DemoSite("Na2TiSiO5", "Ti", "mp-6138", 4, 0.9),
    DemoSite("KLaZrVO6", "V", "mp-1520546", 3, 0.7),
    DemoSite("CaPrCrO4", "Cr", "mp-1227145", 4, 0.8),
    DemoSite("LaCrO4", "Cr", "mp-18456", 4, 0.7),
    DemoSite("CdCrO4", "Cr", "mp-18781", 0, 1.1),
    DemoSite("MnCO3", "Mn", "mp-18814", 0, 1.2),
    DemoSite("LaMnO3", "Mn", "mp-19168", 2, 0.6),
    DemoSite("CaMnO3", "Mn", "mp-19201", 4, 1.4),
    DemoSite("FeNb2O6", "Fe", "mp-22366", 8, 0.8),
    DemoSite("LaFeO3", "Fe", "mp-22590", 4, 0.7),
    DemoSite("NaFeO2", "Fe", "mp-21060", 4, 1.5),
    DemoSite("RbCoO2", "Co", "mp-1147736", 2, 1.0),
    DemoSite("La2NiWO6", "Ni", "mp-1205988", 2, 0.5),
)
"""Oxides of the well-known types: valence 2 to 6, coordination number 4 to 6."""


def measured_curve() -> EdgeModel:
    """Return the edge curve of the 3d metals: 13.68 + 3.24 (v - 3) - 0.61 (v - 3)^2 eV above the foil."""
    above = VALENCE_GRID - 3.0
    edge = 13.68 + 3.24 * above - 0.61 * above**2
    return EdgeModel(valence=VALENCE_GRID, edge=edge, sigma=np.full(VALENCE_GRID.size, 0.86))


def build_demo_samples(folder: Path) -> list[dict[str, Any]]:
    """Collect the samples of the beamline's `samples.json` from the simulated spectra."""
    samples: list[dict[str, Any]] = []
    curve = measured_curve()
    for element in dict.fromkeys(chosen.element for chosen in DEMO_SITES):
        spectra = load_site_spectra(folder, element)
        usable = spectra.select(np.isfinite(spectra.valence) & spectra.only_oxygen)
        shifts = align(usable, FOIL_ENERGIES[element], curve).shift
        samples.extend(_entry(usable, shifts, chosen) for chosen in DEMO_SITES if chosen.element == element)
    return samples


def _entry(spectra: SiteSpectra, shifts: FloatArray, chosen: DemoSite) -> dict[str, Any]:
    here = (spectra.material == chosen.material) & (spectra.site == chosen.site)
    mask = here & (spectra.source == "feff10")
    found = np.flatnonzero(mask)
    if found.size != 1:
        msg = f"expected one FEFF10 spectrum of site {chosen.site} of {chosen.material}, found {found.size}"
        raise TrainingError(msg)
    row = int(found[0])
    return {
        "name": chosen.name,
        "element": spectra.element,
        "formula": str(spectra.formula[row]),
        "material": chosen.material,
        "site": chosen.site,
        "energy_start": float(spectra.energy[0]),
        "energy_step": round(float(spectra.energy[1] - spectra.energy[0]), 6),
        "energy_shift": round(float(shifts[row]), 3),
        "edge_step": chosen.edge_step,
        "background": BACKGROUND,
        "truth": {
            Descriptor.OXIDATION_STATE: float(spectra.valence[row]),
            Descriptor.COORDINATION_NUMBER: float(spectra.coordination_number[row]),
            Descriptor.BOND_LENGTH: float(spectra.bond_length[row]),
        },
        "mu": [round(float(value), 5) for value in spectra.mu[row]],
    }


PROVENANCE = (
    "Cells [angstrom], fractional positions, and labels computed from them; structures and identifiers: "
    "Materials Project, CC BY 4.0"
)


def build_demo_structures(folder: Path) -> dict[str, Any]:
    """Collect the contents of the beamline's `structures.json`."""
    structures = dict(load_structures(folder, {chosen.material for chosen in DEMO_SITES}))
    return {
        "provenance": PROVENANCE,
        "samples": [_structure_entry(folder, structures, chosen) for chosen in DEMO_SITES],
    }


def _structure_entry(folder: Path, structures: dict[str, Structure], chosen: DemoSite) -> dict[str, Any]:
    materials = load_materials(folder, chosen.element)
    here = materials.select(materials.identifier == chosen.material)
    if len(here) != 1 or chosen.material not in structures:
        msg = f"expected a structure of {chosen.material} whose sites of {chosen.element} agree, found none"
        raise TrainingError(msg)
    structure = structures[chosen.material]
    return {
        "name": chosen.name,
        "element": chosen.element,
        "formula": str(here.formula[0]),
        "material": chosen.material,
        "truth": {
            Descriptor.OXIDATION_STATE: float(here.valence[0]),
            Descriptor.COORDINATION_NUMBER: float(here.coordination_number[0]),
            Descriptor.BOND_LENGTH: round(float(here.bond_length[0]), 4),
        },
        "lattice": structure.lattice.round(6).tolist(),
        "species": list(structure.species),
        "positions": structure.fractional.round(6).tolist(),
    }
