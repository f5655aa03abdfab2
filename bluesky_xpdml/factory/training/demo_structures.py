"""Structures that stand on the simulated total-scattering beamline's sample wheel.

They are the compounds of `demo_samples`, so that one sample can be measured in both ways; their formulas are
held out of training. All sites of the metal agree in valence and coordination number.
"""

from pathlib import Path
from typing import Any

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.training.demo_samples import DEMO_SITES, DemoSite
from bluesky_xpdml.factory.training.pdf_data import load_materials
from bluesky_xpdml.simulation.structure import Structure, load_structures

PROVENANCE = (
    "Cells [angstrom], fractional positions, and labels computed from them; structures and identifiers: "
    "Materials Project, CC BY 4.0"
)


def build_demo_structures(folder: Path) -> dict[str, Any]:
    """Collect the contents of the beamline's `structures.json`.

    Parameters
    ----------
    folder
        Holds `structures.jsonl.gz` and `sites.csv.gz`.

    Raises
    ------
    TrainingError
        If a material has no structure, or its sites of the metal disagree.
    """
    structures = dict(load_structures(folder, {chosen.material for chosen in DEMO_SITES}))
    return {
        "provenance": PROVENANCE,
        "samples": [_entry(folder, structures, chosen) for chosen in DEMO_SITES],
    }


def _entry(folder: Path, structures: dict[str, Structure], chosen: DemoSite) -> dict[str, Any]:
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
            "oxidation_state": float(here.valence[0]),
            "coordination_number": float(here.coordination_number[0]),
            "bond_length": round(float(here.bond_length[0]), 4),
        },
        "lattice": structure.lattice.round(6).tolist(),
        "species": list(structure.species),
        "positions": structure.fractional.round(6).tolist(),
    }
