"""How good joint forests are on formulas that they have not seen, beside the single ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bluesky_xpdml.factory.training.benchmark import Score
from bluesky_xpdml.factory.training.compact import compact_forest
from bluesky_xpdml.factory.training.conformal import interval_factor
from bluesky_xpdml.factory.training.fitting import fitted
from bluesky_xpdml.factory.training.importances import HeldOut
from bluesky_xpdml.factory.training.joint import JointRecipe, fit_joint, places
from bluesky_xpdml.factory.training.joint_data import JointData
from bluesky_xpdml.factory.training.pdf import EXPLAINED, LENGTH, Labels, class_labels
from bluesky_xpdml.factory.training.pdf_judgement import scores_of, sets_of, unseen_answers
from bluesky_xpdml.factory.training.unseen import (
    DECIMALS,
    Fit,
    Unseen,
    ask_unseen,
    halves_by_formula,
    interval_coverage,
)
from bluesky_xpdml.factory.training.xanes import BOND_VALENCE_R0, COVERAGE, classifier, length_forest
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.pdf import LENGTH_FLOOR
from bluesky_xpdml.models.xanes import bond_valence_length
from bluesky_xpdml.records import FloatArray

WEIGHTS = np.linspace(0.0, 1.0, 21)
"""Weights of the spectrum's bond length that are tried."""
ALONE = ("xanes", "pdf", "joint")


@dataclass(frozen=True, slots=True, kw_only=True)
class JointJudgement:
    """What forests answer about materials whose formulas they have not seen."""

    scores: Mapping[str, tuple[Score, ...]]
    """By `xanes`, `pdf` and `joint`: all trained on the same materials."""
    calibration: Mapping[str, Mapping[str, Any]]
    coverage: Mapping[str, Mapping[str, Any]]
    held_out: Mapping[str, HeldOut]
    """By target that is explained: a joint forest with rows of unseen formulas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Bond lengths that single forests answer about unseen formulas [angstrom], each (copies, n)."""

    xanes: FloatArray
    pdf: FloatArray
    pdf_spread: FloatArray


def judge_joint(data: JointData, recipe: JointRecipe, singles: Mapping[str, Bundle]) -> JointJudgement:
    """Train on some formulas and ask about the others, fold by fold, jointly and each measurement alone.

    Spectra are on an axis with one shift for all valences: alignment by the label would flatter.

    Parameters
    ----------
    data
        n materials with the features of both measurements.
    recipe
        Settings.
    singles
        The single bundles, `xanes` and `pdf`: they say how wide single intervals of the bond length are.
    """
    scores: dict[str, list[Score]] = {name: [] for name in ALONE}
    calibration: dict[str, Mapping[str, Any]] = {}
    coverage: dict[str, Mapping[str, Any]] = {}
    held_out: dict[str, HeldOut] = {}
    members: dict[str, FloatArray] = {}
    for target, labels in class_labels(data.materials).items():
        found = _three(data, labels, target, recipe)
        for name, each in found.items():
            best = labels.classes[each.value.argmax(axis=2)]
            scores[name] += scores_of(target, labels.values[labels.known], best, recipe.pdf.folds)
        halves = halves_by_formula(data.materials.formula[labels.known], recipe.seed)
        members[target] = found["xanes"].value
        # The interval of the oxidation state is that of the posterior which fuses the forest with the edge.
        if target != "oxidation_state":
            calibration[target], coverage[target] = sets_of(found["joint"].value, labels, halves)
        if target in EXPLAINED:
            held_out[target] = _held_out(found["joint"], data, labels)
    lengths = _lengths(data, members, recipe)
    calibration[LENGTH], coverage[LENGTH], stacked = stack(data, lengths, recipe, singles)
    for name, value in (("xanes", lengths.xanes), ("pdf", lengths.pdf), ("joint", stacked)):
        scores[name] += scores_of(LENGTH, data.materials.bond_length, value, recipe.pdf.folds)
    return JointJudgement(
        scores={name: tuple(found) for name, found in scores.items()},
        calibration=calibration,
        coverage=coverage,
        held_out=held_out,
    )


