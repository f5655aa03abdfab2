"""One cell of the simulated benchmark: forests trained on some formulas and tested on the others.

A combination of XANES with a PDF is one forest on the columns of both, for classes; its nodes look at a tenth
of the columns. Bond lengths are a weighted mean of the answers of both, since few trees of a common forest
would choose the columns of the better one. The weight is counted on folds of the training part.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.factory.bench.samples import CLASSES, COPIES, Rows, Samples
from bluesky_xpdml.factory.dataset.library import StringArray
from bluesky_xpdml.factory.training.conformal import class_thresholds, group_folds, interval_factor
from bluesky_xpdml.factory.training.scores import Split, class_metrics, number_metrics, split_rows
from bluesky_xpdml.features.pdf import BALANCED
from bluesky_xpdml.models.forest import prediction_set
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import Descriptor

COVERAGE = 0.9
"""Share of true values that sets and intervals are to hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRecipe:
    """Hyperparameters of a cell."""

    trees: int = 100
    number_trees: int = 60
    surroundings_trees: int = 40
    fold_trees: int = 40
    """Trees of the forests that predict the folds of the training part."""
    leaf: int = 2
    surroundings_leaf: int = 5
    folds: int = 3
    joint_columns: float = 0.1
    """Share of the columns that a node of a combination looks at."""
    curve_columns: float = 0.15
    """The same for PDFs and classes; spectra: the square root."""
    curve_number_columns: float = 0.25
    """The same for PDFs and numbers."""
    spread_floor: float = 0.003
    """Added to the spread of the trees [angstrom]."""
    threads: int = 2


def score_cell(
    samples: Samples, split: Split, seed: int, recipe: CellRecipe, *, calibrated: bool
) -> dict[str, Any]:
    """Train on one side of a split and score the other; metrics are (value, that of a trivial answer)."""
    rows = split_samples(samples, split, seed)
    result: dict[str, Any] = {}
    for target in CLASSES:
        known = rows.known(samples.labels[target])
        if np.unique(known.labels).size > 1 and known.truth.size:
            result[target] = _score_classes(target, known, recipe, calibrated=calibrated)
    known = rows.known(samples.labels[Descriptor.BOND_LENGTH])
    result[Descriptor.BOND_LENGTH] = _score_lengths(known, recipe, calibrated=calibrated)
    result |= _score_surroundings(rows, samples, recipe)
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRows:
    """Features on either side of a split, one list entry per block."""

    blocks: list[FloatArray]
    unseen: list[FloatArray]
    train: Rows
    test: Rows
    formula: StringArray
    """Reduced formulas of the training rows."""
    seed: int

    def known(self, labels: FloatArray) -> "TargetRows":
        """Return the rows of a target whose labels are known."""
        train, test = np.isfinite(labels[self.train]), np.isfinite(labels[self.test])
        return TargetRows(
            blocks=[block[np.tile(train, COPIES)] for block in self.blocks],
            unseen=[block[test] for block in self.unseen],
            labels=labels[self.train][train],
            truth=labels[self.test][test],
            formula=self.formula[train],
            seed=self.seed,
        )


