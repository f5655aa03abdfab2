"""Repeats of one sample: aligned, compared, averaged."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, AxisSource, EnergyAxis, Verdict
from bluesky_xpdml.reduction.repeats import Alignment, RepeatSettings, merge_repeats
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes
from bluesky_xpdml.sources.files import read_scan

ENERGY = np.concatenate(
    [np.arange(6950.0, 7090.0, 5.0), np.arange(7090.0, 7170.0, 0.4), np.arange(7170.0, 7500.0, 2.5)]
)
GIVEN = XanesSettings(energy_offset=0.0)


def shape(energy):
    x = energy - 7124.0
    return (0.5 + np.arctan(x / 1.5) / np.pi) * (1.0 + 0.4 * np.exp(-(((x - 5.0) / 3.0) ** 2)))


def repeat(seed, *, shift=0.0, noise=0.005, change=0.0, stop=7500.0):
    energy = ENERGY[stop > ENERGY]
    mu = shape(energy - shift) + change * np.exp(-(((energy - 7128.0) / 3.0) ** 2))
    mu = mu + np.random.default_rng(seed).normal(scale=noise, size=energy.size)
    return AbsorptionScan(energy=energy, mu=mu, element="Fe", edge="K", source=f"scan {seed}")


def reduced(*scans, foil=False):
    spectra = [reduce_xanes(scan, GIVEN) for scan in scans]
    axis = EnergyAxis(source=AxisSource.REFERENCE, offset=0.0, uncertainty=0.3)
    return [replace(xanes, axis=axis) for xanes in spectra] if foil else spectra


def test_the_mean_is_quieter_and_its_variance_is_true():
    truth = reduce_xanes(repeat(0, noise=0.0), GIVEN)
    merged = merge_repeats(
        reduced(*(repeat(seed) for seed in range(16))), RepeatSettings(alignment=Alignment.NONE)
    )
    away = np.abs(merged.xanes.energy - 7124.0) > 40.0
    error = (merged.xanes.norm - np.interp(merged.xanes.energy, truth.energy, truth.norm))[away]
    sigma = np.sqrt(merged.xanes.mu_variance[away]) / merged.xanes.edge_step
    # The scatter between repeats also holds that of their pre-edge lines and edge steps.
    assert 0.9 * 0.005 / 4.0 < np.median(sigma) < 2.0 * 0.005 / 4.0
    assert 0.5 < np.sqrt(np.mean((error / sigma) ** 2)) < 1.3
    assert merged.n_kept == 16


@given(st.lists(st.floats(-0.9, 0.9), min_size=3, max_size=6))
@settings(max_examples=20, deadline=None)
def test_small_shifts_are_found_and_their_median_is_kept(shifts):
    shifts = np.array(shifts) - np.median(shifts)
    if np.abs(shifts).max() > 0.9:
        shifts *= 0.9 / np.abs(shifts).max()
    merged = merge_repeats(reduced(*(repeat(seed, shift=s, noise=0.001) for seed, s in enumerate(shifts))))
    found = np.array([each.applied_shift for each in merged.repeats])
    assert found == pytest.approx(-shifts, abs=0.08)
    assert abs(np.median(found)) < 1e-9
    assert merged.n_kept == len(shifts)


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (repeat(9, shift=1.4), "its edge lies .*1.4. eV from that of the others"),
        (repeat(9, change=0.5), "it differs from the median by 0"),
        (repeat(9, stop=7300.0), "it ends 20. eV earlier than the others"),
    ],
)
def test_an_outlier_is_left_out_and_named(odd, reason):
    scans = [repeat(1), repeat(2), odd, repeat(3), repeat(4)]
    merged = merge_repeats(reduced(*scans))
    assert [bool(each.rejected) for each in merged.repeats] == [False, False, True, False, False]
    assert merged.xanes.settings["repeats"] == 4
    assert merged.xanes.settings["repeats_rejected"] == 1
    (said,) = [each for each in merged.xanes.quality.reasons if "left out" in each]
    assert said.startswith("repeat scan 9 left out: ")
    assert re.search(reason, said), said
    without = merge_repeats(reduced(*(scans[:2] + scans[3:])))
    assert merged.xanes.norm == pytest.approx(without.xanes.norm, abs=0.01)


def test_of_two_that_differ_none_is_left_out():
    assert merge_repeats(reduced(repeat(1), repeat(2, change=0.5))).n_kept == 2


def test_a_sample_that_changes_under_a_foil_that_stands_still_is_not_aligned_away():
    drifting = [repeat(seed, shift=-0.12 * seed, noise=0.001) for seed in range(6)]
    merged = merge_repeats(reduced(*drifting, foil=True))
    assert [each.applied_shift for each in merged.repeats] == [0.0] * 6
    assert merged.xanes.quality.verdict is Verdict.SUSPECT
    assert "the edge moves by -0.6" in " ".join(merged.xanes.quality.reasons)
    still = merge_repeats(reduced(*(repeat(seed, noise=0.001) for seed in range(6)), foil=True))
    assert not any("moves" in reason for reason in still.xanes.quality.reasons)


def test_noisy_repeats_weigh_less():
    quiet, loud = repeat(1, noise=0.001), repeat(2, noise=0.05)
    merged = merge_repeats(reduced(quiet, quiet, loud), RepeatSettings(alignment=Alignment.NONE))
    truth = reduce_xanes(repeat(0, noise=0.0), GIVEN)
    away = np.abs(merged.xanes.energy - 7124.0) > 40.0
    assert np.std((merged.xanes.norm - truth.norm)[away]) < 0.02


def test_different_edges_are_not_repeats():
    other = replace(reduce_xanes(repeat(1), GIVEN), element="Co")
    with pytest.raises(ReductionError, match="one element and edge, found Co K, Fe K"):
        merge_repeats([reduce_xanes(repeat(1), GIVEN), other])
    with pytest.raises(ReductionError, match="found no spectrum"):
        merge_repeats([])


def test_measured_repeats_that_drift_by_5_ev_merge_on_their_foil(shared_data):
    files = sorted((shared_data / "experiment" / "xanes" / "xraylarch").glob("NiO_NiO.*.xdi"))
    stated = [-0.50, 3.20, 3.70, 3.90, 4.10, 4.20, 4.70, 4.80, 4.90, 4.80]
    merged = merge_repeats([reduce_xanes(read_scan(file, element="Ni", edge="K")) for file in files])
    assert [each.offset for each in merged.repeats] == pytest.approx(stated, abs=0.2)
    assert max(abs(each.apparent_shift) for each in merged.repeats) < 0.15
    assert merged.n_kept == 10
