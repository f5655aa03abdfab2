"""The element of a scan that does not name it."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import xraydb
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, Verdict
from bluesky_xpdml.reduction.edges import EDGE_ENERGIES, edges_near, name_edge
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes
from bluesky_xpdml.vocabulary import ReasonCode


def scan(position, **names):
    energy = np.arange(position - 150.0, position + 250.0)
    return AbsorptionScan(energy=energy, mu=np.arctan((energy - position) / 2.0), **names)


def test_the_table_is_that_of_the_literature():
    for (element, edge), energy in EDGE_ENERGIES.items():
        assert energy == pytest.approx(xraydb.xray_edge(element, edge).energy, abs=1.0), (element, edge)


@pytest.mark.parametrize(
    ("position", "element", "edge"),
    [
        (4970.0, "Ti", "K"),
        (7124.0, "Fe", "K"),
        (8992.0, "Cu", "K"),
        (5725.0, "Ce", "L3"),
        (11566.0, "Pt", "L3"),
    ],
)
def test_the_element_is_found_and_reported(position, element, edge):
    xanes = reduce_xanes(scan(position))
    assert (xanes.element, xanes.edge) == (element, edge)
    distance = xanes.e0 - EDGE_ENERGIES[element, edge]
    said = f"element found from the edge: {element} {edge}, {distance:.1f} eV above the tabulated edge"
    assert any(reason.startswith(said) for reason in xanes.quality.reasons)
    assert xanes.quality.verdict is Verdict.GOOD


@settings(max_examples=50, deadline=None)
@given(e0=st.floats(1000.0, 120_000.0))
def test_every_edge_within_reach_is_named(e0):
    reach = {names for names, energy in EDGE_ENERGIES.items() if -12.0 <= e0 - energy <= 25.0}
    named, said = name_edge(scan(e0), e0=e0)
    assert bool(named.element) == bool(reach)
    assert all(f"{element} {edge}" in " ".join(said) for element, edge in reach)
    if any(edge == "K" for _, edge in reach):
        assert named.edge == "K"


def test_both_candidates_are_named_if_two_edges_are_near():
    named, said = name_edge(scan(8351.0))
    assert (named.element, named.edge) == ("Ni", "K")
    assert said[1].code is ReasonCode.ELEMENT_AMBIGUOUS
    assert "may be Ni K or Er L3" in said[1]


def test_k_comes_before_l():
    assert [near.edge for near in edges_near(5990.0)] == ["K", "L1"]
    assert edges_near(5990.0, element="Ba")[0].edge == "L1"


def test_only_the_edge_is_searched_if_the_element_is_known():
    named, said = name_edge(scan(5730.0, element="Cs"))
    assert (named.element, named.edge) == ("Cs", "L1")
    assert said[0].startswith("edge found from its energy: Cs L1, 1")


def test_an_element_without_an_edge_there_is_refused():
    with pytest.raises(ReductionError, match=r"edge at 712\d eV, where Co has none \(K 7709 eV\)"):
        name_edge(scan(7124.0, element="Co"))


def test_an_edge_of_no_element_is_suspect():
    position = next(value for value in np.arange(21000.0, 30000.0, 10.0) if not edges_near(value))
    xanes = reduce_xanes(scan(position))
    assert xanes.element == ""
    assert xanes.quality.verdict is Verdict.SUSPECT
    assert "no tabulated K or L edge lies within -25 to +12 eV" in xanes.quality.reasons[0]


def test_names_that_a_scan_gives_are_left_alone():
    given_names = scan(7124.0, element="Fe", edge="K")
    assert name_edge(given_names) == (given_names, ())


def test_a_stated_e0_names_the_edge():
    xanes = reduce_xanes(scan(7124.0), XanesSettings(e0=7120.0))
    assert (xanes.element, xanes.e0) == ("Fe", 7120.0)


def test_a_dead_transmission_gives_way_to_fluorescence():
    spectrum = scan(7124.0)
    counted = AbsorptionScan(
        energy=spectrum.energy,
        i0=np.full(spectrum.energy.size, 1e5),
        it=1e4 + np.random.default_rng(0).normal(scale=100.0, size=spectrum.energy.size),
        fluorescence=1e3 * (2.0 + spectrum.mu),
    )
    xanes = reduce_xanes(counted)
    assert (xanes.element, xanes.mode.value) == ("Fe", "fluorescence")


def test_the_elements_of_measured_spectra_are_found_from_their_edges(labelled_scans):
    outcome: Counter[str] = Counter()
    for row, measured in labelled_scans:
        try:
            named, _ = name_edge(replace(measured, element="", edge=""))
        except ReductionError:
            outcome["no edge"] += 1
            continue
        outcome["right" if (named.element, named.edge) == (row["element"], row["edge"]) else "wrong"] += 1
    # One file ends 3 eV below its edge.
    assert outcome["no edge"] <= 1
    assert outcome["wrong"] == 0
    assert outcome["right"] >= len(labelled_scans) - 1
