"""Training of the PDF forests of one element, judged on formulas that they have not seen."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.features.pdf import BALANCED, PdfModality
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.forest import Forest
from bluesky_xpdml.models.predict_pdf import CLASSES, SPREAD_FLOOR, UNITS, answers, input_description
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.training.benchmark import Score, target_metrics
from bluesky_xpdml.training.compact import compact_forest
from bluesky_xpdml.training.leave_one_out import conformal_quantile
from bluesky_xpdml.training.pdf_data import Materials, PdfAugmentation, q_max_range


@dataclass(frozen=True, slots=True, kw_only=True)
class PdfRecipe:
    """Everything that is chosen when PDF forests are trained."""

    seed: int = 0
    trees: int = 100
    columns: float = 0.3
    """Share of the columns that a node of a class tree looks at; those of bond length look at all."""
    leaf: int = 4
    """Smallest number of rows in a leaf."""
    most_materials: int = 1500
    """More materials than this are drawn from at random."""
    smallest_class: int = 5
    """Valences and coordination numbers with fewer materials are left out."""
    folds: int = 3
    """Folds, by formula, on which forests are judged and intervals calibrated."""
    augmentation: PdfAugmentation = field(default_factory=PdfAugmentation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What forests answer about materials whose formulas they have not seen."""

    scores: tuple[Score, ...]
    interval_factor: Mapping[str, float]
    """By target: half width of a 90 % interval, in spreads."""
    coverage: Mapping[str, float]
    """By oxidation state: share of its materials within the interval."""


def usable_materials(materials: Materials, recipe: PdfRecipe) -> Materials:
    """Return the materials that can be trained on: labels not too rare, at most as many as asked for.

    Raises
    ------
    TrainingError
        If fewer than two valences, or fewer formulas than folds, remain.
    """
    kept = materials.select(
        _frequent(materials.valence, recipe.smallest_class)
        & _frequent(materials.coordination_number, recipe.smallest_class)
    )
    if np.unique(kept.valence).size < 2 or np.unique(kept.formula).size < recipe.folds:
        msg = (
            f"{len(kept)} of {len(materials)} materials of {materials.element} can be trained on: expected "
            f"at least two valences with {recipe.smallest_class} each, and {recipe.folds} formulas"
        )
        raise TrainingError(msg)
    if len(kept) <= recipe.most_materials:
        return kept
    drawn = np.random.default_rng(recipe.seed).choice(len(kept), recipe.most_materials, replace=False)
    return kept.select(np.sort(drawn))


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
    from sklearn.model_selection import GroupKFold

    folds = GroupKFold(recipe.folds, shuffle=True, random_state=recipe.seed)
    divisions = list(folds.split(features[0], groups=materials.formula))
    scores: list[Score] = []
    factors: dict[str, float] = {}
    coverage: dict[str, float] = {}
    for target, labels in _targets(materials).items():
        value, spread, best = _unseen(features, labels, divisions, target, recipe)
        misfit = np.abs(value - labels) / spread
        factors[target] = round(conformal_quantile(misfit.ravel().tolist()), 4)
        scores += _scores(target, labels, best, recipe)
        if target == "oxidation_state":
            within = misfit <= factors[target]
            coverage = {f"{v:.0f}": round(float(within[:, labels == v].mean()), 3) for v in np.unique(labels)}
    return Judgement(scores=tuple(scores), interval_factor=factors, coverage=coverage)


def train_pdf_bundle(
    materials: Materials,
    features: FloatArray,
    modality: PdfModality,
    recipe: PdfRecipe,
    interval_factor: Mapping[str, float],
) -> Bundle:
    """Train the three forests of an element.

    Parameters
    ----------
    materials
        n usable materials.
    features
        Their augmented features, (copies, n, 92).
    modality
        What kind of curve.
    recipe
        Settings.
    interval_factor
        By target, as `judge` found it.

    Returns
    -------
    Bundle
        In memory, with the parts of the manifest that predictions read; not yet named or hashed.
    """
    forests, targets = {}, {}
    for target, labels in _targets(materials).items():
        forests[target] = _fitted(features, labels, target, recipe)
        targets[target] = {"unit": UNITS[target], "interval_factor": interval_factor[target]}
        if target in CLASSES:
            targets[target]["classes"] = np.unique(labels).tolist()
        targets[target]["spread_floor"] = SPREAD_FLOOR[target]
    low, high = q_max_range(materials.element, modality, recipe.augmentation)
    return Bundle(
        manifest={
            "element": materials.element,
            "edge": modality.edge,
            "modality": str(modality),
            "input": {**input_description(), "q_max": [round(low, 3), round(high, 3)]},
            "targets": targets,
            "recipe": asdict(recipe),
        },
        forests=forests,
        sha256="",
    )


def _targets(materials: Materials) -> Mapping[str, FloatArray]:
    return {
        "oxidation_state": materials.valence,
        "coordination_number": materials.coordination_number,
        "bond_length": materials.bond_length,
    }


def _frequent(labels: FloatArray, smallest: int) -> NDArray[np.bool_]:
    values, counts = np.unique(labels, return_counts=True)
    return np.isin(labels, values[counts >= smallest])


def _fitted(features: FloatArray, labels: FloatArray, target: str, recipe: PdfRecipe) -> Forest:
    """Fit one forest to all copies; its nodes name the features, not the repeated columns."""
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

    rows, tiled = features.reshape(-1, features.shape[2]), np.tile(labels, len(features))
    common = {"min_samples_leaf": recipe.leaf, "random_state": recipe.seed, "n_jobs": -1}
    if target == "bond_length":
        return compact_forest(ExtraTreesRegressor(recipe.trees, **common).fit(rows, tiled))
    weight = "balanced" if target == "coordination_number" else None
    forest = ExtraTreesClassifier(recipe.trees, max_features=recipe.columns, class_weight=weight, **common)
    compact = compact_forest(forest.fit(rows[:, BALANCED], tiled))
    feature = BALANCED[compact.feature].astype(np.int32)
    return replace(compact, feature=feature, n_features=int(feature.max()) + 1)


def _unseen(
    features: FloatArray,
    labels: FloatArray,
    divisions: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
    target: str,
    recipe: PdfRecipe,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return answers, spreads and likeliest labels, each by forests that saw no such formula."""
    copies, n, width = features.shape
    value, spread, best = (np.empty((copies, n)) for _ in range(3))
    for train, test in divisions:
        forest = _fitted(features[:, train], labels[train], target, recipe)
        classes = np.unique(labels[train])
        rows = features[:, test].reshape(-1, width)
        found = answers(forest, target, {"classes": classes}, rows)
        likeliest = classes[forest.predict(rows).argmax(axis=1)] if target in CLASSES else found[0]
        for array, part in zip((value, spread, best), (*found, likeliest), strict=True):
            array[:, test] = part.reshape(copies, -1)
    return value, spread, best


def _scores(target: str, labels: FloatArray, best: FloatArray, recipe: PdfRecipe) -> list[Score]:
    truth = np.tile(labels, len(best))
    trained = round(labels.size * (1.0 - 1.0 / recipe.folds))
    return [
        Score(
            target=target,
            metric=metric,
            value=value,
            majority=majority,
            n_train=trained,
            n_test=labels.size,
        )
        for metric, value, majority in target_metrics(target, labels, truth, best.ravel())
    ]
