"""Normalisation against reference values, and what it refuses."""

import csv
from pathlib import Path

import numpy as np
import pytest

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.reduction.normalisation import find_e0, normalise

GOLDEN = Path(__file__).parent / "golden" / "normalisation.npz"
ARRAYS = ("norm", "flat", "pre_edge", "post_edge")
TOLERANCE = 1e-6


@pytest.mark.parametrize("name", ["long_quadratic", "cubic", "xanes_only", "line"])
def test_synthetic_spectra_agree_with_the_reference_program(name):
    golden = np.load(GOLDEN)
    e0, pre1, pre2, norm1, norm2, degree, edge_step = golden[f"{name}_parameters"]
    result = normalise(
        golden[f"{name}_energy"],
        golden[f"{name}_mu"],
        e0=e0,
        pre_edge=(pre1, pre2),
        post_edge=(norm1, norm2),
        degree=int(degree),
    )
    assert result.edge_step == pytest.approx(edge_step, abs=1e-9)
    for array in ARRAYS:
        deviation = np.abs(getattr(result, array) - golden[f"{name}_{array}"]).max()
        assert deviation < TOLERANCE, (array, deviation)


@pytest.mark.parametrize("name", ["long_quadratic", "xanes_only", "line"])
def test_e0_of_synthetic_spectra_is_the_reference_programs_or_its_neighbour(name):
    golden = np.load(GOLDEN)
    found = find_e0(golden[f"{name}_energy"], golden[f"{name}_mu"])
    assert found == pytest.approx(golden[f"{name}_parameters"][0], abs=0.41)


def test_measured_spectra_agree_with_the_reference_program(shared_data):
    golden = np.load(shared_data / "golden" / "xanes_larch.npz")
    worst = dict.fromkeys(ARRAYS, 0.0)
    count = 0
    for row in _golden_rows(shared_data):
        result = normalise(
            golden[f"{row['id']}_energy"],
            golden[f"{row['id']}_mu"],
            e0=float(row["e0"]),
            pre_edge=(float(row["pre1"]), float(row["pre2"])),
            post_edge=(float(row["norm1"]), float(row["norm2"])),
            degree=int(row["nnorm"]),
        )
        count += 1
        for array in ARRAYS:
            reference = golden[f"{row['id']}_{row['set']}_{array}"]
            worst[array] = max(worst[array], float(np.abs(getattr(result, array) - reference).max()))
    print(f"{count} spectra and parameter sets, largest deviations {worst}")  # noqa: T201
    assert count == 218
    assert max(worst.values()) < TOLERANCE, worst


def test_e0_of_measured_spectra_is_mostly_the_reference_programs(shared_data):
    golden = np.load(shared_data / "golden" / "xanes_larch.npz")
    deviations = [
        find_e0(golden[f"{row['id']}_energy"], golden[f"{row['id']}_mu"]) - float(row["find_e0"])
        for row in _golden_rows(shared_data)
        if row["set"] == "A"
    ]
    same = int(np.count_nonzero(np.abs(deviations) < 1e-6))
    print(f"{same} of {len(deviations)} equal, largest difference {np.abs(deviations).max():.2f} eV")  # noqa: T201
    assert same >= 100
    assert np.abs(deviations).max() < 0.6


def _golden_rows(shared_data):
    with (shared_data / "golden" / "xanes_larch.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _step(position=7112.0, height=1.0):
    energy = np.arange(6960.0, 7400.0, 1.0)
    return energy, height * (0.5 + np.arctan((energy - position) / 2.0) / np.pi)


def test_flat_is_one_on_a_straight_post_edge():
    energy, mu = _step()
    mu = mu + 2.0 - 0.002 * (energy - 7112.0)
    result = normalise(energy, mu, e0=7112.0, pre_edge=(-140, -40), post_edge=(100, 280), degree=1)
    assert result.flat[energy > 7220] == pytest.approx(1.0, abs=2e-3)
    assert result.edge_step == pytest.approx(1.0, abs=0.03)


def test_scale_of_mu_does_not_matter():
    energy, mu = _step()
    ranges = {"e0": 7112.0, "pre_edge": (-140, -40), "post_edge": (100, 280), "degree": 2}
    small, large = normalise(energy, mu, **ranges), normalise(energy, 1e6 * mu, **ranges)
    assert small.norm == pytest.approx(large.norm, abs=1e-9)


def test_falling_edge_is_refused_and_not_turned():
    energy, mu = _step(height=-0.8)
    with pytest.raises(ReductionError, match=r"edge step at 7112\.00 eV is -0\.\d+, expected a rise"):
        normalise(energy, mu, e0=7112.0, pre_edge=(-140, -40), post_edge=(100, 280), degree=1)


@pytest.mark.parametrize(
    ("pre_edge", "post_edge", "message"),
    [
        ((-900, -800), (100, 280), "pre-edge range -900 to -800 eV .* holds 0 points"),
        ((-140, -40), (500, 900), "post-edge range"),
        ((-140, -40), (100, 100.5), "needs 3"),
    ],
)
def test_ranges_without_points_are_refused_with_what_the_scan_covers(pre_edge, post_edge, message):
    energy, mu = _step()
    with pytest.raises(ReductionError, match=message):
        normalise(energy, mu, e0=7112.0, pre_edge=pre_edge, post_edge=post_edge, degree=2)


def test_a_single_spike_is_not_the_edge():
    energy, mu = _step()
    mu[energy == 7050.0] += 0.9
    assert find_e0(energy, mu) == pytest.approx(7112.0, abs=1.0)


def test_an_edge_that_is_one_point_wide_is_found():
    energy = np.arange(6800.0, 7600.0, 2.35)
    mu = 0.5 + np.arctan((energy - 7112.0) / 0.3) / np.pi - 0.002 * (energy - 7000.0)
    assert find_e0(energy, mu) == pytest.approx(7112.0, abs=2.4)


def test_a_flat_scan_has_no_edge():
    energy = np.arange(6960.0, 7400.0, 1.0)
    for mu in (np.zeros(energy.size), np.full(energy.size, -6.8e-289)):
        with pytest.raises(ReductionError, match="expected a rise"):
            normalise(energy, mu, e0=7112.0, pre_edge=(-140, -40), post_edge=(100, 280), degree=1)


def test_e0_stays_within_the_window():
    energy, mu = _step()
    mu += 3.0 * (0.5 + np.arctan((energy - 7300.0) / 2.0) / np.pi)
    assert find_e0(energy, mu) == pytest.approx(7300.0, abs=1.0)
    assert find_e0(energy, mu, within=(7087.0, 7137.0)) == pytest.approx(7112.0, abs=1.0)


def test_an_empty_window_is_refused():
    energy, mu = _step()
    with pytest.raises(ReductionError, match=r"found 0 .*the scan runs from 6960 to 7399 eV"):
        find_e0(energy, mu, within=(8000.0, 8050.0))