def split_samples(samples: Samples, split: Split, seed: int) -> SplitRows:
    """Hold out 20 % of the reduced formulas, or of the rows; the others are trained on in several copies."""
    train, test = split_rows(samples.formula, split, seed)
    random = np.random.default_rng(seed)
    return SplitRows(
        blocks=[block.to_train(train, random) for block in samples.blocks],
        unseen=[block.to_test(test) for block in samples.blocks],
        train=train,
        test=test,
        formula=samples.formula[train],
        seed=seed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRows:
    """Rows of one target: training copies, test rows, and labels of both."""

    blocks: list[FloatArray]
    """Training features, one entry per block, (COPIES * n, columns)."""
    unseen: list[FloatArray]
    """Features of the test rows, (m, columns)."""
    labels: FloatArray
    """Of the training rows, (n,)."""
    truth: FloatArray
    """Labels of the test rows, (m,)."""
    formula: StringArray
    """Reduced formulas of the training rows, (n,)."""
    seed: int
    """Of the forests and the folds."""

    def folds(self, recipe: CellRecipe) -> Iterator[tuple["TargetRows", Rows]]:
        """Yield parts of the training rows, with the other part's originals as test rows."""
        n = self.labels.size
        for train, test in group_folds(self.formula, recipe.folds, self.seed):
            copies = np.concatenate([train + n * number for number in range(COPIES)])
            part = TargetRows(
                blocks=[block[copies] for block in self.blocks],
                unseen=[block[test] for block in self.blocks],
                labels=self.labels[train],
                truth=self.labels[test],
                formula=self.formula[train],
                seed=self.seed,
            )
            yield part, test


def _score_classes(target: str, known: TargetRows, recipe: CellRecipe, *, calibrated: bool) -> dict[str, Any]:
    classes = np.unique(known.labels)
    probabilities, importance = _probabilities(known, classes, recipe, recipe.trees)
    answer = classes[probabilities.argmax(axis=1)]
    result: dict[str, Any] = {
        "metrics": class_metrics(known.labels, known.truth, answer),
        "n_train": int(known.labels.size),
        "n_test": int(known.truth.size),
        "importance": importance,
    }
    if calibrated and target != Descriptor.GEOMETRY:
        unseen = np.empty((known.labels.size, classes.size))
        for part, rows in known.folds(recipe):
            unseen[rows], _ = _probabilities(part, classes, recipe, recipe.fold_trees)
        thresholds = class_thresholds(unseen, known.labels, classes, COVERAGE)
        result["held"] = _held(prediction_set(probabilities, thresholds), classes, known.truth)
    return result


def _held(inside: NDArray[np.bool_], classes: FloatArray, truth: FloatArray) -> dict[str, list[int]]:
    right = (inside & (classes[None, :] == truth[:, None])).any(axis=1)
    size = inside.sum(axis=1)
    return {
        f"{name:g}": [int(mine.sum()), int(right[mine].sum()), int(size[mine].sum())]
        for name in np.unique(truth)
        for mine in [truth == name]
    }


def _probabilities(
    known: TargetRows, classes: FloatArray, recipe: CellRecipe, trees: int
) -> tuple[FloatArray, list[float]]:
    """Return the probabilities of the test rows, and each block's share of the importance."""
    from sklearn.ensemble import ExtraTreesClassifier

    columns: Any = recipe.curve_columns if _is_curve(known.blocks[0]) else "sqrt"
    if len(known.blocks) > 1:
        columns = recipe.joint_columns
    model = ExtraTreesClassifier(
        trees,
        min_samples_leaf=recipe.leaf,
        max_features=columns,
        random_state=known.seed,
        n_jobs=recipe.threads,
    )
    model.fit(np.hstack(known.blocks).astype(np.float32), np.tile(known.labels, COPIES))
    result = np.zeros((known.truth.size, classes.size))
    # One thread adds up the trees in one order: a tie is decided alike in every run.
    found = model.set_params(n_jobs=1).predict_proba(np.hstack(known.unseen).astype(np.float32))
    result[:, np.searchsorted(classes, model.classes_)] = found
    ends = np.cumsum([0, *(block.shape[1] for block in known.blocks)])
    shares = np.add.reduceat(model.feature_importances_, ends[:-1])
    return result, shares.round(4).tolist()


def _is_curve(block: NDArray[Any]) -> bool:
    return bool(block.shape[1] == BALANCED.size)


def _score_lengths(known: TargetRows, recipe: CellRecipe, *, calibrated: bool) -> dict[str, Any]:
    answers = [_lengths(known, number, recipe, recipe.number_trees) for number in range(len(known.blocks))]
    weight = np.ones(1)
    result: dict[str, Any] = {"n_train": int(known.labels.size), "n_test": int(known.truth.size)}
    if calibrated or len(answers) > 1:
        unseen = [_lengths_of_folds(known, number, recipe) for number in range(len(answers))]
        weight = _weights([value for value, _ in unseen], known.labels)
    value, spread = _mixed(answers, weight)
    result["metrics"] = number_metrics(known.labels, known.truth, value)
    result["weights"] = weight.round(3).tolist()
    if calibrated:
        before, doubt = _mixed(unseen, weight)
        floor = recipe.spread_floor
        half = interval_factor(before - known.labels, doubt + floor, COVERAGE) * (spread + floor)
        inside = np.abs(value - known.truth) <= half
        result["held"] = {"all": [int(inside.size), int(inside.sum())]}
        result["width"] = float(2.0 * half.mean())
    return result


def _mixed(answers: list[tuple[FloatArray, FloatArray]], weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    value, spread = (np.einsum("b,bn->n", weight, np.stack(part)) for part in zip(*answers, strict=True))
    return value, spread


def _weights(values: list[FloatArray], labels: FloatArray) -> FloatArray:
    """Return the weights, from 0 to 1, with which the mean of two answers errs least."""
    if len(values) == 1:
        return np.ones(1)
    first, second = values
    apart = first - second
    share = float(np.clip(np.sum((labels - second) * apart) / max(np.sum(apart**2), 1e-12), 0.0, 1.0))
    return np.array([share, 1.0 - share])


def _lengths_of_folds(known: TargetRows, number: int, recipe: CellRecipe) -> tuple[FloatArray, FloatArray]:
    value, spread = np.empty(known.labels.size), np.empty(known.labels.size)
    for part, rows in known.folds(recipe):
        value[rows], spread[rows] = _lengths(part, number, recipe, recipe.fold_trees)
    return value, spread


def _lengths(known: TargetRows, number: int, recipe: CellRecipe, trees: int) -> tuple[FloatArray, FloatArray]:
    """Return the bond lengths predicted from one block, and the standard deviation over trees."""
    from sklearn.ensemble import ExtraTreesRegressor

    block = known.blocks[number].astype(np.float32)
    columns: Any = recipe.curve_number_columns if _is_curve(block) else "sqrt"
    model = ExtraTreesRegressor(
        trees,
        min_samples_leaf=recipe.leaf,
        max_features=columns,
        random_state=known.seed,
        n_jobs=recipe.threads,
    )
    model.fit(block, np.tile(known.labels, COPIES))
    unseen = known.unseen[number].astype(np.float32)
    single = np.stack([tree.predict(unseen, check_input=False) for tree in model.estimators_])
    return single.mean(axis=0), single.std(axis=0)


def _score_surroundings(rows: SplitRows, samples: Samples, recipe: CellRecipe) -> dict[str, Any]:
    """Score the numbers that one forest answers together."""
    from sklearn.ensemble import ExtraTreesRegressor

    table = np.stack([samples.labels[target] for target in Descriptor.surroundings()], axis=1)
    marks = np.where(np.isfinite(table).all(axis=1), np.arange(len(samples), dtype=float), np.nan)
    known = rows.known(marks)
    labels, truth = table[known.labels.astype(int)], table[known.truth.astype(int)]
    if len(truth) < 2:
        return {}
    scale = np.maximum(labels.std(axis=0), 1e-9)
    model = ExtraTreesRegressor(
        recipe.surroundings_trees,
        min_samples_leaf=recipe.surroundings_leaf,
        max_features="sqrt" if len(known.blocks) == 1 else recipe.joint_columns,
        random_state=known.seed,
        n_jobs=recipe.threads,
    )
    model.fit(np.hstack(known.blocks).astype(np.float32), np.tile(labels / scale, (COPIES, 1)))
    answer = model.set_params(n_jobs=1).predict(np.hstack(known.unseen).astype(np.float32)) * scale
    return {
        target: {
            "metrics": number_metrics(labels[:, column], truth[:, column], answer[:, column]),
            "n_train": len(labels),
            "n_test": len(truth),
        }
        for column, target in enumerate(Descriptor.surroundings())
    }
