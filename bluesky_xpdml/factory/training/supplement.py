"""What a bundle holds beside its forests: rows to explain and check answers with, importances, novelty."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.factory.dataset.library import SiteSpectra, StringArray
from bluesky_xpdml.factory.training.compact import compact_forest
from bluesky_xpdml.factory.training.fitting import fitted
from bluesky_xpdml.factory.training.importances import (
    HeldOut,
    PermutationSettings,
    forest_importances,
    xanes_places,
)
from bluesky_xpdml.factory.training.leave_one_out import conformal_quantile
from bluesky_xpdml.factory.training.novelty import fit_novelty
from bluesky_xpdml.factory.training.xanes import XanesRecipe, classifier, length_forest
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.explain import BACKGROUND, IMPORTANCES
from bluesky_xpdml.models.golden import GOLDEN, golden_answers
from bluesky_xpdml.models.novelty import from_tables, novelty_scores
from bluesky_xpdml.models.standards import MeasuredSpectrum, by_compound
from bluesky_xpdml.records import FloatArray

BACKGROUND_ROWS = 64
"""Rows of the training that an explanation compares with."""
HELD_OUT = 0.25
"""Share of the formulas on which importances and novelty are counted."""
FAMILIAR = 0.95
"""Share of measured oxides that are not to be called novel."""

Tables = dict[str, NDArray[np.generic]]
Entries = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Familiar:
    """What familiar spectra of one element look like, as a bundle holds it."""

    tables: Tables
    entry: Entries

    def scores(self, rows: FloatArray) -> FloatArray:
        """Return how strange rows are, (n,).

        Parameters
        ----------
        rows
            Features, (n, n_features).
        """
        stored = {name: values.astype(np.float64) for name, values in self.tables.items()}
        return novelty_scores(from_tables(stored, self.entry), rows)


def familiar(formula: StringArray, rows: FloatArray, seed: int) -> Familiar:
    """Learn what rows look like, and count on other formulas how strange familiar ones may be.

    Parameters
    ----------
    formula
        Reduced formula of each row, (n,).
    rows
        Features, (n, n_features).
    seed
        Of the division.
    """
    train, test = divided(formula, seed)
    tables, entry = fit_novelty(rows[train], rows[test], seed=seed)
    return Familiar(tables=tables, entry=entry)


def novelty_threshold(spectra: Sequence[MeasuredSpectrum], references: Mapping[str, Familiar]) -> float:
    """Return the score above which a measured spectrum is called novel.

    Measured spectra are stranger to simulated ones than these are to each other. The threshold is therefore
    counted on measured oxides of all elements, one score a compound.

    Parameters
    ----------
    spectra
        Measured oxides.
    references
        By element.
    """
    scores = [
        float(
            np.mean(
                references[members[0].element].scores(
                    np.stack([item.observation.unshifted for item in members])
                )
            )
        )
        for members in by_compound(spectra)
        if members[0].element in references
    ]
    return round(conformal_quantile(scores, FAMILIAR), 4)


def supplement(
    bundle: Bundle,
    forests: Mapping[str, Mapping[str, NDArray[np.generic]]],
    spectra: SiteSpectra,
    rows: FloatArray,
    recipe: XanesRecipe,
) -> tuple[Tables, Entries]:
    """Return what explains and checks a XANES bundle.

    Parameters
    ----------
    bundle
        In memory.
    forests
        Its forests as they are stored.
    spectra
        n usable sites of its element.
    rows
        Their features, copy after copy, (copies * n, n_features).
    recipe
        Settings.

    Returns
    -------
    tables, entries
        For `write_bundle`, and for its manifest.
    """
    drawn = np.random.default_rng(recipe.seed).choice(
        len(rows), min(BACKGROUND_ROWS, len(rows)), replace=False
    )
    background = rows[np.sort(drawn)]
    members = bundle.forests["coordination_number"].predict(background)
    golden_rows, golden = golden_answers(forests, np.concatenate([background, members], axis=1))
    return (
        {BACKGROUND: background.astype(np.float16), **golden_rows},
        {IMPORTANCES: _importances(bundle, spectra, rows, recipe), GOLDEN: golden},
    )


def divided(formula: StringArray, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide rows by their formulas into three quarters and one.

    Parameters
    ----------
    formula
        Reduced formula of each row, (n,).
    seed
        Of the division.
    """
    from sklearn.model_selection import GroupShuffleSplit

    divider = GroupShuffleSplit(1, test_size=HELD_OUT, random_state=seed)
    train, test = next(divider.split(formula, groups=formula))
    return train, test


def _importances(
    bundle: Bundle, spectra: SiteSpectra, rows: FloatArray, recipe: XanesRecipe
) -> dict[str, dict[str, list[float]]]:
    """Train on three quarters of the formulas, and see what the forest looks at on the others."""
    copies = len(rows) // len(spectra)
    train, test = divided(np.tile(spectra.formula, copies), recipe.seed)
    members = bundle.forests["coordination_number"].predict(rows)
    with_members = np.concatenate([rows, members], axis=1)
    found = {}
    for target, labels in _labels(spectra, copies):
        table = with_members if target == "bond_length" else rows
        kind = length_forest(recipe) if target == "bond_length" else classifier(recipe)
        forest = fitted(kind, table[train], labels[train])
        held_out = HeldOut(
            forest=compact_forest(forest),
            rows=table[test],
            labels=labels[test],
            classes=np.empty(0) if target == "bond_length" else np.unique(labels[train]),
            places=xanes_places(table.shape[1]),
        )
        settings = PermutationSettings(seed=recipe.seed)
        found[target] = forest_importances(forest, np.arange(table.shape[1]), held_out, settings)
    return found


def _labels(spectra: SiteSpectra, copies: int) -> Iterable[tuple[str, FloatArray]]:
    yield "oxidation_state", np.tile(spectra.valence, copies)
    yield "coordination_number", np.tile(spectra.coordination_number, copies)
    yield "bond_length", np.tile(spectra.bond_length, copies)
