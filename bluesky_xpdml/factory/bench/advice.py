"""Modality advice: predicted against realised gain on formulas that were not counted.

The table is counted on four of the five folds, sets and intervals calibrated on them; gains are realised on
the fifth. The same cross-validated predictions are used throughout: each comes from forests that saw no
material of its formula, but those of the four folds may come from forests that saw the fifth.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_xpdml.factory.bench.report import Report
from bluesky_xpdml.factory.dataset.library import StringArray
from bluesky_xpdml.factory.training.advice import (
    Rated,
    UnseenAnswers,
    count_table,
    gain_error,
    load_answers,
    rate_answers,
    rated_steps,
)
from bluesky_xpdml.factory.training.advice_data import AdviceRecipe
from bluesky_xpdml.planning.advice import expected
from bluesky_xpdml.planning.advice_table import ALL_CLASSES, AdviceTable, Cell, gain_of
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import Modality

BINS = 4
"""Bins of predicted gain, with equally many materials in each."""
Step = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Realised:
    """Held-out materials with the expected gains, one row per copy of a material."""

    rated: Rated
    predicted: FloatArray
    """Gain by element and class."""
    by_element: FloatArray
    """Gain by element alone."""
    error_change: FloatArray
    """Expected change of the absolute error."""
    cell: StringArray
    """Element, fold and class."""


def measure_advice(
    simulation: Path,
    elements: Sequence[str],
    *,
    recipe: AdviceRecipe,
    cache: Path,
    progress: Callable[[str, int, int], None],
) -> Report:
    """Compare predicted with realised gains, for each second measurement of each descriptor."""
    answers = load_answers(simulation, elements, recipe, cache=cache, progress=progress)
    realised = held_out(answers, recipe)
    return Report(
        what="modality advice on simulated materials: predicted against realised gain",
        conditions={
            "elements": ", ".join(elements),
            "folds": f"{recipe.folds} by formula: counted on {recipe.folds - 1}, realised on the other",
            "answers": "each by forests without its formula; for the counted folds, some saw the other",
            "gain": f"1 - after / now, of the size of {recipe.coverage:.0%} sets and the width of intervals",
            "r_cells": "correlation over cells of element, fold and predicted class, weighted by materials",
            "r_materials": "correlation over single materials",
            "r_element": "the same if predicted classes are disregarded",
            "calibration": calibration_rows(realised),
            "choice after xanes": choice_rows(realised),
        },
        rows=[_row(step, found) for step, found in realised.items()],
    )


def held_out(answers: Sequence[UnseenAnswers], recipe: AdviceRecipe) -> dict[Step, Realised]:
    """Return every material with the gain predicted by a table that was counted without its fold."""
    parts: dict[Step, list[Realised]] = {}
    for fold in range(recipe.folds):
        counted = {found.element: found.fold != fold for found in answers}
        table = count_table(answers, counted, recipe, {})
        for found in answers:
            known = rate_answers(found, counted[found.element], recipe.coverage)
            for step, rated in rated_steps(found, known):
                kept = rated.select(~counted[found.element])
                parts.setdefault(step, []).append(_expectations(table, found.element, step, kept, fold))
    return {step: _joined(found) for step, found in parts.items()}


def calibration_rows(realised: dict[Step, Realised]) -> list[dict[str, Any]]:
    """Return mean predicted and realised gain of materials sorted by the predicted one."""
    return [row for step, found in realised.items() for row in _bins(step, found)]


def choice_rows(realised: dict[Step, Realised]) -> list[dict[str, Any]]:
    """Return the gain of following the advice after XANES, and of always measuring the same modality."""
    rows = []
    for descriptor in dict.fromkeys(step[2] for step in realised):
        pdf, dpdf = (realised[Modality.XANES, other, descriptor] for other in (Modality.PDF, Modality.DPDF))
        takes = pdf.predicted > dpdf.predicted
        now = pdf.rated.now.mean()
        afters = {
            "advised": np.where(takes, pdf.rated.after, dpdf.rated.after),
            "always_pdf": pdf.rated.after,
            "always_dpdf": dpdf.rated.after,
            "best_afterwards": np.minimum(pdf.rated.after, dpdf.rated.after),
        }
        gains = {name: gain_of(float(now), float(after.mean())) for name, after in afters.items()}
        rows.append({"descriptor": descriptor, **gains, "advised_pdf": float(takes.mean())})
    return rows


def _expectations(table: AdviceTable, element: str, step: Step, rated: Rated, fold: int) -> Realised:
    key = (element, *step)
    cells = {name: expected(table, key, name) for name in sorted({*rated.predicted.tolist(), ALL_CLASSES})}

    def each(read: Callable[[Cell], float]) -> FloatArray:
        return np.array([read(cells[name]) for name in rated.predicted.tolist()])

    return Realised(
        rated=rated,
        predicted=each(lambda cell: cell.gain),
        by_element=np.full(rated.now.size, cells[ALL_CLASSES].gain),
        error_change=each(lambda cell: cell.error_after - cell.error_now),
        cell=np.array([f"{element} {fold} {name}" for name in rated.predicted.tolist()]),
    )


def _joined(parts: list[Realised]) -> Realised:
    rated = Rated.joined([part.rated for part in parts])
    rest = ("predicted", "by_element", "error_change", "cell")
    return replace(
        parts[0],
        rated=rated,
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in rest},
    )


def _row(step: Step, found: Realised) -> dict[str, Any]:
    rated = found.rated
    widest = np.maximum(np.maximum(rated.now, rated.after), 1e-12)
    single = (rated.now - rated.after) / widest
    predicted, realised, weight = _cells(found)
    return {
        "measured": step[0],
        "other": step[1],
        "descriptor": step[2],
        "materials": int(np.unique(rated.material).size),
        "predicted": float(found.predicted.mean()),
        "realised": gain_of(float(rated.now.mean()), float(rated.after.mean())),
        "se": gain_error(rated.now, rated.after, rated.formula),
        "r_cells": _correlation(predicted, realised, weight),
        "r_materials": _correlation(found.predicted, single, np.ones(single.size)),
        "r_element": _correlation(found.by_element, single, np.ones(single.size)),
        "error_change_predicted": float(found.error_change.mean()),
        "error_change_realised": float((rated.error_after - rated.error_now).mean()),
    }


def _cells(found: Realised) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return predicted and realised gain of each cell, and how many rows it holds."""
    _, group = np.unique(found.cell, return_inverse=True)
    weight = np.bincount(group)
    now, after, predicted = (
        np.bincount(group, weights=values) / weight
        for values in (found.rated.now, found.rated.after, found.predicted)
    )
    realised = np.array([gain_of(*pair) for pair in zip(now.tolist(), after.tolist(), strict=True)])
    return predicted, realised, weight.astype(float)


def _bins(step: Step, found: Realised) -> Iterator[dict[str, Any]]:
    order = np.argsort(found.predicted, kind="stable")
    for number, rows in enumerate(np.array_split(order, BINS), start=1):
        now, after = found.rated.now[rows], found.rated.after[rows]
        yield {
            "measured": step[0],
            "other": step[1],
            "descriptor": step[2],
            "bin": number,
            "predicted": float(found.predicted[rows].mean()),
            "realised": gain_of(float(now.mean()), float(after.mean())),
            "se": gain_error(now, after, found.rated.formula[rows]),
        }


def _correlation(first: FloatArray, second: FloatArray, weight: FloatArray) -> float | None:
    """Return the weighted correlation; None if either does not vary."""
    mean = [float(np.average(values, weights=weight)) for values in (first, second)]
    first, second = first - mean[0], second - mean[1]
    spread = float(np.sqrt(np.sum(weight * first**2) * np.sum(weight * second**2)))
    return float(np.sum(weight * first * second)) / spread if spread > 1e-12 else None
