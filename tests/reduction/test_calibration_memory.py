"""Stored calibrations of monochromators: what is used, and how its uncertainty grows."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.reduction.energy import CalibrationMemory, MonoCalibration


def calibration(**changes):
    known = {"mono": "dcm", "element": "Fe", "offset": 1.2, "uncertainty": 0.3, "time": 100.0, "source": "a"}
    return MonoCalibration(**(known | changes))


def test_the_later_of_two_calibrations_counts_in_whichever_order_they_come():
    early, late = calibration(), calibration(time=200.0, offset=1.4)
    for order in ((early, late), (late, early)):
        memory = CalibrationMemory()
        for each in order:
            memory.remember(each)
        assert memory.last("dcm", "Fe") == late


def test_elements_and_monochromators_are_kept_apart():
    memory = CalibrationMemory()
    memory.remember(calibration())
    assert memory.last("dcm", "Cu") is None
    assert memory.last("other", "Fe") is None


@given(
    st.lists(
        st.builds(
            calibration,
            mono=st.text(min_size=1, max_size=4),
            element=st.sampled_from(["Fe", "Cu"]),
            offset=st.floats(-6, 6),
            time=st.floats(0, 2e9),
        ),
        max_size=8,
    )
)
def test_the_plain_form_survives_json(calibrations):
    memory = CalibrationMemory()
    for each in calibrations:
        memory.remember(each)
    again = CalibrationMemory.from_plain(json.loads(json.dumps(memory.to_plain(), allow_nan=False)))
    assert again.to_plain() == memory.to_plain()


@pytest.mark.parametrize(
    "entry",
    [
        {"mono": "dcm"},
        {"mono": "dcm", "element": "Fe", "offset": float("nan"), "uncertainty": 0.3, "time": 0.0},
        {"mono": "dcm", "element": "Fe", "offset": "far", "uncertainty": 0.3, "time": 0.0},
        {"mono": "dcm", "element": "Fe", "offset": 1.0, "uncertainty": 0.3, "time": 0.0, "colour": "red"},
    ],
)
def test_what_is_no_calibration_is_refused(entry):
    with pytest.raises(ReductionError, match="stored calibration"):
        CalibrationMemory.from_plain([entry])


def test_uncertainty_grows_to_both_sides_of_the_calibration():
    foil = calibration(time=7200.0)
    assert foil.axis_at(0.0, 0.1).uncertainty == foil.axis_at(14400.0, 0.1).uncertainty == pytest.approx(0.5)
    assert foil.describe_age(0.0) == "calibrated 2.0 h after by the Fe foil of a"
