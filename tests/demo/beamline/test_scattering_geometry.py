"""Pixels look where pyFAI says they do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.demo.beamline import flat_panel
from bluesky_xpdml.demo.beamline.detector import beam_stop_shadow, detector_geometry
from bluesky_xpdml.errors import BeamlineError
from bluesky_xpdml.records import Calibration

ANGLE = st.floats(-0.3, 0.3)
PLACE = st.floats(-0.1, 0.3)


@settings(max_examples=20, deadline=None)
@given(rot1=ANGLE, rot2=ANGLE, rot3=st.floats(-3.0, 3.0), poni1=PLACE, poni2=PLACE)
def test_geometry_is_that_of_pyfai(rot1: float, rot2: float, rot3: float, poni1: float, poni2: float) -> None:
    from pyFAI.detectors import Detector
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator

    place = Calibration(
        distance=0.21, poni1=poni1, poni2=poni2, rot1=rot1, rot2=rot2, rot3=rot3,
        wavelength=1.9e-11, pixel1=4e-3, pixel2=2e-3, shape=(50, 100),
    )  # fmt: skip
    judge = AzimuthalIntegrator(
        dist=place.distance, poni1=poni1, poni2=poni2, rot1=rot1, rot2=rot2, rot3=rot3,
        detector=Detector(place.pixel1, place.pixel2, max_shape=place.shape), wavelength=place.wavelength,
    )  # fmt: skip
    geometry = detector_geometry(place)
    response = judge.solidAngleArray(place.shape) * judge.polarization(place.shape, 0.99)
    assert np.allclose(geometry.q, judge.array_from_unit(place.shape, "center", "q_A^-1"), atol=1e-4)
    assert np.allclose(geometry.response, response, atol=1e-5)


def test_direct_beam_is_where_q_is_least() -> None:
    geometry = detector_geometry(flat_panel(pixels=512))
    row, column = np.unravel_index(np.argmin(geometry.q), geometry.q.shape)
    assert (row, column) == (round(geometry.offset[0]), round(geometry.offset[1]))


def test_beam_stop_hides_the_beam_and_its_arm_runs_to_the_last_row() -> None:
    place = flat_panel(pixels=512)
    geometry = detector_geometry(place)
    shadow = beam_stop_shadow(geometry, place, radius=4e-3, arm=1.6e-3)
    assert shadow[np.unravel_index(np.argmin(geometry.q), shadow.shape)]
    assert 1 <= shadow[-1].sum() <= 3
    assert not shadow[0].any()
    assert not beam_stop_shadow(geometry, place, radius=4e-3, arm=0.0)[-1].any()


def test_panel_reaches_far_enough_for_a_pair_distribution() -> None:
    geometry = detector_geometry(flat_panel(pixels=512))
    edges = [geometry.q[0], geometry.q[-1], geometry.q[:, 0], geometry.q[:, -1]]
    assert min(edge.min() for edge in edges) > 25.0, "whole rings up to there"


def test_detector_without_a_shape_is_refused() -> None:
    place = flat_panel()
    bare = Calibration(
        **{name: getattr(place, name) for name in place.__slots__ if name not in {"shape", "orientation"}}
    )
    with pytest.raises(BeamlineError, match="expected a shape"):
        detector_geometry(bare)
