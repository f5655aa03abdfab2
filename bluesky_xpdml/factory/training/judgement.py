"""How good forests are on formulas that they have not seen, and how sure their answers are."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bluesky_xpdml.factory.training.conformal import (
    COVERAGE,
    DECIMALS,
    Fit,
    Places,
    Unseen,
    halves_by_formula,
    interval_coverage,
    interval_factor,
    mean_thresholds,
    predict_unseen,
    set_coverage,
)
from bluesky_xpdml.factory.training.forests import compact_forest, fit_forest
from bluesky_xpdml.factory.training.joint import JointData, JointRecipe, joint_places
from bluesky_xpdml.factory.training.materials import Materials
from bluesky_xpdml.factory.training.pdf import (
    CLASS_TARGETS,
    Labels,
    PdfRecipe,
    all_labels,
    class_labels,
    fit_classes,
    fit_pdf,
)
from bluesky_xpdml.factory.training.scores import Score, target_metrics
from bluesky_xpdml.factory.training.supplement import HeldOut, pdf_places
from bluesky_xpdml.factory.training.xanes import SPREAD_FLOOR, bond_valence_lengths, classifier, length_forest
from bluesky_xpdml.features.joint import COLUMNS
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.forest import SURROUNDINGS
from bluesky_xpdml.models.pdf import LENGTH_FLOOR
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import Descriptor, Modality

WEIGHTS = np.linspace(0.0, 1.0, 21)
"""Weights of the spectrum's bond length that are tried."""
SINGLES = (Modality.XANES, Modality.PDF)


@dataclass(slots=True, kw_only=True)
class Judgement:
    """How forests answer about materials whose formulas they have not seen."""

    scores: list[Score] = field(default_factory=list)
    alone: dict[Modality, list[Score]] = field(default_factory=dict)
    """For a joint bundle: scores of each measurement alone, trained on the same materials."""
    calibration: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """By target: what turns its outputs into sets and intervals."""
    coverage: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """By target: how often sets and intervals hold for formulas that they were not calibrated on."""
    held_out: dict[str, HeldOut] = field(default_factory=dict)
    """By target that is explained: a forest with rows of unseen formulas."""

    def add_sets(self, target: str, shares: FloatArray, labels: Labels, halves: FloatArray) -> None:
        """Calibrate the sets of a target from class shares of unseen formulas, (copies, n, k)."""
        truth = labels.values[labels.known]
        thresholds = mean_thresholds(shares, truth, labels.classes)
        self.calibration[target] = {"thresholds": thresholds.tolist()}
        self.coverage[target] = set_coverage(shares, truth, labels.classes, labels.names, halves)


def judge_curves(materials: Materials, features: FloatArray, recipe: PdfRecipe) -> Judgement:
    """Judge PDF forests fold by fold on curves as they are, noise included, (copies, n, 92)."""
    result = Judgement()
    for target, labels in all_labels(materials).items():
        table, formula = features[:, labels.known], materials.formula[labels.known]
        found = _predict_curves(table, labels, formula, target, recipe)
        halves = halves_by_formula(formula, recipe.seed)
        if target in Descriptor.main():
            result.held_out[target] = _held_out(found, table, labels, pdf_places())
        if target in CLASS_TARGETS:
            result.add_sets(target, found.value, labels, halves)
            best = labels.classes[found.value.argmax(axis=2)]
            result.scores += _scores(target, labels.values[labels.known], best, recipe.folds)
        elif target == Descriptor.BOND_LENGTH:
            spread = np.sqrt(found.spread[..., 0] ** 2 + LENGTH_FLOOR**2)
            errors = found.value[..., 0] - labels.values
            result.calibration[target] = {"interval_factor": _factor(errors, spread)}
            result.coverage[target] = interval_coverage(errors, spread, halves)
            result.scores += _scores(target, labels.values, found.value[..., 0], recipe.folds)
        else:
            factors = {}
            for name, errors, spread, truth in _surroundings(found, labels):
                factors[name] = _factor(errors, spread)
                result.coverage[name] = interval_coverage(errors, spread, halves)
                result.scores += _scores(name, truth, errors + truth, recipe.folds)
            result.calibration[SURROUNDINGS] = {"interval_factor": factors}
    return result


