"""Crystal structures as plain arrays, from CIF text.

Files in the P1 setting with full occupancy, as databases write them, are read here; everything else
(symmetry, disorder, unusual quoting) goes through pymatgen, which is loaded for it.
"""

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from bluesky_xpdml.errors import FileFormatError, needs_extra
from bluesky_xpdml.records import FloatArray

CELL_KEYS = (
    "_cell_length_a",
    "_cell_length_b",
    "_cell_length_c",
    "_cell_angle_alpha",
    "_cell_angle_beta",
    "_cell_angle_gamma",
)
FRACTIONS = ("_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z")
SYMBOL = "_atom_site_type_symbol"
OCCUPANCY = "_atom_site_occupancy"
IDENTITY = "x,y,z"
ELEMENT = re.compile(r"([A-Z][a-z]?)(\d*[+-]?)")
Loop: TypeAlias = tuple[list[str], list[list[str]]]
"""Header and rows of a loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """An ordered crystal: a cell and the atoms in it."""

    lattice: FloatArray
    """Cell vectors as rows [angstrom], (3, 3)."""
    fractional: FloatArray
    """Positions in units of the cell vectors, (n, 3)."""
    species: tuple[str, ...]
    """Chemical symbol of each atom, (n,)."""

    @property
    def volume(self) -> float:
        """Volume of the cell [angstrom^3]."""
        return float(abs(np.linalg.det(self.lattice)))


def read_cif(text: str) -> Structure:
    """Read the first structure of the text of a CIF; a `FileFormatError` if it holds no ordered one."""
    plain = _read_plain(text)
    return plain if plain is not None else _read_with_pymatgen(text)


def lattice_vectors(lengths: FloatArray, angles: FloatArray) -> FloatArray:
    """Return the cell vectors as rows [angstrom], a along x, b in the xy plane; the angles are in degrees."""
    a, b, c = lengths
    cos_alpha, cos_beta, cos_gamma = np.cos(np.radians(angles))
    sin_gamma = float(np.sin(np.radians(angles[2])))
    height_x = cos_beta
    height_y = (cos_alpha - cos_beta * cos_gamma) / sin_gamma if sin_gamma else np.nan
    height = 1.0 - height_x**2 - height_y**2
    if not (height > 0.0 and min(lengths) > 0.0):
        msg = f"cell lengths {list(lengths)} and angles {list(angles)} span no volume: check the CIF"
        raise FileFormatError(msg)
    return np.array(
        [
            [a, 0.0, 0.0],
            [b * cos_gamma, b * sin_gamma, 0.0],
            [c * height_x, c * height_y, c * np.sqrt(height)],
        ]
    )


def _read_plain(text: str) -> Structure | None:
    """Read a P1 CIF with fully occupied sites and without quoted columns; None if it is anything else."""
    values, loops = _tables(text)
    sites = next((loop for loop in loops if FRACTIONS[0] in loop[0]), None)
    if sites is None or not _is_p1(loops):
        return None
    columns = _columns(sites)
    try:
        cell = np.array([_number(values[key]) for key in CELL_KEYS])
        fractional = np.array([_numbers(columns[name]) for name in FRACTIONS]).T
        occupancy = _numbers(columns.get(OCCUPANCY, ()))
        species = tuple(_element(symbol) for symbol in columns[SYMBOL])
    except (KeyError, ValueError):
        return None
    if not np.all(occupancy == 1.0):
        return None
    return Structure(lattice=lattice_vectors(cell[:3], cell[3:]), fractional=fractional, species=species)


def _columns(loop: Loop) -> dict[str, list[str]]:
    """Return the columns of a loop by name; none if its rows are not all complete."""
    header, rows = loop
    if not rows or any(len(row) != len(header) for row in rows):
        return {}
    return {name: [row[place] for row in rows] for place, name in enumerate(header)}


def _element(symbol: str) -> str:
    found = ELEMENT.fullmatch(symbol)
    if found is None:
        raise ValueError(symbol)
    return found[1]


def _is_p1(loops: list[Loop]) -> bool:
    """Return whether identity is the only symmetry operation that is listed."""
    operations = [
        "".join(row).strip("'\"").lstrip("0123456789").strip("'\"").replace(" ", "")
        for header, rows in loops
        if any("symop" in name or "symmetry_equiv" in name for name in header)
        for row in rows
    ]
    return all(operation.lower() == IDENTITY for operation in operations)


def _tables(text: str) -> tuple[dict[str, str], list[Loop]]:
    """Split a CIF into single values and loops of white-space separated columns."""
    values: dict[str, str] = {}
    loops: list[Loop] = []
    in_loop = False
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith(("#", "data_")):
            in_loop = in_loop and bool(line)
        elif line.lower() == "loop_":
            loops.append(([], []))
            in_loop = True
        elif not line.startswith("_"):
            if in_loop:
                loops[-1][1].append(line.split())
        elif in_loop and not loops[-1][1]:
            loops[-1][0].append(line.split()[0])
        else:
            in_loop = False
            name, _, value = line.partition(" ")
            values[name] = value.strip()
    return values, loops


def _number(text: str) -> float:
    """Return a number without the uncertainty in brackets behind it."""
    return float(text.partition("(")[0])


def _numbers(texts: Iterable[str]) -> FloatArray:
    return np.array([_number(text) for text in texts])


def _read_with_pymatgen(text: str) -> Structure:
    with needs_extra("train"):
        from pymatgen.core import Structure as PymatgenStructure

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = PymatgenStructure.from_str(text, fmt="cif")
    except (ValueError, KeyError, IndexError, AssertionError) as error:
        msg = f"the text holds no structure that can be read ({error}): expected a CIF"
        raise FileFormatError(msg) from error
    return from_pymatgen(found)


def from_pymatgen(found: Any) -> Structure:
    """Return the structure of pymatgen's, its sites in the same order; a `FileFormatError` if disordered."""
    if not found.is_ordered:
        msg = f"{found.composition.reduced_formula} has sites of mixed or partial occupancy: order it first"
        raise FileFormatError(msg)
    return Structure(
        lattice=np.array(found.lattice.matrix, dtype=float),
        fractional=np.array(found.frac_coords, dtype=float),
        species=tuple(site.specie.symbol for site in found),
    )
