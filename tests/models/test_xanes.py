"""Predictions on the spectra of the simulated beamline, whose truth no committed model has seen."""

import itertools
import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from bluesky_xpdml.demo.beamline import SimulatedSample, foil_absorption, load_samples
from bluesky_xpdml.errors import BundleError, FeatureError, ModelNotFoundError, ReductionError
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.xanes import bond_valence_length, predict_xanes
from bluesky_xpdml.records import AbsorptionScan, Prediction, Sample, Verdict, Xanes
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes
from bluesky_xpdml.vocabulary import Descriptor, Modality, ReasonCode, Technique

SAMPLES = {sample.name: sample for sample in load_samples()}
STORE = BundleStore.default()
ABOVE = np.concatenate([np.arange(-150.0, -20, 5), np.arange(-20.0, 60, 0.5), np.arange(60.0, 400, 4)])
"""Energies above the metal foil [eV]."""


def spectrum(sample: SimulatedSample, *, error: float = 0.0, calibrated: bool = True) -> Xanes:
    """Return the noiseless spectrum of a sample on an axis that is off by `error` [eV]."""
    energy = sample.edge_energy + ABOVE
    scan = AbsorptionScan(
        energy=energy + error,
        mu=sample.absorption(energy),
        element=sample.element,
        edge="K",
        sample=Sample(name=sample.name),
    )
    return reduce_xanes(scan, XanesSettings(energy_offset=0.0 if calibrated else "none"))


def state(prediction: Prediction) -> float:
    return prediction.descriptors[Descriptor.OXIDATION_STATE].value


@pytest.fixture(scope="module")
def answers() -> dict[str, Prediction]:
    return {name: predict_xanes(spectrum(sample), STORE) for name, sample in SAMPLES.items()}


def test_unseen_compounds_are_answered(answers: dict[str, Prediction]) -> None:
    truth = np.array([list(sample.truth.values()) for sample in SAMPLES.values()])
    found = np.array(
        [
            [answer.descriptors[key].value for key in next(iter(SAMPLES.values())).truth]
            for answer in answers.values()
        ]
    )
    error = np.abs(found - truth)
    assert np.count_nonzero(error[:, 0] < 0.6) >= 12, dict(zip(SAMPLES, error[:, 0], strict=True))
    assert np.count_nonzero(error[:, 1] < 0.75) >= 11, dict(zip(SAMPLES, error[:, 1], strict=True))
    assert np.median(error[:, 2]) < 0.06
    for element in {sample.element for sample in SAMPLES.values()}:
        names = sorted(
            (name for name in SAMPLES if SAMPLES[name].element == element),
            key=lambda name: SAMPLES[name].oxidation_state,
        )
        for lower, higher in itertools.pairwise(names):
            if SAMPLES[lower].oxidation_state < SAMPLES[higher].oxidation_state:
                assert state(answers[lower]) < state(answers[higher]), (lower, higher)


def test_intervals_hold_their_value_and_most_truths(answers: dict[str, Prediction]) -> None:
    held = 0
    for name, answer in answers.items():
        for key, descriptor in answer.descriptors.items():
            assert descriptor.low <= descriptor.value <= descriptor.high, (name, key)
        oxidation = answer.descriptors[Descriptor.OXIDATION_STATE]
        held += oxidation.low <= SAMPLES[name].oxidation_state <= oxidation.high
        assert {key: item.unit for key, item in answer.descriptors.items()} == {
            "oxidation_state": "e",
            "coordination_number": "1",
            "bond_length": "angstrom",
            "geometry": "1",
            "ocn": "1",
            "nnrs": "angstrom",
            "mood": "angstrom",
        }
    assert held >= 11


def test_probabilities_sum_to_one_and_give_the_value(answers: dict[str, Prediction]) -> None:
    for answer in answers.values():
        for key in (Descriptor.OXIDATION_STATE, Descriptor.COORDINATION_NUMBER):
            descriptor = answer.descriptors[key]
            classes = descriptor.probabilities or {}
            assert sum(classes.values()) == pytest.approx(1.0, abs=1e-8)
            assert min(classes.values()) >= 0.0
            mean = sum(float(name) * share for name, share in classes.items())
            assert mean == pytest.approx(descriptor.value, abs=1e-7)
        assert answer.descriptors[Descriptor.BOND_LENGTH].probabilities is None


