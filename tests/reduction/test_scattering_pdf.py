"""I(Q) to G(r): what is computed, what is recorded, what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import PairDistribution, Quality, Sample, ScatteringPattern, Verdict
from bluesky_xpdml.reduction.pattern import clean_pattern, merge_patterns, subtract_background
from bluesky_xpdml.reduction.pdf import PdfSettings, choose_q_max, coordination_number, reduce_pdf
from bluesky_xpdml.reduction.scattering_factors import mean_factors
from bluesky_xpdml.reduction.structure_function import remove_polynomial, sine_transform

Q = np.arange(0.02, 26.0, 0.02)
DENSITY = 0.09
SHELLS = ((2.5, 1.2), (3.54, 0.6), (4.33, 2.4))


def debye(q, mean_square_displacement=0.012):
    """Return S(Q) - 1 of three shells of neighbours, few enough for no intensity to be negative."""
    fading = np.exp(-0.5 * mean_square_displacement * q**2)
    return sum(number * np.sin(q * r) / (q * r) for r, number in SHELLS) * fading


def pattern(*, noise=0.0, scale=100.0, seed=3, **changes):
    """Return I(Q) of nickel-like shells, with noise of known variance."""
    intensity = scale * mean_factors("Ni", Q).squared_mean * (1.0 + debye(Q) - debye(Q)[-1])
    variance = np.full(Q.size, max(noise * scale, 1e-9 * scale) ** 2)
    intensity = intensity + np.random.default_rng(seed).normal(0.0, noise * scale, Q.size)
    made = ScatteringPattern(q=Q, intensity=intensity, variance=variance, sample=Sample(composition="Ni"))
    return replace(made, **changes)


GIVEN = PdfSettings(q_min=0.5, q_max=24.0, q_max_inst=25.0, r_poly=0.9)


def test_shells_are_found_at_their_simulated_distances():
    pdf = reduce_pdf(pattern(), GIVEN)
    for r, _ in SHELLS:
        near = np.abs(pdf.r - r) < 0.3
        assert pdf.r[near][np.argmax(pdf.g[near])] == pytest.approx(r, abs=0.02)
    assert pdf.quality == Quality().note("no background was subtracted")
    assert pdf.composition == {"Ni": 1.0}


def test_the_transform_agrees_with_the_closed_form():
    q = np.linspace(0.0, 20.0, 4001)
    r = np.arange(0.0, 10.0, 0.1)
    g, variance = sine_transform(q, np.sin(3.0 * q), r)
    expected = 20.0 / np.pi * (np.sinc(20.0 * (r - 3.0) / np.pi) - np.sinc(20.0 * (r + 3.0) / np.pi))
    assert g == pytest.approx(expected, abs=1e-3)
    assert variance is None


def test_lorch_damps_the_ripples():
    sharp = reduce_pdf(pattern(), GIVEN)
    damped = reduce_pdf(pattern(), replace(GIVEN, lorch=True, q_max=15.0))
    cut = reduce_pdf(pattern(), replace(GIVEN, q_max=15.0))
    quiet = (sharp.r > 2.9) & (sharp.r < 3.1)
    assert np.ptp(damped.g[quiet]) < np.ptp(cut.g[quiet])
    assert damped.settings["lorch"] is True


def test_the_variance_of_g_is_that_of_repeated_measurements():
    repeats = [reduce_pdf(pattern(noise=0.3, seed=seed), GIVEN) for seed in range(60)]
    curves = np.array([each.g for each in repeats])
    inside = repeats[0].r > 1.5
    ratio = curves.var(axis=0, ddof=1)[inside] / repeats[0].g_variance[inside]
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.1)


@settings(deadline=None, max_examples=20)
@given(factor=st.floats(1e-3, 1e6))
def test_g_does_not_depend_on_the_unit_of_the_intensity(factor):
    one = pattern(noise=0.1)
    more = replace(one, intensity=factor * one.intensity, variance=factor**2 * one.variance)
    first, second = reduce_pdf(one, GIVEN), reduce_pdf(more, GIVEN)
    assert second.g == pytest.approx(first.g, rel=1e-6, abs=1e-9)
    assert second.g_variance == pytest.approx(first.g_variance, rel=1e-4)
    assert second.settings["scale"] * factor == pytest.approx(first.settings["scale"])


def test_the_recorded_settings_repeat_the_result():
    first = reduce_pdf(pattern(noise=0.05))
    recorded = json.loads(json.dumps(dict(first.settings)))
    assert "auto" not in recorded.values()
    names = ("composition", "q_min", "q_max", "q_max_inst", "r_poly", "r_min", "r_max", "r_step", "lorch")
    again = reduce_pdf(pattern(noise=0.05), PdfSettings(**{name: recorded[name] for name in names}))
    assert np.array_equal(again.g, first.g)
    assert again.settings["q_max_from"] == "given"


def test_noise_shortens_q_max_with_a_reason():
    quiet, loud = reduce_pdf(pattern(noise=0.01)), reduce_pdf(pattern(noise=0.6))
    assert loud.settings["q_max"] < quiet.settings["q_max"] - 3.0
    assert "noise" in loud.settings["q_max_from"] or "grows" in loud.settings["q_max_from"]
    assert quiet.settings["r_poly"] == pytest.approx(1.4)
    assert "2.5" in quiet.settings["r_poly_from"]


def test_nothing_but_noise_is_refused():
    noise = np.random.default_rng(1).normal(size=Q.size)
    with pytest.raises(ReductionError, match="oscillates nowhere"):
        choose_q_max(Q, noise, np.ones(Q.size))


@pytest.mark.parametrize("degree", [3.0, 5.5, 8.0])
def test_the_polynomial_takes_polynomials_and_is_blended(degree):
    q = np.linspace(0.5, 25.0, 800)
    r_poly = degree * np.pi / 25.0
    cubic = 2.0 * q - 0.3 * q**2 + 0.004 * q**3
    assert remove_polynomial(q, cubic, r_poly + 1e-12) == pytest.approx(0.0, abs=1e-7)
    curve = np.sin(0.8 * q)
    low, high = (remove_polynomial(q, curve, (whole + 1e-12) * np.pi / 25.0) for whole in (5, 6))
    blended = remove_polynomial(q, curve, 5.25 * np.pi / 25.0)
    assert blended == pytest.approx(0.75 * low + 0.25 * high, abs=1e-9)


def test_a_background_of_given_scale_is_taken_off_with_its_variance():
    air = ScatteringPattern(
        q=Q, intensity=np.full(Q.size, 50.0), variance=np.full(Q.size, 4.0), raw_uids=("b",)
    )
    sample = pattern(noise=0.1)
    both = replace(sample, intensity=sample.intensity + 0.5 * air.intensity, raw_uids=("a",))
    result = subtract_background(both, air, 0.5)
    assert result.pattern.intensity == pytest.approx(sample.intensity)
    assert result.pattern.variance == pytest.approx(sample.variance + 1.0)
    assert (result.how, result.pattern.raw_uids) == ("given", ("a", "b"))
    pdf = reduce_pdf(both, replace(GIVEN, background_scale=0.5), background=air)
    assert pdf.g == pytest.approx(reduce_pdf(sample, GIVEN).g, abs=1e-9)
    assert (pdf.settings["background_scale"], pdf.settings["background"]) == (0.5, "unnamed")


def test_a_fitted_background_leaves_nothing_negative_and_is_named_an_upper_bound():
    air = ScatteringPattern(q=Q, intensity=400.0 / (1.0 + Q**2) + 20.0)
    both = replace(pattern(), intensity=pattern().intensity + 0.8 * air.intensity)
    result = subtract_background(both, air)
    assert result.scale >= 0.8
    assert result.pattern.intensity[Q > 0.6].min() > -20.0
    assert "upper bound" in result.how
    pdf = reduce_pdf(both, PdfSettings(), background=air)
    assert any("upper bound" in reason for reason in pdf.quality.reasons)


def test_a_background_on_another_grid_is_interpolated_and_beyond_it_nothing_is_used():
    coarse = np.arange(0.1, 20.0, 0.05)
    air = ScatteringPattern(q=coarse, intensity=5.0 + coarse)
    result = subtract_background(pattern(), air, 1.0)
    assert result.pattern.q[-1] <= 20.03
    assert np.interp(result.pattern.q, Q, pattern().intensity) - result.pattern.intensity == pytest.approx(
        5.0 + result.pattern.q, abs=0.06
    )


@pytest.mark.parametrize(
    ("changes", "how", "message"),
    [
        ({"sample": Sample()}, GIVEN, "composition of the sample is not known.*TiO2"),
        ({}, replace(GIVEN, composition="Xx"), "symbol of an element"),
        ({}, replace(GIVEN, q_min=30.0), "q_min < q_max_inst"),
        ({}, replace(GIVEN, q_max=40.0), "lies outside what is used"),
        ({}, replace(GIVEN, q_max=float("nan")), "lies outside"),
        ({}, replace(GIVEN, q_max_inst=1.0), "only 26 points.*check the unit"),
        ({}, replace(GIVEN, r_poly=20.0), "degree"),
        ({}, replace(GIVEN, r_poly=-1.0), "degree"),
        ({}, replace(GIVEN, r_max=-1.0), "r_min < r_max"),
        ({}, replace(GIVEN, r_step=1e-5), "at most 50000"),
        ({"intensity": np.zeros(Q.size)}, GIVEN, "no intensity is left"),
        ({"intensity": -np.ones(Q.size)}, PdfSettings(), "no intensity above its noise"),
        ({"intensity": np.full(Q.size, np.nan)}, GIVEN, "at least 50 points"),
        ({"q": Q[::-1]}, GIVEN, "ascending"),
        ({"q": 10.0 * Q}, PdfSettings(), "check the unit"),
        ({"intensity": np.ones(3)}, GIVEN, "of one length"),
    ],
)
def test_what_cannot_be_reduced_is_refused_with_a_reason(changes, how, message):
    with pytest.raises(ReductionError, match=message):
        reduce_pdf(pattern(**changes), how)


@pytest.mark.parametrize(
    ("background", "scale", "message"),
    [
        (ScatteringPattern(q=100.0 + Q, intensity=np.ones(Q.size)), 1.0, "units of both axes"),
        (ScatteringPattern(q=Q, intensity=np.ones(Q.size)), -1.0, "not negative"),
        (ScatteringPattern(q=Q, intensity=np.ones(Q.size)), float("nan"), "not negative"),
        (ScatteringPattern(q=Q, intensity=np.ones(Q.size), wavelength=0.5), 1.0, "0.18 and 0.5"),
        (ScatteringPattern(q=Q, intensity=np.zeros(Q.size)), "fit", "give the scale"),
    ],
)
def test_a_background_that_does_not_fit_is_refused(background, scale, message):
    with pytest.raises(ReductionError, match=message):
        subtract_background(pattern(wavelength=0.18), background, scale)


def test_points_without_a_number_are_left_out_and_counted():
    intensity = pattern().intensity.copy()
    intensity[[5, 900]] = np.nan
    cleaned = clean_pattern(pattern(intensity=intensity))
    assert cleaned.q.size == Q.size - 2
    assert cleaned.quality.reasons == (f"2 of {Q.size} points without a number left out",)


def test_a_short_range_and_an_unfinished_run_are_suspect():
    short = reduce_pdf(pattern(completeness=0.5), replace(GIVEN, q_max=8.0))
    assert short.quality.verdict is Verdict.SUSPECT
    assert any("q_max is only 8" in reason for reason in short.quality.reasons)
    assert any("only 50 %" in reason for reason in short.quality.reasons)


def test_without_variances_none_is_invented():
    pdf = reduce_pdf(pattern(variance=None), GIVEN)
    assert pdf.g_variance is pdf.f_variance is pdf.s_variance is pdf.intensity_variance is None
    assert "the pattern has no variances: G(r) has none" in pdf.quality.reasons


def test_positions_are_merged_on_the_scale_of_the_first():
    whole = pattern(noise=0.05)
    near, far = Q < 12.0, Q > 9.0
    first = replace(whole, q=Q[near], intensity=whole.intensity[near], variance=whole.variance[near])
    second = replace(
        whole, q=Q[far], intensity=1.5 * whole.intensity[far], variance=2.25 * whole.variance[far]
    )
    merged = merge_patterns([second, first])
    assert np.interp(Q, merged.q, merged.intensity) == pytest.approx(whole.intensity, rel=1e-6)
    alone = merged.q < 8.9
    both = (merged.q > 9.1) & (merged.q < 11.9)
    assert merged.variance[both].mean() == pytest.approx(0.5 * merged.variance[alone].mean(), rel=1e-6)
    assert merged.settings["merge_scales"] == pytest.approx([1.0, 1 / 1.5])


@pytest.mark.parametrize("n_patterns", [1, 2, 5])
def test_repeated_exposures_average(n_patterns):
    merged = merge_patterns([pattern()] * n_patterns)
    assert merged.variance == pytest.approx(pattern().variance / n_patterns)


def test_what_cannot_be_merged_is_refused():
    apart = replace(pattern(), q=Q + 30.0)
    with pytest.raises(ReductionError, match="does not overlap"):
        merge_patterns([pattern(), apart])
    with pytest.raises(ReductionError, match="cannot be combined"):
        merge_patterns([pattern(wavelength=0.2), pattern(wavelength=0.3)])
    with pytest.raises(ReductionError, match="at least one"):
        merge_patterns([])
    with pytest.raises(ReductionError, match="no positive scale"):
        merge_patterns([pattern(), replace(pattern(), intensity=-pattern().intensity)])


def pair_pdf(composition, uncertainty=0.1):
    r = np.arange(0.0, 5.0, 0.01)
    peak = 6.0 * np.exp(-0.5 * ((r - 2.0) / 0.1) ** 2) / np.sqrt(2.0 * np.pi) / 0.1
    g = peak / np.maximum(r, 0.01) - 4.0 * np.pi * DENSITY * r
    return PairDistribution(r=r, g=g, composition=composition, scale_uncertainty=uncertainty)


def test_the_share_of_a_pair_is_divided_out():
    alone = coordination_number(pair_pdf({"Ni": 1.0}), (1.5, 2.5), DENSITY)
    pdf = pair_pdf({"Ni": 0.5, "O": 0.5})
    pair = coordination_number(pdf, (1.5, 2.5), DENSITY, centre="Ni", neighbour="O")
    assert alone.value == pytest.approx(6.0, rel=1e-3)
    assert pair.value == pytest.approx(6.0 * 18.0**2 / (28.0 * 8.0), rel=0.01)
    assert (alone.high - alone.low) / alone.value == pytest.approx(2 * 1.645 * 0.1, rel=0.01)


@pytest.mark.parametrize(
    ("pdf", "shell", "density", "message"),
    [
        (pair_pdf({"Ni": 1.0}, None), (1.5, 2.5), 0.1, "scale of this"),
        (pair_pdf({"Ni": 1.0}), (2.5, 1.5), 0.1, "expected a shell"),
        (pair_pdf({"Ni": 1.0}), (1.5, 9.0), 0.1, "expected a shell"),
        (pair_pdf({"Ni": 1.0}), (1.5, 2.5), 90.0, "number density"),
        (pair_pdf({"Ni": 0.5, "O": 0.5}), (1.5, 2.5), 0.1, "centre and neighbour among Ni, O"),
        (pair_pdf({}), (1.5, 2.5), 0.1, "composition is empty"),
    ],
)
def test_a_number_that_cannot_be_read_is_refused(pdf, shell, density, message):
    with pytest.raises(ReductionError, match=message):
        coordination_number(pdf, shell, density)
