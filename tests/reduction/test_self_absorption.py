"""Self-absorption: undone, and compared with a sample of layers that is calculated independently."""

import numpy as np
import pytest
import xraydb
from hypothesis import given
from hypothesis import strategies as st

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan
from bluesky_xpdml.reduction.fluorescence import (
    SelfAbsorption,
    correct_self_absorption,
    self_absorption_ratio,
)
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes

ENERGY = np.concatenate(
    [np.arange(6950.0, 7090.0, 5.0), np.arange(7090.0, 7170.0, 0.5), np.arange(7170.0, 7500.0, 2.0)]
)


def true_shape(energy):
    """Return an edge with a white line and oscillations, 0 before and 1 behind."""
    x = energy - 7124.0
    edge = 0.5 + np.arctan(x / 1.0) / np.pi
    return edge * (1.0 + 0.5 * np.exp(-(((x - 4.0) / 4.0) ** 2)) + 0.04 * np.sin(x / 12.0) * (x > 0.0))


def thick_sample(energy, incidence, leaving):
    """Return the fluorescence of Fe2O3 by summing layers, each weakened on the way in and out."""
    formula, density = {"Fe": 2.0, "O": 3.0}, 5.24
    mass = sum(n * xraydb.atomic_mass(symbol) for symbol, n in formula.items())

    def weight(symbol):
        return density * formula[symbol] * xraydb.atomic_mass(symbol) / mass

    below = xraydb.mu_elam("Fe", np.array([7000.0, 7105.0]))
    slope = np.log(below[1] / below[0]) / np.log(7105.0 / 7000.0)
    background = below[0] * (energy / 7000.0) ** slope
    full = xraydb.mu_elam("Fe", np.maximum(energy, 7113.0)) - background
    shell = weight("Fe") * full * true_shape(energy)
    total_in = shell + weight("Fe") * background + weight("O") * xraydb.mu_elam("O", energy)
    out = sum(weight(symbol) * xraydb.mu_elam(symbol, 6400.0) for symbol in formula)
    depth = np.linspace(0.0, 0.02, 20_001)
    path_in, path_out = 1.0 / np.sin(np.radians(incidence)), 1.0 / np.sin(np.radians(leaving))
    layers = np.exp(-depth[None, :] * (total_in[:, None] * path_in + out * path_out))
    return shell * np.trapezoid(layers, depth, axis=1)


@pytest.mark.parametrize(("incidence", "leaving"), [(45.0, 45.0), (30.0, 60.0), (80.0, 20.0)])
def test_a_thick_oxide_gets_its_white_line_back(incidence, leaving):
    counts = thick_sample(ENERGY, incidence, leaving)
    scan = AbsorptionScan(energy=ENERGY, i0=np.ones(ENERGY.size), fluorescence=counts, element="Fe", edge="K")
    geometry = SelfAbsorption(composition="Fe2O3", incidence=incidence, exit=leaving)
    given = {"energy_offset": 0.0, "e0": 7124.0, "pre_edge": (-150.0, -40.0), "post_edge": (60.0, 370.0)}
    damped = reduce_xanes(scan, XanesSettings(**given))
    undone = reduce_xanes(scan, XanesSettings(**given, self_absorption=geometry))
    ideal = AbsorptionScan(energy=ENERGY, mu=true_shape(ENERGY), element="Fe", edge="K")
    truth = reduce_xanes(ideal, XanesSettings(**given))
    near = np.abs(ENERGY - 7140.0) < 40.0
    lost = np.abs(damped.flat - truth.flat)[near].max()
    left = np.abs(undone.flat - truth.flat)[near].max()
    assert lost > 0.15
    assert left < 0.1 * lost
    assert undone.settings["self_absorption_composition"] == "Fe2O3"
    assert "self-absorption of thick Fe2O3 corrected" in " ".join(undone.quality.reasons)


@given(beta=st.floats(0.05, 100.0), height=st.floats(-0.1, 1.5))
def test_the_correction_inverts_the_damping(beta, height):
    damped = height * (1.0 + beta) / (height + beta) if height > -beta else 0.0
    expected = height if height > -beta else 0.0
    try:
        found = correct_self_absorption(np.array([damped]), beta)[0]
    except ReductionError:
        assert height > 1.0 or beta < 0.2
        return
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_dilute_sample_is_left_as_it_is():
    dilute = self_absorption_ratio(
        SelfAbsorption(composition="FeSi1000O2000", incidence=45, exit=45), "Fe", "K"
    )
    assert dilute > 100.0
    assert correct_self_absorption(np.array([0.0, 1.5, 1.0]), dilute) == pytest.approx(
        [0.0, 1.5, 1.0], abs=0.01
    )


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (SelfAbsorption(composition="NiO", incidence=45, exit=45), "expected Fe in the composition"),
        (SelfAbsorption(composition="Fe2O3", incidence=0, exit=45), "angle of incidence above 0"),
        (SelfAbsorption(composition="Fe2O3", incidence=45, exit=91), "angle of exit above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(sample, message):
    with pytest.raises(ReductionError, match=message):
        self_absorption_ratio(sample, "Fe", "K")


def test_a_spectrum_that_the_sample_cannot_show_is_refused():
    with pytest.raises(ReductionError, match="cannot show more than"):
        correct_self_absorption(np.array([0.0, 2.0]), 0.8)


def test_transmission_is_not_corrected_with_a_remark():
    scan = AbsorptionScan(
        energy=ENERGY, i0=np.ones(ENERGY.size), it=np.exp(-true_shape(ENERGY)), element="Fe", edge="K"
    )
    sample = SelfAbsorption(composition="Fe2O3", incidence=45.0, exit=45.0)
    xanes = reduce_xanes(scan, XanesSettings(energy_offset=0.0, self_absorption=sample))
    assert "self-absorption not corrected: mu was measured in transmission" in xanes.quality.reasons
