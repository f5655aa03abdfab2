"""Training of the XANES forests of one element on simulated spectra, put on the measured axis and width."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.library import SiteSpectra, StringArray
from bluesky_xpdml.factory.training.alignment import Augmentation, align, augmented_features
from bluesky_xpdml.factory.training.conformal import COVERAGE, class_thresholds, group_folds, interval_factor
from bluesky_xpdml.factory.training.forests import compact_forest, fit_forest
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.edge_model import EdgeModel
from bluesky_xpdml.models.forest import SURROUNDINGS
from bluesky_xpdml.models.xanes import bond_valence_length, input_description
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.vocabulary import Descriptor

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


@dataclass(frozen=True, slots=True, kw_only=True)
class XanesRecipe:
    """Hyperparameters of the XANES forests."""

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
    """Standard deviation of the forest's valence with a pre-edge peak or on an uncalibrated axis [e]."""
    forest_sigma_without_peak: float = 1.0
    """The same without a peak on a calibrated axis, for which the edge position is more reliable [e]."""
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
    """Return the sites with oxygen neighbours only and with known, frequent labels."""
    for labels in (spectra.valence, spectra.coordination_number):
        if labels.shape != (len(spectra),):
            raise TrainingError("labels and spectra differ in number")
    kept = spectra.select(
        spectra.only_oxygen & np.isfinite(spectra.valence) & np.isfinite(spectra.bond_length)
    )
    kept = kept.select(
        frequent(kept.valence, recipe.smallest_class)
        & frequent(kept.coordination_number, recipe.smallest_class)
    )
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
    """Return the features of augmented spectra on the measured axis, copy after copy."""
    aligned = align(spectra, FOIL_ENERGIES[spectra.element], edge_model)
    return augmented_features(aligned, recipe.augmentation, np.random.default_rng(recipe.seed))


def train_bundle(
    spectra: SiteSpectra, edge_model: EdgeModel, recipe: XanesRecipe, intervals: Intervals
) -> Bundle:
    """Train the three forests of an element."""
    rows = training_rows(spectra, edge_model, recipe)
    copies = recipe.augmentation.copies
    valence, number = np.tile(spectra.valence, copies), np.tile(spectra.coordination_number, copies)
    members = out_of_fold(rows, number, np.tile(spectra.formula, copies), recipe)
    expected_number = members @ np.unique(number)
    length = bond_valence_lengths(spectra.element, valence, expected_number)
    residual = np.tile(spectra.bond_length, copies) - length
    return Bundle(
        manifest={
            "element": spectra.element,
            "edge": "K",
            "input": input_description(spectra.element),
            "edge_model": _restricted(edge_model, spectra),
            "targets": {
                Descriptor.OXIDATION_STATE: {
                    "unit": Descriptor.OXIDATION_STATE.unit,
                    "classes": np.unique(valence).tolist(),
                    "forest_sigma": recipe.forest_sigma,
                    "forest_sigma_without_peak": recipe.forest_sigma_without_peak,
                    "knows_pre_edge_peaks": bool(valence.max() >= GROUP_VALENCE.get(spectra.element, np.inf)),
                    "interval_floor": recipe.state_floor,
                    "interval_factor": intervals.state_factor,
                    "interval_factor_uncalibrated": intervals.uncalibrated_factor,
                },
                Descriptor.COORDINATION_NUMBER: {
                    "unit": Descriptor.COORDINATION_NUMBER.unit,
                    "classes": np.unique(number).tolist(),
                    "thresholds": thresholds(members, number),
                },
                Descriptor.BOND_LENGTH: {
                    "unit": Descriptor.BOND_LENGTH.unit,
                    "bond_valence_r0": dict(BOND_VALENCE_R0[spectra.element]),
                    "forest_weight": recipe.forest_weight,
                    "half_width": intervals.length_half_width,
                },
            },
            "recipe": asdict(recipe),
        },
        forests={
            Descriptor.OXIDATION_STATE: compact_forest(fit_forest(classifier(recipe), rows, valence)),
            Descriptor.COORDINATION_NUMBER: compact_forest(fit_forest(classifier(recipe), rows, number)),
            Descriptor.BOND_LENGTH: compact_forest(
                fit_forest(length_forest(recipe), np.concatenate([rows, members], axis=1), residual)
            ),
        },
        sha256="",
    )


def frequent(labels: FloatArray, smallest: int) -> NDArray[np.bool_]:
    """Return which rows belong to classes with at least `smallest` rows."""
    values, counts = np.unique(labels, return_counts=True)
    return np.isin(labels, values[counts >= smallest])


def thresholds(probabilities: FloatArray, labels: FloatArray) -> list[float]:
    """Return how improbable each class may be and still belong to a set, as a manifest holds it.

    Classes of a handful of sites would otherwise belong to every set.
    """
    found = class_thresholds(probabilities, labels, np.unique(labels), COVERAGE)
    return [round(min(float(value), 1.0 - IMPROBABLE), 4) for value in found]


def classifier(recipe: XanesRecipe) -> Any:
    """Return an unfitted forest of classes, balanced."""
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
    """Return an unfitted forest of corrections to the bond-valence distance."""
    return _regressor(recipe.length_trees, recipe.length_leaf, recipe.seed)


