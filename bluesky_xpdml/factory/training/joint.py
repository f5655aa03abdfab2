"""Training of the joint forests of one element, and of the weight between the single bond lengths."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from bluesky_xpdml.factory.training.compact import compact_forest
from bluesky_xpdml.factory.training.fitting import fitted
from bluesky_xpdml.factory.training.importances import (
    HeldOut,
    PermutationSettings,
    forest_importances,
    pdf_places,
    xanes_places,
)
from bluesky_xpdml.factory.training.joint_data import JointData
from bluesky_xpdml.factory.training.pdf import EXPLAINED, PdfRecipe, class_labels, describe_target
from bluesky_xpdml.factory.training.xanes import GROUP_VALENCE, XanesRecipe
from bluesky_xpdml.features.joint import COLUMNS, N_XANES
from bluesky_xpdml.models import pdf as pdf_models
from bluesky_xpdml.models import xanes as xanes_models
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.explain import IMPORTANCES
from bluesky_xpdml.models.forest import Forest
from bluesky_xpdml.models.joint import STACKS
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import Modality

FAR = 1000
"""Places of the curve are this far from those of the spectrum, so that they are not shuffled together."""
FROM_XANES = ("interval_floor", "interval_factor", "interval_factor_uncalibrated")
"""What the interval of the oxidation state takes from the XANES bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JointRecipe:
    """Everything that is chosen when joint forests are trained."""

    seed: int = 0
    trees: int = 100
    columns: float = 0.1
    """Share of the columns that a node looks at."""
    leaf: int = 4
    """Smallest number of rows in a leaf."""
    smallest_class: int = 12
    """Classes with fewer materials that have both measurements are left out."""
    forest_sigma: float = 0.35
    """How far the valence seen in both curves is trusted beside the edge [e]. It cannot be tuned: no measured
    compound has both, and simulated edges are aligned by their label."""
    xanes: XanesRecipe = field(default_factory=XanesRecipe)
    pdf: PdfRecipe = field(default_factory=PdfRecipe)
    """Of the single forests that the joint ones are compared with; its folds are those of the joint ones."""


def fit_joint(rows: FloatArray, labels: FloatArray, target: str, recipe: JointRecipe) -> tuple[Any, Forest]:
    """Fit one forest; the nodes of the compact one name features, not repeated columns.

    Parameters
    ----------
    rows
        Features of both curves, (n, 164).
    labels
        Classes, (n,).
    target
        Name of the target.
    recipe
        Settings.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    classifier = ExtraTreesClassifier(
        recipe.trees,
        min_samples_leaf=recipe.leaf,
        max_features=recipe.columns,
        class_weight=None if target == "oxidation_state" else "balanced",
        random_state=recipe.seed,
        n_jobs=-1,
    )
    whole = fitted(classifier, rows[:, COLUMNS], labels)
    compact = compact_forest(whole)
    feature = COLUMNS[compact.feature].astype(np.int32)
    return whole, replace(compact, feature=feature, n_features=int(feature.max()) + 1)


def train_joint_bundle(
    data: JointData,
    modality: Modality,
    recipe: JointRecipe,
    singles: Mapping[str, Bundle],
    *,
    calibration: Mapping[str, Mapping[str, Any]],
    held_out: Mapping[str, HeldOut],
) -> Bundle:
    """Train the joint forests of an element.

    Parameters
    ----------
    data
        n materials with the features of both measurements.
    modality
        What is measured beside the spectrum.
    recipe
        Settings.
    singles
        The single bundles, `xanes` and `pdf`, that it is to stand on.
    calibration
        By target, what turns outputs into sets and intervals, and the weight of the bond length.
    held_out
        By target, a forest with rows of formulas that it has not seen, on which importances are counted.

    Returns
    -------
    Bundle
        In memory, with the parts of the manifest that predictions read; not yet named or hashed.
    """
    table = data.both(data.aligned)
    copies, _, width = table.shape
    forests, targets, importances = {}, {}, {}
    settings = PermutationSettings(seed=recipe.seed, repeats=2)
    for target, labels in class_labels(data.materials).items():
        rows = table[:, labels.known].reshape(-1, width)
        tiled = np.tile(labels.values[labels.known], copies)
        whole, forests[target] = fit_joint(rows, tiled, target, recipe)
        targets[target] = {**describe_target(target, labels), **calibration.get(target, {})}
        if target in EXPLAINED:
            importances[target] = forest_importances(whole, COLUMNS, held_out[target], settings)
    targets["oxidation_state"] |= _fusion(data, recipe, singles["xanes"])
    targets["bond_length"] = {"unit": "angstrom", **calibration["bond_length"]}
    element = data.materials.element
    return Bundle(
        manifest={
            "element": element,
            "edge": "K",
            "modality": str(modality),
            "input": {
                "xanes": xanes_models.input_description(element),
                "pdf": {
                    **pdf_models.input_description(),
                    "q_max": singles["pdf"].manifest["input"]["q_max"],
                },
            },
            "edge_model": dict(singles["xanes"].manifest["edge_model"]),
            "targets": targets,
            STACKS: {part: asdict(single.reference) for part, single in singles.items()},
            "recipe": asdict(recipe),
            IMPORTANCES: importances,
        },
        forests=forests,
        sha256="",
    )


def places() -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return where on its curve each feature of both is read, (164,).

    Examples
    --------
    >>> places()[[0, 35, 36, 72, 157]].tolist()
    [0, 35, 0, 1000, 1085]
    """
    return np.concatenate([xanes_places(N_XANES), FAR + pdf_places()])


def _fusion(data: JointData, recipe: JointRecipe, xanes: Bundle) -> dict[str, Any]:
    """Return how edge and forest are fused: intervals are those of the XANES bundle."""
    largest = GROUP_VALENCE.get(data.materials.element, np.inf)
    of_xanes = xanes.manifest["targets"]["oxidation_state"]
    return {
        "forest_sigma": recipe.forest_sigma,
        "forest_sigma_without_peak": recipe.forest_sigma,
        "knows_pre_edge_peaks": bool(data.materials.valence.max() >= largest),
        **{name: of_xanes[name] for name in FROM_XANES},
    }