def judge_joint(data: JointData, recipe: JointRecipe, singles: Mapping[Modality, Bundle]) -> Judgement:
    """Judge joint forests fold by fold, beside forests of each measurement alone.

    Spectra are on an axis with one shift for all valences: alignment by the label would flatter. The single
    bundles give the widths of the single intervals of the bond length.
    """
    result = Judgement(alone={part: [] for part in SINGLES})
    folds = recipe.pdf.folds
    members: dict[str, FloatArray] = {}
    for target, labels in class_labels(data.materials).items():
        alone, both = _predict_all(data, labels, target, recipe)
        for scores, each in ((result.scores, both), *((result.alone[part], alone[part]) for part in SINGLES)):
            best = labels.classes[each.value.argmax(axis=2)]
            scores.extend(_scores(target, labels.values[labels.known], best, folds))
        members[target] = alone[Modality.XANES].value
        # The interval of the oxidation state is that of the posterior that combines forest and edge.
        if target != Descriptor.OXIDATION_STATE:
            halves = halves_by_formula(data.materials.formula[labels.known], recipe.seed)
            result.add_sets(target, both.value, labels, halves)
        if target in Descriptor.main():
            table = data.both(data.unaligned)[:, labels.known]
            result.held_out[target] = _held_out(both, table, labels, joint_places())
    lengths = _lengths(data, members, recipe)
    length = Descriptor.BOND_LENGTH
    result.calibration[length], result.coverage[length], stacked = stack(data, lengths, recipe, singles)
    answers = ((result.scores, stacked), *((result.alone[part], lengths.value[part]) for part in SINGLES))
    for scores, value in answers:
        scores.extend(_scores(length, data.materials.bond_length, value, folds))
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Bond lengths of unseen formulas from each measurement alone [angstrom]."""

    value: Mapping[Modality, FloatArray]
    """By single modality, (copies, n)."""
    pdf_spread: FloatArray
    """(copies, n)."""


def stack(
    data: JointData, lengths: Lengths, recipe: JointRecipe, singles: Mapping[Modality, Bundle]
) -> tuple[dict[str, float], dict[str, float], FloatArray]:
    """Return calibration and coverage of the weighted bond length, and the weighted means, (copies, n).

    The weight minimises the squared error. Means and coverage use weights of the other formulas.
    """
    truth, (xanes, pdf) = data.materials.bond_length, (lengths.value[part] for part in SINGLES)
    halves = halves_by_formula(data.materials.formula, recipe.seed)
    of_xanes, of_pdf = (singles[part].manifest["targets"][Descriptor.BOND_LENGTH] for part in SINGLES)
    pdf_width = of_pdf["interval_factor"] * lengths.pdf_spread
    stacked, width = np.empty_like(xanes), np.empty_like(xanes)
    for half in (0.0, 1.0):
        here = halves == half
        weight = _best_weight(xanes[:, ~here], pdf[:, ~here], truth[~here])
        stacked[:, here] = weight * xanes[:, here] + (1.0 - weight) * pdf[:, here]
        width[:, here] = weight * of_xanes["half_width"] + (1.0 - weight) * pdf_width[:, here]
    errors = stacked - truth
    calibration = {"weight": _best_weight(xanes, pdf, truth), "interval_factor": _factor(errors, width)}
    return calibration, interval_coverage(errors, width, halves), stacked


def _factor(errors: FloatArray, spread: FloatArray) -> float:
    return round(interval_factor(errors.ravel(), spread.ravel(), COVERAGE), DECIMALS)


def _best_weight(first: FloatArray, second: FloatArray, truth: FloatArray) -> float:
    errors = [float(np.mean((w * first + (1.0 - w) * second - truth) ** 2)) for w in WEIGHTS]
    return round(float(WEIGHTS[int(np.argmin(errors))]), DECIMALS)


def _scores(target: str, truth: FloatArray, best: FloatArray, folds: int) -> list[Score]:
    """Score the likeliest classes, or values, of unseen formulas, (copies, n)."""
    kind = target if target in CLASS_TARGETS else Descriptor.BOND_LENGTH
    example = Score(
        target=target,
        metric="",
        value=0.0,
        majority=0.0,
        n_train=round(truth.size * (1.0 - 1.0 / folds)),
        n_test=truth.size,
    )
    metrics = target_metrics(kind, truth, np.tile(truth, len(best)), best.ravel())
    return [
        replace(example, metric=name, value=value, majority=majority) for name, value, majority in metrics
    ]


def _held_out(found: Unseen, table: FloatArray, labels: Labels, places: Places) -> HeldOut:
    """Return the first fold's forest with the rows of the known materials that it has not seen."""
    unseen = table[:, found.test]
    return HeldOut(
        forest=found.forest,
        rows=unseen.reshape(-1, unseen.shape[2]),
        labels=np.tile(labels.values[labels.known][found.test], len(unseen)),
        classes=labels.classes,
        places=places,
    )


