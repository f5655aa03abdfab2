"""Labels of a site in a known structure, by pymatgen.

============================  =====================================================================
valence                       BVAnalyzer: bond valence sums, the likeliest neutral assignment
coordination number           number of bonds (CrystalNN, from either end)
bond length, spread (NNRS)    mean and standard deviation of the distances to them
coordination of neighbours    (OCN) mean of the coordination numbers of the neighbours
smallest O-O distance         (MOOD) over the oxygens among the neighbours
geometry                      ChemEnv: the ideal polyhedron of least continuous symmetry measure among
                              those with as many corners as there are neighbours
============================  =====================================================================
"""

import itertools
import time
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.simulation.structure import Structure

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


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSettings:
    """How sites are labelled; the defaults are those of pymatgen."""

    valence_permutations: int = 100_000
    """Assignments that BVAnalyzer tries; where they do not suffice, the valence is unknown."""
    symmetry_tolerance: float = 0.1
    """Sites that a symmetry operation maps on each other within this share a valence [angstrom]."""
    distance_scale: float = 1.015
    """Relaxed structures are this much too large for measured bond valences."""
    most_corners: int = 8
    """No polyhedra are compared beyond this: nine corners take over a second a site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLabels:
    """What is known about one site."""

    site: int
    """Index in the structure."""
    element: str
    valence: float
    """Formal valence, NaN where unknown."""
    valence_reason: str
    """Why it is unknown, empty where it is known."""
    coordination_number: int
    bond_length: float
    """Mean distance of the neighbours [angstrom]."""
    nnrs: float
    """Standard deviation of the distances [angstrom]."""
    ocn: float
    """Mean coordination number of the neighbours."""
    mood: float
    """Smallest distance of two oxygens among the neighbours [angstrom], NaN with fewer than two."""
    only_oxygen: bool
    geometry: str
    """ChemEnv symbol such as O:6, empty where unknown."""
    csm: float
    """Continuous symmetry measure, 0 for the ideal polyhedron, at most 100, NaN where unknown."""
    geometry_reason: str
    """Why it is unknown, empty where it is known."""


@dataclass(slots=True, kw_only=True)
class LabelledStructure:
    """Labels of the sites of a structure, and which sites could not be labelled."""

    sites: list[SiteLabels] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    """Reason by index of the site."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time by label [s]."""

    @contextmanager
    def clock(self, what: str) -> Iterator[None]:
        """Add the time of the block."""
        start = time.perf_counter()
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start


def label_sites(
    structure: Structure, elements: Collection[str], settings: LabelSettings
) -> LabelledStructure:
    """Label the sites of some elements."""
    result = LabelledStructure()
    wanted = [site for site, species in enumerate(structure.species) if species in elements]
    crystal = as_pymatgen(structure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with result.clock("valence"):
            valences, valence_reason = _valences(crystal, settings)
        with result.clock("bonds"):
            bonds = find_bonds(crystal)
        for site in wanted:
            reason = _unusable(site, bonds)
            if reason:
                result.failed[site] = reason
                continue
            shell = bonds.shells[site]
            with result.clock("geometry"):
                geometry, csm, geometry_reason = _geometry(crystal, site, shell, settings)
            result.sites.append(
                SiteLabels(
                    site=site,
                    element=structure.species[site],
                    valence=float(valences[site]) if valences else np.nan,
                    valence_reason=valence_reason,
                    coordination_number=len(shell),
                    ocn=float(np.mean([len(bonds.shells[neighbour]) for neighbour in shell.sites])),
                    geometry=geometry,
                    csm=csm,
                    geometry_reason=geometry_reason,
                    **_distances(structure, site, shell),
                )
            )
    return result


def _unusable(site: int, bonds: Bonds) -> str:
    """Return why a site cannot be labelled, empty where it can."""
    if site in bonds.failed:
        return f"no shell: {bonds.failed[site]}"
    if not bonds.shells[site].sites:
        return "no neighbours"
    if any(neighbour in bonds.failed for neighbour in bonds.shells[site].sites):
        return "no shell of a neighbour"
    return ""


def as_pymatgen(structure: Structure) -> Any:
    """Return the structure as pymatgen's, sites in the same order."""
    from pymatgen.core import Structure as PymatgenStructure

    return PymatgenStructure(structure.lattice, list(structure.species), structure.fractional)


def _valences(crystal: Any, settings: LabelSettings) -> tuple[list[int], str]:
    """Return the valence of every site, or none and why."""
    from pymatgen.analysis.bond_valence import BVAnalyzer

    analyser = BVAnalyzer(
        symm_tol=settings.symmetry_tolerance,
        max_permutations=settings.valence_permutations,
        distance_scale_factor=settings.distance_scale,
    )
    found: list[int] = []
    reason = ""
    try:
        found = [int(valence) for valence in analyser.get_valences(crystal)]
    except ValueError as error:
        reason = "no parameters" if "BV parameters" in str(error) else "no neutral assignment"
    except FAILURES as error:
        reason = type(error).__name__
    # The analyser does not say that it gave up, with the best so far or none: its counter does.
    if vars(analyser).get("_n", 0) > settings.valence_permutations:
        return [], "search not finished"
    return found, reason


def _distances(structure: Structure, site: int, shell: Shell) -> dict[str, Any]:
    """Return the labels that follow from the positions of the neighbours."""
    centre = structure.fractional[site] @ structure.lattice
    distances = np.linalg.norm(shell.positions - centre, axis=1)
    oxygens = [
        position
        for position, neighbour in zip(shell.positions, shell.sites, strict=True)
        if structure.species[neighbour] == "O"
    ]
    apart = [float(np.linalg.norm(first - second)) for first, second in itertools.combinations(oxygens, 2)]
    return {
        "bond_length": float(distances.mean()),
        "nnrs": float(distances.std()),
        "mood": min(apart, default=np.nan),
        "only_oxygen": len(oxygens) == len(shell),
    }


@cache
def _geometry_finder() -> Any:
    from pymatgen.analysis.chemenv.coordination_environments import coordination_geometry_finder

    return coordination_geometry_finder.LocalGeometryFinder()


def _geometry(crystal: Any, site: int, shell: Shell, settings: LabelSettings) -> tuple[str, float, str]:
    """Return symbol and measure of the nearest ideal polyhedron, or why there is none."""
    if not 2 <= len(shell) <= settings.most_corners:
        return "", np.nan, f"not compared with {len(shell)} corners"
    finder = _geometry_finder()
    finder.setup_structure(crystal)
    try:
        finder.setup_local_geometry(site, coords=list(shell.positions))
        measures = finder.get_coordination_symmetry_measures(only_minimum=True, all_csms=False)
    except FAILURES as error:
        return "", np.nan, type(error).__name__
    if not measures:
        return "", np.nan, "no polyhedron"
    csm, symbol = min((float(found["csm"]), name) for name, found in measures.items())
    return symbol, csm, ""


def find_bonds(crystal: Any) -> Bonds:
    """Find the bonds of a crystal by CrystalNN."""
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
