"""Whether there is an edge: what rises and stays."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.reduction.edges import CONTRAST, find_edge, fit_step, largest_rise

ENERGY = np.arange(6900.0, 7400.0, 1.5)


def edge(position=7112.0, height=1.0):
    return height * (0.5 + np.arctan((ENERGY - position) / 2.0) / np.pi)


def test_the_step_of_a_straight_line_with_a_step_is_exact():
    step = fit_step(ENERGY, 3.0 - 0.002 * ENERGY + 0.7 * (ENERGY > 7200.0), 7200.0)
    assert step.height == pytest.approx(0.7, abs=1e-9)
    assert step.scatter < 1e-9
    assert step.contrast > 1e6


def test_a_side_with_too_few_points_has_no_step():
    assert fit_step(ENERGY, edge(), ENERGY[0] + 5.0) is None
    assert fit_step(ENERGY, edge(), ENERGY[-1] - 5.0) is None


def test_nothing_over_nothing_is_no_contrast():
    flat = fit_step(ENERGY, np.zeros(ENERGY.size), 7112.0)
    assert flat.contrast == 0.0
    assert not math.isnan(flat.contrast)


@settings(max_examples=40, deadline=None)
@given(
    position=st.floats(6990.0, 7320.0),
    slope=st.floats(-0.004, 0.004),
    scale=st.floats(1e-6, 1e6),
    seed=st.integers(0, 99),
)
def test_an_edge_is_found_on_any_background_and_in_any_unit(position, slope, scale, seed):
    noise = np.random.default_rng(seed).normal(scale=0.02, size=ENERGY.size)
    rise = find_edge(ENERGY, scale * (edge(position) + slope * (ENERGY - 7100.0) + noise))
    assert rise.energy == pytest.approx(position, abs=5.0)
    assert rise.height == pytest.approx(scale, rel=0.12)
    assert rise.contrast > CONTRAST


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), slope=st.floats(-0.01, 0.01))
def test_noise_on_a_slope_has_no_edge(seed, slope):
    mu = np.random.default_rng(seed).normal(size=ENERGY.size) + slope * ENERGY
    with pytest.raises(ReductionError, match=r"no absorption edge: .*expected 5 or more|nothing rises"):
        find_edge(ENERGY, mu)


@pytest.mark.parametrize(
    ("mu", "message"),
    [
        (np.zeros(ENERGY.size), "between 0 and 0; check that the shutter was open"),
        (-edge(), r"falls by 0\.\d+ at 711\d eV.*I0 and It are not exchanged"),
        (5.0 - 0.004 * (ENERGY - 6900.0), "nothing rises and stays"),
        (np.exp(-(ENERGY - 6900.0) / 80.0), "no absorption edge"),
        (1.0 * (np.abs(ENERGY - 7112.0) < 2.0), "no absorption edge"),
    ],
    ids=["constant", "falling", "line", "decay", "glitch"],
)
def test_what_has_no_edge_is_refused_with_what_to_check(mu, message):
    with pytest.raises(ReductionError, match=message):
        find_edge(ENERGY, mu)


def test_a_glitch_is_not_taken_for_the_edge():
    mu = edge()
    mu[np.searchsorted(ENERGY, 7300.0)] += 4.0
    assert find_edge(ENERGY, mu).energy == pytest.approx(7112.0, abs=3.0)


def test_the_larger_of_two_edges_is_found():
    assert largest_rise(ENERGY, edge(7050.0) + edge(7250.0, 0.5)).energy == pytest.approx(7050.0, abs=3.0)


def test_few_points_have_no_edge():
    with pytest.raises(ReductionError, match="no absorption edge: 5 points"):
        find_edge(ENERGY[:5], edge()[:5])
