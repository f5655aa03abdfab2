"""Training of the PDF forests of one element."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.training.forests import compact_forest, fit_forest
from bluesky_xpdml.factory.training.materials import Materials, PdfAugmentation, q_max_range
from bluesky_xpdml.factory.training.supplement import (
    HeldOut,
    PermutationSettings,
    forest_importances,
)
from bluesky_xpdml.factory.training.xanes import GEOMETRIES, SMALLEST_CLASS, SPREAD_FLOOR, frequent
from bluesky_xpdml.features.pdf import BALANCED
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.explain import IMPORTANCES
from bluesky_xpdml.models.forest import SURROUNDINGS, Forest
from bluesky_xpdml.models.pdf import input_description
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import Descriptor, Modality

if TYPE_CHECKING:
    from bluesky_xpdml.factory.training.joint import JointRecipe

CLASS_TARGETS = (Descriptor.OXIDATION_STATE, Descriptor.COORDINATION_NUMBER, Descriptor.GEOMETRY)
"""Targets that forests answer with classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PdfRecipe:
    """Hyperparameters of the PDF forests."""

    seed: int = 0
    trees: int = 80
    columns: float = 0.3
    """Share of the columns that a node of a class tree looks at; those of lengths look at all."""
    leaf: int = 4
    """Smallest number of rows in a leaf of a class tree."""
    length_trees: int = 60
    length_leaf: int = 6
    """Smallest number of rows in a leaf, bond length."""
    surroundings_trees: int = 40
    surroundings_leaf: int = 16
    """Smallest number of rows in a leaf of the forest that answers all surroundings."""
    most_materials: int = 1500
    """More materials than this are drawn from at random."""
    smallest_class: int = 25
    """Valences and coordination numbers with fewer materials are left out: too few to be distinguished,
    they would belong to every set (with a limit of 5, all sets of Fe held 1; those of Mn had 3.1 classes)."""
    folds: int = 3
    """Folds by formula for scores and for calibrating sets and intervals."""
    familiar: float = 0.99
    """Share of simulated curves of other formulas that must not be called novel."""
    augmentation: PdfAugmentation = field(default_factory=PdfAugmentation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Labels of one target."""

    values: FloatArray
    """(n,) or (n, m)."""
    known: NDArray[np.bool_]
    """Materials that have them, (n,)."""
    names: tuple[str, ...] = ()
    """Of the classes, ascending; none for a regression."""

    @property
    def classes(self) -> FloatArray:
        """Classes as numbers, ascending, (k,); empty for a regression."""
        return np.unique(self.values[self.known]) if self.names else np.empty(0)


def usable_materials(materials: Materials, recipe: PdfRecipe) -> Materials:
    """Return the materials with frequent labels, at most as many as the recipe allows."""
    kept = materials.select(
        frequent(materials.valence, recipe.smallest_class)
        & frequent(materials.coordination_number, recipe.smallest_class)
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


def class_labels(materials: Materials) -> dict[str, Labels]:
    """Return the labels of the targets that are classes."""
    every = np.ones(len(materials), dtype=bool)
    found: dict[str, Labels] = {
        target: Labels(values=values, known=every, names=tuple(f"{v:.0f}" for v in np.unique(values)))
        for target, values in (
            (Descriptor.OXIDATION_STATE, materials.valence),
            (Descriptor.COORDINATION_NUMBER, materials.coordination_number),
        )
    }
    polyhedra = np.array([GEOMETRIES.get(symbol, "") for symbol in materials.geometry.tolist()])
    seen, counts = np.unique(polyhedra[polyhedra != ""], return_counts=True)
    names = sorted(seen[counts >= SMALLEST_CLASS].tolist(), key=lambda name: int(name[1:]))
    if len(names) > 1:
        corners = np.array([float(name[1:]) if name in names else np.nan for name in polyhedra.tolist()])
        found[Descriptor.GEOMETRY] = Labels(values=corners, known=np.isfinite(corners), names=tuple(names))
    return found


def all_labels(materials: Materials) -> dict[str, Labels]:
    """Return the labels of every target that the materials have labels for."""
    every = np.ones(len(materials), dtype=bool)
    found = class_labels(materials) | {
        Descriptor.BOND_LENGTH: Labels(values=materials.bond_length, known=every)
    }
    values = np.stack([getattr(materials, name) for name in Descriptor.surroundings()], axis=1)
    known = np.isfinite(values).all(axis=1)
    if known.any():
        found[SURROUNDINGS] = Labels(values=values, known=known)
    return found


def fit_pdf(rows: FloatArray, labels: FloatArray, target: str, recipe: PdfRecipe) -> tuple[Any, Forest]:
    """Fit one forest; return it as scikit-learn has it and as it is shipped."""
    from sklearn.ensemble import ExtraTreesRegressor

    if target in CLASS_TARGETS:
        return fit_classes(rows, labels, target, BALANCED, recipe)
    is_length = target == Descriptor.BOND_LENGTH
    regressor = ExtraTreesRegressor(
        recipe.length_trees if is_length else recipe.surroundings_trees,
        min_samples_leaf=recipe.length_leaf if is_length else recipe.surroundings_leaf,
        random_state=recipe.seed,
        n_jobs=-1,
    )
    whole = fit_forest(regressor, rows, labels)
    return whole, compact_forest(whole)


def fit_classes(
    rows: FloatArray,
    labels: FloatArray,
    target: str,
    columns: NDArray[np.int64],
    recipe: "PdfRecipe | JointRecipe",
) -> tuple[Any, Forest]:
    """Fit a forest on some columns; the nodes of the compact one name features, not repeated columns."""
    from sklearn.ensemble import ExtraTreesClassifier

    classifier = ExtraTreesClassifier(
        recipe.trees,
        min_samples_leaf=recipe.leaf,
        max_features=recipe.columns,
        class_weight=None if target == Descriptor.OXIDATION_STATE else "balanced",
        random_state=recipe.seed,
        n_jobs=-1,
    )
    whole = fit_forest(classifier, rows[:, columns], labels)
    compact = compact_forest(whole)
    feature = columns[compact.feature].astype(np.int32)
    return whole, replace(compact, feature=feature, n_features=int(feature.max()) + 1)


def train_pdf_bundle(
    materials: Materials,
    features: FloatArray,
    modality: Modality,
    recipe: PdfRecipe,
    *,
    calibration: Mapping[str, Mapping[str, Any]],
    held_out: Mapping[str, HeldOut],
) -> Bundle:
    """Train the forests of an element."""
    forests, targets, importances = {}, {}, {}
    copies, _, width = features.shape
    settings = PermutationSettings(seed=recipe.seed, repeats=2)
    for target, labels in all_labels(materials).items():
        rows = features[:, labels.known].reshape(-1, width)
        tiled = np.concatenate([labels.values[labels.known]] * copies)
        whole, forests[target] = fit_pdf(rows, tiled, target, recipe)
        targets[target] = {**describe_target(target, labels), **calibration[target]}
        if target in Descriptor.main():
            columns = BALANCED if target in CLASS_TARGETS else np.arange(width)
            importances[target] = forest_importances(whole, columns, held_out[target], settings)
    low, high = q_max_range(materials.element, modality, recipe.augmentation)
    return Bundle(
        manifest={
            "element": materials.element,
            "edge": modality.edge,
            "modality": str(modality),
            "input": {**input_description(), "q_max": [round(low, 3), round(high, 3)]},
            "targets": targets,
            "recipe": asdict(recipe),
            IMPORTANCES: importances,
        },
        forests=forests,
        sha256="",
    )


def describe_target(target: str, labels: Labels) -> dict[str, Any]:
    """Return the manifest's entry of a target, without its calibration."""
    if target == SURROUNDINGS:
        return {
            "names": list(Descriptor.surroundings()),
            "units": {name: Descriptor(name).unit for name in Descriptor.surroundings()},
            "spread_floor": dict(SPREAD_FLOOR),
        }
    unit = Descriptor(target).unit
    if target == Descriptor.GEOMETRY:
        return {"unit": unit, "classes": list(labels.names)}
    classes = {"classes": labels.classes.tolist()} if labels.names else {}
    return {"unit": unit, **classes}