def test_the_answer_repeats_to_the_last_bit(answers: dict[str, Prediction]) -> None:
    for name, sample in SAMPLES.items():
        again = predict_xanes(spectrum(sample), BundleStore.default())
        assert {key: asdict(item) for key, item in again.descriptors.items()} == {
            key: asdict(item) for key, item in answers[name].descriptors.items()
        }
        assert again.diagnostics == answers[name].diagnostics


def test_the_prediction_names_its_model_and_sample(answers: dict[str, Prediction]) -> None:
    answer = answers["LaFeO3"]
    bundle = STORE.find("Fe", "K", Modality.XANES)
    assert answer.models == (bundle.reference,)
    assert len(bundle.reference.sha256) == 64
    assert (answer.technique, answer.element, answer.edge) == (Technique.XANES, "Fe", "K")
    assert answer.sample.name == "LaFeO3"
    assert json.loads(json.dumps(answer.settings["energy_axis"]))["source"] == "given"
    assert answer.quality.verdict is Verdict.GOOD, answer.quality.reasons


@pytest.mark.parametrize("name", [name for name in SAMPLES if SAMPLES[name].oxidation_state <= 4.0])
def test_an_axis_that_is_off_moves_the_oxidation_state_along(
    name: str, answers: dict[str, Prediction]
) -> None:
    """Above 5 the edge of chromium turns over, and the axis says nothing."""
    up, down = (state(predict_xanes(spectrum(SAMPLES[name], error=error), STORE)) for error in (1.0, -1.0))
    assert down < state(answers[name]) < up
    assert 0.05 < up - down < 1.5
    assert answers[name].diagnostics["oxidation_state_axis_plus_1_ev"] > state(answers[name])
    assert answers[name].diagnostics["oxidation_state_axis_minus_1_ev"] < state(answers[name])


@pytest.mark.parametrize("name", SAMPLES)
def test_an_uncalibrated_axis_widens_the_interval(name: str, answers: dict[str, Prediction]) -> None:
    uncalibrated = predict_xanes(spectrum(SAMPLES[name], calibrated=False), STORE)
    known, unknown = (item.descriptors[Descriptor.OXIDATION_STATE] for item in (answers[name], uncalibrated))
    widened = (unknown.high - unknown.low) / (known.high - known.low)
    # Valences at the end of a curve are bounded by it, however little is known of the axis.
    assert widened > (1.25 if SAMPLES[name].oxidation_state <= 3.0 else 0.99)
    assert uncalibrated.quality.verdict is Verdict.SUSPECT
    assert uncalibrated.quality.has(ReasonCode.AXIS_UNCALIBRATED)


def test_the_scale_of_the_absorption_does_not_matter(answers: dict[str, Prediction]) -> None:
    xanes = spectrum(SAMPLES["LaMnO3"])
    scaled = predict_xanes(replace(xanes, mu=7.0 * xanes.mu + 3.0 - 0.001 * ABOVE), STORE)
    for key, item in answers["LaMnO3"].descriptors.items():
        assert scaled.descriptors[key].value == pytest.approx(item.value, abs=0.01)


@pytest.mark.parametrize("element", list(FOIL_ENERGIES))
def test_a_metal_foil_is_suspect(element: str) -> None:
    energy = FOIL_ENERGIES[element] + ABOVE
    scan = AbsorptionScan(energy=energy, mu=foil_absorption(element, energy), element=element, edge="K")
    quality = predict_xanes(reduce_xanes(scan, XanesSettings(energy_offset=0.0)), STORE).quality
    assert quality.verdict is Verdict.SUSPECT
    (reason,) = quality.of(ReasonCode.NOT_AN_OXIDE)
    assert f"that of {element} metal" in reason


def test_an_axis_far_off_is_suspect() -> None:
    quality = predict_xanes(spectrum(SAMPLES["LaFeO3"], error=8.0), STORE).quality
    assert quality.verdict is Verdict.SUSPECT
    (reason,) = quality.of(ReasonCode.EDGE_IMPLAUSIBLE)
    assert "the energy axis is off" in reason


