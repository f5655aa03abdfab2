"""Differences of two patterns below an edge: simulated patterns of NiO, and refusals."""

from dataclasses import replace

import numpy as np
import pytest

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import FloatArray, ScatteringPattern
from bluesky_xpdml.reduction.anomalous import HC, AnomalousSettings, anomalous_difference, dispersion
from bluesky_xpdml.reduction.scattering_factors import compton, form_factor
from bluesky_xpdml.simulation.pair_distribution import Instrument, Pairs, curve
from bluesky_xpdml.simulation.pair_histogram import PairHistogram, pair_histogram
from bluesky_xpdml.simulation.structure import Structure

FACES = np.array([[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
NICKEL_OXIDE = Structure(
    lattice=4.177 * np.eye(3),
    fractional=np.concatenate([FACES, FACES + 0.5]),
    species=("Ni",) * 4 + ("O",) * 4,
)
U_ISO = 0.006
Q_DAMP = 0.08
Q = np.arange(0.4, 8.0, 0.02)
FAR, NEAR = 8133.0, 8323.0
SETTINGS = AnomalousSettings(q_max=7.6)


@pytest.fixture(scope="module")
def pairs() -> PairHistogram:
    return pair_histogram(NICKEL_OXIDE, reach=60.0, r_step=0.02)


def pattern(pairs: PairHistogram, energy: float, counts: float, seed: int) -> ScatteringPattern:
    """Coherent and Compton scattering of the powder, as counted."""
    r = np.arange(pairs.values.shape[1]) * pairs.r_step
    window = np.exp(-0.5 * (Q_DAMP * r) ** 2)
    factors = [form_factor(symbol, Q) + dispersion(symbol, energy) for symbol in pairs.species]
    intensity = compton("NiO", Q) + np.mean([np.abs(f) ** 2 for f in factors], axis=0)
    for first, second, values in zip(pairs.first, pairs.second, pairs.values, strict=True):
        multiplicity = 0.25 if first == second else 0.5
        density = values / (8.0 * pairs.r_step) - 4.0 * np.pi * pairs.number_density * multiplicity * r
        waves = np.sin(np.outer(Q, r)) @ (density * window) * pairs.r_step / Q
        product = (factors[first] * np.conj(factors[second])).real
        intensity += product * waves * np.exp(-(Q**2) * U_ISO)
    scale = counts / intensity.mean()
    counted: FloatArray = np.random.default_rng(seed).poisson(scale * intensity).astype(float)
    return ScatteringPattern(
        q=Q,
        intensity=counted,
        variance=np.maximum(counted, 1.0),
        wavelength=HC / energy,
        raw_uids=(str(seed),),
    )


def test_difference_shows_the_pairs_of_the_metal(pairs: PairHistogram) -> None:
    found = anomalous_difference(
        pattern(pairs, FAR, 1e9, 1),
        pattern(pairs, NEAR, 1e9, 2),
        composition="NiO",
        element="Ni",
        settings=SETTINGS,
    )
    instrument = Instrument(q_min=SETTINGS.q_min, q_max=SETTINGS.q_max, q_damp=Q_DAMP)
    kwargs = {"r_max": 12.02, "instrument": instrument, "u_iso": U_ISO, "metal": "Ni"}
    similarity = {}
    for which in (Pairs.ANOMALOUS, Pairs.TOTAL):
        r, expected = curve(pairs, which=which, **kwargs)
        inside = (r >= 1.5) & (r <= 10.0)
        similarity[which] = np.corrcoef(np.interp(r[inside], found.r, found.g), expected[inside])[0, 1]
    assert similarity[Pairs.ANOMALOUS] > 0.95, similarity
    assert found.raw_uids == ("1", "2")
    assert similarity[Pairs.TOTAL] < similarity[Pairs.ANOMALOUS] - 0.02, similarity
    assert found.settings["amplification"] == pytest.approx(3.2, abs=0.1)


def test_stated_noise_is_the_scatter_of_repeated_measurements(pairs: PairHistogram) -> None:
    exact = replace(SETTINGS, relative_scale_uncertainty=0.0, least_signal_to_noise=0.0)
    runs = [
        anomalous_difference(
            pattern(pairs, FAR, 1e6, 2 * n),
            pattern(pairs, NEAR, 1e6, 2 * n + 1),
            composition="NiO",
            element="Ni",
            settings=exact,
        )
        for n in range(12)
    ]
    inside = (runs[0].r > 1.5) & (runs[0].r < 6.0)
    scatter = np.std([run.g[inside] for run in runs], axis=0, ddof=1).mean()
    assert runs[0].g_variance is not None
    stated = np.sqrt(runs[0].g_variance[inside]).mean()
    assert scatter == pytest.approx(stated, rel=0.25)


def test_drowned_difference_is_refused(pairs: PairHistogram) -> None:
    with pytest.raises(ReductionError, match=r"times its noise, expected at least 3"):
        anomalous_difference(
            pattern(pairs, FAR, 1.0, 1),
            pattern(pairs, NEAR, 1.0, 2),
            composition="NiO",
            element="Ni",
            settings=SETTINGS,
        )


def test_unknown_relative_scale_is_refused(pairs: PairHistogram) -> None:
    with pytest.raises(ReductionError, match="times its noise"):
        anomalous_difference(
            pattern(pairs, FAR, 1e9, 1),
            pattern(pairs, NEAR, 1e9, 2),
            composition="NiO",
            element="Ni",
            settings=replace(SETTINGS, relative_scale_uncertainty=1.0),
        )


FLAT = ScatteringPattern(q=Q, intensity=np.ones(Q.size), variance=np.ones(Q.size), wavelength=HC / FAR)
CLOSE = replace(FLAT, wavelength=HC / NEAR)


@pytest.mark.parametrize(
    ("far", "near", "element", "settings", "reason"),
    [
        (replace(FLAT, wavelength=None), CLOSE, "Ni", SETTINGS, "far pattern has no wavelength"),
        (FLAT, replace(CLOSE, variance=None), "Ni", SETTINGS, "near pattern has no variances"),
        (CLOSE, FLAT, "Ni", SETTINGS, "far one lower"),
        (FLAT, replace(CLOSE, wavelength=HC / 8400.0), "Ni", SETTINGS, "below the Ni K edge"),
        (FLAT, CLOSE, "Cu", SETTINGS, "expected a composition with Cu"),
        (FLAT, CLOSE, "Ni", AnomalousSettings(q_max=9.0), "backscattering"),
        (FLAT, CLOSE, "Ni", AnomalousSettings(q_max=8.1), "patterns end at"),
        (FLAT, replace(CLOSE, wavelength=HC / (FAR + 0.1)), "Ni", SETTINGS, "nearer to the edge"),
        (replace(FLAT, intensity=-np.ones(Q.size)), CLOSE, "Ni", SETTINGS, "no finite, positive"),
        (replace(FLAT, q=Q + 7.5), CLOSE, "Ni", SETTINGS, "points between q_min and q_max"),
    ],
)
def test_two_unsuitable_patterns_are_refused_with_a_reason(
    far: ScatteringPattern,
    near: ScatteringPattern,
    element: str,
    settings: AnomalousSettings,
    reason: str,
) -> None:
    with pytest.raises(ReductionError, match=reason):
        anomalous_difference(far, near, composition="NiO", element=element, settings=settings)
