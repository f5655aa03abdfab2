"""Predictions from one modality and from two together, for formulas that no forest has seen.

Classes come from extra trees on the columns of one modality or of both side by side; bond lengths from extra
trees on one modality, and a linear combination of two such predictions. Every material is predicted by
forests of the other folds, folds by reduced formula. `rate_answers` computes what a planner needs: the size
of the 90 % set of classes, the width of the 90 % interval of the bond length, and the error of the value.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.factory.dataset.library import StringArray
from bluesky_xpdml.factory.training.advice_data import (
    CLASSES,
    JOINT,
    SINGLE,
    AdviceRecipe,
    JointMaterials,
    data_hashes,
    load_joint,
)
from bluesky_xpdml.factory.training.conformal import class_thresholds, group_folds, interval_factor
from bluesky_xpdml.models.forest import prediction_set
from bluesky_xpdml.planning.advice_table import (
    ALL_CLASSES,
    ALL_ELEMENTS,
    BINNED_BY,
    AdviceTable,
    Cell,
)
from bluesky_xpdml.planning.advice_table import Key as CellKey
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import Descriptor, Technique

Rows = NDArray[np.bool_]
Key = tuple[Technique, Descriptor]
LENGTH_COLUMNS = 1.0 / 3.0
"""Share of the columns that a node of a tree for bond lengths looks at."""
LENGTH_FLOOR = 0.005
"""Added in quadrature to a spread, since trees that all agree may still be wrong [angstrom]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnseenAnswers:
    """Predictions for the materials of one element, one row per copy, by forests that did not see it."""

    element: str
    material: StringArray
    """(m,)"""
    formula: StringArray
    """(m,)"""
    fold: NDArray[np.int64]
    """(m,)"""
    truth: Mapping[Descriptor, FloatArray]
    """By descriptor, (m,)."""
    classes: Mapping[Descriptor, FloatArray]
    """By descriptor, ascending, (k,)."""
    probabilities: Mapping[Key, FloatArray]
    """Of each class, by modality and descriptor, (m, k)."""
    length: Mapping[Technique, FloatArray]
    """Bond length by single technique [angstrom], (m,)."""
    spread: Mapping[Technique, FloatArray]
    """Standard deviation of the trees' answers [angstrom], (m,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedAnswers:
    """Widths and errors of the predictions, by technique and descriptor, (m,) each."""

    value: Mapping[Key, FloatArray]
    """Posterior mean over the classes, or bond length [unit of the descriptor]."""
    width: Mapping[Key, FloatArray]
    """Number of classes in the 90 % set, or width of the 90 % interval [angstrom]."""
    error: Mapping[Key, FloatArray]
    """Absolute error of the value [unit of the descriptor]."""


def unseen_answers(
    folder: Path,
    element: str,
    recipe: AdviceRecipe,
    *,
    cache: Path,
    progress: Callable[[int, int], None],
) -> UnseenAnswers:
    """Cross-validate every technique on one element, or read the cached predictions."""
    key = json.dumps([asdict(recipe), data_hashes(folder, element)], sort_keys=True)
    path = cache / f"{element}-advice-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if path.is_file():
        progress(1, 1)
        return _read(path, element)
    joint = load_joint(folder, element, recipe, cache=cache, progress=lambda _done, _total: None)
    answers = cross_validate(joint, recipe, progress=progress)
    _write(path, answers)
    return answers


def cross_validate(
    joint: JointMaterials, recipe: AdviceRecipe, *, progress: Callable[[int, int], None]
) -> UnseenAnswers:
    """Predict every material by forests that saw no material of its formula."""
    materials = joint.materials
    fold = np.empty(len(materials), dtype=np.int64)
    for number, (_, rows) in enumerate(group_folds(materials.formula, recipe.folds, recipe.seed)):
        fold[rows] = number
    total = (len(SINGLE + JOINT) * len(CLASSES) + len(SINGLE)) * recipe.folds
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    probabilities = {
        (modality, descriptor): _class_answers(joint, modality, descriptor, fold, recipe, step=step)
        for modality in SINGLE + JOINT
        for descriptor in CLASSES
    }
    lengths = {modality: _length_answers(joint, modality, fold, recipe, step=step) for modality in SINGLE}
    copies = recipe.copies
    return UnseenAnswers(
        element=materials.element,
        material=np.tile(materials.identifier, copies),
        formula=np.tile(materials.formula, copies),
        fold=np.tile(fold, copies),
        truth={name: np.tile(joint.truth(name), copies) for name in (*CLASSES, Descriptor.BOND_LENGTH)},
        classes={name: np.unique(joint.truth(name)) for name in CLASSES},
        probabilities=probabilities,
        length={modality: found[0] for modality, found in lengths.items()},
        spread={modality: found[1] for modality, found in lengths.items()},
    )


def rate_answers(answers: UnseenAnswers, calibration: Rows, coverage: float) -> RatedAnswers:
    """Compute sets and intervals, calibrated on some of the rows, and errors."""
    value: dict[Key, FloatArray] = {}
    width: dict[Key, FloatArray] = {}
    for (modality, descriptor), chances in answers.probabilities.items():
        classes, truth = answers.classes[descriptor], answers.truth[descriptor]
        limits = class_thresholds(chances[calibration], truth[calibration], classes, coverage)
        value[modality, descriptor] = np.einsum("ij,j->i", chances, classes)
        width[modality, descriptor] = prediction_set(chances, limits).sum(axis=1).astype(float)
    descriptor = Descriptor.BOND_LENGTH
    truth = answers.truth[descriptor]
    for modality in SINGLE + JOINT:
        length, spread = _length(answers, modality.parts, calibration)
        factor = interval_factor((length - truth)[calibration], spread[calibration], coverage)
        value[modality, Descriptor.BOND_LENGTH], width[modality, Descriptor.BOND_LENGTH] = (
            length,
            2.0 * factor * spread,
        )
    error = {key: np.abs(found - answers.truth[key[1]]) for key, found in value.items()}
    return RatedAnswers(value=value, width=width, error=error)


def nearest_class(value: FloatArray, classes: FloatArray) -> FloatArray:
    """Return the class that each value lies nearest to, the lower of two."""
    return np.asarray(classes[np.abs(value[:, None] - classes).argmin(axis=1)])


def _class_answers(
    joint: JointMaterials,
    modality: Technique,
    descriptor: Descriptor,
    fold: NDArray[np.int64],
    recipe: AdviceRecipe,
    *,
    step: Callable[[], None],
) -> FloatArray:
    from sklearn.ensemble import ExtraTreesClassifier

    columns, labels = joint.columns(modality), joint.truth(descriptor)
    classes = np.unique(labels)
    found = np.zeros((*columns.shape[:2], classes.size))
    for number in range(recipe.folds):
        inside, outside = fold != number, fold == number
        forest = ExtraTreesClassifier(
            recipe.trees,
            min_samples_leaf=recipe.leaf,
            max_features=recipe.columns,
            random_state=recipe.seed,
            n_jobs=1,
        ).fit(_stacked(columns[:, inside]), np.tile(labels[inside], len(columns)))
        known = np.searchsorted(classes, forest.classes_)
        chances = np.zeros((len(columns) * int(outside.sum()), classes.size))
        chances[:, known] = forest.predict_proba(_stacked(columns[:, outside]))
        found[:, outside] = chances.reshape(len(columns), -1, classes.size)
        step()
    return _stacked(found)


def _length_answers(
    joint: JointMaterials,
    modality: Technique,
    fold: NDArray[np.int64],
    recipe: AdviceRecipe,
    *,
    step: Callable[[], None],
) -> tuple[FloatArray, FloatArray]:
    from sklearn.ensemble import ExtraTreesRegressor

    columns, labels = joint.columns(modality), joint.truth(Descriptor.BOND_LENGTH)
    mean, spread = (np.empty(columns.shape[:2]) for _ in range(2))
    for number in range(recipe.folds):
        inside, outside = fold != number, fold == number
        forest = ExtraTreesRegressor(
            recipe.length_trees,
            min_samples_leaf=recipe.leaf,
            max_features=LENGTH_COLUMNS,
            random_state=recipe.seed,
            n_jobs=1,
        ).fit(_stacked(columns[:, inside]), np.tile(labels[inside], len(columns)))
        rows = _stacked(columns[:, outside])
        trees = np.stack([tree.predict(rows) for tree in forest.estimators_])
        mean[:, outside] = trees.mean(axis=0).reshape(len(columns), -1)
        spread[:, outside] = trees.std(axis=0).reshape(len(columns), -1)
        step()
    return mean.ravel(), np.hypot(spread.ravel(), LENGTH_FLOOR)


def _stacked(rows: FloatArray) -> FloatArray:
    """Put copy after copy: (copies, n, columns) becomes (copies * n, columns)."""
    return rows.reshape(-1, rows.shape[2])


def _length(
    answers: UnseenAnswers, parts: tuple[Technique, ...], calibration: Rows
) -> tuple[FloatArray, FloatArray]:
    """Return bond lengths and spreads; of two modalities, their best linear combination."""
    if len(parts) == 1:
        return answers.length[parts[0]], answers.spread[parts[0]]
    columns = np.stack([answers.length[part] for part in parts] + [np.ones(answers.fold.size)], axis=1)
    weights, *_ = np.linalg.lstsq(
        columns[calibration], answers.truth[Descriptor.BOND_LENGTH][calibration], rcond=None
    )
    spreads = np.stack([answers.spread[part] for part in parts], axis=1) * weights[:-1]
    return np.einsum("ij,j->i", columns, weights), np.hypot(
        np.sqrt(np.einsum("ij,ij->i", spreads, spreads)), LENGTH_FLOOR
    )


def _write(path: Path, answers: UnseenAnswers) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "material": answers.material,
        "formula": answers.formula,
        "fold": answers.fold,
    }
    for name, mapping in (("truth", answers.truth), ("classes", answers.classes)):
        arrays |= {f"{name}|{descriptor}": values for descriptor, values in mapping.items()}
    for name, by_technique in (("length", answers.length), ("spread", answers.spread)):
        arrays |= {f"{name}|{technique}": values for technique, values in by_technique.items()}
    arrays |= {f"probabilities|{'|'.join(key)}": values for key, values in answers.probabilities.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _read(path: Path, element: str) -> UnseenAnswers:
    with np.load(path, allow_pickle=False) as archive:
        arrays = {tuple(name.split("|")): archive[name] for name in archive.files}

    def under(name: str) -> dict[Any, FloatArray]:
        kind = Descriptor if name in {"truth", "classes"} else Technique
        return {kind(key[1]): values for key, values in arrays.items() if key[0] == name}

    return UnseenAnswers(
        element=element,
        material=arrays["material",],
        formula=arrays["formula",],
        fold=arrays["fold",],
        truth=under("truth"),
        classes=under("classes"),
        probabilities={
            (Technique(key[1]), Descriptor(key[2])): found
            for key, found in arrays.items()
            if key[0] == "probabilities"
        },
        length=under("length"),
        spread=under("spread"),
    )


FEWEST_FORMULAS = 8
"""With fewer formulas the scatter of the gains is taken from the whole element."""
STEPS: tuple[tuple[Technique, Technique, Technique], ...] = tuple(
    (measured, other, joint) for joint in JOINT for measured, other in (joint.parts, joint.parts[::-1])
)
"""What is measured, what may be measured next, and the joint technique."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """Materials before and after a second measurement, one row per copy of a material."""

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

    @classmethod
    def joined(cls, parts: Sequence["Rated"]) -> "Rated":
        """Return the rows of all parts."""
        names = cls.__dataclass_fields__
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def build_table(
    folder: Path,
    elements: Sequence[str],
    recipe: AdviceRecipe,
    *,
    cache: Path,
    progress: Callable[[str, int, int], None],
) -> AdviceTable:
    """Cross-validate every modality on every element and count what the second of two adds."""
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
    """Count a table on some of the rows of each element."""
    groups: dict[tuple[str, str, str], list[Rated]] = {}
    cells: dict[CellKey, dict[str, Cell]] = {}
    for found in answers:
        rows = counted[found.element]
        known = rate_answers(found, rows, recipe.coverage)
        for step, rated in rated_steps(found, known):
            kept = rated.select(rows)
            cells[found.element, *step] = _cells(kept)
            groups.setdefault(step, []).append(kept)
    for step, parts in groups.items():
        cells[ALL_ELEMENTS, *step] = {ALL_CLASSES: count_cell(Rated.joined(parts))}
    return AdviceTable(cells=cells, recipe=_recorded(recipe), data=dict(data))


def rated_steps(answers: UnseenAnswers, known: RatedAnswers) -> Iterator[tuple[tuple[str, str, str], Rated]]:
    """Yield each second measurement of each descriptor, with all rows."""
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
    """Count one cell."""
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
    """Return the standard error of a gain, every formula counted as one draw (ratio of means, linearised)."""
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
            cell = replace(cell, standard_error=float(scatter))
        found[name] = cell
    return found


def _names(classes: FloatArray) -> NDArray[np.str_]:
    """Name classes as predictions do: 3.0 is `3`."""
    return np.array([f"{value:g}" for value in classes])


def _recorded(recipe: AdviceRecipe) -> dict[str, Any]:
    return {
        **asdict(recipe),
        "answers": "each material by forests that saw no material of its formula",
        "joint": "classes: one forest on the columns of both; bond length: combination of both answers",
        "sets": "class-conditional conformal; intervals: conformal, in units of the trees' spread",
    }
