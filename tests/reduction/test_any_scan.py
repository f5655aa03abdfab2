"""Any scan is reduced to a spectrum, or refused with a reason."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.records import AbsorptionScan, AxisSource
from bluesky_xpdml.reduction.channels import select_mode
from bluesky_xpdml.reduction.edges import EDGE_ENERGIES
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES, calibrate
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes
from bluesky_xpdml.vocabulary import Reason, ReasonCode

CHANNELS = ("i0", "it", "ir", "fluorescence", "electron_yield", "mu")
DEFECTS = ["holes", "constant", "huge", "infinite", "saturated", "tiny", "reversed"]
OFFSETS = ["reference", "none", 0.5, 1e7, math.nan]


def rise(x, width=2.0):
    return 0.5 + np.arctan(x / width) / np.pi


def spoiled(values, how, rng):
    """Return a channel as broken detectors and wrong columns deliver it."""
    values = values.copy()
    if how == "holes":
        values[rng.random(values.size) < 0.1] = np.nan
    elif how == "constant":
        values[:] = values[0]
    elif how == "huge":
        values[rng.integers(values.size)] = 1e308
    elif how == "infinite":
        values[rng.integers(values.size)] = -np.inf
    elif how == "saturated":
        values = np.minimum(values, np.median(values))
    elif how == "tiny":
        values *= 1e-290
    elif how == "reversed":
        values = values[::-1].copy()
    return values


@st.composite
def scans(draw):
    """Return scans of an edge that start and end anywhere, with any number of points and any noise."""
    element = draw(st.sampled_from([*FOIL_ENERGIES, "Zn", "Pt", "Zz", ""]))
    edge = draw(st.sampled_from(["K", "K", "L3", ""]))
    start = draw(st.floats(-250.0, 20.0))
    length = draw(st.floats(0.1, 900.0))
    points = draw(st.one_of(st.integers(1, 60), st.integers(61, 2000)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = np.linspace(start, start + length, points)
    if draw(st.booleans()):
        x = np.unique(rng.uniform(start, start + length, points))
    noise = draw(st.sampled_from([0.0, 1e-4, 1e-3, 1e-2, 0.05, 0.3]))
    mu = rise(x - draw(st.floats(-20.0, 30.0))) + noise * rng.normal(size=x.size)
    reference = rise(x - draw(st.floats(-8.0, 8.0))) + noise * rng.normal(size=x.size)
    i0 = draw(st.sampled_from([1e5, 1.0, -1e-7])) * (1.0 + 1e-3 * rng.normal(size=x.size))
    it = i0 * np.exp(-mu)
    measured = {"i0": i0, "it": it, "ir": it * np.exp(-reference), "fluorescence": i0 * mu, "mu": mu}
    measured["electron_yield"] = measured["fluorescence"]
    how = st.sampled_from(
        ["none"] * 8 + ["holes", "constant", "huge", "infinite", "saturated", "tiny", "reversed"]
    )
    with np.errstate(over="ignore", invalid="ignore"):
        columns = {
            name: spoiled(measured[name], draw(how), rng)
            for name in draw(st.sets(st.sampled_from(CHANNELS), min_size=1))
        }
    energy = EDGE_ENERGIES.get((element, edge), 7112.0) + x
    unit = draw(st.sampled_from(["eV"] * 9 + ["keV", "descending", "repeated", "holes"]))
    if unit == "keV":
        energy = 1e-3 * energy
    elif unit == "descending":
        energy = energy[::-1].copy()
    elif unit == "repeated":
        energy[energy.size // 2 :] = energy[energy.size // 2]
    elif unit == "holes":
        energy[energy.size // 2] = np.nan
    return AbsorptionScan(energy=energy, element=element, edge=edge, **columns)


@settings(max_examples=200, deadline=None)
@given(
    scan=scans(), deglitch=st.booleans(), offset=st.sampled_from(["reference", "none", 0.5, 1e7, math.nan])
)
def test_any_scan_is_reduced_or_refused(scan, deglitch, offset):
    reason, xanes = None, None
    try:
        xanes = reduce_xanes(scan, XanesSettings(deglitch=deglitch, energy_offset=offset))
    except XpdmlError as error:
        reason = error.reason
    if xanes is None:
        assert reason
        assert reason.code is not ReasonCode.INTERNAL_ERROR
        return
    assert np.isfinite(xanes.norm).all()
    assert np.isfinite(xanes.flat).all()
    assert xanes.edge_step > 0.0
    assert xanes.energy[0] < xanes.e0 < xanes.energy[-1]
    assert all(isinstance(reason, Reason) for reason in xanes.quality.reasons)
    uncalibrated = xanes.axis.source is AxisSource.NONE
    assert xanes.quality.has(ReasonCode.AXIS_UNCALIBRATED) == uncalibrated


@settings(max_examples=100, deadline=None)
@given(scan=scans(), near=st.none() | st.floats(6500.0, 7500.0))
def test_any_channels_give_an_absorption_or_a_reason(scan, near):
    try:
        signal = select_mode(scan, near=near).signal
    except XpdmlError:
        return
    assert signal.energy.shape == signal.mu.shape
    assert np.isfinite(signal.mu).all()


def short_reference(start, noise, seed):
    """Return an iron scan with a foil that starts a few eV below its edge."""
    x = np.arange(start, 200.0, 0.5)
    rng = np.random.default_rng(seed)
    it = 1e5 * np.exp(-rise(x - 12.0))
    ir = it * np.exp(-0.6 * rise(x) - noise * rng.normal(size=x.size))
    energy = FOIL_ENERGIES["Fe"] + x
    return AbsorptionScan(energy=energy, i0=np.full(x.size, 1e5), it=it, ir=ir, element="Fe", edge="K")


@pytest.mark.parametrize("start", [-14.9, -14.0, -13.0, -12.0, -11.0, -10.5])
def test_a_noisy_reference_that_starts_near_the_foil_gives_an_uncalibrated_axis(start):
    sources = Counter()
    for seed in range(60):
        axis, doubts, _ = calibrate(short_reference(start, 0.1, seed))
        sources[axis.source] += 1
        if axis.source is AxisSource.NONE:
            assert (axis.offset, axis.uncertainty) == (0.0, 2.0)
            assert [doubt.code for doubt in doubts] == [ReasonCode.AXIS_UNCALIBRATED]
        else:
            assert abs(axis.offset) < 6.0
    assert sources[AxisSource.NONE] > 0


def test_a_reference_that_is_steepest_at_its_first_point_is_refused():
    axis, (doubt,), _ = calibrate(short_reference(-12.0, 0.1, 20))
    assert axis.source is AxisSource.NONE
    assert doubt.code is ReasonCode.AXIS_UNCALIBRATED
    assert "at its first point, -12.0 eV from the foil" in doubt


def test_a_clean_reference_that_starts_near_the_foil_calibrates_the_axis():
    assert calibrate(short_reference(-12.0, 0.0, 0)).axis.offset == pytest.approx(0.0, abs=0.1)