def _surroundings(found: Unseen, labels: Labels) -> Iterable[tuple[str, FloatArray, FloatArray, FloatArray]]:
    """Yield name, errors, spreads with the floor, and labels of each surrounding."""
    for number, name in enumerate(Descriptor.surroundings()):
        truth = labels.values[labels.known][:, number]
        spread = np.maximum(found.spread[..., number], SPREAD_FLOOR[name])
        yield name, found.value[..., number] - truth, spread, truth


def _predict_curves(
    table: FloatArray, labels: Labels, formula: Any, target: str, recipe: PdfRecipe
) -> Unseen:
    return predict_unseen(
        table,
        labels.values[labels.known],
        formula,
        lambda rows, truth: fit_pdf(rows, truth, target, recipe)[1],
        classes=labels.classes,
        folds=recipe.folds,
        seed=recipe.seed,
    )


def _predict_all(
    data: JointData, labels: Labels, target: str, recipe: JointRecipe
) -> tuple[dict[Modality, Unseen], Unseen]:
    """Predict unseen formulas from spectrum and PDF alone, and from both."""
    truth, formula = labels.values[labels.known], data.materials.formula[labels.known]
    spectra, curves = data.unaligned[:, labels.known], data.curves[:, labels.known]

    def ask(table: FloatArray, fit: Fit) -> Unseen:
        return predict_unseen(
            table,
            truth,
            formula,
            fit,
            classes=labels.classes,
            folds=recipe.pdf.folds,
            seed=recipe.pdf.seed,
        )

    alone = {
        Modality.XANES: ask(
            spectra, lambda rows, y: compact_forest(fit_forest(classifier(recipe.xanes), rows, y))
        ),
        Modality.PDF: _predict_curves(curves, labels, formula, target, recipe.pdf),
    }
    both = np.concatenate([spectra, curves], axis=2)
    return alone, ask(both, lambda rows, y: fit_classes(rows, y, target, COLUMNS, recipe)[1])


def _lengths(data: JointData, members: Mapping[str, FloatArray], recipe: JointRecipe) -> Lengths:
    """Predict bond lengths from each measurement as its bundle would, the valence by the forest alone."""
    materials = data.materials
    every = np.ones(len(materials), dtype=bool)
    number = members[Descriptor.COORDINATION_NUMBER]
    states = members[Descriptor.OXIDATION_STATE] @ np.unique(materials.valence)
    expected = number @ np.unique(materials.coordination_number)
    from_valence = bond_valence_lengths(materials.element, states, expected)
    of_truth = bond_valence_lengths(
        materials.element, np.broadcast_to(materials.valence, states.shape), expected
    )
    residual = materials.bond_length - of_truth.mean(axis=0)
    of_spectra = predict_unseen(
        np.concatenate([data.unaligned, number], axis=2),
        residual,
        materials.formula,
        lambda rows, y: compact_forest(fit_forest(length_forest(recipe.xanes), rows, y)),
        classes=np.empty(0),
        folds=recipe.pdf.folds,
        seed=recipe.pdf.seed,
    )
    labels = Labels(values=materials.bond_length, known=every)
    of_curves = _predict_curves(data.curves, labels, materials.formula, Descriptor.BOND_LENGTH, recipe.pdf)
    return Lengths(
        value={
            Modality.XANES: from_valence + recipe.xanes.forest_weight * of_spectra.value[..., 0],
            Modality.PDF: of_curves.value[..., 0],
        },
        pdf_spread=np.sqrt(of_curves.spread[..., 0] ** 2 + LENGTH_FLOOR**2),
    )
