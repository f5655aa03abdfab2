"""Training of the PDF forests of one element."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.training.compact import compact_forest
from bluesky_xpdml.factory.training.fitting import fitted
from bluesky_xpdml.factory.training.importances import (
    HeldOut,
    PermutationSettings,
    forest_importances,
    pdf_places,
)
from bluesky_xpdml.factory.training.pdf_data import Materials, PdfAugmentation, q_max_range
from bluesky_xpdml.factory.training.surroundings import GEOMETRIES, SMALLEST_CLASS, SPREAD_FLOOR, UNITS
from bluesky_xpdml.features.pdf import BALANCED
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.explain import IMPORTANCES
from bluesky_xpdml.models.forest import SURROUNDINGS, Forest
from bluesky_xpdml.models.pdf import input_description
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import Descriptor, Modality

LENGTH = "bond_length"
GEOMETRY = "geometry"
CLASS_TARGETS = ("oxidation_state", "coordination_number", GEOMETRY)
"""Targets that forests answer with classes."""
EXPLAINED = ("oxidation_state", "coordination_number", LENGTH)
"""Targets whose importances are counted."""
TARGET_UNITS: Mapping[str, str] = {
    "oxidation_state": "e",
    "coordination_number": "1",
    GEOMETRY: "1",
    LENGTH: "angstrom",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PdfRecipe:
    """Everything that is chosen when PDF forests are trained."""

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
    """Valences and coordination numbers with fewer materials are left out: too few to be told from others,
    they would belong to every set (with a limit of 5, all sets of Fe held 1; those of Mn had 3.1 classes)."""
    folds: int = 3
    """Folds, by formula, on which forests are judged, and sets and intervals calibrated."""
    familiar: float = 0.99
    """Share of simulated curves of other formulas that are not to be called novel."""
    augmentation: PdfAugmentation = field(default_factory=PdfAugmentation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What the forest of one target should answer."""

    values: FloatArray
    """Labels, (n,) or (n, m)."""
    known: NDArray[np.bool_]
    """Materials that have them, (n,)."""
    names: tuple[str, ...] = ()
    """Of the classes, ascending; none for a regression."""

    @property
    def classes(self) -> FloatArray:
        """Classes as numbers, ascending, (k,); empty for a regression."""
        return np.unique(self.values[self.known]) if self.names else np.empty(0)


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


def class_labels(materials: Materials) -> dict[str, Labels]:
    """Return the labels of the targets that are classes.

    Parameters
    ----------
    materials
        Usable materials. A polyhedron is asked for where two of them have enough members.
    """
    every = np.ones(len(materials), dtype=bool)
    found = {
        target: Labels(values=values, known=every, names=tuple(f"{v:.0f}" for v in np.unique(values)))
        for target, values in (
            ("oxidation_state", materials.valence),
            ("coordination_number", materials.coordination_number),
        )
    }
    polyhedra = np.array([GEOMETRIES.get(symbol, "") for symbol in materials.geometry.tolist()])
    seen, counts = np.unique(polyhedra[polyhedra != ""], return_counts=True)
    names = sorted(seen[counts >= SMALLEST_CLASS].tolist(), key=lambda name: int(name[1:]))
    if len(names) > 1:
        corners = np.array([float(name[1:]) if name in names else np.nan for name in polyhedra.tolist()])
        found[GEOMETRY] = Labels(values=corners, known=np.isfinite(corners), names=tuple(names))
    return found


def all_labels(materials: Materials) -> dict[str, Labels]:
    """Return the labels of every target that the materials have labels for.

    Parameters
    ----------
    materials
        Usable materials.
    """
    every = np.ones(len(materials), dtype=bool)
    found = class_labels(materials) | {LENGTH: Labels(values=materials.bond_length, known=every)}
    values = np.stack([getattr(materials, name) for name in Descriptor.surroundings()], axis=1)
    known = np.isfinite(values).all(axis=1)
    if known.any():
        found[SURROUNDINGS] = Labels(values=values, known=known)
    return found


def fit_pdf(rows: FloatArray, labels: FloatArray, target: str, recipe: PdfRecipe) -> tuple[Any, Forest]:
    """Fit one forest; the nodes of the compact one name features, not repeated columns.

    Parameters
    ----------
    rows
        Features, (n, 92).
    labels
        Of the target, (n,) or (n, m).
    target
        Its name.
    recipe
        Settings.

    Returns
    -------
    whole, compact
        As scikit-learn fitted it, and as it is shipped.
    """
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

    common = {"random_state": recipe.seed, "n_jobs": -1}
    if target not in CLASS_TARGETS:
        is_length = target == LENGTH
        regressor = ExtraTreesRegressor(
            recipe.length_trees if is_length else recipe.surroundings_trees,
            min_samples_leaf=recipe.length_leaf if is_length else recipe.surroundings_leaf,
            **common,
        )
        whole = fitted(regressor, rows, labels)
        return whole, compact_forest(whole)
    weight = None if target == "oxidation_state" else "balanced"
    classifier = ExtraTreesClassifier(
        recipe.trees,
        min_samples_leaf=recipe.leaf,
        max_features=recipe.columns,
        class_weight=weight,
        **common,
    )
    whole = fitted(classifier, rows[:, BALANCED], labels)
    compact = compact_forest(whole)
    feature = BALANCED[compact.feature].astype(np.int32)
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
    """Train the forests of an element.

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
    calibration
        By target, what turns outputs into sets and intervals.
    held_out
        By target, a forest with rows of formulas that it has not seen, on which importances are counted.

    Returns
    -------
    Bundle
        In memory, with the parts of the manifest that predictions and explanations read; not yet named or
        hashed.
    """
    forests, targets, importances = {}, {}, {}
    copies, _, width = features.shape
    settings = PermutationSettings(seed=recipe.seed, repeats=2)
    for target, labels in all_labels(materials).items():
        rows = features[:, labels.known].reshape(-1, width)
        tiled = np.concatenate([labels.values[labels.known]] * copies)
        whole, forests[target] = fit_pdf(rows, tiled, target, recipe)
        targets[target] = {**describe_target(target, labels), **calibration[target]}
        if target in EXPLAINED:
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
    """Return what a manifest says of a target before anything is calibrated.

    Parameters
    ----------
    target
        Its name.
    labels
        What its forest was trained on.
    """
    if target == SURROUNDINGS:
        return {
            "names": list(Descriptor.surroundings()),
            "units": dict(UNITS),
            "spread_floor": dict(SPREAD_FLOOR),
        }
    if target == GEOMETRY:
        return {"unit": TARGET_UNITS[target], "classes": list(labels.names)}
    classes = {"classes": labels.classes.tolist()} if labels.names else {}
    return {"unit": TARGET_UNITS[target], **classes}


def held_out_rows(forest: Forest, table: FloatArray, labels: Labels, test: NDArray[np.int64]) -> HeldOut:
    """Return a forest with rows of formulas that it has not seen.

    Parameters
    ----------
    forest
        Trained on other materials.
    table
        Features of the known materials, (copies, n, 92).
    labels
        Of the target.
    test
        Indices of the unseen ones among the known.
    """
    copies, _, width = table.shape
    return HeldOut(
        forest=forest,
        rows=table[:, test].reshape(-1, width),
        labels=np.tile(labels.values[labels.known][test], copies),
        classes=labels.classes,
        places=pdf_places(),
    )


def _frequent(labels: FloatArray, smallest: int) -> NDArray[np.bool_]:
    values, counts = np.unique(labels, return_counts=True)
    return np.isin(labels, values[counts >= smallest])
