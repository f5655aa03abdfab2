"""What makes a reduced spectrum suspect."""

import csv
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from bluesky_xpdml.documents import absorption_scan
from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.records import AbsorptionScan, Verdict
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes


def scan(*, start=6960.0, stop=7500.0, step=0.5, noise=0.0, height=1.0, position=7121.0):
    energy = np.concatenate(
        [np.arange(start, 7095.0, 4.0), np.arange(7095.0, 7160.0, step), np.arange(7160.0, stop, 3.0)]
    )
    energy = np.unique(energy[(energy >= start) & (energy <= stop)])
    rng = np.random.default_rng(2)
    mu = height * (0.5 + np.arctan((energy - position) / 2.0) / np.pi) + noise * rng.normal(size=energy.size)
    i0 = 1e5 + 10.0 * np.sin(energy)
    return AbsorptionScan(energy=energy, i0=i0, it=i0 * np.exp(-mu), element="Fe", edge="K")


def reasons(measured):
    quality = reduce_xanes(measured, XanesSettings(energy_offset=0.0)).quality
    return quality.verdict, " | ".join(quality.reasons)


def test_nothing_is_said_of_a_good_scan():
    assert reasons(scan()) == (Verdict.GOOD, "")


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (scan(noise=0.05), r"noise of [4-6]\.\d % of the edge step in the post-edge"),
        (scan(step=4.0), r"steps of up to 4\.0 eV across the edge"),
        (scan(start=7100.0, position=7112.0), r"only 1[123] eV of pre-edge"),
        (scan(stop=7155.0), "the scan ends 3. eV above the edge"),
        (scan(height=0.03), "edge step of 0.0.. is small"),
        (replace(scan(), completeness=0.25), "only 25 % of the planned points"),
    ],
)
def test_faults_are_named_with_numbers(measured, reason):
    verdict, said = reasons(measured)
    assert verdict is Verdict.SUSPECT
    assert re.search(reason, said), said


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


def test_no_scan_that_staff_called_bad_is_called_good(shared_data):
    folder = shared_data / "experiment" / "quality"
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        good = [row["score"] == "1" for row in csv.DictReader(file)]
    spectra = np.load(folder / "bmm_spectra.npz")
    counts: Counter[tuple[bool, str]] = Counter()
    glitched = 0
    for is_good, energy, mu in zip(good, spectra["energy"], spectra["mu"], strict=True):
        measured = absorption_scan(energy=energy, energy_unit="eV", mu=mu)
        try:
            quality = reduce_xanes(measured, XanesSettings(energy_offset=0.0)).quality
        except XpdmlError:
            counts[is_good, "refused"] += 1
            continue
        counts[is_good, quality.verdict.value] += 1
        # These spectra were interpolated on steps of 1.6 to 3 eV, which is a fault of its own.
        glitched += is_good and any(word in " ".join(quality.reasons) for word in ("glitches", "noise"))
    print(f"(called good by staff, verdict): {dict(counts)}; good ones called noisy: {glitched}")  # noqa: T201
    assert counts[True, "refused"] == 0
    assert counts[False, "good"] == 0
    assert glitched <= 10
