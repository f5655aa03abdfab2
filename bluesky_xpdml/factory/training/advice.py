"""What one modality alone, and two together, answer about formulas that no forest has seen.

Classes are told by extra trees on the columns of one modality or of both side by side; bond lengths by extra
trees on one modality, and by a linear combination of two such answers. Every material is answered by forests
of the other folds, folds by reduced formula. `judged` makes of these answers what a planner cares for: how
large the 90 % set of classes is, how wide the 90 % interval of the bond length, and how far off the value is.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.factory.dataset.library import StringArray
from bluesky_xpdml.factory.training.advice_data import (
    CLASSES,
    JOINT,
    LENGTH,
    SINGLE,
    AdviceRecipe,
    JointMaterials,
    data_hashes,
    described,
    load_joint,
)
from bluesky_xpdml.factory.training.conformal import class_thresholds, interval_factor
from bluesky_xpdml.models.forest import prediction_set
from bluesky_xpdml.records import FloatArray

Rows = NDArray[np.bool_]
Key = tuple[str, str]
"""Modality and descriptor."""
LENGTH_COLUMNS = 1.0 / 3.0
"""Share of the columns that a node of a tree for bond lengths looks at."""
LENGTH_FLOOR = 0.005
"""Added in squares to a spread, so that trees which all agree are still not certain [angstrom]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnseenAnswers:
    """Answers about the materials of one element, a row a copy, each by forests that did not see it."""

    element: str
    material: StringArray
    """(m,)"""
    formula: StringArray
    """(m,)"""
    fold: NDArray[np.int64]
    """(m,)"""
    truth: Mapping[str, FloatArray]
    """By descriptor, (m,)."""
    classes: Mapping[str, FloatArray]
    """By descriptor, ascending, (k,)."""
    probabilities: Mapping[Key, FloatArray]
    """Of each class, by modality and descriptor, (m, k)."""
    length: Mapping[str, FloatArray]
    """Bond length by single modality [angstrom], (m,)."""
    spread: Mapping[str, FloatArray]
    """Standard deviation of the trees' answers [angstrom], (m,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How sure and how right the answers of every modality are, by modality and descriptor, (m,) each."""

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
    """Cross-validate every modality on one element, or read what was answered before.

    Parameters
    ----------
    folder
        Holds spectra, labels and structures.
    element
        Chemical symbol.
    recipe
        Settings.
    cache
        Keeps simulated curves and answers.
    progress
        Called with forests trained and their number.

    Raises
    ------
    TrainingError
        If a file is missing, or too few materials have both.
    """
    key = json.dumps([described(recipe), data_hashes(folder, element)], sort_keys=True)
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
    """Answer every material by forests that saw no material of its formula.

    Parameters
    ----------
    joint
        n materials and their features.
    recipe
        Settings.
    progress
        Called with forests trained and their number.
    """
    from sklearn.model_selection import GroupKFold

    materials = joint.materials
    fold = np.empty(len(materials), dtype=np.int64)
    folds = GroupKFold(recipe.folds, shuffle=True, random_state=recipe.seed)
    for number, (_, rows) in enumerate(folds.split(fold, groups=materials.formula)):
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
        truth={name: np.tile(joint.truth(name), copies) for name in (*CLASSES, LENGTH)},
        classes={name: np.unique(joint.truth(name)) for name in CLASSES},
        probabilities=probabilities,
        length={modality: found[0] for modality, found in lengths.items()},
        spread={modality: found[1] for modality, found in lengths.items()},
    )


def judged(answers: UnseenAnswers, calibration: Rows, coverage: float) -> Judged:
    """Make sets and intervals of answers, calibrated on some of the rows.

    Parameters
    ----------
    answers
        m rows.
    calibration
        Rows that thresholds, factors and the weights of joint bond lengths are counted on, (m,).
    coverage
        Share of true values that sets and intervals are to hold.
    """
    value: dict[Key, FloatArray] = {}
    width: dict[Key, FloatArray] = {}
    for (modality, descriptor), chances in answers.probabilities.items():
        classes, truth = answers.classes[descriptor], answers.truth[descriptor]
        limits = class_thresholds(chances[calibration], truth[calibration], classes, coverage)
        value[modality, descriptor] = np.einsum("ij,j->i", chances, classes)
        width[modality, descriptor] = prediction_set(chances, limits).sum(axis=1).astype(float)
    truth = answers.truth[LENGTH]
    for modality in SINGLE + JOINT:
        length, spread = _length(answers, modality.split("+"), calibration)
        factor = interval_factor((length - truth)[calibration], spread[calibration], coverage)
        value[modality, LENGTH], width[modality, LENGTH] = length, 2.0 * factor * spread
    error = {key: np.abs(found - answers.truth[key[1]]) for key, found in value.items()}
    return Judged(value=value, width=width, error=error)


def nearest_class(value: FloatArray, classes: FloatArray) -> FloatArray:
    """Return the class that each value lies nearest to, the lower of two.

    Parameters
    ----------
    value
        Posterior means, (m,).
    classes
        Ascending, (k,).

    Examples
    --------
    >>> nearest_class(np.array([2.1, 2.67, 9.0]), np.array([2.0, 3.0]))
    array([2., 3., 3.])
    """
    return np.asarray(classes[np.abs(value[:, None] - classes).argmin(axis=1)])


def _class_answers(
    joint: JointMaterials,
    modality: str,
    descriptor: str,
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
    modality: str,
    fold: NDArray[np.int64],
    recipe: AdviceRecipe,
    *,
    step: Callable[[], None],
) -> tuple[FloatArray, FloatArray]:
    from sklearn.ensemble import ExtraTreesRegressor

    columns, labels = joint.columns(modality), joint.truth(LENGTH)
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


def _length(answers: UnseenAnswers, parts: list[str], calibration: Rows) -> tuple[FloatArray, FloatArray]:
    """Return bond lengths and spreads; of two modalities, their best linear combination."""
    if len(parts) == 1:
        return answers.length[parts[0]], answers.spread[parts[0]]
    columns = np.stack([answers.length[part] for part in parts] + [np.ones(answers.fold.size)], axis=1)
    weights, *_ = np.linalg.lstsq(columns[calibration], answers.truth[LENGTH][calibration], rcond=None)
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
    for name, mapping in (("length", answers.length), ("spread", answers.spread)):
        arrays |= {f"{name}|{modality}": values for modality, values in mapping.items()}
    arrays |= {f"probabilities|{'|'.join(key)}": values for key, values in answers.probabilities.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _read(path: Path, element: str) -> UnseenAnswers:
    with np.load(path, allow_pickle=False) as archive:
        arrays = {tuple(name.split("|")): archive[name] for name in archive.files}

    def under(name: str) -> dict[str, FloatArray]:
        return {key[1]: values for key, values in arrays.items() if key[0] == name}

    return UnseenAnswers(
        element=element,
        material=arrays["material",],
        formula=arrays["formula",],
        fold=arrays["fold",],
        truth=under("truth"),
        classes=under("classes"),
        probabilities={(key[1], key[2]): found for key, found in arrays.items() if key[0] == "probabilities"},
        length=under("length"),
        spread=under("spread"),
    )
