"""Training of the XANES forests of one element on simulated spectra, put on the measured axis and width."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.library import SiteSpectra, StringArray
from bluesky_xpdml.factory.training.alignment import align
from bluesky_xpdml.factory.training.augmentation import Augmentation, augmented_features
from bluesky_xpdml.factory.training.compact import compact_forest
from bluesky_xpdml.factory.training.conformal import class_thresholds
from bluesky_xpdml.factory.training.fitting import fitted
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.edge_model import EdgeModel
from bluesky_xpdml.models.xanes import bond_valence_length, input_description
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES

GROUP_VALENCE: Mapping[str, int] = {"Ti": 4, "V": 5, "Cr": 6, "Mn": 7}
"""Valence at which the d shell is empty [e]: its sites have the strongest pre-edge peaks."""
VALENCES: Mapping[str, tuple[float, float]] = {
    "Ti": (2.0, 4.0),
    "V": (2.0, 5.0),
    "Cr": (2.0, 6.0),
    "Mn": (2.0, 7.0),
    "Fe": (2.0, 4.0),
    "Co": (2.0, 4.0),
    "Ni": (1.0, 4.0),
    "Cu": (1.0, 3.0),
}
"""Valences that oxides of an element have, from and to [e]."""
BOND_VALENCE_R0: Mapping[str, Mapping[str, float]] = {
    "Ti": {"3": 1.791, "4": 1.815},
    "V": {"3": 1.743, "4": 1.784, "5": 1.803},
    "Cr": {"2": 1.730, "3": 1.724, "6": 1.794},
    "Mn": {"2": 1.790, "3": 1.760, "4": 1.753},
    "Fe": {"2": 1.734, "3": 1.759},
    "Co": {"2": 1.692, "3": 1.700},
    "Ni": {"2": 1.654},
    "Cu": {"1": 1.593, "2": 1.679},
}
"""Bond-valence parameters R0 of cation-oxygen pairs [angstrom] (Brese and O'Keeffe, 1991)."""


IMPROBABLE = 0.05
"""Classes less probable than this belong to no set."""
COVERAGE = 0.9
"""Share of true values that intervals and sets are to hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XanesRecipe:
    """Everything that is chosen when forests are trained."""

    seed: int = 0
    trees: int = 150
    leaf: int = 4
    """Smallest number of rows in a leaf, classes."""
    length_trees: int = 100
    length_leaf: int = 8
    """Smallest number of rows in a leaf, bond length."""
    most_sites: int = 1000
    """More sites than this are drawn from at random."""
    smallest_class: int = 5
    """Valences and coordination numbers with fewer sites are left out."""
    pre_edge_shift: float = 8.0
    """Edges are corrected by this for every edge step of pre-edge peak [eV]."""
    forest_sigma: float = 0.35
    """How far the valence seen in the shape is trusted where there is a pre-edge peak, or on an axis of
    unknown error [e]."""
    forest_sigma_without_peak: float = 1.0
    """The same where there is no peak and the axis is known: there the edge tells more [e]."""
    state_floor: float = 0.15
    """Added in squares to the posterior's standard deviation, which shrinks where valences end [e]."""
    forest_weight: float = 0.25
    """Share of the forest's correction to the bond-valence distance."""
    surroundings_trees: int = 60
    surroundings_leaf: int = 12
    """Smallest number of rows in a leaf of the forest that answers all surroundings."""
    folds: int = 3
    """Folds, by formula, for the coordination numbers that the bond-length forest is trained with."""
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """What turns spreads into 90 % intervals, from compounds left out one at a time."""

    state_factor: float
    """Half width of the oxidation state's interval in standard deviations of its posterior."""
    uncalibrated_factor: float
    """The same on an axis of unknown error."""
    length_half_width: float
    """Half width of the bond length's interval [angstrom]."""


def usable_sites(spectra: SiteSpectra, recipe: XanesRecipe) -> SiteSpectra:
    """Return the sites that can be trained on: oxygen neighbours only, known and not too rare labels.

    Raises
    ------
    TrainingError
        If fewer than two valences remain.
    """
    for labels in (spectra.valence, spectra.coordination_number):
        if labels.shape != (len(spectra),):
            raise TrainingError("labels and spectra differ in number")
    kept = spectra.select(
        spectra.only_oxygen & np.isfinite(spectra.valence) & np.isfinite(spectra.bond_length)
    )
    kept = kept.select(_frequent(kept.valence, recipe) & _frequent(kept.coordination_number, recipe))
    if np.unique(kept.valence).size < 2:
        msg = (
            f"{len(kept)} of {len(spectra)} sites of {spectra.element} can be trained on and show fewer than "
            f"two valences with {recipe.smallest_class} sites each: more labelled spectra are needed"
        )
        raise TrainingError(msg)
    if len(kept) <= recipe.most_sites:
        return kept
    drawn = np.random.default_rng(recipe.seed).choice(len(kept), recipe.most_sites, replace=False)
    return kept.select(np.sort(drawn))


def training_rows(spectra: SiteSpectra, edge_model: EdgeModel, recipe: XanesRecipe) -> FloatArray:
    """Return the features of augmented spectra on the measured axis, copy after copy.

    Parameters
    ----------
    spectra
        n usable sites of one element.
    edge_model
        Its measured edge curve.
    recipe
        Settings.

    Returns
    -------
    FloatArray
        Features, (copies * n, 72).
    """
    aligned = align(spectra, FOIL_ENERGIES[spectra.element], edge_model)
    return augmented_features(aligned, recipe.augmentation, np.random.default_rng(recipe.seed))


def train_bundle(
    spectra: SiteSpectra, edge_model: EdgeModel, recipe: XanesRecipe, intervals: Intervals
) -> Bundle:
    """Train the three forests of an element.

    Parameters
    ----------
    spectra
        Usable sites of one element.
    edge_model
        Its measured edge curve.
    recipe
        Settings.
    intervals
        Calibration of the intervals.

    Returns
    -------
    Bundle
        In memory, with the parts of the manifest that predictions read; not yet named or hashed.
    """
    rows = training_rows(spectra, edge_model, recipe)
    copies = recipe.augmentation.copies
    valence, number = np.tile(spectra.valence, copies), np.tile(spectra.coordination_number, copies)
    members = out_of_fold(rows, number, np.tile(spectra.formula, copies), recipe)
    expected_number = members @ np.unique(number)
    length = _length_from_valence(spectra.element, valence, expected_number)
    residual = np.tile(spectra.bond_length, copies) - length
    return Bundle(
        manifest={
            "element": spectra.element,
            "edge": "K",
            "input": input_description(spectra.element),
            "edge_model": _restricted(edge_model, spectra),
            "targets": {
                "oxidation_state": {
                    "unit": "e",
                    "classes": np.unique(valence).tolist(),
                    "forest_sigma": recipe.forest_sigma,
                    "forest_sigma_without_peak": recipe.forest_sigma_without_peak,
                    "knows_pre_edge_peaks": bool(valence.max() >= GROUP_VALENCE.get(spectra.element, np.inf)),
                    "interval_floor": recipe.state_floor,
                    "interval_factor": intervals.state_factor,
                    "interval_factor_uncalibrated": intervals.uncalibrated_factor,
                },
                "coordination_number": {
                    "unit": "1",
                    "classes": np.unique(number).tolist(),
                    "thresholds": thresholds(members, number),
                },
                "bond_length": {
                    "unit": "angstrom",
                    "bond_valence_r0": dict(BOND_VALENCE_R0[spectra.element]),
                    "forest_weight": recipe.forest_weight,
                    "half_width": intervals.length_half_width,
                },
            },
            "recipe": asdict(recipe),
        },
        forests={
            "oxidation_state": compact_forest(fitted(classifier(recipe), rows, valence)),
            "coordination_number": compact_forest(fitted(classifier(recipe), rows, number)),
            "bond_length": compact_forest(
                fitted(length_forest(recipe), np.concatenate([rows, members], axis=1), residual)
            ),
        },
        sha256="",
    )


def _frequent(labels: FloatArray, recipe: XanesRecipe) -> np.ndarray[Any, np.dtype[np.bool_]]:
    values, counts = np.unique(labels, return_counts=True)
    return np.isin(labels, values[counts >= recipe.smallest_class])


def thresholds(probabilities: FloatArray, labels: FloatArray) -> list[float]:
    """Return how improbable each class may be and still belong to a set, as a manifest holds it.

    Classes of a handful of sites would otherwise belong to every set.

    Parameters
    ----------
    probabilities
        Of each class, in ascending order, for rows that the forest did not see, (n, k).
    labels
        True classes, (n,).
    """
    found = class_thresholds(probabilities, labels, np.unique(labels), COVERAGE)
    return [round(min(float(value), 1.0 - IMPROBABLE), 4) for value in found]


def classifier(recipe: XanesRecipe) -> Any:
    """Return an unfitted forest of classes, balanced.

    Parameters
    ----------
    recipe
        Settings.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(
        recipe.trees,
        min_samples_leaf=recipe.leaf,
        max_features="sqrt",
        class_weight="balanced",
        random_state=recipe.seed,
        n_jobs=-1,
    )


def length_forest(recipe: XanesRecipe) -> Any:
    """Return an unfitted forest of corrections to the bond-valence distance.

    Parameters
    ----------
    recipe
        Settings.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    return ExtraTreesRegressor(
        recipe.length_trees,
        min_samples_leaf=recipe.length_leaf,
        max_features="sqrt",
        random_state=recipe.seed,
        n_jobs=-1,
    )


def out_of_fold(rows: FloatArray, labels: FloatArray, groups: StringArray, recipe: XanesRecipe) -> FloatArray:
    """Return class probabilities of rows by forests that saw no row of the same formula, (n, classes).

    Parameters
    ----------
    rows
        Features, (n, n_features).
    labels
        Classes, (n,).
    groups
        Formulas, (n,).
    recipe
        Settings.
    """
    from sklearn.model_selection import GroupKFold

    classes = np.unique(labels)
    result = np.full((len(rows), classes.size), 1.0 / classes.size)
    for train, test in GroupKFold(recipe.folds, shuffle=True, random_state=recipe.seed).split(
        rows, groups=groups
    ):
        forest = fitted(classifier(recipe), rows[train], labels[train])
        columns = np.searchsorted(classes, forest.classes_)
        result[test] = 0.0
        # Threads add up their trees in the order in which they end, so that the last bits would vary.
        result[np.ix_(test, columns)] = forest.set_params(n_jobs=1).predict_proba(rows[test])
    return result


def _length_from_valence(element: str, valence: FloatArray, number: FloatArray) -> FloatArray:
    parameters = BOND_VALENCE_R0[element]
    pairs: Sequence[tuple[float, float]] = list(zip(valence.tolist(), number.tolist(), strict=True))
    return np.array([bond_valence_length(parameters, v, n) for v, n in pairs])


def _restricted(model: EdgeModel, spectra: SiteSpectra) -> dict[str, Any]:
    """Tabulate the edge curve over the valences that oxides of the element have."""
    low, high = VALENCES[spectra.element]
    low, high = min(low, float(spectra.valence.min())), max(high, float(spectra.valence.max()))
    kept = (model.valence >= low - 1e-9) & (model.valence <= high + 1e-9)
    return {
        "valence": model.valence[kept].round(3).tolist(),
        "edge": model.edge[kept].round(4).tolist(),
        "sigma": model.sigma[kept].round(4).tolist(),
        "pre_edge_shift": model.pre_edge_shift,
    }
