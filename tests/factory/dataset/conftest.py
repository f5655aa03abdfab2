"""Inputs of a small data set with everything that can go well or wrong with its entries."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Structure as PymatgenStructure

XMU_HEADER = """# Abs   Z={z} Rmt= 1.092 Rnm= 1.298 K  shell
# xsedge+ 50, used to normalize mu           4.6001E-03
#  omega    e    k    mu    mu0     chi     @#
"""


def edge(energy: np.ndarray, position: float) -> np.ndarray:
    """Return a step of height one with a white line."""
    return (
        0.5
        + np.arctan((energy - position) / 1.5) / np.pi
        + 0.3 * np.exp(-(((energy - position - 3) / 3) ** 2))
    )


def write_xmu(path: Path, position: float, *, z: int = 22, scale: float = 1.0) -> None:
    """Write a spectrum on an uneven axis, as FEFF does."""
    energy = np.concatenate([np.arange(4960.0, 4990.0, 0.4), np.arange(4990.0, 5006.0, 1.1)])
    mu = scale * edge(energy, position)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{e:.3f} {e - position:.3f} 0.0 {m:.6E} 1.0 0.0" for e, m in zip(energy, mu, strict=True)]
    path.write_text(XMU_HEADER.format(z=z) + "\n".join(rows) + "\n")


def rutile(metal: str = "Ti") -> Any:
    """Return rutile."""
    sites = [[0, 0, 0], [0.305, 0.305, 0]]
    return PymatgenStructure.from_spacegroup("P4_2/mnm", np.diag([4.594, 4.594, 2.959]), [metal, "O"], sites)


def brookite_like() -> Any:
    """Return a cell with two kinds of titanium: rutile with one atom moved."""
    moved = rutile()
    moved.translate_sites([1], [0.0, 0.0, 0.06])
    return moved


def write_inputs(folder: Path) -> tuple[Path, Path]:
    """Write structures and spectra, and return their folders."""
    structures, spectra = folder / "structures", folder / "spectra"
    structures.mkdir()
    (structures / "rutile.cif").write_text(rutile().to(fmt="cif"))
    (structures / "moved.json").write_text(json.dumps(brookite_like().as_dict()))
    (structures / "more.json").write_text(
        json.dumps({"rutile": rutile().as_dict(), "stannic": rutile("Sn").as_dict()})
    )
    mixed = rutile()
    mixed[0] = {"Ti": 0.5, "Sn": 0.5}
    (structures / "others.jsonl").write_text(
        "\n".join(
            json.dumps(entry) for entry in ({"id": "mixed", "structure": mixed.as_dict()}, {"id": "empty"})
        )
    )
    (structures / "torn.cif").write_text("data_torn\n_cell_length_a 3.0\n")
    write_xmu(spectra / "rutile" / "0" / "xmu.dat", 4980.0)
    write_xmu(spectra / "rutile" / "3" / "xmu.dat", 4981.0)  # an oxygen
    write_xmu(spectra / "moved" / "1" / "xmu.dat", 4979.0)
    write_xmu(spectra / "moved" / "0" / "xmu.dat", 4979.0, scale=4.6e-3)
    write_xmu(spectra / "unknown" / "0" / "xmu.dat", 4979.0)
    energy = np.arange(4960.0, 5010.0, 0.5)
    document = {
        "absorbing_element": "Ti",
        "edge": "K",
        "spectrum_type": "XANES",
        "spectrum": {"x": energy.tolist(), "y": edge(energy, 4980.5).tolist()},
    }
    (spectra / "documents.json").write_text(
        json.dumps(
            [
                {"material_id": "rutile", **document},
                {"material_id": "moved", **document},
                {"material_id": "rutile", **document, "edge": "L3"},
                {"material_id": "rutile", **document, "absorbing_element": "Fe"},
            ]
        )
    )
    return structures, spectra


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the folders of structures and of spectra."""
    return write_inputs(tmp_path_factory.mktemp("inputs"))
