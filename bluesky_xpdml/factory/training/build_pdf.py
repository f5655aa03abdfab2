"""From crystal structures to PDF bundles on disk."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.factory.dataset.library import StringArray, sites_file
from bluesky_xpdml.factory.training.build import (
    Progress,
    file_hashes,
    package_versions,
    score_row,
    silent,
    stored_forests,
)
from bluesky_xpdml.factory.training.pdf import PdfRecipe, train_pdf_bundle, usable_materials
from bluesky_xpdml.factory.training.pdf_card import pdf_model_card
from bluesky_xpdml.factory.training.pdf_data import Materials, load_materials, simulated_features
from bluesky_xpdml.factory.training.pdf_judgement import judge
from bluesky_xpdml.factory.training.supplement import BACKGROUND_ROWS, Entries, Tables, familiar
from bluesky_xpdml.models.bundle import write_bundle
from bluesky_xpdml.models.explain import BACKGROUND
from bluesky_xpdml.models.golden import GOLDEN, golden_answers
from bluesky_xpdml.models.novelty import NOVELTY
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.simulation.structure import structures_file
from bluesky_xpdml.vocabulary import Modality

DATA_LICENCE = "structures and their labels: Materials Project (CC BY 4.0)"


@dataclass(frozen=True, slots=True, kw_only=True)
class PdfTrainingData:
    """What PDF bundles are trained from."""

    folder: Path
    """Structures and their table of sites."""
    materials: dict[str, Materials]
    """Usable materials by element."""
    held_out: tuple[str, ...]
    """Reduced formulas kept out of training."""


def load_pdf_training_data(
    folder: Path, *, elements: Iterable[str], held_out: Iterable[str], recipe: PdfRecipe
) -> PdfTrainingData:
    """Read the labelled materials of some elements.

    Parameters
    ----------
    folder
        Holds `structures.jsonl.gz` and `sites.csv.gz`.
    elements
        Chemical symbols.
    held_out
        Reduced formulas to keep out.
    recipe
        Settings.

    Raises
    ------
    TrainingError
        If files are missing or too few materials can be used.
    """
    formulas = tuple(sorted(held_out))
    materials = {}
    for element in elements:
        found = load_materials(folder, element)
        materials[element] = usable_materials(found.select(~np.isin(found.formula, formulas)), recipe)
    return PdfTrainingData(folder=folder, materials=materials, held_out=formulas)


def build_pdf_bundles(
    data: PdfTrainingData,
    output: Path,
    *,
    modalities: Sequence[Modality],
    recipe: PdfRecipe,
    bundle_version: int,
    cache: Path,
    progress: Progress = silent,
) -> list[Path]:
    """Simulate curves, judge the recipe on unseen formulas, then train and write one bundle a modality.

    Parameters
    ----------
    data
        Labelled materials by element.
    output
        Folder of the bundles.
    modalities
        Kinds of curves.
    recipe
        Settings.
    bundle_version
        Last part of the bundles' names.
    cache
        Folder in which simulated features are kept between calls.
    progress
        Called with what is done, how many of it, and of how many.

    Returns
    -------
    list of Path
        Folders written.
    """
    folders: list[Path] = []
    wanted = [(materials, modality) for materials in data.materials.values() for modality in modalities]
    for materials, modality in wanted:
        folder = output / f"{materials.element}-{modality}-{bundle_version}"
        _build(folder, data, materials, modality, recipe=recipe, cache=cache, progress=progress)
        folders.append(folder)
        progress("bundles", len(folders), len(wanted))
    return folders


def _build(
    folder: Path,
    data: PdfTrainingData,
    materials: Materials,
    modality: Modality,
    *,
    recipe: PdfRecipe,
    cache: Path,
    progress: Progress,
) -> None:
    features = simulated_features(
        data.folder,
        materials,
        modality,
        recipe.augmentation,
        seed=recipe.seed,
        cache=cache,
        progress=lambda done, total: progress(f"{materials.element} {modality} curves", done, total),
    )
    judgement = judge(materials, features, recipe)
    bundle = train_pdf_bundle(
        materials,
        features,
        modality,
        recipe,
        calibration=judgement.calibration,
        held_out=judgement.held_out,
    )
    forests = stored_forests(bundle)
    tables, entries = row_tables(features, materials.formula, forests, recipe)
    name, _, number = folder.name.rpartition("-")
    manifest: dict[str, Any] = {
        **bundle.manifest,
        "name": name,
        "version": int(number),
        "training": _provenance(data, materials, recipe),
        "metrics": {
            "simulated": [score_row(score) for score in judgement.scores],
            "coverage": dict(judgement.coverage),
            "measured": [],
        },
        "packages": package_versions(),
        "licence": {"bundle": "BSD-3-Clause", "data": DATA_LICENCE},
        **entries,
    }
    write_bundle(folder, manifest, forests, pdf_model_card(manifest), tables)


def row_tables(
    features: FloatArray,
    formula: StringArray,
    forests: Mapping[str, Mapping[str, NDArray[np.generic]]],
    recipe: PdfRecipe,
) -> tuple[Tables, Entries]:
    """Return what a bundle keeps of its training's rows: background, golden predictions, what is familiar.

    Parameters
    ----------
    features
        Augmented features, (copies, n, n_features).
    formula
        Reduced formulas, (n,).
    forests
        As they are stored, by target.
    recipe
        Settings.

    Returns
    -------
    tables, entries
        For `write_bundle`, and for its manifest.
    """
    copies, _, width = features.shape
    rows = features.reshape(-1, width)
    drawn = np.random.default_rng(recipe.seed).choice(
        len(rows), min(BACKGROUND_ROWS, len(rows)), replace=False
    )
    background = rows[np.sort(drawn)]
    golden_rows, golden = golden_answers(forests, background)
    found = familiar(np.tile(formula, copies), rows, recipe.seed)
    threshold = float(np.quantile(found.tables["novelty_simulated"].astype(np.float64), recipe.familiar))
    return (
        {BACKGROUND: background.astype(np.float16), **golden_rows, **found.tables},
        {GOLDEN: golden, NOVELTY: {**found.entry, "threshold": round(threshold, 4)}},
    )


def _provenance(data: PdfTrainingData, materials: Materials, recipe: PdfRecipe) -> dict[str, Any]:
    return {
        "files": file_hashes(data.folder, (structures_file(data.folder), sites_file(data.folder))),
        "n_materials": len(materials),
        "n_formulas": int(np.unique(materials.formula).size),
        "copies": recipe.augmentation.copies,
        "held_out_formulas": list(data.held_out),
        "split": f"{recipe.folds} folds by formula",
    }
