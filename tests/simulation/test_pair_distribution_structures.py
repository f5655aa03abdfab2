"""Structures from CIF text, by the quick way and by pymatgen."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from bluesky_xpdml.errors import FileFormatError, TrainingError
from bluesky_xpdml.factory.dataset.tables import load_structures
from bluesky_xpdml.simulation.pair_distribution import pair_distribution
from bluesky_xpdml.simulation.structure import read_cif

CELL = """data_test
_cell_length_a 4.2130(2)
_cell_length_b 4.2130
_cell_length_c 4.2130
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
"""
SITES = """loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""
FACES = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))


def periclase(*, occupancy: float = 1.0, metal: str = "Mg", before_sites: str = "") -> str:
    rows = [f"{metal}{n} {metal} {x} {y} {z} {occupancy}" for n, (x, y, z) in enumerate(FACES)]
    rows += [f"O{n} O {x + 0.5} {y + 0.5} {z + 0.5} 1" for n, (x, y, z) in enumerate(FACES)]
    return CELL + before_sites + SITES + "\n".join(rows) + "\n"


WITH_SYMMETRY = (
    CELL
    + "_symmetry_space_group_name_H-M 'F m -3 m'\n_symmetry_Int_Tables_number 225\n"
    + SITES
    + "Mg1 Mg 0 0 0 1\nO1 O 0.5 0.5 0.5 1\n"
)


def test_plain_file_is_read_as_it_stands() -> None:
    structure = read_cif(periclase())
    assert structure.species == ("Mg",) * 4 + ("O",) * 4
    np.testing.assert_allclose(structure.lattice, 4.213 * np.eye(3), atol=1e-12)


def test_charges_are_removed_from_symbols() -> None:
    assert set(read_cif(periclase(metal="Fe2+")).species) == {"Fe", "O"}


def test_symmetry_is_expanded() -> None:
    operations = ("x, y, z", "x, y+1/2, z+1/2", "x+1/2, y, z+1/2", "x+1/2, y+1/2, z")
    full = "".join(["loop_\n_symmetry_equiv_pos_as_xyz\n", *(f"'{each}'\n" for each in operations)])
    text = WITH_SYMMETRY.replace("loop_\n_atom", full + "loop_\n_atom")
    expanded = pair_distribution(read_cif(text), q_max=20.0, u_iso=0.005, r_max=8.0)[1]
    plain = pair_distribution(read_cif(periclase()), q_max=20.0, u_iso=0.005, r_max=8.0)[1]
    np.testing.assert_allclose(expanded, plain, atol=1e-6)


def test_both_readers_agree(shared_data: Path) -> None:
    from pymatgen.core import Structure as PymatgenStructure

    text = (shared_data / "golden" / "cif" / "mp-867664.cif").read_text()
    ours, theirs = read_cif(text), PymatgenStructure.from_str(text, fmt="cif")
    assert ours.species == tuple(site.specie.symbol for site in theirs)
    assert ours.volume == pytest.approx(theirs.volume, rel=1e-9)
    np.testing.assert_allclose(
        np.linalg.norm(ours.fractional @ ours.lattice, axis=1),
        np.linalg.norm(theirs.frac_coords @ theirs.lattice.matrix, axis=1),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected a CIF"),
        ("data_nothing\n", "expected a CIF"),
        ("{}", "expected a CIF"),
        (periclase(occupancy=0.5), "mixed or partial occupancy"),
        (periclase().replace("_cell_angle_gamma 90", "_cell_angle_gamma 0"), "span no volume"),
        (periclase().replace("4.2130(2)", "-1"), "span no volume"),
    ],
)
def test_text_without_a_structure_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(FileFormatError, match=reason):
        read_cif(text)


def test_reads_the_wanted_structures_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"structures\.jsonl\.gz is missing"):
        next(load_structures(tmp_path))
    with gzip.open(tmp_path / "structures.jsonl.gz", "wt") as lines:
        for name in ("a", "b"):
            lines.write(json.dumps({"id": name, "formula": "MgO", "cif": periclase()}) + "\n")
    assert [name for name, _ in load_structures(tmp_path)] == ["a", "b"]
    assert [name for name, _ in load_structures(tmp_path, {"b"})] == ["b"]
