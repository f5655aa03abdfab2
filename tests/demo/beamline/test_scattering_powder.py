"""The powder pattern is a sum over reciprocal space, G(r) one over pairs: they must agree."""

import numpy as np
import pytest

from bluesky_xpdml.demo.beamline import ScatteringSample, load_scattering_samples
from bluesky_xpdml.demo.beamline.scattering_physics import (
    Illumination,
    compton_pattern,
    nitrogen_pattern,
    powder_pattern,
    silica_pattern,
)
from bluesky_xpdml.errors import SimulationError
from bluesky_xpdml.reduction.scattering_factors import form_factor, mean_factors
from bluesky_xpdml.simulation.pair_distribution import Instrument

Q = 0.005 * np.arange(1, 5801)
Q_DAMP = 0.03
SAMPLES = {sample.name: sample for sample in load_scattering_samples()}


def coherent(sample: ScatteringSample) -> np.ndarray:
    return powder_pattern(sample.structure, Q, u_iso=sample.u_iso, q_damp=Q_DAMP)


def test_lines_of_nickel_have_place_and_strength(nickel: ScatteringSample) -> None:
    """I of a line, integrated over Q, is multiplicity f^2 exp(-U Q^2) N 2 pi^2 / (V Q^2) an atom."""
    pattern = coherent(nickel)
    diffuse = form_factor("Ni", Q) ** 2 * (1.0 - np.exp(-nickel.u_iso * Q**2))
    for squares, multiplicity in ((3, 8), (4, 6), (8, 12), (16, 6)):
        centre = 2.0 * np.pi / 3.524 * np.sqrt(squares)
        near = np.abs(Q - centre) < 6.0 * Q_DAMP
        weight = (pattern - diffuse)[near]
        assert Q[near] @ weight / weight.sum() == pytest.approx(centre, abs=2e-3)
        factor = float(form_factor("Ni", np.array([centre]))[0])
        thermal = np.exp(-nickel.u_iso * centre**2)
        expected = multiplicity * factor**2 * thermal * 4.0 * 2.0 * np.pi**2 / (3.524**3 * centre**2)
        assert weight.sum() * 0.005 == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_transform_is_the_sum_over_pairs(sample: ScatteringSample) -> None:
    """On an absolute scale, and with the Laue term: nothing is fitted."""
    instrument = Instrument(q_min=0.7, q_max=25.0, q_damp=Q_DAMP)
    r, expected = sample.measurable_pair_distribution(r_max=20.0, instrument=instrument)
    factors = mean_factors(sample.composition, Q)
    f = Q * (coherent(sample) - factors.mean_square) / factors.squared_mean
    used, far = (instrument.q_min < Q) & (instrument.q_max > Q), r >= 1.5
    g = 2.0 / np.pi * 0.005 * np.sin(np.outer(r[far], Q[used])) @ f[used]
    assert np.corrcoef(g, expected[far])[0, 1] > 0.9997
    assert g @ expected[far] / (expected[far] @ expected[far]) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("name", ["LaFeO3", "MnCO3"])
def test_pattern_ends_in_the_laue_term(name: str) -> None:
    pattern, factors = coherent(SAMPLES[name]), mean_factors(SAMPLES[name].composition, Q)
    high = Q > 22.0
    assert np.mean(pattern[high] / factors.mean_square[high]) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize(
    ("q", "message"),
    [
        (np.linspace(0.0, 5.0, 1001), "above 0"),
        (np.geomspace(0.1, 5.0, 1001), "evenly spaced"),
        (np.linspace(0.1, 5.0, 51), "expected at least 3.0 steps"),
    ],
)
def test_grids_that_would_lose_lines_are_refused(
    nickel: ScatteringSample, q: np.ndarray, message: str
) -> None:
    with pytest.raises(SimulationError, match=message):
        powder_pattern(nickel.structure, q, u_iso=0.005, q_damp=Q_DAMP)


def test_container_and_air_scatter_as_glass_and_gas_do() -> None:
    silica, free = silica_pattern(Q), mean_factors({"Si": 1.0, "O": 2.0}, Q).mean_square
    assert silica.min() > 0.0
    assert np.mean(silica[Q > 20.0] / free[Q > 20.0]) == pytest.approx(1.0, abs=0.02)
    assert silica[0] < 0.3 * silica.max(), "a dense glass does not scatter forward"
    assert nitrogen_pattern(np.array([1e-6]))[0] == pytest.approx(2.0 * 7.0**2, rel=2e-3)


def test_compton_scattering_loses_energy_by_recoil() -> None:
    q = np.array([0.0, 5.0, 25.0])
    hard, soft = (compton_pattern({"O": 1.0}, q, wavelength) for wavelength in (0.1836, 0.45))
    assert hard[0] == soft[0] == 0.0
    assert soft[2] < hard[2] < 8.0, "at equal Q soft X-rays are scattered further back"
    share = Illumination().background_rate(Q)[-1] / Illumination().sample_rate(SAMPLES["NaFeO2"], Q)[-1]
    assert 0.05 < share < 0.5
