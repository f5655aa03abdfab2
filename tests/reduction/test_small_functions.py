"""Small functions of the reduction, each with one example that can be checked by hand."""

import numpy as np
import pytest

from bluesky_xpdml.records import AbsorptionScan, Calibration, Quality, ScatteringPattern
from bluesky_xpdml.reduction.anomalous import dispersion
from bluesky_xpdml.reduction.calibration import calibration_from, describe, energy_of
from bluesky_xpdml.reduction.channels import select_mode, sum_elements
from bluesky_xpdml.reduction.composition import parse_composition
from bluesky_xpdml.reduction.edge_position import pre_edge_line
from bluesky_xpdml.reduction.edges import edges_near, largest_rise, name_edge
from bluesky_xpdml.reduction.energy import CalibrationMemory, MonoCalibration, calibrate, shows_metal
from bluesky_xpdml.reduction.fluorescence import correct_deadtime
from bluesky_xpdml.reduction.image import as_mask, average_frames, combine_masks
from bluesky_xpdml.reduction.noise import saturation
from bluesky_xpdml.reduction.pattern import merge_patterns, momentum_transfer
from bluesky_xpdml.reduction.repeats import merge_repeats
from bluesky_xpdml.reduction.scattering_factors import compton, mean_factors
from bluesky_xpdml.reduction.structure_function import sine_transform
from bluesky_xpdml.reduction.xanes import reduce_xanes, unfit
from bluesky_xpdml.vocabulary import Reason, ReasonCode


def test_scattering_factors():
    assert dispersion("Ni", 8131.0).real - dispersion("Ni", 8321.0).real == pytest.approx(3.0, abs=0.05)
    factors = mean_factors("NiO", np.array([0.0]))
    assert factors.squared_mean.round().tolist() == [324.0]
    assert factors.mean_square.round().tolist() == [424.0]
    assert compton("O", np.array([0.0, 25.0])).round(1).tolist() == [0.0, 7.8]


def test_a_calibration_survives_as_plain_values():
    geometry = {"Distance": 0.2, "poni1": 0.2, "poni2": 0.1, "rot1": 0, "rot2": 0, "rot3": 0}
    calibration = calibration_from(geometry | {"pixel1": 2e-4, "pixel2": 2e-4}, wavelength=0.1836)
    assert isinstance(calibration, Calibration)
    assert calibration.distance == 0.2
    assert calibration_from(describe(calibration)) == calibration
    assert round(energy_of(0.1836)) == 67530


def test_modes_and_detector_elements():
    energy = np.arange(7000.0, 7200.0)
    edge = np.arctan(energy - 7112.0)
    scan = AbsorptionScan(energy=energy, i0=np.ones(200), it=np.exp(-edge), fluorescence=edge + 2.0)
    chosen = select_mode(scan, near=7112.0)
    assert chosen.signal.mode == "transmission"
    assert list(chosen.rises) == ["transmission", "fluorescence"]

    elements = {"Fe1": np.arange(1.0, 6.0), "Fe2": np.zeros(5)}
    total, remarks = sum_elements(AbsorptionScan(energy=np.arange(5.0), fluorescence_elements=elements))
    assert total.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert remarks == ("1 of 2 detector elements summed; left out: Fe2 (constant at 0)",)


def test_compositions():
    assert parse_composition("Zr(HPO4)2.H2O") == {"Zr": 1.0, "H": 4.0, "P": 2.0, "O": 9.0}
    assert parse_composition({"Ni": 2}) == {"Ni": 2.0}


