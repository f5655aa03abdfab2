"""Training of what else a spectrum tells of its site: the polyhedron, and what surrounds it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bluesky_xpdml.factory.dataset.library import SiteSpectra
from bluesky_xpdml.factory.training.compact import compact_forest
from bluesky_xpdml.factory.training.conformal import interval_factor
from bluesky_xpdml.factory.training.fitting import fitted
from bluesky_xpdml.factory.training.xanes import COVERAGE, XanesRecipe, classifier, out_of_fold, thresholds
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import Descriptor

GEOMETRIES: Mapping[str, str] = {"T:4": "T4", "S:5": "S5", "O:6": "O6"}
"""ChemEnv symbols of tetrahedron, square pyramid and octahedron, and how they are published."""
SMALLEST_CLASS = 5
"""Polyhedra with fewer sites are left out."""
UNITS: Mapping[str, str] = {"ocn": "1", "nnrs": "angstrom", "mood": "angstrom"}
SPREAD_FLOOR: Mapping[str, float] = {"ocn": 0.05, "nnrs": 0.005, "mood": 0.01}
"""Trees that all agree are still not certain [unit of the target]."""


def with_surroundings(bundle: Bundle, spectra: SiteSpectra, rows: FloatArray, recipe: XanesRecipe) -> Bundle:
    """Add the forests of the polyhedron and of the surroundings to a bundle.

    Parameters
    ----------
    bundle
        In memory.
    spectra
        n usable sites of its element.
    rows
        Their features, copy after copy, (copies * n, n_features).
    recipe
        Settings.
    """
    forests, targets = dict(bundle.forests), dict(bundle.manifest["targets"])
    copies = len(rows) // len(spectra)
    formula = np.tile(spectra.formula, copies)
    order, label = _polyhedra(spectra)
    if len(order) > 1:
        label = np.tile(label, copies)
        kept = np.isfinite(label)
        unseen = out_of_fold(rows[kept], label[kept], formula[kept], recipe)
        forests["geometry"] = compact_forest(fitted(classifier(recipe), rows[kept], label[kept]))
        targets["geometry"] = {"unit": "1", "classes": order, "thresholds": thresholds(unseen, label[kept])}
    labels = np.tile(
        np.stack([getattr(spectra, name) for name in Descriptor.surroundings()], axis=1), (copies, 1)
    )
    kept = np.isfinite(labels).all(axis=1)
    if np.unique(formula[kept]).size >= recipe.folds:
        forests["surroundings"] = compact_forest(fitted(_regressor(recipe), rows[kept], labels[kept]))
        targets["surroundings"] = {
            "names": list(Descriptor.surroundings()),
            "units": dict(UNITS),
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


def _regressor(recipe: XanesRecipe) -> Any:
    from sklearn.ensemble import ExtraTreesRegressor

    return ExtraTreesRegressor(
        recipe.surroundings_trees,
        min_samples_leaf=recipe.surroundings_leaf,
        max_features="sqrt",
        random_state=recipe.seed,
        n_jobs=-1,
    )


def _interval_factors(
    rows: FloatArray, labels: FloatArray, formula: Any, recipe: XanesRecipe
) -> dict[str, float]:
    """Ask forests about formulas that they have not seen: what their spread is to be multiplied by."""
    from sklearn.model_selection import GroupKFold

    errors, spreads = np.empty_like(labels), np.empty_like(labels)
    for train, test in GroupKFold(recipe.folds, shuffle=True, random_state=recipe.seed).split(
        rows, groups=formula
    ):
        forest = compact_forest(fitted(_regressor(recipe), rows[train], labels[train]))
        members = forest.value[forest.leaves(rows[test])].astype(np.float64)
        errors[test] = members.mean(axis=1) - labels[test]
        spreads[test] = members.std(axis=1)
    return {
        name: round(interval_factor(errors[:, n], np.maximum(spreads[:, n], SPREAD_FLOOR[name]), COVERAGE), 4)
        for n, name in enumerate(Descriptor.surroundings())
    }