def stack(
    data: JointData, lengths: Lengths, recipe: JointRecipe, singles: Mapping[str, Bundle]
) -> tuple[dict[str, float], dict[str, float], FloatArray]:
    """Find the weight between two bond lengths, and how sure their weighted mean is.

    Parameters
    ----------
    data, recipe, singles
        As for `judge_joint`.
    lengths
        Answers about unseen formulas.

    Returns
    -------
    calibration, coverage, stacked
        For the manifest; and weighted means, (copies, n), with weights found on the other half of the
        formulas.
    """
    truth = data.materials.bond_length
    halves = halves_by_formula(data.materials.formula, recipe.seed)
    of_xanes, of_pdf = (singles[part].manifest["targets"][LENGTH] for part in ("xanes", "pdf"))
    pdf_width = of_pdf["interval_factor"] * lengths.pdf_spread
    stacked, width = np.empty_like(lengths.xanes), np.empty_like(lengths.xanes)
    for half in (0.0, 1.0):
        here = halves == half
        weight = _best_weight(lengths.xanes[:, ~here], lengths.pdf[:, ~here], truth[~here])
        stacked[:, here] = weight * lengths.xanes[:, here] + (1.0 - weight) * lengths.pdf[:, here]
        width[:, here] = weight * of_xanes["half_width"] + (1.0 - weight) * pdf_width[:, here]
    errors = stacked - truth
    factor = interval_factor(errors.ravel(), width.ravel(), COVERAGE)
    calibration = {
        "weight": _best_weight(lengths.xanes, lengths.pdf, truth),
        "interval_factor": round(factor, DECIMALS),
    }
    return calibration, interval_coverage(errors, width, halves), stacked


def _best_weight(first: FloatArray, second: FloatArray, truth: FloatArray) -> float:
    errors = [float(np.mean((w * first + (1.0 - w) * second - truth) ** 2)) for w in WEIGHTS]
    return round(float(WEIGHTS[int(np.argmin(errors))]), DECIMALS)


def _three(data: JointData, labels: Labels, target: str, recipe: JointRecipe) -> dict[str, Unseen]:
    """Ask about unseen formulas by the spectrum, by the PDF, and by both."""
    truth, formula = labels.values[labels.known], data.materials.formula[labels.known]
    spectra, curves = data.unaligned[:, labels.known], data.curves[:, labels.known]

    def ask(table: FloatArray, fit: Fit) -> Unseen:
        return ask_unseen(
            table,
            truth,
            formula,
            fit,
            classes=labels.classes,
            folds=recipe.pdf.folds,
            seed=recipe.pdf.seed,
        )

    return {
        "xanes": ask(spectra, lambda rows, y: compact_forest(fitted(classifier(recipe.xanes), rows, y))),
        "pdf": unseen_answers(curves, labels, formula, target, recipe.pdf),
        "joint": ask(
            np.concatenate([spectra, curves], axis=2), lambda rows, y: fit_joint(rows, y, target, recipe)[1]
        ),
    }


def _lengths(data: JointData, members: Mapping[str, FloatArray], recipe: JointRecipe) -> Lengths:
    """Ask both measurements for bond lengths as their bundles would, the valence by the forest alone."""
    materials = data.materials
    every = np.ones(len(materials), dtype=bool)
    number = members["coordination_number"]
    states = members["oxidation_state"] @ np.unique(materials.valence)
    expected = number @ np.unique(materials.coordination_number)
    from_valence = _from_valence(materials.element, states, expected)
    of_truth = _from_valence(materials.element, np.broadcast_to(materials.valence, states.shape), expected)
    residual = materials.bond_length - of_truth.mean(axis=0)
    of_spectra = ask_unseen(
        np.concatenate([data.unaligned, number], axis=2),
        residual,
        materials.formula,
        lambda rows, y: compact_forest(fitted(length_forest(recipe.xanes), rows, y)),
        classes=np.empty(0),
        folds=recipe.pdf.folds,
        seed=recipe.pdf.seed,
    )
    labels = Labels(values=materials.bond_length, known=every)
    of_curves = unseen_answers(data.curves, labels, materials.formula, LENGTH, recipe.pdf)
    return Lengths(
        xanes=from_valence + recipe.xanes.forest_weight * of_spectra.value[..., 0],
        pdf=of_curves.value[..., 0],
        pdf_spread=np.sqrt(of_curves.spread[..., 0] ** 2 + LENGTH_FLOOR**2),
    )


def _from_valence(element: str, states: FloatArray, number: FloatArray) -> FloatArray:
    """Return the bond-valence distance of every state and coordination number [angstrom], in their shape."""
    parameters = BOND_VALENCE_R0[element]
    pairs = zip(states.ravel().tolist(), number.ravel().tolist(), strict=True)
    return np.array([bond_valence_length(parameters, v, n) for v, n in pairs]).reshape(states.shape)


def _held_out(found: Unseen, data: JointData, labels: Labels) -> HeldOut:
    """Return the first fold's joint forest with the rows that it has not seen."""
    table = data.both(data.unaligned)[:, labels.known][:, found.test]
    return HeldOut(
        forest=found.forest,
        rows=table.reshape(-1, table.shape[2]),
        labels=np.tile(labels.values[labels.known][found.test], len(table)),
        classes=labels.classes,
        places=places(),
    )