def _surroundings_forest(recipe: XanesRecipe) -> Any:
    return _regressor(recipe.surroundings_trees, recipe.surroundings_leaf, recipe.seed)


def _regressor(trees: int, leaf: int, seed: int) -> Any:
    from sklearn.ensemble import ExtraTreesRegressor

    return ExtraTreesRegressor(
        trees, min_samples_leaf=leaf, max_features="sqrt", random_state=seed, n_jobs=-1
    )


def out_of_fold(rows: FloatArray, labels: FloatArray, groups: StringArray, recipe: XanesRecipe) -> FloatArray:
    """Return class probabilities of rows by forests that saw no row of the same formula, (n, classes)."""
    classes = np.unique(labels)
    result = np.full((len(rows), classes.size), 1.0 / classes.size)
    for train, test in group_folds(groups, recipe.folds, recipe.seed):
        forest = fit_forest(classifier(recipe), rows[train], labels[train])
        columns = np.searchsorted(classes, forest.classes_)
        result[test] = 0.0
        # Threads add up their trees in the order in which they end, so that the last bits would vary.
        result[np.ix_(test, columns)] = forest.set_params(n_jobs=1).predict_proba(rows[test])
    return result


def bond_valence_lengths(element: str, valence: FloatArray, number: FloatArray) -> FloatArray:
    """Return the bond-valence distance of valences and coordination numbers [angstrom], in their shape."""
    parameters = BOND_VALENCE_R0[element]
    pairs = zip(valence.ravel().tolist(), number.ravel().tolist(), strict=True)
    return np.array([bond_valence_length(parameters, v, n) for v, n in pairs]).reshape(valence.shape)


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


GEOMETRIES: Mapping[str, str] = {"T:4": "T4", "S:5": "S5", "O:6": "O6"}
"""ChemEnv symbols of tetrahedron, square pyramid and octahedron, and how they are published."""
SMALLEST_CLASS = 5
"""Polyhedra with fewer sites are left out."""
SPREAD_FLOOR: Mapping[str, float] = {Descriptor.OCN: 0.05, Descriptor.NNRS: 0.005, Descriptor.MOOD: 0.01}
"""Smallest spread of the trees [unit of the target]."""


def with_surroundings(bundle: Bundle, spectra: SiteSpectra, rows: FloatArray, recipe: XanesRecipe) -> Bundle:
    """Add the forests of the polyhedron and of the surroundings to a bundle."""
    forests, targets = dict(bundle.forests), dict(bundle.manifest["targets"])
    copies = len(rows) // len(spectra)
    formula = np.tile(spectra.formula, copies)
    order, label = _polyhedra(spectra)
    if len(order) > 1:
        label = np.tile(label, copies)
        kept = np.isfinite(label)
        unseen = out_of_fold(rows[kept], label[kept], formula[kept], recipe)
        forests[Descriptor.GEOMETRY] = compact_forest(fit_forest(classifier(recipe), rows[kept], label[kept]))
        targets[Descriptor.GEOMETRY] = {
            "unit": Descriptor.GEOMETRY.unit,
            "classes": order,
            "thresholds": thresholds(unseen, label[kept]),
        }
    labels = np.tile(
        np.stack([getattr(spectra, name) for name in Descriptor.surroundings()], axis=1), (copies, 1)
    )
    kept = np.isfinite(labels).all(axis=1)
    if np.unique(formula[kept]).size >= recipe.folds:
        whole = fit_forest(_surroundings_forest(recipe), rows[kept], labels[kept])
        forests[SURROUNDINGS] = compact_forest(whole)
        targets[SURROUNDINGS] = {
            "names": list(Descriptor.surroundings()),
            "units": {name: Descriptor(name).unit for name in Descriptor.surroundings()},
            "spread_floor": dict(SPREAD_FLOOR),
            "interval_factor": _interval_factors(rows[kept], labels[kept], formula[kept], recipe),
        }
    return replace(bundle, forests=forests, manifest={**bundle.manifest, "targets": targets})


def _polyhedra(spectra: SiteSpectra) -> tuple[list[str], FloatArray]:
    """Return the polyhedra that are frequent enough, and the number of each site's; NaN for other sites."""
    names = np.array([GEOMETRIES.get(symbol, "") for symbol in spectra.geometry.tolist()])
    order = [name for name in GEOMETRIES.values() if np.count_nonzero(names == name) >= SMALLEST_CLASS]
    places = [float(order.index(name)) if name in order else np.nan for name in names.tolist()]
    return order, np.array(places)


def _interval_factors(
    rows: FloatArray, labels: FloatArray, formula: Any, recipe: XanesRecipe
) -> dict[str, float]:
    """Return the factors from spread to interval, from forests that saw no such formula."""
    errors, spreads = np.empty_like(labels), np.empty_like(labels)
    for train, test in group_folds(formula, recipe.folds, recipe.seed):
        forest = compact_forest(fit_forest(_surroundings_forest(recipe), rows[train], labels[train]))
        members = forest.value[forest.leaves(rows[test])].astype(np.float64)
        errors[test] = members.mean(axis=1) - labels[test]
        spreads[test] = members.std(axis=1)
    return {
        name: round(interval_factor(errors[:, n], np.maximum(spreads[:, n], SPREAD_FLOOR[name]), COVERAGE), 4)
        for n, name in enumerate(Descriptor.surroundings())
    }
