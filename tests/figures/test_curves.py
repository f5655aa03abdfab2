"""Every picture names its quantities as the vocabulary does, with units."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bluesky_xpdml.demo.simulated_scan import simulated_scan
from bluesky_xpdml.figures.curves import (
    curve_of,
    draw_answers,
    draw_demo,
    draw_pdf,
    draw_predictions,
    draw_repeats,
    draw_xanes,
)
from bluesky_xpdml.models.repeats import predict_repeats
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.xanes import predict_xanes
from bluesky_xpdml.records import DemoMeasurement, PairDistribution, Prediction, Quality, Xanes
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes
from bluesky_xpdml.vocabulary import Descriptor, Reason, ReasonCode, Technique

R = np.arange(0.0, 20.0, 0.05)


@pytest.fixture(scope="module")
def xanes() -> Xanes:
    return replace(reduce_xanes(simulated_scan(seed=1)), source="scan 1")


@pytest.fixture(scope="module")
def prediction(xanes: Xanes) -> Prediction:
    return predict_xanes(xanes, BundleStore.default())


def distribution() -> PairDistribution:
    q = np.arange(0.5, 20.0, 0.1)
    return PairDistribution(
        r=R,
        g=np.sin(2.0 * R),
        g_variance=np.full(R.size, 0.01),
        q=q,
        intensity=np.exp(-q),
        s=1.0 + np.sin(q) / q,
        f=np.sin(q),
        source="pattern 1",
    )


def texts(picture: Path) -> list[str]:
    """Return what is written in a picture: an SVG has each text in a comment beside its outlines."""
    content = picture.read_text(encoding="utf-8")
    return [part.split("-->")[0].strip() for part in content.split("<!--")[1:]]


def answer(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.2, "high": value + 0.2}


def measured(technique: Technique, name: str, x: np.ndarray, curve: np.ndarray) -> DemoMeasurement:
    return DemoMeasurement(
        technique=technique,
        name=name,
        element="Fe",
        truth={key: 2.0 + number for number, key in enumerate(Descriptor.main())},
        raw_uid="raw",
        start={"descriptors": {key.value: answer(2.1) for key in Descriptor.main()}},
        seconds_stop_to_found=0.1,
        x=x,
        curve=curve,
    )


def test_the_demonstration_compares_every_main_descriptor_with_the_truth(
    xanes: Xanes, tmp_path: Path
) -> None:
    path = tmp_path / "demo.svg"
    failed = replace(measured(Technique.PDF, "dead", R, R), start={"descriptors": {}})
    curves = [
        measured(Technique.XANES, "oxide", xanes.energy, xanes.flat),
        measured(Technique.PDF, "powder", R, np.sin(R)),
        failed,
    ]
    draw_demo(curves, path)
    found = texts(path)
    for name in Descriptor.main():
        assert f"true {name.heading}" in found
        assert f"predicted {name.heading}, 90 %" in found
    assert {"oxide", "powder", "dead: no answer", "G(r) [1/Å²]", "XANES", "PDF"} <= set(found)
    assert "oxidation state 2.1, bond length 2.10 Å" in found


def test_repeats_are_drawn_with_the_interval_of_each_answer(tmp_path: Path) -> None:
    scans = [simulated_scan(seed=seed) for seed in (1, 2)]
    answers = predict_repeats(scans, BundleStore.default(), XanesSettings())
    path = tmp_path / "repeats.svg"
    draw_repeats(answers, path)
    found = texts(path)
    assert {"mean of 2 repeats, 90 %", Descriptor.OXIDATION_STATE.heading, "answer, 90 %"} <= set(found)


def test_predictions_are_drawn_over_the_axis_of_their_technique(
    prediction: Prediction, tmp_path: Path
) -> None:
    curve = curve_of(prediction)
    assert curve is not None
    technique, x, _ = curve
    assert technique is Technique.XANES
    assert prediction.xanes is not None
    np.testing.assert_allclose(x, prediction.xanes.energy - FOIL_ENERGIES["Fe"])
    of_pdf = replace(prediction, xanes=None, pdf=distribution(), technique=Technique.PDF)
    reason = Reason("the scan ends at the edge", ReasonCode.EDGE_NOT_COVERED)
    failed = replace(prediction, xanes=None, descriptors={}, quality=Quality().failed(reason))
    assert curve_of(failed) is None
    path = tmp_path / "predictions.svg"
    draw_predictions([prediction, of_pdf, failed], path)
    found = texts(path)
    assert found.count("scan 1") == 2, "what has no curve is left out"
    assert {"energy above the metal foil [eV]", "r [Å]"} <= set(found)


def test_reduced_curves_are_drawn_with_units(xanes: Xanes, tmp_path: Path) -> None:
    spectrum = texts(draw_xanes(xanes, tmp_path / "xanes.svg"))
    assert {"energy [eV]", "flattened µ(E) [edge steps]", f"scan 1 ({xanes.quality.verdict})"} <= set(
        spectrum
    )
    curves = texts(draw_pdf(distribution(), tmp_path / "pdf.svg"))
    assert {"Q [1/Å]", "I(Q) [electron units]", "F(Q) [1/Å]", "G(r) [1/Å²]"} <= set(curves)
    only_g = texts(draw_pdf(PairDistribution(r=R, g=np.sin(R)), tmp_path / "g.svg"))
    assert "S(Q)" not in only_g
    assert "G(r) [1/Å²]" in only_g


def test_answers_for_measured_compounds_mark_unknown_axes(tmp_path: Path) -> None:
    row = {"element": "Fe", "true": 3.0, "edge_curve": 2.8, **answer(2.9)}
    path = tmp_path / "answers.svg"
    draw_answers(
        [
            {**row, "compound": "LaFeO3", "calibrated": True},
            {**row, "compound": "Fe_oxide", "calibrated": False},
        ],
        path,
    )
    found = texts(path)
    assert {"LaFeO3", "Fe oxide *", "edge position alone", Descriptor.OXIDATION_STATE.heading} <= set(found)
