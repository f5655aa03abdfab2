"""Continuous scans on the grid of step scans."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan
from bluesky_xpdml.reduction.cleaning import DEFAULT_GRID, Grid, bin_borders, rebin
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes

E0 = 7112.0
GIVEN = XanesSettings(energy_offset=0.0)


@given(
    st.floats(6500.0, 7050.0),
    st.floats(7120.0, 8200.0),
    st.integers(5, 3000),
    st.integers(0, 2**16),
    st.sampled_from([DEFAULT_GRID, Grid(pre_edge=10.0, edge=0.5, k=0.1)]),
)
@settings(max_examples=60, deadline=None)
def test_every_point_counts_once_and_lines_stay_lines(first, last, n, seed, grid):
    rng = np.random.default_rng(seed)
    energy = np.unique(rng.uniform(first, last, n))
    if energy.size < 5:
        return
    mu = rng.normal(size=energy.size)
    binned = rebin(energy, mu, e0=E0, grid=grid)
    assert binned.counts.sum() == energy.size
    assert np.all(np.diff(binned.energy) > 0.0)
    assert (binned.counts * binned.mu).sum() == pytest.approx(mu.sum(), abs=1e-9 * n)
    line = rebin(energy, 3.0 - 2e-3 * energy, e0=E0, grid=grid)
    assert line.mu == pytest.approx(3.0 - 2e-3 * line.energy, abs=1e-9)
    assert np.all(binned.variance >= 0.0)


def test_the_steps_are_those_of_the_grid():
    borders = bin_borders(6900.0, 7900.0, E0, DEFAULT_GRID)
    steps, x = np.diff(borders), borders[:-1] - E0
    assert borders[0] <= 6900.0 < borders[1]
    assert borders[-2] <= 7900.0 < borders[-1]
    assert steps[x < -20.0] == pytest.approx(5.0)
    assert steps[(x >= -20.0) & (x < 30.0)] == pytest.approx(0.25)
    k = np.sqrt(0.2624682917 * (borders[borders > E0 + 31.0] - E0))
    assert np.diff(k) == pytest.approx(0.05, rel=1e-6)


def test_the_variance_is_that_of_the_mean():
    rng = np.random.default_rng(1)
    energy = np.linspace(6900.0, 7400.0, 100_000)
    clean = 0.5 + np.arctan((energy - E0) / 2.0) / np.pi
    binned = rebin(energy, clean + rng.normal(scale=0.02, size=energy.size), e0=E0, grid=DEFAULT_GRID)
    truth = rebin(energy, clean, e0=E0, grid=DEFAULT_GRID)
    pull = (binned.mu - truth.mu) / np.sqrt(binned.variance)
    assert np.std(pull) == pytest.approx(1.0, abs=0.15)


def test_a_continuous_scan_is_reduced_like_the_step_scan_it_hides():
    energy = np.linspace(6900.0, 7600.0, 100_000)
    mu = 0.3 + 0.7 * (0.5 + np.arctan((energy - 7124.0) / 2.0) / np.pi)
    noise = np.random.default_rng(2).normal(scale=0.01, size=energy.size)
    continuous = AbsorptionScan(energy=energy, mu=mu + noise, element="Fe", edge="K")
    xanes = reduce_xanes(continuous, GIVEN)
    assert xanes.energy.size < 600
    assert xanes.edge_step == pytest.approx(0.68, abs=0.02)
    assert xanes.e0 == pytest.approx(7124.0, abs=0.5)
    assert xanes.settings["points_averaged"] == 100_000
    assert "100000 points were averaged" in " ".join(xanes.quality.reasons)
    assert xanes.mu_variance is not None
    assert xanes.mu_variance.shape == xanes.mu.shape
    assert reduce_xanes(continuous, XanesSettings(energy_offset=0.0, rebin="none")).energy.size == 100_000


def test_a_step_scan_keeps_its_points():
    energy = np.concatenate([np.arange(6950.0, 7090.0, 5.0), np.arange(7090.0, 7500.0, 0.5)])
    scan = AbsorptionScan(energy=energy, mu=np.arctan((energy - 7124.0) / 2.0), element="Fe", edge="K")
    xanes = reduce_xanes(scan, GIVEN)
    assert np.array_equal(xanes.energy, energy)
    assert xanes.mu_variance is None


def test_steps_of_nothing_are_refused():
    with pytest.raises(ReductionError, match="positive steps"):
        rebin(np.arange(9.0), np.arange(9.0), e0=3.0, grid=Grid(edge=0.0))
    with pytest.raises(ReductionError, match="five or more"):
        rebin(np.arange(4.0), np.arange(4.0), e0=3.0, grid=DEFAULT_GRID)
