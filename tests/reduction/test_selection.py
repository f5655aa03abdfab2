"""Which detection mode is chosen, and why the others are not."""

import re

import numpy as np
import pytest

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, DetectionMode
from bluesky_xpdml.reduction.channels import select_mode
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes

ENERGY = np.concatenate(
    [np.arange(6950.0, 7090.0, 4.0), np.arange(7090.0, 7170.0, 0.5), np.arange(7170.0, 7500.0, 3.0)]
)
NEAR = 7112.0
RNG = np.random.default_rng(11)
I0 = np.full(ENERGY.size, 1e6) * (1.0 + 1e-4 * (ENERGY - 7112.0))


def edge(step=1.0, noise=0.0):
    x = ENERGY - 7121.0
    return step * (0.5 + np.arctan(x / 2.0) / np.pi) + RNG.normal(scale=noise, size=ENERGY.size)


def scan(**channels):
    return AbsorptionScan(energy=ENERGY, i0=I0, element="Fe", edge="K", **channels)


def test_electron_yield_is_a_mode_of_its_own():
    counts = I0 * (edge() + 0.3)
    signal = select_mode(scan(electron_yield=counts), near=NEAR).signal
    assert signal.mode is DetectionMode.ELECTRON_YIELD
    assert signal.mu == pytest.approx(counts / I0)
    assert reduce_xanes(scan(electron_yield=counts)).mode is DetectionMode.ELECTRON_YIELD


def test_a_clean_transmission_comes_first():
    everything = scan(
        it=I0 * np.exp(-edge(0.8, 0.001)),
        fluorescence=I0 * edge(1.0, 0.0001),
        electron_yield=I0 * edge(1.0, 0.0001),
    )
    chosen = select_mode(everything, near=NEAR)
    assert chosen.signal.mode is DetectionMode.TRANSMISSION
    assert set(chosen.rises) == {
        DetectionMode.TRANSMISSION,
        DetectionMode.FLUORESCENCE,
        DetectionMode.ELECTRON_YIELD,
    }


@pytest.mark.parametrize(
    ("transmission", "said"),
    [
        (edge(0.8, 0.06), "transmission not used: step 0.* noise, fluorescence has 0"),
        (edge(0.03, 0.0002), "transmission not used: step 0.02"),
        (np.maximum(edge(0.8, 0.001), 0.1), "transmission not used: It stays at its maximum"),
        (-edge(0.8, 0.001), "transmission not used: no edge near 7112 eV"),
    ],
)
def test_a_worse_transmission_gives_way_to_fluorescence_with_a_remark(transmission, said):
    flat_i0 = np.full(ENERGY.size, 1e6)
    both = AbsorptionScan(
        energy=ENERGY,
        i0=flat_i0,
        it=flat_i0 * np.exp(-transmission),
        fluorescence=flat_i0 * edge(1.0, 0.001),
        element="Fe",
        edge="K",
    )
    signal = select_mode(both, near=NEAR).signal
    assert signal.mode is DetectionMode.FLUORESCENCE
    assert re.search(said, " ".join(signal.remarks)), signal.remarks


def test_of_two_noisy_modes_the_less_noisy_is_taken():
    noisy = scan(it=I0 * np.exp(-edge(0.8, 0.03)), fluorescence=I0 * edge(1.0, 0.08))
    assert select_mode(noisy, near=NEAR).signal.mode is DetectionMode.TRANSMISSION


def test_the_declared_mode_is_used_if_it_is_usable():
    both = scan(it=I0 * np.exp(-edge(0.8, 0.001)), fluorescence=I0 * edge(1.0, 0.01))
    chosen = select_mode(both, prefer=DetectionMode.FLUORESCENCE, near=NEAR).signal
    assert chosen.mode is DetectionMode.FLUORESCENCE
    assert chosen.remarks == ()
    dead = scan(it=I0 * np.exp(-edge(0.8, 0.001)), fluorescence=np.zeros(ENERGY.size))
    chosen = select_mode(dead, prefer=DetectionMode.FLUORESCENCE, near=NEAR).signal
    assert chosen.mode is DetectionMode.TRANSMISSION
    assert "fluorescence not used: If is constant" in chosen.remarks[0]


def test_a_declared_reference_is_reduced_as_such():
    it = I0 * np.exp(-edge(0.8))
    both = scan(it=it, ir=it * np.exp(-edge(0.6)))
    assert select_mode(both, prefer=DetectionMode.REFERENCE, near=NEAR).signal.mode is DetectionMode.REFERENCE
    assert select_mode(both, near=NEAR).signal.mode is DetectionMode.TRANSMISSION


def test_what_every_mode_shows_is_recorded():
    both = scan(it=I0 * np.exp(-edge(0.8, 0.002)), fluorescence=I0 * edge(0.2, 0.001))
    said = reduce_xanes(both, XanesSettings(energy_offset=0.0)).settings
    assert said["transmission_edge_step"] == pytest.approx(0.8, abs=0.05)
    assert said["transmission_noise"] == pytest.approx(0.002, rel=0.5)
    assert said["fluorescence_edge_step"] == pytest.approx(0.2, abs=0.02)
    assert said["fluorescence_noise"] == pytest.approx(0.001, rel=0.5)


def test_without_any_usable_mode_every_reason_is_given():
    dead = scan(
        it=np.zeros(ENERGY.size), fluorescence=np.full(ENERGY.size, np.nan), electron_yield=0.0 * ENERGY
    )
    with pytest.raises(
        ReductionError, match=r"transmission not used.*fluorescence not used.*electron yield not used"
    ):
        select_mode(dead, near=NEAR)
