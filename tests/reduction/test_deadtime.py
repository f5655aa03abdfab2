"""Dead time of fluorescence detectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.reduction.fluorescence import correct_deadtime


@given(true=st.floats(1e2, 2e6), fast=st.floats(0.0, 4e-7), slow=st.floats(0.3, 1.0), part=st.floats(0, 1))
def test_the_correction_inverts_what_a_detector_does(true, fast, slow, part):
    icr = true * np.exp(-true * fast)
    ocr = icr * slow
    counts = part * true * (ocr / true)
    found = correct_deadtime(np.array([counts]), np.array([icr]), np.array([ocr]), fast_deadtime=fast)
    assert found[0] == pytest.approx(part * true, rel=1e-6, abs=1e-9)


def test_counts_of_a_beamline_give_its_own_corrected_counts(shared_data):
    table = np.loadtxt(shared_data / "experiment" / "xanes" / "xraylarch" / "NSLS6BM_2019.dat")
    seconds = table[:, 2]
    for number in range(4):
        counts, icr, ocr = (table[:, 11 + 3 * number + k] / seconds for k in range(3))
        found = correct_deadtime(counts, icr, ocr, fast_deadtime=2.8e-7) * seconds
        assert found == pytest.approx(table[:, 7 + number], rel=1e-6)


def test_rates_that_no_detector_shows_are_nan():
    one = np.ones(3)
    found = correct_deadtime(one, np.array([1e5, 5e6, 1e5]), np.array([0.0, 1e5, -1.0]), fast_deadtime=1e-7)
    assert np.isnan(found).all()


def test_wrong_arguments_are_refused():
    with pytest.raises(ReductionError, match="one length, found 2, 2 and 3"):
        correct_deadtime(np.ones(2), np.ones(2), np.ones(3))
    with pytest.raises(ReductionError, match="dead time of 0 s or more"):
        correct_deadtime(np.ones(2), np.ones(2), np.ones(2), fast_deadtime=-1.0)
