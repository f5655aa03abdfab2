"""Labels agree with what is known of well-known crystals, worked out here from their cell and parameters."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Structure as PymatgenStructure

from bluesky_xpdml.factory.dataset.labels import LabelSettings, SiteLabels, label_sites
from bluesky_xpdml.simulation.structure import Structure


def crystal(group: str, cell: list[float], species: list[str], sites: list[list[float]]) -> Structure:
    """Return a cubic or tetragonal crystal by its space group."""
    a, c = cell
    lattice = np.diag([a, a, c])
    found: Any = PymatgenStructure.from_spacegroup(group, lattice, species, sites)
    return Structure(
        lattice=lattice, fractional=found.frac_coords, species=tuple(site.specie.symbol for site in found)
    )


A_RUTILE, C_RUTILE, U_RUTILE = 4.594, 2.959, 0.305
A_SPINEL, U_SPINEL = 8.106, 0.2640


@pytest.fixture(scope="module")
def rutile() -> Structure:
    sites = [[0, 0, 0], [U_RUTILE, U_RUTILE, 0]]
    return crystal("P4_2/mnm", [A_RUTILE, C_RUTILE], ["Ti", "O"], sites)


@pytest.fixture(scope="module")
def spinel() -> Callable[[str, str], Structure]:
    def make(tetrahedral: str, octahedral: str) -> Structure:
        sites = [[0.125] * 3, [0.5] * 3, [U_SPINEL] * 3]
        return crystal("Fd-3m:2", [A_SPINEL, A_SPINEL], [tetrahedral, octahedral, "O"], sites)

    return make


def only(structure: Structure, element: str, settings: LabelSettings | None = None) -> SiteLabels:
    """Return the labels that all sites of the element share."""
    labelled = label_sites(structure, [element], settings or LabelSettings())
    assert labelled.failed == {}
    assert len(labelled.sites) == structure.species.count(element)
    first = labelled.sites[0]
    for site in labelled.sites:
        assert (site.valence, site.coordination_number, site.geometry) == (
            first.valence,
            first.coordination_number,
            first.geometry,
        )
        assert site.bond_length == pytest.approx(first.bond_length)
    return first


def test_titanium_in_rutile_has_a_stretched_octahedron_of_oxygen(rutile: Structure) -> None:
    four = math.sqrt(2.0 * ((0.5 - U_RUTILE) * A_RUTILE) ** 2 + (C_RUTILE / 2.0) ** 2)
    two = math.sqrt(2.0) * U_RUTILE * A_RUTILE
    distances = [four] * 4 + [two] * 2
    site = only(rutile, "Ti")
    assert (site.valence, site.coordination_number, site.geometry) == (4.0, 6, "O:6")
    assert site.only_oxygen
    assert site.bond_length == pytest.approx(np.mean(distances))
    assert site.nnrs == pytest.approx(np.std(distances))
    assert site.ocn == 3.0  # each oxygen of rutile has three titanium neighbours
    assert site.mood == pytest.approx(math.sqrt(2.0) * (1.0 - 2.0 * U_RUTILE) * A_RUTILE)  # the shared edge
    assert 0.1 < site.csm < 3.0


def test_cobalt_in_a_normal_spinel_sits_in_a_perfect_tetrahedron(
    spinel: Callable[[str, str], Structure],
) -> None:
    site = only(spinel("Co", "Al"), "Co")
    length = math.sqrt(3.0) * (U_SPINEL - 0.125) * A_SPINEL
    assert (site.valence, site.coordination_number, site.geometry) == (2.0, 4, "T:4")
    assert site.bond_length == pytest.approx(length)
    assert site.nnrs == pytest.approx(0.0, abs=1e-9)
    assert site.csm == pytest.approx(0.0, abs=1e-6)
    assert site.mood == pytest.approx(length * math.sqrt(8.0 / 3.0))
    assert site.ocn == 4.0


def test_iron_on_the_other_site_of_the_spinel_is_trivalent_and_octahedral(
    spinel: Callable[[str, str], Structure],
) -> None:
    site = only(spinel("Zn", "Fe"), "Fe")
    length = A_SPINEL * math.sqrt((0.5 - U_SPINEL) ** 2 + 2.0 * (U_SPINEL - 0.25) ** 2)
    assert (site.valence, site.coordination_number, site.geometry) == (3.0, 6, "O:6")
    assert site.bond_length == pytest.approx(length)
    assert site.ocn == 4.0


def test_a_bond_counts_where_either_end_sees_it() -> None:
    sites = [[0.5, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0]]
    perovskite = crystal("Pm-3m", [3.905, 3.905], ["Sr", "Ti", "O"], sites)
    site = only(perovskite, "Ti")
    assert (site.valence, site.coordination_number, site.geometry) == (4.0, 6, "O:6")
    assert site.bond_length == pytest.approx(3.905 / 2.0)
    assert site.ocn == 6.0  # two titanium and four strontium, which are too far for the oxygen to count


def test_copper_in_cuprite_is_linear_and_monovalent() -> None:
    cuprite = crystal("Pn-3m", [4.27, 4.27], ["O", "Cu"], [[0, 0, 0], [0.25, 0.25, 0.25]])
    site = only(cuprite, "Cu")
    assert (site.valence, site.coordination_number, site.geometry) == (1.0, 2, "L:2")
    assert site.bond_length == pytest.approx(4.27 * math.sqrt(3.0) / 4.0)
    assert site.mood == pytest.approx(2.0 * site.bond_length)


def test_sulphur_neighbours_have_no_distance_of_oxygens() -> None:
    sulphide = crystal("F-43m", [5.41, 5.41], ["Fe", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]])
    site = only(sulphide, "Fe")
    assert not site.only_oxygen
    assert math.isnan(site.mood)
    assert (site.valence, site.geometry) == (2.0, "T:4")


def test_a_metal_has_neighbours_but_no_valence_and_no_polyhedron_beyond_the_limit() -> None:
    copper = crystal("Fm-3m", [3.615, 3.615], ["Cu"], [[0, 0, 0]])
    site = only(copper, "Cu")
    assert math.isnan(site.valence)
    assert site.valence_reason == "no neutral assignment"
    assert site.coordination_number == 12
    assert (site.geometry, site.geometry_reason) == ("", "not compared with 12 corners")
    assert math.isnan(site.csm)


def test_a_search_for_valences_that_was_cut_short_gives_none(
    spinel: Callable[[str, str], Structure],
) -> None:
    magnetite = spinel("Fe", "Fe")
    labels = label_sites(magnetite, ["Fe"], LabelSettings(valence_permutations=1))
    assert {site.valence_reason for site in labels.sites} == {"search not finished"}
    assert all(math.isnan(site.valence) for site in labels.sites)
    assert sorted({site.coordination_number for site in labels.sites}) == [4, 6]


def test_labels_do_not_depend_on_the_order_of_the_sites(rutile: Structure) -> None:
    order = [5, 1, 3, 0, 4, 2]
    turned = Structure(
        lattice=rutile.lattice,
        fractional=rutile.fractional[order],
        species=tuple(rutile.species[site] for site in order),
    )
    first, second = only(rutile, "Ti"), only(turned, "Ti")
    for name in ("valence", "bond_length", "nnrs", "ocn", "mood", "csm"):
        assert getattr(first, name) == pytest.approx(getattr(second, name), abs=1e-9)
