"""From counts to normalised XANES: what is computed, what is recorded, what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bluesky_xpdml.errors import ReductionError, XpdmlError
from bluesky_xpdml.records import AbsorptionScan, AxisSource, DetectionMode, Quality, Verdict
from bluesky_xpdml.reduction.edges import EDGE_ENERGIES
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.reduction.normalisation import normalise
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes
from bluesky_xpdml.sources.files import read_scan
from bluesky_xpdml.vocabulary import ReasonCode

GIVEN = XanesSettings(energy_offset=0.0)


def iron(*, start=6960.0, stop=7500.0, position=7124.0, pre_edge_peak=0.0, **changes):
    """Return an iron scan in transmission."""
    energy = np.concatenate(
        [np.arange(start, 7090.0, 4.0), np.arange(7090.0, 7170.0, 0.5), np.arange(7170.0, stop, 2.0)]
    )
    energy = energy[(energy >= start) & (energy <= stop)]
    x = energy - position
    mu = 0.5 + np.arctan(x / 1.5) / np.pi + 0.4 * np.exp(-(((x - 5.0) / 3.0) ** 2))
    mu = 0.7 * mu + 0.7 * pre_edge_peak * np.exp(-(((x + 12.0) / 0.8) ** 2)) + 1.0 - 1e-3 * (energy - 7112.0)
    i0 = 1e5 * (1.0 + 1e-4 * x)
    return replace(
        AbsorptionScan(energy=energy, i0=i0, it=i0 * np.exp(-mu), element="Fe", edge="K"), **changes
    )


def test_a_good_scan_is_good():
    xanes = reduce_xanes(iron(), GIVEN)
    assert xanes.quality == Quality()
    assert xanes.mode is DetectionMode.TRANSMISSION
    assert xanes.e0 == pytest.approx(7124.0, abs=1.0)
    assert xanes.edge_step == pytest.approx(0.7, abs=0.03)
    assert xanes.flat[xanes.energy > 7250] == pytest.approx(1.0, abs=0.03)
    assert xanes.norm[xanes.energy < 7080] == pytest.approx(0.0, abs=0.03)


def test_the_recorded_settings_repeat_the_result():
    xanes = reduce_xanes(iron(), GIVEN)
    recorded = dict(xanes.settings)
    assert "auto" not in recorded.values()
    assert json.loads(json.dumps(recorded))["degree"] == 2
    again = normalise(
        xanes.energy,
        xanes.mu,
        **{key: recorded[key] for key in ("e0", "pre_edge", "post_edge", "degree", "pre_edge_degree")},
    )
    assert np.array_equal(again.norm, xanes.norm)
    explicit = XanesSettings(
        e0=recorded["e0"],
        pre_edge=recorded["pre_edge"],
        post_edge=recorded["post_edge"],
        degree=2,
        energy_offset=0.0,
    )
    assert np.array_equal(reduce_xanes(iron(), explicit).flat, xanes.flat)


def test_an_uncalibrated_axis_is_reported():
    xanes = reduce_xanes(iron())
    assert xanes.axis.source is AxisSource.NONE
    # It speaks against asking a model, not against the measurement.
    assert xanes.quality.verdict is Verdict.GOOD
    assert xanes.quality.reasons[0].startswith("energy axis not calibrated")


def test_a_given_offset_moves_axis_and_e0():
    still, moved = reduce_xanes(iron(), GIVEN), reduce_xanes(iron(), XanesSettings(energy_offset=-1.25))
    assert moved.energy == pytest.approx(still.energy - 1.25)
    assert moved.e0 == pytest.approx(still.e0 - 1.25)
    assert moved.norm == pytest.approx(still.norm, abs=1e-6)


def test_e0_on_the_pre_edge_peak_is_no_fault():
    xanes = reduce_xanes(iron(pre_edge_peak=0.9), GIVEN)
    assert xanes.e0 == pytest.approx(7112.0, abs=1.5)
    assert xanes.edge_step == pytest.approx(0.7, abs=0.03)
    assert xanes.quality.verdict is Verdict.GOOD


def test_a_steeper_edge_elsewhere_is_reported_but_not_used():
    scan = iron()
    mu = np.log(scan.i0 / scan.it) + 2.0 * np.arctan((scan.energy - 7401.0) / 2.0) / np.pi
    xanes = reduce_xanes(AbsorptionScan(energy=scan.energy, mu=mu, element="Fe", edge="K"), GIVEN)
    assert xanes.e0 == pytest.approx(7124.0, abs=1.0)
    assert any("a steeper rise lies at 740" in reason for reason in xanes.quality.reasons)


def test_an_element_found_from_the_edge_is_reported():
    xanes = reduce_xanes(iron(element="", edge=""), GIVEN)
    assert xanes.e0 == pytest.approx(7124.0, abs=1.0)
    assert (xanes.element, xanes.edge) == ("Fe", "K")
    assert any("element found from the edge: Fe K, 12." in reason for reason in xanes.quality.reasons)


def test_metadata_of_the_scan_are_kept():
    scan = iron(completeness=0.5, source="a.dat", raw_uids=("u",), quality=Quality().suspect("torn"))
    xanes = reduce_xanes(scan, GIVEN)
    assert (xanes.source, xanes.raw_uids, xanes.completeness) == ("a.dat", ("u",), 0.5)
    assert "torn" in xanes.quality.reasons
    assert "only 50 % of the planned points were measured" in xanes.quality.reasons


@pytest.mark.parametrize(
    ("scan", "message"),
    [
        (iron(stop=7110.0), r"runs from 6960 to 7110 eV and misses the Fe K edge at 7112 eV.*7102 to 7142"),
        (iron(start=7108.0), "misses the Fe K edge"),
        (iron(element="Co"), "misses the Co K edge"),
        (iron(element="Fe", position=7300.0), "no rise within 7087 to 7137 eV.*steepest rise is at 7[23]"),
        (replace(iron(), i0=iron().it, it=iron().i0), "no rise|expected a rise"),
        (replace(iron(), it=np.full(iron().energy.size, np.nan)), "no finite number"),
        (replace(iron(), energy=iron().energy * 1000.0), "check the unit of the axis"),
    ],
)
def test_what_cannot_be_reduced_is_refused_with_a_reason(scan, message):
    with pytest.raises(ReductionError, match=message):
        reduce_xanes(scan, GIVEN)


def test_a_tiny_edge_step_is_refused():
    scan = iron()
    mu = 0.01 * (np.log(scan.i0 / scan.it) - 1.0)
    with pytest.raises(ReductionError, match=r"edge step is 0\.00\d+, below 0\.02"):
        reduce_xanes(replace(scan, it=scan.i0 * np.exp(-mu)), GIVEN)


def test_an_edge_step_within_the_noise_is_refused():
    scan = iron()
    rng = np.random.default_rng(5)
    noisy = np.log(scan.i0 / scan.it) + rng.normal(scale=0.4, size=scan.energy.size)
    with pytest.raises(ReductionError, match=r"within the noise|no rise|expected a rise"):
        reduce_xanes(AbsorptionScan(energy=scan.energy, mu=noisy, element="Fe", edge="K"), GIVEN)


@pytest.mark.parametrize("e0", [1.0, 9000.0, float("nan")])
def test_an_e0_outside_the_scan_is_refused(e0):
    with pytest.raises(ReductionError, match="outside the scan"):
        reduce_xanes(iron(), XanesSettings(e0=e0, energy_offset=0.0))


def test_every_foil_has_a_tabulated_edge():
    assert {(element, "K") for element in FOIL_ENERGIES} <= set(EDGE_ENERGIES)
    assert all(abs(EDGE_ENERGIES[element, "K"] - foil) < 2.0 for element, foil in FOIL_ENERGIES.items())


ANYTHING = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-10.0, 1e6)


@settings(max_examples=100, deadline=None)
@given(
    energy=arrays(float, st.integers(10, 60), elements=st.floats(6900.0, 7400.0), unique=True),
    values=arrays(float, (3, 60), elements=ANYTHING),
    element=st.sampled_from(["", "Fe", "Co", "Zz"]),
    names=st.sampled_from([("i0", "it", "ir"), ("i0", "fluorescence"), ("mu",)]),
)
def test_any_counts_are_reduced_or_refused(energy, values, element, names):
    columns = {name: column[: energy.size] for name, column in zip(names, values, strict=False)}
    scan = AbsorptionScan(energy=np.sort(energy), element=element, edge="K", **columns)
    try:
        xanes = reduce_xanes(scan)
    except ReductionError:
        return
    assert np.isfinite(xanes.norm).all()
    assert xanes.edge_step > 0.0


def test_every_labelled_spectrum_is_reduced_or_refused_with_a_reason(labelled_scans):
    refused = {}
    for row, measured in labelled_scans:
        try:
            xanes = reduce_xanes(replace(measured, element=row["element"], edge=row["edge"]))
        except ReductionError as error:
            refused[row["file"]] = error.reason
            continue
        assert np.isfinite(xanes.norm).all(), row["file"]
        assert xanes.edge_step > 0.0
    # This scan truly stops before its edge.
    assert {file: reason.code for file, reason in refused.items()} == {
        "xraylarch/fe_xanes_8ch.xdi": ReasonCode.EDGE_NOT_COVERED
    }


def test_every_malformed_file_is_reduced_or_refused_with_a_reason(shared_data):
    files = sorted((shared_data / "experiment" / "xanes" / "xas-data-interchange").rglob("*.xdi"))
    assert files
    for path in files:
        reason = None
        try:
            assert np.isfinite(reduce_xanes(read_scan(path)).norm).all(), path.name
        except XpdmlError as error:
            reason = error.reason
        assert reason is None or reason.code is not ReasonCode.INTERNAL_ERROR
