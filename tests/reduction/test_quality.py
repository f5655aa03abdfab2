"""What makes a reduced spectrum suspect."""

import re
from dataclasses import replace

import numpy as np
import pytest

from bluesky_xpdml.records import AbsorptionScan, Verdict
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes, unfit


def scan(*, start=6960.0, stop=7500.0, step=0.5, noise=0.0, height=1.0, position=7121.0):
    energy = np.concatenate(
        [np.arange(start, 7095.0, 4.0), np.arange(7095.0, 7160.0, step), np.arange(7160.0, stop, 3.0)]
    )
    energy = np.unique(energy[(energy >= start) & (energy <= stop)])
    rng = np.random.default_rng(2)
    mu = height * (0.5 + np.arctan((energy - position) / 2.0) / np.pi) + noise * rng.normal(size=energy.size)
    i0 = 1e5 + 10.0 * np.sin(energy)
    return AbsorptionScan(energy=energy, i0=i0, it=i0 * np.exp(-mu), element="Fe", edge="K")


def with_mu(measured, shape):
    mu = shape(measured.energy)
    return replace(measured, it=measured.i0 * np.exp(-mu))


def reasons(measured):
    quality = reduce_xanes(measured, XanesSettings(energy_offset=0.0)).quality
    return quality.verdict, " | ".join(quality.reasons)


def test_a_good_scan_has_no_reasons():
    assert reasons(scan()) == (Verdict.GOOD, "")


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (scan(noise=0.05), r"noise of [4-6]\.\d % of the edge step in the post-edge"),
        (scan(start=7100.0, position=7112.0), r"only 1[123] eV of pre-edge"),
        (scan(height=0.03), "edge step of 0.0.. is small"),
        (replace(scan(), completeness=0.25), "only 25 % of the planned points"),
        (
            with_mu(scan(), lambda x: 1.0 * (x > 7121.0)),
            r"jumps by \+(0\.9|1\.)\d* edge steps within 0\.5 eV at 7121\.. eV, sharper than any edge",
        ),
        (
            with_mu(scan(), lambda x: 0.3 * np.sin(x / 15.0) + 0.2 * np.arctan((x - 7121.0) / 2.0)),
            r"the rise at e0 is [0-4]\.\d times the scatter around it, expected 5 or more",
        ),
    ],
)
def test_faults_are_named_with_numbers(measured, reason):
    verdict, said = reasons(measured)
    assert verdict is Verdict.SUSPECT
    assert re.search(reason, said), said


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (scan(step=4.0), r"steps of up to 4\.0 eV across the edge"),
        (scan(stop=7155.0), "the scan ends 3. eV above the edge"),
    ],
)
def test_a_good_spectrum_may_be_too_coarse_or_too_short_for_a_model(measured, reason):
    quality = reduce_xanes(measured, XanesSettings(energy_offset=0.0)).quality
    assert quality.verdict is Verdict.GOOD
    (said,) = unfit(quality)
    assert re.search(reason, said), said


def test_an_uncalibrated_axis_is_unfit_for_a_model_but_no_fault_of_the_measurement():
    quality = reduce_xanes(scan()).quality
    assert quality.verdict is Verdict.GOOD
    assert [reason.partition(":")[0] for reason in unfit(quality)] == ["energy axis not calibrated"]


def test_glitches_are_found_outside_the_edge():
    measured = scan()
    it = measured.it.copy()
    it[np.searchsorted(measured.energy, 7300.0)] *= 0.7
    quality = reduce_xanes(replace(measured, it=it), XanesSettings(energy_offset=0.0, deglitch=False)).quality
    assert quality.verdict is Verdict.SUSPECT
    assert "glitches in the post-edge" in " | ".join(quality.reasons)


def test_saturation_is_found():
    measured = scan()
    mu = 0.3 + np.minimum(np.log(measured.i0 / measured.it), 0.95)
    counts = 1e5 * mu
    flat = AbsorptionScan(energy=measured.energy, i0=measured.i0, fluorescence=counts, element="Fe", edge="K")
    verdict, said = reasons(flat)
    assert verdict is Verdict.SUSPECT
    assert "If stays at its maximum for" in said


def test_a_constant_i0_is_no_saturation():
    measured = scan()
    constant = replace(measured, i0=np.full(measured.energy.size, 1.0), it=measured.it / measured.i0)
    assert reasons(constant) == (Verdict.GOOD, "")