def test_edges():
    x = np.linspace(-150.0, 50.0, 201)
    np.testing.assert_allclose(pre_edge_line(x, 2.0 - 0.001 * x), 2.0 - 0.001 * x)
    assert largest_rise(np.arange(7000.0, 7300.0), np.zeros(300)) is None
    assert [str(near) for near in edges_near(8985.0)] == ["Cu K, 6.0 eV above the tabulated edge"]
    assert [(near.element, near.edge) for near in edges_near(5990.0)] == [("Cr", "K"), ("Ba", "L1")]
    energy = np.arange(8800.0, 9200.0)
    named, reasons = name_edge(AbsorptionScan(energy=energy, mu=np.arctan((energy - 8985.2) / 2.0)))
    assert (named.element, named.edge) == ("Cu", "K")
    assert [reason.code for reason in reasons] == [ReasonCode.ELEMENT_FROM_EDGE]


def test_the_energy_axis():
    memory = CalibrationMemory()
    memory.remember(MonoCalibration(mono="dcm", element="Fe", offset=1.2, uncertainty=0.3, time=0.0))
    for each in (memory, CalibrationMemory.from_plain(memory.to_plain())):
        assert each.last("dcm", "Fe").offset == 1.2
        assert each.last("dcm", "Cu") is None
    scan = AbsorptionScan(energy=np.arange(7000.0, 7200.0), mu=np.ones(200), element="Fe", edge="K")
    assert calibrate(scan, 1.5).axis.offset == 1.5
    assert [doubt.code for doubt in calibrate(scan).doubts] == [ReasonCode.AXIS_UNCALIBRATED]
    x = np.arange(-50.0, 80.0, 0.5)
    assert [shows_metal(x, np.arctan((x - edge) / 2.0), "Fe") for edge in (0.5, 12.0)] == [True, False]


def test_counts_and_images():
    assert correct_deadtime(np.array([100.0]), np.array([2e5]), np.array([1.6e5])).tolist() == [125.0]
    assert saturation(np.minimum(np.arange(20.0), 12.0)).startswith("stays at its maximum for 8 points")
    assert saturation(np.ones(20)) == ""
    assert as_mask([[1, 0]], (1, 2)).tolist() == [[True, False]]
    assert as_mask([[1, 0]], (1, 2), bad=False).tolist() == [[False, True]]
    assert combine_masks(np.array([True, False]), None, np.array([False, False])).tolist() == [True, False]
    mean, variance, n = average_frames(np.array([[[1, 2]], [[3, 2]], [[5, 2]]]))
    assert (mean.tolist(), variance.tolist(), n) == ([[3.0, 2.0]], [[4.0, 0.0]], 3)


def test_patterns():
    assert momentum_transfer(np.array([10.0, 20.0]), "1/nm").tolist() == [1.0, 2.0]
    assert momentum_transfer(np.array([60.0]), "2th_deg", wavelength=1.0) == pytest.approx([2.0 * np.pi])
    near = ScatteringPattern(q=np.linspace(0.1, 12.0, 200), intensity=np.full(200, 2.0))
    far = ScatteringPattern(q=np.linspace(8.0, 25.0, 200), intensity=np.full(200, 4.0))
    merged = merge_patterns([near, far])
    assert merged.q[-1] == pytest.approx(25.0, abs=0.5)
    assert merged.intensity.max() == pytest.approx(2.0)
    q, r = np.linspace(0.0, 30.0, 3001), np.array([1.0, 2.0, 3.0])
    g, variance = sine_transform(q, np.sin(2.0 * q) * np.exp(-0.01 * q**2), r)
    assert g == pytest.approx([0.0, 2.82, 0.0], abs=0.005)
    assert variance is None


def test_repeats_and_reasons():
    energy = np.arange(6950.0, 7400.0, 1.0)
    scan = AbsorptionScan(energy=energy, mu=np.arctan((energy - 7120.0) / 2.0), element="Fe", edge="K")
    merged = merge_repeats([reduce_xanes(scan)] * 3)
    assert (merged.n_kept, merged.xanes.settings["repeats"]) == (3, 3)
    coarse = Reason("steps of up to 3.0 eV across the edge", ReasonCode.COARSE_STEPS)
    read = Reason("columns taken as energy and mu", ReasonCode.INTERPRETED_INPUT)
    assert unfit(Quality().note(coarse, read)) == (coarse,)
