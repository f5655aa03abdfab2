"""Energy calibration by the foil in the reference channel."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, AxisSource
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES, calibrate, reference_offset, shows_metal
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes
from bluesky_xpdml.sources.files import read_scan


def rise(x, position, width=1.5):
    return 0.5 + np.arctan((x - position) / width) / np.pi


def foil_scan(element="Fe", *, error=0.0, second=9.0, first_share=0.3, step=0.6, noise=0.0, white_line=0.0):
    """Return a scan whose reference shows a metal of two rises, on an axis that is `error` eV too high."""
    energy = np.concatenate(
        [np.arange(-120.0, -20.0, 5.0), np.arange(-20.0, 60.0, 0.4), np.arange(60.0, 300.0, 3.0)]
    )
    x = energy - error
    shape = first_share * rise(x, 0.0, 1.0) + (1.0 - first_share) * rise(x, second, 2.5)
    shape = shape + white_line * np.exp(-(((x - second - 5.0) / 3.0) ** 2))
    rng = np.random.default_rng(3)
    it = 1e5 * np.exp(-rise(x, 14.0))
    ir = it * np.exp(-0.2 - step * shape + noise * rng.normal(size=x.size))
    return AbsorptionScan(
        energy=FOIL_ENERGIES.get(element, 9659.0) + energy,
        i0=np.full(x.size, 1e5),
        it=it,
        ir=ir,
        element=element,
        edge="K",
    )


@pytest.mark.parametrize("error", [-5.0, -1.3, 0.0, 0.7, 4.9])
@pytest.mark.parametrize("element", ["Cr", "Fe", "Cu"])
def test_the_error_of_the_axis_is_found(element, error):
    assert reference_offset(foil_scan(element, error=error)) == pytest.approx(-error, abs=0.15)


def test_noise_moves_the_axis_little():
    assert reference_offset(foil_scan(error=1.0, noise=0.003)) == pytest.approx(-1.0, abs=0.3)


def test_of_two_nearly_equal_maxima_the_first_is_the_foils():
    nickel = foil_scan("Ni", error=2.0, second=12.0, first_share=0.27)
    slope = np.gradient(-np.log(nickel.ir / nickel.it), nickel.energy)
    late = slope[np.abs(nickel.energy - FOIL_ENERGIES["Ni"] - 14.0) < 2.0].max()
    early = slope[np.abs(nickel.energy - FOIL_ENERGIES["Ni"] - 2.0) < 2.0].max()
    assert 0.8 < late / early < 1.3
    assert reference_offset(nickel) == pytest.approx(-2.0, abs=0.2)


@pytest.mark.parametrize(
    ("scan", "reason"),
    [
        (foil_scan(error=9.0), "no Fe metal, or the axis is far off"),
        (foil_scan(white_line=1.2, error=-8.0), "white line of [12].*no foil"),
        (foil_scan(step=0.005), "no edge"),
        (foil_scan(noise=0.4), "no edge|white line|no Fe metal"),
        (foil_scan("Zn"), "no foil energy is known for the K edge of Zn"),
        (AbsorptionScan(energy=np.arange(30.0), mu=np.ones(30), element="Fe"), "no reference channel"),
    ],
)
def test_what_is_no_foil_is_refused_with_the_reason(scan, reason):
    with pytest.raises(ReductionError, match=reason):
        reference_offset(scan)
    axis, (said,), notes = calibrate(scan)
    assert notes == ()
    assert axis.source is AxisSource.NONE
    assert axis.offset == 0.0
    assert axis.uncertainty == 2.0
    assert said.startswith("energy axis not calibrated: ")


def test_a_dead_reference_is_refused():
    scan = foil_scan()
    dead = AbsorptionScan(energy=scan.energy, it=scan.it, ir=0.0 * scan.energy, element="Fe", edge="K")
    with pytest.raises(ReductionError, match="reference channel is dead"):
        reference_offset(dead)


def test_a_given_offset_is_taken_as_it_is():
    axis, doubts, _ = calibrate(foil_scan(error=3.0), -0.4)
    assert (axis.source, axis.offset, axis.uncertainty, doubts) == (AxisSource.GIVEN, -0.4, 0.3, ())
    with pytest.raises(ReductionError, match="found nan"):
        calibrate(foil_scan(), float("nan"))


def test_calibration_can_be_switched_off():
    axis, (said,), _ = calibrate(foil_scan(error=3.0), "none")
    assert axis.source is AxisSource.NONE
    assert "switched off" in said


def test_measured_reference_channels_give_the_known_offsets(labelled_scans):
    # Some labels were read from a reference that the published file does not hold.
    residuals = {
        row["file"]: reference_offset(scan) - float(row["energy_offset"])
        for row, scan in labelled_scans
        if row["energy_offset_source"] == "reference channel" and scan.ir is not None
    }
    values = np.abs(list(residuals.values()))
    large = {file: round(value, 2) for file, value in residuals.items() if abs(value) > 0.3}
    print(f"{values.size} reference channels: mean |residual| {values.mean():.3f} eV, beyond 0.3 eV: {large}")  # noqa: T201
    assert values.size >= 60
    # The nickel foil of one beamline shows a distorted first rise: its maximum and its centre differ.
    assert all(file.startswith(("xasdatalibrary/Ni/Ni2O3", "xasdatalibrary/Ni/NiOH2")) for file in large)
    assert values.mean() < 0.2
    assert values.max() < 1.0


@pytest.mark.parametrize("pattern", ["Mn/*_rt_0?.xdi", "Cr/cr2o3_ssrl4_1_*.xdi"])
def test_measured_reference_channels_without_a_foil_are_refused(shared_data, pattern):
    files = sorted((shared_data / "experiment" / "xanes" / "xasdatalibrary").glob(pattern))
    assert files
    for file in files:
        axis, (reason,), _ = calibrate(read_scan(file))
        assert axis.source is AxisSource.NONE, file.name
        assert "no edge" in reason or "metal" in reason


def test_measured_metals_are_distinguished_from_measured_oxides(labelled_scans):
    counts, mistaken = Counter(), set()
    for row, measured in labelled_scans:
        if row["element"] not in FOIL_ENERGIES or not row["energy_offset"]:
            continue
        scan = replace(measured, element=row["element"], edge="K")
        try:
            xanes = reduce_xanes(scan, XanesSettings(energy_offset=float(row["energy_offset"])))
        except ReductionError:
            continue
        kind = "metal" if row["is_metal"] == "1" else "oxide" if row["is_oxide"] == "1" else "other"
        x = xanes.energy - FOIL_ENERGIES[xanes.element]
        found = shows_metal(x, xanes.mu, xanes.element)
        counts[kind, found] += 1
        if found and kind == "oxide":
            mistaken.add(row["compound"])
    # Cuprous oxide has its first inflection 1.1 to 1.2 eV above the foil and no white line.
    assert mistaken <= {"Cu2O"}
    assert counts["metal", False] == 0
    assert counts["oxide", False] > 80
    assert counts["metal", True] >= 10
