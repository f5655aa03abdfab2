"""The edge curve is recovered from standards, and its doubt is honest."""

import numpy as np
import pytest

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.models.edge_model import EdgeModel, Standard, fit_edge_models


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


def test_noise_averages_out_and_the_doubt_covers_it() -> None:
    models = fit_edge_models(standards("Fe", MANY * 4, noise=0.7), ["Fe"])
    for valence in (2.0, 3.0, 4.0, 5.0):
        edge, sigma = at(models["Fe"], valence)
        assert edge == pytest.approx(curve(valence), abs=0.5)
        assert 0.5 < sigma < 1.0


def test_an_element_with_standards_keeps_its_offset_and_others_share_the_rest() -> None:
    known = standards("Fe", MANY) + standards("Mn", MANY) + standards("Cr", MANY, offset=1.0)
    models = fit_edge_models(known, ["Cr", "Fe", "Co"])
    chromium, iron, cobalt = (at(models[element], 3.0)[0] for element in ("Cr", "Fe", "Co"))
    assert chromium - iron > 0.8
    assert iron < cobalt < chromium


def test_without_standards_the_doubt_is_larger() -> None:
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
