"""Regions follow the curve: wherever edge and first shell are, the names move along."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.models.explain import BELOW_EDGE, Bounds, pdf_bounds, xanes_bounds
from bluesky_xpdml.records import AbsorptionScan, PairDistribution, Xanes
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes

X = np.arange(-150.0, 300.0, 0.5)
R = np.arange(1.0, 12.0, 0.02)


def iron(edge: float, *, white_line: float = 0.8) -> Xanes:
    """Return a spectrum with its edge there [eV above the foil], and a white line 6 eV above it."""
    mu = 0.5 + np.arctan((X - edge) / 0.6) / np.pi + white_line * np.exp(-(((X - edge - 6.0) / 2.5) ** 2))
    scan = AbsorptionScan(energy=FOIL_ENERGIES["Fe"] + X, mu=mu, element="Fe", edge="K")
    return reduce_xanes(scan, XanesSettings(energy_offset=0.0))


def test_edge_and_white_line_are_located() -> None:
    start, pre, edge, white, end = xanes_bounds(iron(13.0)).ends
    assert (start, end) == (0.0, 35.0)
    position = pre + BELOW_EDGE
    assert position == pytest.approx(13.0, abs=1.5)
    # The white line reaches as far beyond its maximum at 19 eV as it begins before it.
    assert 0.5 * (edge + white) == pytest.approx(19.0, abs=0.2)
    assert edge - position == pytest.approx(white - 19.0, abs=0.2)


@settings(max_examples=15, deadline=None)
@given(edge=st.floats(9.0, 20.0), white_line=st.floats(0.3, 2.0))
def test_regions_move_with_the_edge(edge: float, white_line: float) -> None:
    here = np.array(xanes_bounds(iron(edge, white_line=white_line)).ends)
    there = np.array(xanes_bounds(iron(edge + 1.0, white_line=white_line)).ends)
    assert np.all(np.diff(here) >= 0.0)
    assert there[1:4] - here[1:4] == pytest.approx(np.ones(3), abs=0.35)


def test_a_spectrum_without_a_white_line_has_regions_in_order() -> None:
    assert np.all(np.diff(xanes_bounds(iron(13.0, white_line=0.0)).ends) >= 0.0)


def test_a_late_edge_leaves_no_post_edge_in_the_window() -> None:
    bounds = xanes_bounds(iron(27.0))
    assert bounds.ends[-1] >= 35.0
    assert set(bounds.members(np.arange(36.0))) == {0, 1, 2}


@settings(max_examples=25, deadline=None)
@given(
    nearest=st.floats(1.75, 2.35),
    scale=st.floats(0.01, 100.0),
    width=st.floats(0.06, 0.12),
    dip=st.floats(0, 1),
)
def test_shells_follow_the_nearest_distance(nearest: float, scale: float, width: float, dip: float) -> None:
    g = np.exp(-(((R - nearest) / width) ** 2)) + np.exp(-(((R - 1.5 * nearest) / width) ** 2)) - 0.2 * dip
    bounds = pdf_bounds(PairDistribution(r=R, g=scale * g))
    start, first, second, end = bounds.ends
    assert (start, end) == (1.5, 10.0)
    assert nearest < first < 1.5 * nearest
    assert second == pytest.approx(2.0 * nearest, abs=0.03)
    assert bounds.members(np.array([nearest, 1.5 * nearest, 2.5 * nearest])).tolist() == [0, 1, 2]


def test_positions_beyond_the_ends_count_for_the_outermost() -> None:
    bounds = Bounds(names=("a", "b"), ends=(0.0, 1.0, 2.0))
    assert bounds.members(np.array([-9.0, 0.99, 1.0, 9.0])).tolist() == [0, 0, 1, 1]