def test_edge_and_shape_that_contradict_each_other_are_reported(answers: dict[str, Prediction]) -> None:
    bundle = STORE.find("Cr", "K", Modality.XANES)
    curve = {**bundle.manifest["edge_model"]}
    curve["edge"] = [edge - 6.0 for edge in curve["edge"]]
    moved = replace(bundle, manifest={**bundle.manifest, "edge_model": curve})
    name = next(n for n, sample in SAMPLES.items() if (sample.element, sample.oxidation_state) == ("Cr", 3.0))
    found = predict_xanes(spectrum(SAMPLES[name]), BundleStore(STORE.folder, [moved]))
    assert found.quality.verdict is Verdict.SUSPECT
    assert found.quality.has(ReasonCode.ANSWERS_DISAGREE)
    assert not answers[name].quality.has(ReasonCode.ANSWERS_DISAGREE)


def test_low_coordination_numbers_of_iron_ii_are_called_unreliable() -> None:
    bundle = STORE.find("Fe", "K", Modality.XANES)
    number = {**bundle.targets[Descriptor.COORDINATION_NUMBER], "classes": [1.0, 2.0, 3.0, 4.0, 5.0]}
    number["classes"] = number["classes"][: len(bundle.targets[Descriptor.COORDINATION_NUMBER]["classes"])]
    few = replace(
        bundle,
        manifest={
            **bundle.manifest,
            "targets": {**bundle.targets, Descriptor.COORDINATION_NUMBER: number},
        },
    )
    low = replace(spectrum(SAMPLES["LaFeO3"], error=-4.0))
    found = predict_xanes(low, BundleStore(STORE.folder, [few]))
    assert found.descriptors[Descriptor.OXIDATION_STATE].value < 2.5
    assert found.descriptors[Descriptor.COORDINATION_NUMBER].value < 5.5
    assert found.quality.has(ReasonCode.COORDINATION_UNRELIABLE)


def cut(xanes: Xanes, low: float, high: float) -> Xanes:
    x = xanes.energy - FOIL_ENERGIES[xanes.element]
    kept = (x >= low) & (x <= high)
    names = ("energy", "mu", "norm", "flat", "pre_edge", "post_edge")
    return replace(xanes, **{name: getattr(xanes, name)[kept] for name in names})


def test_a_scan_that_ends_too_early_is_refused() -> None:
    xanes = spectrum(SAMPLES["LaFeO3"])
    with pytest.raises(FeatureError, match=r"covers -150.0 to \+29.5 eV .* needs \+0 to \+30 eV"):
        predict_xanes(cut(xanes, -200.0, 29.9), STORE)
    shortest = predict_xanes(cut(xanes, -200.0, 30.0), STORE)
    assert state(shortest) == pytest.approx(3.0, abs=0.6)


def test_a_scan_that_starts_too_late_is_refused() -> None:
    with pytest.raises((FeatureError, ReductionError), match=r"scan further|the scan starts above the edge"):
        predict_xanes(cut(spectrum(SAMPLES["LaFeO3"]), 0.5, 400.0), STORE)


def test_elements_and_edges_without_a_model_are_refused() -> None:
    xanes = spectrum(SAMPLES["LaFeO3"])
    for wrong in ({"element": "Zn"}, {"element": ""}, {"edge": "L3"}):
        with pytest.raises(ModelNotFoundError, match="Co, Cr, Cu, Fe, Mn, Ni, Ti, V"):
            predict_xanes(replace(xanes, **wrong), STORE)


def test_a_bundle_trained_on_other_features_is_refused() -> None:
    bundle = STORE.find("Fe", "K", Modality.XANES)
    manifest = {**bundle.manifest, "input": {**bundle.manifest["input"], "foil_energy": 7112.0}}
    other = Bundle(manifest=manifest, forests=bundle.forests, sha256=bundle.sha256)
    store = BundleStore(STORE.folder.parent / "absent", [other])
    with pytest.raises(BundleError, match=r"expects foil_energy 7112.0, this version computes 7110.75"):
        predict_xanes(spectrum(SAMPLES["LaFeO3"]), store)


@pytest.mark.parametrize(
    ("valence", "number", "expected"),
    [
        (2.0, 6.0, 1.734 - 0.37 * np.log(2.0 / 6.0)),
        (3.0, 6.0, 1.759 + 0.37 * np.log(2.0)),
        (2.5, 5.0, 1.7465 + 0.37 * np.log(2.0)),
        (4.0, 4.0, 1.759),
        (1.0, 1.0, 1.734),
    ],
)
def test_bond_valence_length_is_that_of_the_formula(valence: float, number: float, expected: float) -> None:
    found = bond_valence_length({"3": 1.759, "2": 1.734}, valence, number)
    assert found == pytest.approx(expected, abs=1e-12)
