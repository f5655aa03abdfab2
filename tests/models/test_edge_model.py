"""The posterior of the oxidation state weighs edge and shape; the edge curve is recovered from standards."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.models.edge_model import EdgeModel, Standard, class_probabilities, fit_edge_models

GRID = np.linspace(2.0, 4.0, 41)
LINE = EdgeModel(valence=GRID, edge=4.0 + 3.2 * GRID, sigma=np.full(41, 0.8))
ONE = np.ones(1)

numbers = st.floats(-40.0, 60.0)


def mean(edge: float, expected: float, sigma: float, model: EdgeModel = LINE) -> float:
    valence, weight = model.posterior(edge * ONE, ONE, expected=expected * ONE, expected_sigma=sigma)
    return float(valence @ weight)


@settings(max_examples=60, deadline=None)
@given(
    edges=st.lists(numbers, min_size=1, max_size=9),
    expected=st.floats(0.0, 7.0),
    sigma=st.floats(0.05, 5.0),
)
def test_posterior_weights_are_a_probability_for_any_edge_and_shape(
    edges: list[float], expected: float, sigma: float
) -> None:
    axes = np.array(edges)
    prior = np.full(axes.size, 1.0 / axes.size)
    valence, weight = LINE.posterior(axes, prior, expected=np.full(axes.size, expected), expected_sigma=sigma)
    np.testing.assert_array_equal(valence, GRID)
    assert weight.sum() == pytest.approx(1.0, abs=1e-12)
    assert weight.min() >= 0.0


def test_edge_and_shape_are_weighted_by_their_inverse_variances() -> None:
    """On a wide grid the answer is the textbook one: means weighted by inverse variances."""
    grid = np.linspace(-20.0, 30.0, 5001)
    model = EdgeModel(valence=grid, edge=4.0 * grid, sigma=np.full(grid.size, 0.8))
    by_edge, by_shape = (12.0 / 4.0, (0.8 / 4.0) ** 2), (3.6, 0.3**2)
    expected = (by_edge[0] / by_edge[1] + by_shape[0] / by_shape[1]) / (1 / by_edge[1] + 1 / by_shape[1])
    assert mean(12.0, 3.6, 0.3, model) == pytest.approx(expected, abs=1e-6)


def test_a_smaller_sigma_gives_the_shape_more_weight() -> None:
    answers = [mean(4.0 + 3.2 * 2.6, 3.4, sigma) for sigma in (3.0, 1.0, 0.3, 0.1, 0.03)]
    assert answers == sorted(answers)
    assert answers[0] == pytest.approx(2.6, abs=0.03)
    assert answers[-1] == pytest.approx(3.4, abs=0.03)


def test_the_edge_alone_inverts_the_curve() -> None:
    assert LINE.mean_valence(np.array([4.0 + 3.2 * 3.0]), ONE) == pytest.approx(3.0, abs=1e-6)
    assert LINE.mean_valence(np.array([0.0]), ONE) == pytest.approx(2.0, abs=0.05)
    assert LINE.mean_valence(np.array([40.0]), ONE) == pytest.approx(4.0, abs=0.05)


def test_an_axis_on_which_edge_and_shape_agree_counts_more() -> None:
    edges = np.array([4.0 + 3.2 * 2.5, 4.0 + 3.2 * 3.5])
    expected = np.array([3.0, 3.5])
    valence, weight = LINE.posterior(edges, np.array([0.5, 0.5]), expected=expected, expected_sigma=0.2)
    assert float(valence @ weight) > 3.3


def test_a_wide_class_is_not_favoured_by_its_width() -> None:
    """The Gaussian is normalised: between two equal misfits the narrower one is likelier."""
    model = EdgeModel(valence=np.array([2.0, 3.0]), edge=np.array([10.0, 10.0]), sigma=np.array([0.5, 2.0]))
    _, weight = model.posterior(10.0 * ONE, ONE, expected=2.5 * ONE, expected_sigma=np.inf)
    np.testing.assert_allclose(weight, [0.8, 0.2], atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(raw=st.lists(st.floats(0.0, 1.0), min_size=41, max_size=41).filter(lambda values: sum(values) > 0.01))
def test_classes_keep_the_mean_and_the_sum(raw: list[float]) -> None:
    weight = np.array(raw) / np.sum(raw)
    classes = class_probabilities(GRID, weight, [2, 3, 4])
    assert sum(classes.values()) == pytest.approx(1.0, abs=1e-8)
    assert sum(int(name) * share for name, share in classes.items()) == pytest.approx(
        float(GRID @ weight), abs=1e-8
    )
    assert min(classes.values()) >= 0.0


def curve(valence: float) -> float:
    return 13.7 + 3.2 * (valence - 3.0) - 0.6 * (valence - 3.0) ** 2


def standards(element: str, valences: list[float], offset: float = 0.0, noise: float = 0.0) -> list[Standard]:
    random = np.random.default_rng(3)
    return [
        Standard(
            element=element,
            compound=f"{element}{number}",
            valence=valence,
            edge=curve(valence) + offset + noise * random.normal(),
        )
        for number, valence in enumerate(valences)
    ]


def at(model: EdgeModel, valence: float) -> tuple[float, float]:
    return (
        float(np.interp(valence, model.valence, model.edge)),
        float(np.interp(valence, model.valence, model.sigma)),
    )


MANY = [2.0, 2.0, 2.67, 3.0, 3.0, 3.5, 4.0, 4.0, 5.0]


def test_a_known_curve_is_recovered() -> None:
    known = standards("Fe", MANY) + standards("Mn", MANY)
    models = fit_edge_models(known, ["Fe", "Mn"])
    for model in models.values():
        for valence in (2.0, 3.0, 4.0, 5.0):
            assert at(model, valence)[0] == pytest.approx(curve(valence), abs=0.05)


def test_noise_averages_out_within_the_standard_deviation() -> None:
    models = fit_edge_models(standards("Fe", MANY * 4, noise=0.7), ["Fe"])
    for valence in (2.0, 3.0, 4.0, 5.0):
        edge, sigma = at(models["Fe"], valence)
        assert edge == pytest.approx(curve(valence), abs=0.5)
        assert 0.5 < sigma < 1.0


def test_an_element_with_standards_keeps_its_offset_and_others_get_the_common_curve() -> None:
    known = standards("Fe", MANY) + standards("Mn", MANY) + standards("Cr", MANY, offset=1.0)
    models = fit_edge_models(known, ["Cr", "Fe", "Co"])
    chromium, iron, cobalt = (at(models[element], 3.0)[0] for element in ("Cr", "Fe", "Co"))
    assert chromium - iron > 0.8
    assert iron < cobalt < chromium


def test_without_standards_the_standard_deviation_is_larger() -> None:
    models = fit_edge_models(standards("Fe", MANY), ["Fe", "Co"])
    assert np.all(models["Co"].sigma > models["Fe"].sigma)
    few = fit_edge_models(standards("Fe", [2.0, 3.0, 3.0, 4.0]), ["Fe"])["Fe"]
    assert at(few, 3.0)[1] > at(models["Fe"], 3.0)[1]
    assert at(few, 5.5)[1] > at(few, 3.0)[1]


def test_the_curve_never_falls_and_covers_all_valences() -> None:
    model = fit_edge_models(standards("Cr", MANY), ["Cr"])["Cr"]
    assert np.all(np.diff(model.edge) >= 0.0)
    assert np.ptp(model.edge[-8:]) < 1e-9, "the quadratic turns over at 5.7: from there on edges stay"
    assert model.valence[0] == 1.0
    assert model.valence[-1] == pytest.approx(7.0)


def test_the_correction_for_the_pre_edge_peak_is_kept() -> None:
    model = fit_edge_models(standards("Cr", MANY), ["Cr"], pre_edge_shift=8.0)["Cr"]
    assert model.corrected(17.0, 0.5) == pytest.approx(21.0)


def test_the_order_of_standards_does_not_matter() -> None:
    known = standards("Fe", MANY, noise=0.5) + standards("Mn", MANY, noise=0.5)
    first, second = (fit_edge_models(order, ["Fe"])["Fe"] for order in (known, known[::-1]))
    np.testing.assert_allclose(first.edge, second.edge, atol=1e-8)
    np.testing.assert_allclose(first.sigma, second.sigma, atol=1e-8)


def test_too_few_standards_are_refused() -> None:
    with pytest.raises(TrainingError, match="3 standards: the common edge curve needs four"):
        fit_edge_models(standards("Fe", [2.0, 3.0, 4.0]), ["Fe"])
