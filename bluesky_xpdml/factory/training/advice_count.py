"""From cross-validated answers to the table of modality advice."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.factory.dataset.library import StringArray
from bluesky_xpdml.factory.training.advice import (
    Judged,
    Rows,
    UnseenAnswers,
    judged,
    nearest_class,
    unseen_answers,
)
from bluesky_xpdml.factory.training.advice_data import JOINT, AdviceRecipe, data_hashes, described
from bluesky_xpdml.planning.advice_table import (
    ALL_CLASSES,
    ALL_ELEMENTS,
    BINNED_BY,
    AdviceTable,
    Cell,
    Key,
)
from bluesky_xpdml.records import FloatArray

FEWEST_FORMULAS = 8
"""Fewer formulas than this do not show how much gains scatter: the element's scatter is taken."""
STEPS: tuple[tuple[str, str, str], ...] = tuple(
    (measured, other, joint)
    for joint in JOINT
    for measured, other in (joint.split("+"), joint.split("+")[::-1])
)
"""What is measured, what may be measured besides, and what both are called together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """Materials before and after a second measurement, a row a copy of a material."""

    material: StringArray
    formula: StringArray
    predicted: StringArray
    """Name of the class that the first measurement predicts."""
    now: FloatArray
    after: FloatArray
    error_now: FloatArray
    error_after: FloatArray

    def select(self, rows: Rows) -> "Rated":
        """Return the chosen rows."""
        return Rated(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


def build_table(
    folder: Path,
    elements: Sequence[str],
    recipe: AdviceRecipe,
    *,
    cache: Path,
    progress: Callable[[str, int, int], None],
) -> AdviceTable:
    """Cross-validate every modality on every element and count what the second of two adds.

    Parameters
    ----------
    folder
        Holds spectra, labels and structures.
    elements
        Chemical symbols.
    recipe
        Settings.
    cache
        Keeps simulated curves and answers.
    progress
        Called with what is done, how many of it, and of how many.

    Raises
    ------
    TrainingError
        If a file is missing, or an element has too few materials.
    """
    answers = load_answers(folder, elements, recipe, cache=cache, progress=progress)
    data = {name: digest for one in elements for name, digest in data_hashes(folder, one).items()}
    calibrations = {found.element: np.ones(found.fold.size, dtype=bool) for found in answers}
    return count_table(answers, calibrations, recipe, data)


def load_answers(
    folder: Path,
    elements: Sequence[str],
    recipe: AdviceRecipe,
    *,
    cache: Path,
    progress: Callable[[str, int, int], None],
) -> list[UnseenAnswers]:
    """Return the cross-validated answers of several elements; see `build_table`."""
    return [
        unseen_answers(
            folder,
            element,
            recipe,
            cache=cache,
            progress=lambda done, total, element=element: progress(element, done, total),  # type: ignore[misc]
        )
        for element in elements
    ]


def count_table(
    answers: Sequence[UnseenAnswers],
    counted: Mapping[str, Rows],
    recipe: AdviceRecipe,
    data: Mapping[str, str],
) -> AdviceTable:
    """Count a table on some of the rows of each element.

    Parameters
    ----------
    answers
        Of each element.
    counted
        By element, which rows sets and intervals are calibrated on and gains counted over, (m,).
    recipe
        That the answers come from.
    data
        Hashes of the files.
    """
    groups: dict[tuple[str, str, str], list[Rated]] = {}
    cells: dict[Key, dict[str, Cell]] = {}
    for found in answers:
        rows = counted[found.element]
        known = judged(found, rows, recipe.coverage)
        for step, rated in rated_steps(found, known):
            kept = rated.select(rows)
            cells[found.element, *step] = _cells(kept)
            groups.setdefault(step, []).append(kept)
    for step, parts in groups.items():
        everything = Rated(
            **{
                name: np.concatenate([getattr(part, name) for part in parts])
                for name in Rated.__dataclass_fields__
            }
        )
        cells[ALL_ELEMENTS, *step] = {ALL_CLASSES: count_cell(everything)}
    return AdviceTable(cells=cells, recipe=_recorded(recipe), data=dict(data))


def rated_steps(answers: UnseenAnswers, known: Judged) -> Iterator[tuple[tuple[str, str, str], Rated]]:
    """Yield each second measurement of each descriptor, with all rows.

    Parameters
    ----------
    answers
        Of one element.
    known
        How sure and how right they are.

    Yields
    ------
    step, rated
        Measured, to be measured and descriptor; the rows before and after.
    """
    for measured, other, joint in STEPS:
        for descriptor, sorter in BINNED_BY.items():
            value = known.value[measured, sorter]
            yield (
                (measured, other, descriptor),
                Rated(
                    material=answers.material,
                    formula=answers.formula,
                    predicted=_names(nearest_class(value, answers.classes[sorter])),
                    now=known.width[measured, descriptor],
                    after=known.width[joint, descriptor],
                    error_now=known.error[measured, descriptor],
                    error_after=known.error[joint, descriptor],
                ),
            )


def count_cell(rated: Rated) -> Cell:
    """Count one cell.

    Parameters
    ----------
    rated
        At least one row.

    Examples
    --------
    >>> three = np.array(["a", "b", "c"])
    >>> two, one = np.full(3, 2.0), np.full(3, 1.0)
    >>> rated = Rated(material=three, formula=three, predicted=three, now=two, after=one,
    ...               error_now=one, error_after=one)
    >>> count_cell(rated).gain, count_cell(rated).standard_error
    (0.5, 0.0)
    """
    return Cell(
        n=int(np.unique(rated.material).size),
        formulas=int(np.unique(rated.formula).size),
        now=float(rated.now.mean()),
        after=float(rated.after.mean()),
        error_now=float(rated.error_now.mean()),
        error_after=float(rated.error_after.mean()),
        standard_error=gain_error(rated.now, rated.after, rated.formula),
    )


def gain_error(now: FloatArray, after: FloatArray, formula: StringArray) -> float:
    """Return the standard error of a gain, every formula counted as one draw (ratio of means, linearised).

    Parameters
    ----------
    now, after
        Widths, (m,).
    formula
        Reduced formulas, (m,).
    """
    wide, narrow = (now, after) if now.mean() >= after.mean() else (after, now)
    if not wide.mean() > 0.0:
        return 0.0
    misfit = (narrow - narrow.mean() / wide.mean() * wide) / wide.mean()
    _, group = np.unique(formula, return_inverse=True)
    sums = np.bincount(group, weights=misfit)
    return float(np.sqrt(np.sum(sums**2)) / now.size)


def _cells(rated: Rated) -> dict[str, Cell]:
    whole = count_cell(rated)
    found = {ALL_CLASSES: whole}
    for name in sorted(set(rated.predicted.tolist()), key=float):
        cell = count_cell(rated.select(rated.predicted == name))
        if cell.formulas < FEWEST_FORMULAS:
            scatter = whole.standard_error * np.sqrt(whole.formulas / cell.formulas)
            cell = Cell(**{**_fields(cell), "standard_error": float(scatter)})
        found[name] = cell
    return found


def _fields(cell: Cell) -> dict[str, Any]:
    return {name: getattr(cell, name) for name in Cell.__dataclass_fields__}


def _names(classes: FloatArray) -> NDArray[np.str_]:
    """Name classes as predictions do: 3.0 is `3`."""
    return np.array([f"{value:g}" for value in classes])


def _recorded(recipe: AdviceRecipe) -> dict[str, Any]:
    return {
        **described(recipe),
        "answers": "each material by forests that saw no material of its formula",
        "joint": "classes: one forest on the columns of both; bond length: combination of both answers",
        "sets": "class-conditional conformal; intervals: conformal, in units of the trees' spread",
    }
