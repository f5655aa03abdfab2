"""Scans without a foil take the last calibration of their monochromator, and say how old it is."""

from dataclasses import replace

import pytest

from bluesky_xpdml.analysis.xanes import analyse_scan
from bluesky_xpdml.demo.simulated_scan import simulated_scan
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import AxisSource, Verdict
from bluesky_xpdml.reduction.energy import CalibrationMemory
from bluesky_xpdml.reduction.xanes import XanesSettings

STORE = BundleStore.default()
FOIL = replace(simulated_scan(seed=1), mono="Si(111)", time=1e9, source="run 17")


def answer(scan, memory):
    return analyse_scan(scan, store=STORE, settings=XanesSettings(), memory=memory)


def without_foil(hours, **changes):
    return replace(FOIL, ir=None, time=1e9 + 3600.0 * hours, source="run 18", **changes)


@pytest.fixture
def memory():
    memory = CalibrationMemory()
    answer(FOIL, memory)
    return memory


def width(prediction):
    state = prediction.descriptors["oxidation_state"]
    return state.high - state.low


def test_the_last_foil_stands_in_with_its_age(memory):
    foil, later = answer(FOIL, memory), answer(without_foil(3.2), memory)
    assert later.xanes.axis.source is AxisSource.STORED
    assert later.xanes.axis.offset == foil.xanes.axis.offset
    assert later.xanes.axis.uncertainty == pytest.approx(0.3 + 3.2 * 0.05)
    assert "calibrated 3.2 h before by the Fe foil of run 17" in " ".join(later.quality.reasons)
    assert later.quality.verdict is Verdict.GOOD
    assert later.settings["energy_axis"]["source"] == "stored"
    value = later.descriptors["oxidation_state"].value
    assert value == pytest.approx(foil.descriptors["oxidation_state"].value, abs=0.1)


def test_the_interval_never_shrinks_with_the_age_and_stays_below_that_of_an_unknown_axis(memory):
    widths = [width(answer(without_foil(hours), memory)) for hours in (1.0, 10.0, 20.0)]
    unknown = width(answer(without_foil(1.0), CalibrationMemory()))
    assert width(answer(FOIL, memory)) <= widths[0] <= widths[1] < widths[2] < unknown


@pytest.mark.parametrize(
    ("scan", "reason"),
    [
        (without_foil(40.0), "too long to be used"),
        (replace(without_foil(1.0), time=None), "the time of the scan is unknown"),
        (without_foil(1.0, mono="Si(311)"), "no reference channel"),
        (without_foil(1.0, mono=""), "no reference channel"),
    ],
)
def test_what_may_not_be_used_is_not(memory, scan, reason):
    prediction = answer(scan, memory)
    assert prediction.xanes.axis.source is AxisSource.NONE
    assert prediction.quality.verdict is Verdict.SUSPECT
    assert reason in " ".join(prediction.quality.reasons)
