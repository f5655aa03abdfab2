"""Small functions of the simulated beamlines, each with one example that can be checked by hand."""

import numpy as np
import pytest

from bluesky_xpdml.demo.beamline import Sensor, energy_grid, load_scattering_samples
from bluesky_xpdml.demo.beamline.physics import resolution, victoreen
from bluesky_xpdml.demo.beamline.scattering_physics import compton_pattern
from bluesky_xpdml.demo.loop_baselines import front_distance
from bluesky_xpdml.simulation.pair_distribution import forward_factors


def test_absorption_falls_with_energy():
    assert victoreen(np.array([7000.0, 7700.0]), 7000.0) == pytest.approx(
        [1.0, 1.25 / 1.1**3 - 0.25 / 1.1**4]
    )


def test_the_resolution_of_a_monochromator_is_a_share_of_the_energy():
    assert resolution(7112.0) == pytest.approx(0.42, abs=0.005)


def test_a_scan_is_fine_over_the_edge():
    grid = energy_grid(7110.75)
    assert len(grid) == 358
    assert grid[[0, -1]] == pytest.approx([6960.75, 7439.6], abs=0.05)


def test_compton_scattering_grows_with_q():
    assert compton_pattern({"O": 1.0}, np.array([1.0, 25.0]), 0.1836) == pytest.approx([0.7, 7.2], abs=0.05)


def test_atoms_scatter_forward_by_their_electrons():
    assert forward_factors(["O", "Ti"]) == pytest.approx([8.0, 22.0], abs=0.005)


def test_the_composition_of_a_sample_is_that_of_the_formula_unit():
    compositions = {sample.name: sample.composition for sample in load_scattering_samples()}
    assert compositions["LaFeO3"] == {"Fe": 1.0, "La": 1.0, "O": 3.0}


def test_a_frame_has_the_type_and_shape_of_the_detector():
    frame = Sensor().pixels((64, 32), seed=1).expose(None, 1.0, np.random.default_rng(1))
    assert frame.dtype == np.uint16
    assert frame.shape == (64, 32)


def test_the_distance_of_fronts_is_a_share_of_the_range():
    assert front_distance(np.array([500.0, 520.0]), np.array([510.0, 520.0])) == pytest.approx(0.01)
