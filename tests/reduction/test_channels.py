"""Which channel is used, and which points are left out."""

import numpy as np
import pytest

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, DetectionMode
from bluesky_xpdml.reduction.channels import select_mode
from bluesky_xpdml.reduction.noise import noise_level

ENERGY = np.arange(7000.0, 7200.0, 1.0)
EDGE = 0.5 + np.arctan((ENERGY - 7112.0) / 2.0) / np.pi
I0 = 1e5 + 50.0 * np.sin(ENERGY)


def scan(**channels):
    return AbsorptionScan(energy=ENERGY, element="Fe", edge="K", **channels)


def test_transmission_comes_before_fluorescence():
    signal = select_mode(scan(i0=I0, it=I0 * np.exp(-EDGE), fluorescence=I0 * EDGE), near=7112.0).signal
    assert signal.mode is DetectionMode.TRANSMISSION
    assert signal.mu == pytest.approx(EDGE)
    assert signal.remarks == ()


@pytest.mark.parametrize(
    ("dead", "reason"),
    [
        (np.zeros(ENERGY.size), "It is constant"),
        (np.where(np.arange(ENERGY.size) % 2, -1.0, 1.0), "not positive"),
        (I0 * np.exp(-1.0 + 1e-4 * np.sin(ENERGY)), "no edge near 7112 eV"),
        (np.full(ENERGY.size, np.nan), "no finite number"),
    ],
)
def test_fluorescence_replaces_a_dead_transmission_with_a_remark(dead, reason):
    signal = select_mode(scan(i0=I0, it=dead, fluorescence=I0 * EDGE), near=7112.0).signal
    assert signal.mode is DetectionMode.FLUORESCENCE
    assert signal.mu == pytest.approx(EDGE)
    assert "transmission not used" in signal.remarks[0]
    assert reason in signal.remarks[0]


def test_the_asked_for_channel_is_used_or_refused():
    both = scan(i0=I0, it=I0 * np.exp(-EDGE), fluorescence=I0 * EDGE)
    assert select_mode(both, mode=DetectionMode.FLUORESCENCE).signal.mode is DetectionMode.FLUORESCENCE
    with pytest.raises(ReductionError, match="reference needs It and Ir; the scan has no Ir"):
        select_mode(both, mode=DetectionMode.REFERENCE)


def test_negative_currents_are_turned():
    signal = select_mode(scan(i0=-I0, it=-I0 * np.exp(-EDGE))).signal
    assert signal.mu == pytest.approx(EDGE)
    assert "negative currents" in signal.remarks[0]


def test_currents_of_opposite_sign_are_refused():
    with pytest.raises(ReductionError, match="200 of 200 points"):
        select_mode(scan(i0=I0, it=-I0))


def test_negative_mu_is_fine():
    signal = select_mode(scan(i0=I0, it=3.0 * I0 * np.exp(-EDGE))).signal
    assert signal.mu.max() < 0.0


def test_lost_points_are_left_out_and_counted():
    it = I0 * np.exp(-EDGE)
    it[[3, 50]] = np.nan
    it[70] = -5.0
    signal = select_mode(scan(i0=I0, it=it)).signal
    assert signal.energy.size == signal.mu.size == ENERGY.size - 3
    assert signal.remarks == ("3 of 200 points with NaN or non-positive intensity left out",)


def test_numbers_beyond_any_absorption_are_left_out():
    mu = EDGE.copy()
    mu[7] = 1e300
    assert select_mode(scan(mu=mu)).signal.energy.size == ENERGY.size - 1


def test_nothing_usable_names_every_channel():
    with pytest.raises(ReductionError, match=r"transmission not used.*; fluorescence not used"):
        select_mode(scan(i0=I0, it=0.0 * I0, fluorescence=np.full(ENERGY.size, np.nan)))


def test_noise_is_measured_in_spite_of_slope_curvature_and_glitches():
    rng = np.random.default_rng(1)
    x = np.sort(rng.uniform(0.0, 100.0, 2000))
    mu = 3.0 - 0.1 * x + 1e-4 * x**2 + rng.normal(scale=0.01, size=x.size)
    mu[::100] += 5.0
    assert noise_level(x, mu) == pytest.approx(0.01, rel=0.1)
