"""How good PDF forests are on formulas that they have not seen, and how sure their answers are."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bluesky_xpdml.factory.training.benchmark import Score, target_metrics
from bluesky_xpdml.factory.training.conformal import interval_factor
from bluesky_xpdml.factory.training.importances import HeldOut
from bluesky_xpdml.factory.training.pdf import (
    CLASS_TARGETS,
    EXPLAINED,
    LENGTH,
    Labels,
    PdfRecipe,
    all_labels,
    fit_pdf,
    held_out_rows,
)
from bluesky_xpdml.factory.training.pdf_data import Materials
from bluesky_xpdml.factory.training.surroundings import SPREAD_FLOOR
from bluesky_xpdml.factory.training.unseen import (
    DECIMALS,
    Unseen,
    ask_unseen,
    halves_by_formula,
    interval_coverage,
    mean_thresholds,
    set_coverage,
)
from bluesky_xpdml.factory.training.xanes import COVERAGE
from bluesky_xpdml.models.forest import SURROUNDINGS
from bluesky_xpdml.models.pdf import LENGTH_FLOOR
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import Descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What forests answer about materials whose formulas they have not seen."""

    scores: tuple[Score, ...]
    calibration: Mapping[str, Mapping[str, Any]]
    """By target: what turns its outputs into sets and intervals."""
    coverage: Mapping[str, Mapping[str, Any]]
    """By target: what sets and intervals hold of formulas that they were not calibrated on."""
    held_out: Mapping[str, HeldOut]
    """By target that is explained: a forest with rows of unseen formulas."""


def judge(materials: Materials, features: FloatArray, recipe: PdfRecipe) -> Judgement:
    """Train on some formulas and ask about the others, fold by fold.

    Parameters
    ----------
    materials
        n usable materials.
    features
        Their augmented features, (copies, n, 92): judged as they are, noise and all.
    recipe
        Settings.
    """
    scores: list[Score] = []
    calibration: dict[str, Mapping[str, Any]] = {}
    coverage: dict[str, Mapping[str, Any]] = {}
    held_out: dict[str, HeldOut] = {}
    for target, labels in all_labels(materials).items():
        table, formula = features[:, labels.known], materials.formula[labels.known]
        found = unseen_answers(table, labels, formula, target, recipe)
        halves = halves_by_formula(formula, recipe.seed)
        if target in EXPLAINED:
            held_out[target] = held_out_rows(found.forest, table, labels, found.test)
        if target in CLASS_TARGETS:
            calibration[target], coverage[target] = sets_of(found.value, labels, halves)
            best = labels.classes[found.value.argmax(axis=2)]
            scores += scores_of(target, labels.values[labels.known], best, recipe.folds)
        elif target == LENGTH:
            spread = np.sqrt(found.spread[..., 0] ** 2 + LENGTH_FLOOR**2)
            errors = found.value[..., 0] - labels.values
            factor = interval_factor(errors.ravel(), spread.ravel(), COVERAGE)
            calibration[target] = {"interval_factor": round(factor, DECIMALS)}
            coverage[target] = interval_coverage(errors, spread, halves)
            scores += scores_of(target, labels.values, found.value[..., 0], recipe.folds)
        else:
            calibration[SURROUNDINGS] = {"interval_factor": {}}
            for name, errors, spread, truth in _surroundings(found, labels):
                factor = interval_factor(errors.ravel(), spread.ravel(), COVERAGE)
                calibration[SURROUNDINGS]["interval_factor"][name] = round(factor, DECIMALS)
                coverage[name] = interval_coverage(errors, spread, halves)
                scores += scores_of(name, truth, errors + truth, recipe.folds)
    return Judgement(scores=tuple(scores), calibration=calibration, coverage=coverage, held_out=held_out)


def unseen_answers(table: FloatArray, labels: Labels, formula: Any, target: str, recipe: PdfRecipe) -> Unseen:
    """Ask PDF forests about formulas that they have not seen.

    Parameters
    ----------
    table
        Features of the materials that have the label, (copies, n, 92).
    labels
        Of the target.
    formula
        Reduced formulas, (n,).
    target
        Its name.
    recipe
        Settings.
    """
    return ask_unseen(
        table,
        labels.values[labels.known],
        formula,
        lambda rows, truth: fit_pdf(rows, truth, target, recipe)[1],
        classes=labels.classes,
        folds=recipe.folds,
        seed=recipe.seed,
    )


def sets_of(
    shares: FloatArray, labels: Labels, halves: FloatArray
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Return the thresholds of the classes, and what sets hold.

    Parameters
    ----------
    shares
        Of the classes, from forests that saw no such formula, (copies, n, k).
    labels
        Of the target, n known.
    halves
        0 or 1 by formula, (n,).
    """
    truth = labels.values[labels.known]
    thresholds = mean_thresholds(shares, truth, labels.classes)
    return (
        {"thresholds": thresholds.tolist()},
        set_coverage(shares, truth, labels.classes, labels.names, halves),
    )


def scores_of(target: str, truth: FloatArray, best: FloatArray, folds: int) -> list[Score]:
    """Score answers about unseen formulas.

    Parameters
    ----------
    target
        Its name; what is no class is scored like a length.
    truth
        Labels, (n,).
    best
        Likeliest classes, or values, (copies, n).
    folds
        Number of folds.
    """
    kind = target if target in CLASS_TARGETS else LENGTH
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


def _surroundings(found: Unseen, labels: Labels) -> Iterable[tuple[str, FloatArray, FloatArray, FloatArray]]:
    """Yield name, errors, spreads with the floor, and labels of each surrounding."""
    for number, name in enumerate(Descriptor.surroundings()):
        truth = labels.values[labels.known][:, number]
        spread = np.maximum(found.spread[..., number], SPREAD_FLOOR[name])
        yield name, found.value[..., number] - truth, spread, truth
