"""Truth, predictions and baselines of one measured compound, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bluesky_xpdml.factory.dataset.library import SiteSpectra
from bluesky_xpdml.factory.training.alignment import Augmentation, align, augmented_features
from bluesky_xpdml.factory.training.forests import fit_forest
from bluesky_xpdml.factory.training.xanes import Intervals, XanesRecipe, classifier
from bluesky_xpdml.models.bundle import Bundle, manifest_sha256
from bluesky_xpdml.models.edge_model import EdgeModel, fit_edge_models
from bluesky_xpdml.models.standards import MeasuredSpectrum, edge_standards
from bluesky_xpdml.models.xanes import (
    PEAK_SEEN,
    SLOWEST_RISE,
    XanesObservation,
    bond_valence_length,
    edge_curve_state,
    expected_states,
    predict_descriptors,
)
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.vocabulary import Descriptor

Answer = Mapping[str, Any]
NAMES = dict(zip(("state", "number", "length"), Descriptor.main(), strict=True))


UNVARIED = Augmentation(
    copies=1,
    width_below=(0.01, 0.01),
    width_above=(0.01, 0.01),
    axis_sigma=0.0,
    stretch=0.0,
    slope=0.0,
    self_absorption=0.0,
    noise=0.0,
)
"""Spectra as simulated."""


class PlainForest:
    """A forest of valences on spectra without augmentation, shifted by one energy constant per element.

    This is the usual recipe for comparing simulated with measured spectra; its likeliest class is the answer.
    """

    def __init__(self, spectra: SiteSpectra, edge_model: EdgeModel, recipe: XanesRecipe) -> None:
        aligned = align(spectra, FOIL_ENERGIES[spectra.element], edge_model)
        moved = replace(aligned, shift=np.full(len(spectra), float(aligned.shift.mean())))
        rows = augmented_features(moved, UNVARIED, np.random.default_rng(recipe.seed))
        self._forest = fit_forest(classifier(recipe), rows, spectra.valence).set_params(n_jobs=1)

    def likeliest(self, observation: XanesObservation) -> float:
        """Return the likeliest valence of a spectrum [e]."""
        return float(self._forest.predict(observation.unshifted[None, :])[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Baselines:
    """Simpler rules, built without the compound to be predicted."""

    curve: EdgeModel
    """Edge position alone, not corrected for pre-edge peaks."""
    forest: PlainForest
    majority: float
    """The commonest valence of the simulated sites [e]."""


def baselines(
    known: Sequence[MeasuredSpectrum], sites: SiteSpectra, bundle: Bundle, recipe: XanesRecipe
) -> Baselines:
    """Build the baselines of one element."""
    curve = fit_edge_models(edge_standards(known, 0.0), [sites.element])[sites.element]
    low, high = bundle.edge_model.valence[[0, -1]]
    kept = (curve.valence >= low - 1e-9) & (curve.valence <= high + 1e-9)
    within = replace(curve, valence=curve.valence[kept], edge=curve.edge[kept], sigma=curve.sigma[kept])
    values, counts = np.unique(sites.valence, return_counts=True)
    return Baselines(
        curve=within,
        forest=PlainForest(sites, curve, recipe),
        majority=float(values[np.argmax(counts)]),
    )


def with_intervals(bundle: Bundle, intervals: Intervals) -> Bundle:
    """Return the bundle with other interval widths."""
    targets = {name: dict(target) for name, target in bundle.manifest["targets"].items()}
    targets[Descriptor.OXIDATION_STATE]["interval_factor"] = intervals.state_factor
    targets[Descriptor.OXIDATION_STATE]["interval_factor_uncalibrated"] = intervals.uncalibrated_factor
    targets[Descriptor.BOND_LENGTH]["half_width"] = intervals.length_half_width
    manifest = {**bundle.manifest, "targets": targets}
    return replace(bundle, manifest=manifest, sha256=manifest_sha256(manifest))


def answer_of(item: MeasuredSpectrum, bundle: Bundle) -> Answer:
    """Return the prediction for one spectrum in the form of a derived run."""
    observation = item.observation
    descriptors = predict_descriptors(bundle, observation, expected_states(bundle, observation))
    found = {
        name: {"value": one.value, "low": one.low, "high": one.high} for name, one in descriptors.items()
    }
    return {
        "descriptors": found,
        "diagnostics": {
            "edge_curve_oxidation_state": edge_curve_state(bundle, observation),
            "edge_width": observation.edge_width,
            "pre_edge_peak": observation.pre_edge_peak,
        },
    }


def compound_record(
    members: Sequence[MeasuredSpectrum], answers: Sequence[Answer], simpler: Baselines, bundle: Bundle
) -> dict[str, Any]:
    """Average the predictions of a compound's spectra."""
    answered = [answer for answer in answers if answer["descriptors"]]

    def mean(name: str, key: str) -> float:
        return float(np.mean([one["descriptors"][name][key] for one in answered])) if answered else np.nan

    first, observations = members[0], [item.observation for item in members]
    parameters = bundle.manifest["targets"][Descriptor.BOND_LENGTH]["bond_valence_r0"]
    record: dict[str, Any] = {
        "element": first.element,
        "compound": first.compound,
        "calibrated": any(observation.calibrated for observation in observations),
        "flagged": float(np.mean([_is_novel(one["diagnostics"]) for one in answered])) > 0.5,
        "true_state": first.valence,
        "true_number": first.coordination_number,
        "true_length": first.bond_length,
        "curve": float(np.mean([one["diagnostics"]["edge_curve_oxidation_state"] for one in answered])),
        "plain_curve": float(
            np.mean([_by_plain_curve(simpler.curve, observation) for observation in observations])
        ),
        "plain_recipe": float(
            np.mean([simpler.forest.likeliest(observation) for observation in observations])
        ),
        "majority": simpler.majority,
    }
    for short, name in NAMES.items():
        record[short] = mean(name, "value")
        record[f"{short}_range"] = (mean(name, "low"), mean(name, "high"))
    return record | {"trivial_length": bond_valence_length(parameters, record["state"], 6.0)}


def answer_row(compound: Answer) -> dict[str, Any]:
    """Return the printed row of one compound: truth, prediction and interval of the oxidation state."""
    low, high = compound["state_range"]
    figures = {
        "true": compound["true_state"],
        "value": compound["state"],
        "low": low,
        "high": high,
        "edge_curve": compound["plain_curve"],
        "true_number": compound["true_number"],
        "number": compound["number"],
    }
    rounded = {key: None if np.isnan(value) else round(value, 3) for key, value in figures.items()}
    return {key: compound[key] for key in ("element", "compound", "calibrated")} | rounded


def _by_plain_curve(curve: EdgeModel, observation: XanesObservation) -> float:
    if observation.calibrated:
        return curve.mean_valence(np.array([observation.edge]), np.ones(1))
    return curve.mean_valence(observation.edge + observation.shifts, observation.weights())


def _is_novel(diagnostics: Mapping[str, float]) -> bool:
    slow = diagnostics["edge_width"] > SLOWEST_RISE and diagnostics["pre_edge_peak"] <= PEAK_SEEN
    return slow or diagnostics.get("novelty_score", 0.0) > diagnostics.get("novelty_threshold", 0.0)
