"""Calibrations and axes: every spelling is read, nothing is made up."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import Calibration
from bluesky_xpdml.reduction.calibration import calibration_from, calibration_from_poni, describe, energy_of
from bluesky_xpdml.reduction.pattern import QUnit, momentum_transfer

SAID = {
    "dist": 0.2,
    "poni1": 0.21,
    "poni2": 0.19,
    "rot1": 0.001,
    "rot2": -0.002,
    "rot3": 0.0,
    "wavelength": 1.671e-11,
    "pixel1": 2e-4,
    "pixel2": 2e-4,
}
EXPECTED = Calibration(
    distance=0.2,
    poni1=0.21,
    poni2=0.19,
    rot1=0.001,
    rot2=-0.002,
    rot3=0.0,
    wavelength=1.671e-11,
    pixel1=2e-4,
    pixel2=2e-4,
)


def test_documents_are_read_in_both_spellings():
    distance = {("Distance" if key == "dist" else key): value for key, value in SAID.items()}
    shouted = {key.title(): str(value) for key, value in SAID.items()}
    for said in (SAID, distance, shouted):
        assert calibration_from(said) == EXPECTED


def test_a_stream_of_calibrations_is_read_by_its_prefix():
    said = {f"pe1_{key}": value for key, value in SAID.items()}
    assert calibration_from(said, prefix="pe1_", shape=(10, 20)) == replace(EXPECTED, shape=(10, 20))


def test_pixels_come_from_the_config_or_from_the_detector():
    bare = {key: value for key, value in SAID.items() if not key.startswith("pixel")}
    config = bare | {"detector": "Detector", "detector_config": {"pixel1": 2e-4, "pixel2": 2e-4}}
    assert calibration_from(config) == EXPECTED
    with_shape = {"pixel1": 2e-4, "pixel2": 2e-4, "max_shape": [5, 6], "orientation": 2}
    assert calibration_from(bare | {"detector_config": with_shape}).shape == (5, 6)
    assert calibration_from(bare | {"detector_config": with_shape}).orientation == 2
    assert calibration_from(bare | {"detector": "Pilatus1M"}).pixel1 == pytest.approx(172e-6)
    with pytest.raises(ReductionError, match="lacks pixel1, pixel2"):
        calibration_from(bare | {"detector": "homemade"})


@pytest.mark.parametrize("missing", sorted(SAID))
def test_what_is_missing_is_named_and_not_made_up(missing):
    said = {key: value for key, value in SAID.items() if key != missing}
    name = "distance" if missing == "dist" else missing
    with pytest.raises(ReductionError, match=rf"lacks {name};.*calibration_md.*\.poni"):
        calibration_from(said)
    with pytest.raises(ReductionError, match=f"lacks {name}"):
        calibration_from(said | {missing: None})


@pytest.mark.parametrize("said", [None, {}])
def test_an_absent_calibration_is_refused(said):
    with pytest.raises(ReductionError, match="no calibration"):
        calibration_from(said)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wavelength": 0.1671}, "wavelength is 0.1671 m.*metres"),
        ({"dist": 200.0}, "distance is 200 m"),
        ({"pixel1": 0.2}, "pixel1 is 0.2 m"),
        ({"poni1": "left"}, "poni1 of the calibration as a number, found 'left'"),
        ({"rot1": float("nan")}, "finite rot1"),
        ({"orientation": 7}, "orientation"),
        ({"detector_config": "{"}, "no JSON"),
        ({"detector_config": [1]}, "as a mapping"),
        ({"shape": 5}, "rows and columns"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ReductionError, match=message):
        calibration_from(SAID | changes)


def test_a_wavelength_beside_the_calibration_is_used_if_it_has_none():
    bare = {key: value for key, value in SAID.items() if key != "wavelength"}
    assert calibration_from(bare, wavelength=0.1671).wavelength == pytest.approx(1.671e-11)
    assert calibration_from(SAID, wavelength=0.5).wavelength == 1.671e-11


def test_a_poni_file_is_read(shared_data):
    text = (shared_data / "experiment/total_scattering/calibration/Ni_poni_file.poni").read_text()
    calibration = calibration_from_poni(text)
    assert calibration.distance == pytest.approx(0.24877604)
    assert calibration.wavelength == pytest.approx(1.671e-11)
    assert (calibration.pixel1, calibration.shape) == (2e-4, None)


def test_of_several_calibrations_in_a_poni_file_the_last_counts():
    lines = "\n".join(f"{key.title()}: {value}" for key, value in SAID.items())
    text = lines + "\n" + lines.replace("Dist: 0.2", "Dist: 0.3")
    assert calibration_from_poni(text).distance == 0.3


@pytest.mark.parametrize("text", ["", "nothing", "Wavelength: 1e-11"])
def test_what_is_no_poni_file_is_refused(text):
    with pytest.raises(ReductionError, match=r"expected a \.poni file"):
        calibration_from_poni(text)


def test_a_poni_file_without_wavelength_is_refused():
    lines = "\n".join(f"{key}: {value}" for key, value in SAID.items() if key != "wavelength")
    with pytest.raises(ReductionError, match="lacks wavelength"):
        calibration_from_poni(lines + "\nWavelength: None")


def test_a_calibration_survives_json():
    calibration = replace(EXPECTED, shape=(3, 4), orientation=1)
    assert calibration_from(json.loads(json.dumps(describe(calibration)))) == calibration


def axis_of(q, unit, wavelength):
    """Convert Q [1/angstrom] to an axis, by Bragg's law."""
    angle = 2.0 * np.arcsin(q * wavelength / (4.0 * np.pi))
    return {"1/A": q, "1/nm": 10.0 * q, "2th_rad": angle, "2th_deg": np.degrees(angle)}[unit]


@given(
    unit=st.sampled_from(list(QUnit)),
    wavelength=st.floats(min_value=0.1, max_value=1.0),
    start=st.floats(min_value=0.001, max_value=2.0),
)
def test_every_axis_is_converted_to_momentum_transfers(unit, wavelength, start):
    q = np.linspace(start, 12.0, 50)
    assert momentum_transfer(axis_of(q, unit, wavelength), unit, wavelength) == pytest.approx(q, rel=1e-9)


def test_units_differ_by_ten():
    assert momentum_transfer(np.array([1.0]), "1/nm") == pytest.approx([0.1])


@pytest.mark.parametrize(
    ("values", "unit", "wavelength", "message"),
    [
        ([10.0], "2th_deg", None, "needs the wavelength.*--wavelength"),
        ([10.0], "2th_deg", 0.0, "positive wavelength"),
        ([10.0], "2th_deg", float("nan"), "positive wavelength"),
        ([190.0], "2th_deg", 1.0, "between 0 and 180"),
        ([20.0], "2th_rad", 1.0, "between 0 and 180"),
        ([1.0], "furlongs", 1.0, "expected one of"),
    ],
)
def test_axes_without_meaning_are_refused(values, unit, wavelength, message):
    with pytest.raises(ReductionError, match=message):
        momentum_transfer(np.array(values), unit, wavelength)


def test_an_energy_needs_a_wavelength():
    assert energy_of(0.1836) == pytest.approx(67530, abs=1)
    with pytest.raises(ReductionError, match="positive wavelength"):
        energy_of(0.0)
