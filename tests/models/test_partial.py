"""Unfinished scans are continued as they ended, and their answers have wider intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.models.partial import REACHES, WIDENING, continue_scan, widen, widening
from bluesky_xpdml.records import AbsorptionScan, Estimate, Prediction, Quality

FOIL = 7110.75


def scan_up_to(end, **more):
    energy = np.arange(7000.0, end + 0.5, 0.5)
    i0 = 1e6 + 100.0 * np.arange(energy.size)
    return AbsorptionScan(energy=energy, i0=i0, it=0.4 * i0, element="Fe", edge="K", **more)


def answer(element="Fe"):
    found = {"oxidation_state": Estimate(value=2.8, low=2.5, high=3.2, unit="e")}
    return Prediction(technique="xanes", element=element, edge="K", quality=Quality(), descriptors=found)


def test_every_channel_continues_at_the_mean_of_its_last_three_ev():
    elements = {"Fe1": np.linspace(1.0, 2.0, 261), "Fe2": np.linspace(3.0, 9.0, 261)}
    scan = scan_up_to(7130.0, fluorescence_elements=elements)
    longer = continue_scan(scan)
    assert longer.energy[260] == 7130.0
    assert longer.energy[-1] >= FOIL + 60.0
    assert np.all(np.diff(longer.energy) > 0.0)
    for before, after in (
        (scan.i0, longer.i0),
        (scan.it, longer.it),
        (elements["Fe1"], longer.fluorescence_elements["Fe1"]),
        (elements["Fe2"], longer.fluorescence_elements["Fe2"]),
    ):
        np.testing.assert_array_equal(after[:261], before)
        # Steps of half an eV: the last three eV are seven points.
        np.testing.assert_allclose(after[261:], np.sum(before[-7:]) / 7.0, rtol=1e-14)
    assert (longer.ir, longer.mu) == (None, None)


def test_a_scan_beyond_the_window_is_unchanged():
    scan = scan_up_to(7180.0)
    assert continue_scan(scan) is scan


@pytest.mark.parametrize(
    ("scan", "message"),
    [
        (scan_up_to(7112.0), "the scan has reached"),
        (AbsorptionScan(energy=np.arange(9.0), mu=np.ones(9), element="Zn", edge="K"), "found Zn"),
        (AbsorptionScan(energy=np.arange(9.0), mu=np.ones(9)), "found no element"),
    ],
)
def test_a_scan_that_has_not_passed_the_edge_is_refused(scan, message):
    with pytest.raises(ReductionError, match=message):
        continue_scan(scan)


def test_intervals_widen_in_quadrature():
    low, high = 2.8 - np.hypot(0.3, 0.91), 2.8 + np.hypot(0.4, 0.91)
    state = widen(answer(), FOIL + 20.0).descriptors["oxidation_state"]
    assert (state.value, state.low, state.high) == (2.8, pytest.approx(low), pytest.approx(high))


def test_an_answer_beyond_the_window_is_not_widened():
    assert widen(answer(), FOIL + 60.0).descriptors == answer().descriptors


def test_no_answer_before_the_edge_and_no_interval_below_zero():
    assert widen(answer(), FOIL + 17.9).descriptors == {}
    small = Estimate(value=0.2, low=0.1, high=0.3, unit="e")
    prediction = Prediction(
        technique="xanes", element="Fe", edge="K", quality=Quality(), descriptors={"oxidation_state": small}
    )
    assert widen(prediction, FOIL + 18.0).descriptors["oxidation_state"].low == 0.0


@given(
    st.sampled_from(sorted(WIDENING)),
    st.floats(min_value=0.0, max_value=100.0),
    st.floats(min_value=0.0, max_value=100.0),
)
def test_longer_scans_are_never_widened_more(name, one, other):
    near, far = sorted((one, other))
    assert widening(name, near) >= widening(name, far) >= 0.0


def test_the_table_has_a_value_per_reach():
    assert all(len(values) == len(REACHES) for values in WIDENING.values())
    assert all(values[-1] == 0.0 for values in WIDENING.values())
