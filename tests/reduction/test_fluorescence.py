"""Which elements of a fluorescence detector are summed, and how the others are named."""

import re

import numpy as np
import pytest

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, DetectionMode
from bluesky_xpdml.reduction.channels import select_mode, sum_elements
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes
from bluesky_xpdml.sources.files import read_scan

ENERGY = np.arange(7000.0, 7300.0, 1.0)
EDGE = 0.5 + np.arctan((ENERGY - 7112.0) / 2.0) / np.pi
RNG = np.random.default_rng(5)


def element(*, gain=1.0, step=1.0, background=0.2):
    return RNG.poisson(gain * 2e4 * (step * EDGE + background)).astype(float)


GOOD = {f"Fe{number}": element(gain=gain) for number, gain in enumerate((1.0, 0.7, 1.3, 0.5), start=1)}


def scan(**elements):
    return AbsorptionScan(
        energy=ENERGY,
        i0=np.full(ENERGY.size, 1e6),
        fluorescence_elements=GOOD | elements,
        element="Fe",
        edge="K",
    )


def test_working_elements_are_summed_without_remark():
    counts, remarks = sum_elements(scan(), 7112.0)
    assert np.array_equal(counts, sum(GOOD.values()))
    assert remarks == ()


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (np.zeros(ENERGY.size), "constant at 0"),
        (np.full(ENERGY.size, 7.0), "constant at 7"),
        (np.where(ENERGY < 7150.0, np.nan, 1e4), "150 of 300 points are not finite"),
        (element(gain=1e-3), "counts a point, the others"),
        (element(step=0.1, background=1.0), "edge step 0.0[89] of its mean, the others 1."),
        (element(step=-0.5, background=1.0), "edge step -.* of its mean"),
        (np.minimum(element(), 1.5e4), "stays at its maximum for .* points"),
    ],
)
def test_an_element_that_does_not_see_the_sample_is_left_out_and_named(broken, reason):
    signal = select_mode(scan(Fe9=broken), near=7112.0).signal
    assert signal.mode is DetectionMode.FLUORESCENCE
    assert signal.mu == pytest.approx(sum(GOOD.values()) / 1e6)
    (remark,) = signal.remarks
    assert remark.startswith("4 of 5 detector elements summed; left out: Fe9 (")
    assert re.search(reason, remark), remark


def test_a_detector_of_dead_elements_is_dead():
    dead = AbsorptionScan(
        energy=ENERGY, i0=np.ones(ENERGY.size), fluorescence_elements={"a": 0 * ENERGY, "b": 0 * ENERGY + 3}
    )
    with pytest.raises(ReductionError, match=r"none of 2 detector elements works: a \(constant at 0\), b"):
        select_mode(dead, mode=DetectionMode.FLUORESCENCE)


def test_of_two_elements_that_differ_both_stay():
    two = {"a": element(), "b": element(step=0.1, background=1.0)}
    pair = AbsorptionScan(energy=ENERGY, i0=np.ones(ENERGY.size), fluorescence_elements=two)
    assert sum_elements(pair, 7112.0)[1] == ()


def test_measured_elements_of_a_four_element_detector_all_live(shared_data):
    file = shared_data / "experiment" / "xanes" / "xraylarch" / "NSLS6BM_2019.dat"
    whole, table = read_scan(file, element="V", edge="K"), np.loadtxt(file)
    elements = {f"DTC{number}": table[:, 6 + number] for number in (1, 2, 3, 4)}
    single = AbsorptionScan(
        energy=whole.energy, i0=whole.i0, fluorescence_elements=elements, element="V", edge="K"
    )
    given = XanesSettings(energy_offset=0.0, mode=DetectionMode.FLUORESCENCE)
    xanes = reduce_xanes(single, given)
    assert xanes.norm == pytest.approx(reduce_xanes(whole, given).norm, abs=1e-9)
    assert not any("left out" in reason for reason in xanes.quality.reasons)
