"""Glitches are found and repaired, and nothing else is touched."""

from dataclasses import replace

import numpy as np
import pytest

from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.xanes import predict_xanes
from bluesky_xpdml.records import AbsorptionScan
from bluesky_xpdml.reduction.cleaning import deglitch
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes

ENERGY = np.concatenate(
    [np.arange(6950.0, 7090.0, 4.0), np.arange(7090.0, 7170.0, 0.5), np.arange(7170.0, 7700.0, 2.5)]
)
E0 = 7124.0


def spectrum(noise=0.001, seed=3):
    x = ENERGY - E0
    wave = 0.08 * np.sin(1.9 * np.sqrt(np.clip(x, 0.0, None))) * np.exp(-np.clip(x, 0.0, None) / 250.0)
    mu = (0.5 + np.arctan(x / 1.5) / np.pi) * (1.0 + 0.4 * np.exp(-(((x - 5.0) / 3.0) ** 2)) + wave)
    pre_edge_peak = 0.25 * np.exp(-(((x + 11.0) / 0.8) ** 2))
    return mu + pre_edge_peak + np.random.default_rng(seed).normal(scale=noise, size=ENERGY.size)


def planted(mu, start, heights):
    glitched = mu.copy()
    glitched[start : start + len(heights)] += heights
    return glitched


SHAPES = [(0.06,), (-0.1, -0.05), (0.05, 0.12, 0.05), (0.08, -0.08), (-0.04, -0.1, -0.15, -0.1, -0.04)]


@pytest.mark.parametrize("heights", SHAPES)
def test_planted_glitches_are_found_and_repaired(heights):
    clean = spectrum()
    rng = np.random.default_rng(8)
    free = np.flatnonzero((ENERGY < E0 - 25.0) | (ENERGY > E0 + 35.0))[8:-8]
    found, errors = 0, []
    places = rng.choice(free[(ENERGY[free] > E0 + 45.0) | (ENERGY[free] < E0 - 45.0)], 60)
    for place in places:
        result = deglitch(ENERGY, planted(clean, place, heights), e0=E0, edge_step=1.0)
        touched = np.flatnonzero(np.isin(ENERGY, result.repaired))
        inside = (touched >= place) & (touched < place + len(heights))
        found += bool(inside.any())
        errors.append(np.abs(result.mu - clean).max())
        assert np.abs(touched - place).max(initial=0) <= len(heights) + 2
    assert found >= 0.9 * places.size
    assert np.median(errors) < 0.01


def test_a_clean_spectrum_comes_back_as_it_was():
    for seed in range(20):
        for noise in (0.0, 0.001, 0.01, 0.03):
            mu = spectrum(noise, seed)
            result = deglitch(ENERGY, mu, e0=E0, edge_step=1.0)
            assert np.array_equal(result.mu, mu), (seed, noise, result.repaired)


def test_the_edge_its_peaks_and_broad_structures_stay():
    sharp = spectrum(0.0)
    i0 = np.full(ENERGY.size, 1e5)
    i0[np.abs(ENERGY - E0) < 0.3] *= 0.5
    assert deglitch(ENERGY, sharp, e0=E0, edge_step=1.0, i0=i0).repaired.size == 0
    broad = sharp + 0.2 * np.exp(-(((ENERGY - 7300.0) / 15.0) ** 2))
    assert deglitch(ENERGY, broad, e0=E0, edge_step=1.0).repaired.size == 0


def test_near_the_edge_a_spike_is_repaired_only_if_i0_shows_it():
    clean = spectrum()
    place = int(np.searchsorted(ENERGY, E0 + 18.0))
    mu, i0 = planted(clean, place, (0.08,)), 1e5 * np.ones(ENERGY.size)
    assert deglitch(ENERGY, mu, e0=E0, edge_step=1.0, i0=i0).repaired.size == 0
    i0[place] *= 0.8
    result = deglitch(ENERGY, mu, e0=E0, edge_step=1.0, i0=i0)
    assert result.repaired.tolist() == [ENERGY[place]]
    assert result.mu == pytest.approx(clean, abs=0.01)


def test_repairs_are_named_and_can_be_switched_off():
    mu = planted(spectrum(), int(np.searchsorted(ENERGY, 7300.0)), (0.3,))
    scan = AbsorptionScan(energy=ENERGY, mu=mu, element="Fe", edge="K")
    repaired = reduce_xanes(scan, XanesSettings(energy_offset=0.0))
    assert repaired.settings["points_repaired"] == 1
    assert "spike repaired: 7300.0 eV" in " ".join(repaired.quality.reasons)
    kept = reduce_xanes(scan, XanesSettings(energy_offset=0.0, deglitch=False))
    assert np.array_equal(kept.mu, mu)


@pytest.mark.slow
def test_measured_spectra_are_hardly_touched_and_answers_stay(labelled_scans):
    store = BundleStore.default()
    touched, moves = [], []
    for row, measured in labelled_scans:
        offset = float(row["energy_offset"]) if row["energy_offset"] else 0.0
        try:
            scan = replace(measured, element=row["element"], edge=row["edge"])
            kept = reduce_xanes(scan, XanesSettings(energy_offset=offset, deglitch=False, rebin="none"))
            clean = reduce_xanes(scan, XanesSettings(energy_offset=offset, rebin="none"))
            if np.array_equal(kept.mu, clean.mu):
                continue
            touched.append(int(np.count_nonzero(kept.mu != clean.mu)))
            states = [
                predict_xanes(each, store).descriptors["oxidation_state"].value for each in (kept, clean)
            ]
        except XpdmlError:
            continue
        moves.append(abs(states[1] - states[0]))
    assert len(touched) <= 10
    assert max(moves, default=0.0) < 0.02
