"""Aligned classes lie on the measured curve, and copies of spectra look like measured ones."""

from dataclasses import replace

import numpy as np
import pytest

from bluesky_xpdml.factory.dataset.library import SiteSpectra
from bluesky_xpdml.factory.training.alignment import (
    TYPICAL_WIDTHS,
    Augmentation,
    align,
    augmented_features,
    class_edges,
    on_fine_grid,
)
from bluesky_xpdml.features.xanes import FEATURE_NAMES, FINE_GRID
from bluesky_xpdml.models.edge_model import EdgeModel
from bluesky_xpdml.reduction.edge_position import edge_shape
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.simulation.broadening import broaden

GRID = np.linspace(2.0, 4.0, 41)
MODEL = EdgeModel(valence=GRID, edge=13.0 + 2.4 * (GRID - 3.0), sigma=np.full(41, 0.7))
PLAIN = Augmentation(copies=2, axis_sigma=0.0, stretch=0.0, slope=0.0, self_absorption=0.0, noise=0.0)


def repeated(sites: SiteSpectra, times: int) -> SiteSpectra:
    """So many members that the straight line through all classes hardly enters."""
    return sites.select(np.tile(np.arange(len(sites)), times))


def test_the_mean_edge_of_each_class_lies_on_the_curve(iron_sites: SiteSpectra) -> None:
    sites = repeated(iron_sites, 20)
    aligned = align(sites, FOIL_ENERGIES["Fe"], MODEL)
    widths = (np.full(len(sites), value) for value in TYPICAL_WIDTHS)
    broad = broaden(aligned.x, aligned.mu, aligned.half_edge, *widths)
    nothing = np.zeros(len(sites))
    signal = on_fine_grid(aligned, broad, aligned.shift, nothing)
    edges = np.array([edge_shape(FINE_GRID, row).edge for row in signal[: len(iron_sites)]])
    valence = iron_sites.valence
    for value in (2.0, 3.0, 4.0):
        expected = float(np.interp(value, MODEL.valence, MODEL.edge))
        assert edges[valence == value].mean() == pytest.approx(expected, abs=0.15)


def test_one_shift_a_class(iron_sites: SiteSpectra) -> None:
    """Differences within a class are what forests learn from: they stay."""
    aligned = align(iron_sites, FOIL_ENERGIES["Fe"], MODEL)
    for value in (2.0, 3.0, 4.0):
        assert np.unique(aligned.shift[iron_sites.valence == value]).size == 1
    assert np.ptp(aligned.half_edge[iron_sites.valence == 3.0]) > 0.5
    higher = align(iron_sites, FOIL_ENERGIES["Fe"], replace(MODEL, edge=MODEL.edge + 1.5))
    np.testing.assert_allclose(higher.shift - aligned.shift, 1.5, atol=1e-9)


def test_rare_classes_are_drawn_to_the_line_of_all() -> None:
    """One member 5 eV off the line moves its class by 1/11 of that; a hundred by nearly all."""
    valence = np.repeat([2.0, 3.0, 4.0], 1000)
    edges = 4.0 * valence
    for count, moved in ((1, 5.0 / 11.0), (100, 5.0 * 100.0 / 110.0)):
        found = class_edges(np.append(valence, np.full(count, 5.0)), np.append(edges, np.full(count, 25.0)))
        line = np.polyfit(np.append(valence, np.full(count, 5.0)), np.append(edges, np.full(count, 25.0)), 1)
        drawn = float(np.polyval(line, 5.0))
        expected = drawn + (25.0 - drawn) * count / (count + 10.0)
        assert found[5.0] == pytest.approx(expected, abs=1e-6)
        assert found[5.0] - 20.0 == pytest.approx(moved, abs=0.6)


def test_without_a_shift_the_fine_grid_shows_the_simulation(iron_sites: SiteSpectra) -> None:
    aligned = align(iron_sites, FOIL_ENERGIES["Fe"], MODEL)
    zero = np.zeros(len(iron_sites))
    signal = on_fine_grid(aligned, aligned.mu, zero, zero)
    inside = (aligned.x[0] < FINE_GRID) & (aligned.x[-1] > FINE_GRID)
    for row, mu in zip(signal, aligned.mu, strict=True):
        np.testing.assert_allclose(row[inside], np.interp(FINE_GRID[inside], aligned.x, mu), atol=1e-6)
    before = signal[:, aligned.x[0] > FINE_GRID]
    assert np.all(np.diff(before, axis=1) > 0.0), "below its start a spectrum decays"


def test_copies_of_the_same_state_are_the_same_and_of_another_are_not(iron_sites: SiteSpectra) -> None:
    aligned = align(iron_sites, FOIL_ENERGIES["Fe"], MODEL)
    first, again, other = (
        augmented_features(aligned, Augmentation(copies=3), np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert first.shape == (3 * len(iron_sites), len(FEATURE_NAMES))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    one, two, _ = np.split(first, 3)
    assert np.abs(one - two).mean() < 0.2, "copies of a spectrum stay alike"
    assert np.abs(one - two).max() > 0.01


def test_each_distortion_moves_the_features(iron_sites: SiteSpectra) -> None:
    aligned = align(iron_sites, FOIL_ENERGIES["Fe"], MODEL)
    fixed = replace(PLAIN, width_below=(0.5, 0.5), width_above=(3.0, 3.0))
    plain = augmented_features(aligned, fixed, np.random.default_rng(0))
    np.testing.assert_array_equal(*np.split(plain, 2))
    for change in (
        {"width_above": (1.5, 5.0)},
        {"axis_sigma": 0.5},
        {"stretch": 0.05},
        {"slope": 0.05},
        {"self_absorption": 0.2},
        {"noise": 0.01},
    ):
        one, two = np.split(
            augmented_features(aligned, replace(fixed, **change), np.random.default_rng(0)), 2
        )
        assert np.abs(one - two).max() > 1e-3, change
