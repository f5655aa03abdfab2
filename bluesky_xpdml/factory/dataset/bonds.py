"""Who is bonded to whom in a crystal.

CrystalNN looks from one site at a time, and two sites need not agree: strontium in a perovskite counts twelve
oxygens, none of which counts it. Here a bond is there where either of its ends counts the other, so that
coordination numbers of metals and of their neighbours are of one kind.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bluesky_xpdml.records import FloatArray

FAILURES = (ValueError, KeyError, IndexError, TypeError, RuntimeError)
"""What pymatgen raises where an algorithm finds no answer."""

Bond = tuple[int, tuple[int, int, int]]
"""Index of the neighbour, and the cell that it stands in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """The neighbours of a site."""

    sites: tuple[int, ...]
    """Their indices in the structure, (n,)."""
    positions: FloatArray
    """Where they are [angstrom], (n, 3)."""

    def __len__(self) -> int:
        return len(self.sites)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bonds:
    """The neighbours of all sites."""

    shells: tuple[Shell, ...]
    """By site."""
    failed: dict[int, str]
    """Sites from which CrystalNN could not look, with the name of its error."""


def find_bonds(crystal: Any) -> Bonds:
    """Find the bonds of a crystal by CrystalNN.

    Parameters
    ----------
    crystal
        Structure of pymatgen.
    """
    from pymatgen.analysis.local_env import CrystalNN

    finder = CrystalNN()
    bonds: list[set[Bond]] = [set() for _ in crystal]
    failed: dict[int, str] = {}
    for site in range(len(crystal)):
        try:
            neighbours = finder.get_nn_info(crystal, site)
        except FAILURES as error:
            failed[site] = type(error).__name__
            continue
        for neighbour in neighbours:
            x, y, z = (int(shift) for shift in neighbour["image"])
            bonds[site].add((int(neighbour["site_index"]), (x, y, z)))
            bonds[int(neighbour["site_index"])].add((site, (-x, -y, -z)))
    fractional = np.array(crystal.frac_coords, dtype=float)
    return Bonds(
        shells=tuple(_shell(sorted(found), fractional, crystal.lattice.matrix) for found in bonds),
        failed=failed,
    )


def _shell(bonds: list[Bond], fractional: FloatArray, lattice: FloatArray) -> Shell:
    positions = [(fractional[site] + np.array(image)) @ lattice for site, image in bonds]
    return Shell(
        sites=tuple(site for site, _ in bonds), positions=np.array(positions, dtype=float).reshape(-1, 3)
    )
