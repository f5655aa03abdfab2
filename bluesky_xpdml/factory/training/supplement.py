"""What a bundle holds beside its forests: importances, novelty, rows to explain and to check answers with.

Importances tell how much a forest relies on each feature: at training, and on formulas that it has not seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.library import SiteSpectra, StringArray
from bluesky_xpdml.factory.training.conformal import Places, conformal_quantile, split_groups
from bluesky_xpdml.factory.training.forests import compact_forest, fit_forest
from bluesky_xpdml.factory.training.novelty import fit_novelty
from bluesky_xpdml.factory.training.xanes import XanesRecipe, classifier, length_forest
from bluesky_xpdml.features import pdf, xanes
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.explain import BACKGROUND, IMPORTANCES
from bluesky_xpdml.models.forest import Forest
from bluesky_xpdml.models.golden import GOLDEN, golden_answers
from bluesky_xpdml.models.novelty import NOVELTY, from_tables, novelty_scores
from bluesky_xpdml.models.standards import MeasuredSpectrum, by_compound
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import Descriptor

if TYPE_CHECKING:
    from bluesky_xpdml.factory.training.pdf import PdfRecipe

DIGITS = 5
"""Decimals that a manifest holds."""
BACKGROUND_ROWS = 64
"""Training rows that an explanation compares with."""
HELD_OUT = 0.25
"""Share of the formulas on which importances and novelty are counted."""
FAMILIAR = 0.95
"""Share of measured oxides that must not be called novel."""

Tables = dict[str, NDArray[np.generic]]
Entries = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """A forest with rows of formulas that it has not seen."""

    forest: Forest
    """Trained on other formulas, in the same way as the one that is shipped."""
    rows: FloatArray
    """Features, (n, n_features)."""
    labels: FloatArray
    """Labels, (n,)."""
    classes: FloatArray
    """Labels in the order of the forest's outputs; empty for a regression."""
    places: Places
    """Where on the curve each feature is read, in grid points: neighbours are shuffled together,
    (n_features,)."""

    def score(self, rows: FloatArray, labels: FloatArray) -> float:
        """Return the accuracy, or R2 for a regression."""
        answer = self.forest.predict(rows)
        if self.classes.size:
            return float((self.classes[answer.argmax(axis=1)] == labels).mean())
        return 1.0 - float(((answer[:, 0] - labels) ** 2).sum() / ((labels - labels.mean()) ** 2).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class PermutationSettings:
    """How features are shuffled."""

    reach: int = 2
    """Features this many grid points to either side are shuffled together."""
    repeats: int = 3
    most_rows: int = 400
    """More rows than this are drawn from at random."""
    seed: int = 0


def forest_importances(
    fitted: Any, columns: NDArray[np.int64], held_out: HeldOut, settings: PermutationSettings
) -> dict[str, list[float]]:
    """Return both importances of every feature, as a manifest holds them."""
    n_features = held_out.rows.shape[1]
    found = {
        "impurity": impurity_importances(fitted, columns, n_features),
        "permutation": permutation_importances(held_out, settings),
    }
    return {name: values.round(DIGITS).tolist() for name, values in found.items()}


def impurity_importances(fitted: Any, columns: NDArray[np.int64], n_features: int) -> FloatArray:
    """Return the share of the impurity decrease that each feature brought, the mean over trees."""
    if columns.size != fitted.n_features_in_ or columns.max() >= n_features:
        found = f"found {columns.size} up to {columns.max()}"
        raise TrainingError(f"expected {fitted.n_features_in_} features below {n_features}, {found}")
    shares = np.asarray(fitted.feature_importances_, dtype=float)
    return np.asarray(np.bincount(columns, weights=shares, minlength=n_features), dtype=float)


def permutation_importances(held_out: HeldOut, settings: PermutationSettings) -> FloatArray:
    """Return the accuracy or R2 that is lost when a feature is shuffled among unseen rows, (n_features,).

    Neighbouring points of a curve are redundant: shuffling one alone loses nothing. All features within
    reach of a place are therefore shuffled together, and all features of that place get the loss. Losses
    do not add up to the score.
    """
    if len(held_out.rows) < 2:
        raise TrainingError(f"expected rows to shuffle, found {len(held_out.rows)}")
    random = np.random.default_rng(settings.seed)
    n = min(len(held_out.rows), settings.most_rows)
    chosen = np.sort(random.choice(len(held_out.rows), n, replace=False))
    rows, labels = held_out.rows[chosen], held_out.labels[chosen]
    whole = held_out.score(rows, labels)
    lost = np.empty(rows.shape[1])
    for place in np.unique(held_out.places):
        together = np.abs(held_out.places - place) <= settings.reach
        shuffled = np.tile(rows, (settings.repeats, 1))
        order = np.concatenate([random.permutation(n) for _ in range(settings.repeats)])
        shuffled[:, together] = rows[order][:, together]
        lost[held_out.places == place] = whole - held_out.score(shuffled, np.tile(labels, settings.repeats))
    return lost


def xanes_places(n_features: int) -> Places:
    """Return the places of spectrum and running integral, and a distant one for what follows them."""
    return _places(np.tile(np.arange(xanes.GRID.size), 2), n_features)


def pdf_places() -> Places:
    """Return the places of the points of G(r), and a distant one for the shape of the first shell."""
    return _places(np.arange(pdf.GRID.size), len(pdf.FEATURE_NAMES))


def _places(of_curve: NDArray[np.int64], n_features: int) -> NDArray[np.int64]:
    far = 2 * (int(of_curve.max()) + 1)
    return np.concatenate([of_curve, np.full(n_features - of_curve.size, far)])


@dataclass(frozen=True, slots=True, kw_only=True)
class NoveltyFit:
    """The reference of the novelty score of one element, as a bundle contains it."""

    tables: Tables
    entry: Entries

    def scores(self, rows: FloatArray) -> FloatArray:
        """Return the novelty scores of rows, (n,)."""
        stored = {name: values.astype(np.float64) for name, values in self.tables.items()}
        return novelty_scores(from_tables(stored, self.entry), rows)


def fit_familiar(formula: StringArray, rows: FloatArray, seed: int) -> NoveltyFit:
    """Fit the reference of the novelty score on three quarters of the formulas, its scale on the others."""
    train, test = split_groups(formula, HELD_OUT, seed)
    tables, entry = fit_novelty(rows[train], rows[test], seed=seed)
    return NoveltyFit(tables=tables, entry=entry)


def novelty_threshold(spectra: Sequence[MeasuredSpectrum], references: Mapping[str, NoveltyFit]) -> float:
    """Return the score above which a measured spectrum is called novel.

    Measured spectra differ more from simulated ones than these from each other. The threshold is therefore
    taken from measured oxides of all elements, one score per compound.
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


def xanes_supplement(
    bundle: Bundle,
    forests: Mapping[str, Mapping[str, NDArray[np.generic]]],
    spectra: SiteSpectra,
    rows: FloatArray,
    recipe: XanesRecipe,
) -> tuple[Tables, Entries]:
    """Return tables and manifest entries that explain and check a XANES bundle, but for its novelty."""
    background = _background(rows, recipe.seed)
    members = bundle.forests[Descriptor.COORDINATION_NUMBER].predict(background)
    golden_rows, golden = golden_answers(forests, np.concatenate([background, members], axis=1))
    return (
        {BACKGROUND: background.astype(np.float16), **golden_rows},
        {IMPORTANCES: _importances(bundle, spectra, rows, recipe), GOLDEN: golden},
    )


def curve_supplement(
    features: FloatArray,
    formula: StringArray,
    forests: Mapping[str, Mapping[str, NDArray[np.generic]]],
    recipe: "PdfRecipe",
) -> tuple[Tables, Entries]:
    """Return the same, with the novelty, for a bundle of n materials; features are (copies, n, columns)."""
    copies, _, width = features.shape
    rows = features.reshape(-1, width)
    background = _background(rows, recipe.seed)
    golden_rows, golden = golden_answers(forests, background)
    found = fit_familiar(np.tile(formula, copies), rows, recipe.seed)
    threshold = float(np.quantile(found.tables["novelty_simulated"].astype(np.float64), recipe.familiar))
    return (
        {BACKGROUND: background.astype(np.float16), **golden_rows, **found.tables},
        {GOLDEN: golden, NOVELTY: {**found.entry, "threshold": round(threshold, 4)}},
    )


def _background(rows: FloatArray, seed: int) -> FloatArray:
    """Draw the rows that explanations compare with."""
    drawn = np.random.default_rng(seed).choice(len(rows), min(BACKGROUND_ROWS, len(rows)), replace=False)
    return rows[np.sort(drawn)]


def _importances(
    bundle: Bundle, spectra: SiteSpectra, rows: FloatArray, recipe: XanesRecipe
) -> dict[str, dict[str, list[float]]]:
    """Train on three quarters of the formulas, and compute importances on the others."""
    copies = len(rows) // len(spectra)
    train, test = split_groups(np.tile(spectra.formula, copies), HELD_OUT, recipe.seed)
    members = bundle.forests[Descriptor.COORDINATION_NUMBER].predict(rows)
    with_members = np.concatenate([rows, members], axis=1)
    found: dict[str, dict[str, list[float]]] = {}
    of_sites = (spectra.valence, spectra.coordination_number, spectra.bond_length)
    for target, own in zip(Descriptor.main(), of_sites, strict=True):
        labels = np.tile(own, copies)
        table = with_members if target == Descriptor.BOND_LENGTH else rows
        kind = length_forest(recipe) if target == Descriptor.BOND_LENGTH else classifier(recipe)
        forest = fit_forest(kind, table[train], labels[train])
        held_out = HeldOut(
            forest=compact_forest(forest),
            rows=table[test],
            labels=labels[test],
            classes=np.empty(0) if target == Descriptor.BOND_LENGTH else np.unique(labels[train]),
            places=xanes_places(table.shape[1]),
        )
        settings = PermutationSettings(seed=recipe.seed)
        found[target] = forest_importances(forest, np.arange(table.shape[1]), held_out, settings)
    return found
