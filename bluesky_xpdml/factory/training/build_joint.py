"""From simulated spectra and structures to joint bundles on disk, beside the single ones they stand on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_xpdml.factory.dataset.library import SiteSpectra, library_files, load_site_spectra
from bluesky_xpdml.factory.training.build import (
    Progress,
    file_hashes,
    package_versions,
    score_row,
    silent,
    stored_forests,
)
from bluesky_xpdml.factory.training.build_pdf import PdfTrainingData, row_tables
from bluesky_xpdml.factory.training.joint import JointRecipe, train_joint_bundle
from bluesky_xpdml.factory.training.joint_card import joint_model_card
from bluesky_xpdml.factory.training.joint_data import JointData, joint_data
from bluesky_xpdml.factory.training.joint_judgement import judge_joint
from bluesky_xpdml.factory.training.pdf_data import Materials, simulated_features
from bluesky_xpdml.models.bundle import Bundle, write_bundle
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.simulation.structure import structures_file
from bluesky_xpdml.vocabulary import Modality

DATA_LICENCE = (
    "simulated spectra: OmniXAS (BSD-3-Clause) and FEFF10 calculations; structures and their labels: "
    "Materials Project (CC BY 4.0); measured standards enter as the XANES bundle's edge curve and intervals"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JointTraining:
    """What joint bundles are made from, and how."""

    data: PdfTrainingData
    """Labelled materials by element, no held-out formula among them."""
    store: BundleStore
    """Holds the single bundles."""
    recipe: JointRecipe
    cache: Path
    """Folder in which simulated features are kept between calls."""
    progress: Progress = silent
    """Called with what is done, how many of it, and of how many."""


def build_joint_bundles(
    training: JointTraining, output: Path, *, modalities: Sequence[Modality], bundle_version: int
) -> list[Path]:
    """Judge joint forests beside the single ones, then train and write one bundle a modality.

    Parameters
    ----------
    training
        What from, and how.
    output
        Folder of the bundles.
    modalities
        What is measured beside the spectrum.
    bundle_version
        Last part of the bundles' names.

    Returns
    -------
    list of Path
        Folders written.

    Raises
    ------
    ModelNotFoundError
        If a single bundle is missing.
    TrainingError
        If files are missing or too few materials have both measurements.
    """
    folders: list[Path] = []
    wanted = [(each, modality) for each in training.data.materials.values() for modality in modalities]
    for materials, modality in wanted:
        folder = output / f"{materials.element}-{modality}-{bundle_version}"
        singles = {
            "xanes": training.store.find(materials.element, "K", "xanes"),
            "pdf": training.store.find(materials.element, modality.curve.edge, modality.curve),
        }
        data = _paired(training, materials, modality, singles["xanes"])
        _write(folder, training, data, modality, singles)
        folders.append(folder)
        training.progress("bundles", len(folders), len(wanted))
    return folders


def _paired(training: JointTraining, materials: Materials, modality: Modality, xanes: Bundle) -> JointData:
    recipe = training.recipe
    curves = simulated_features(
        training.data.folder,
        materials,
        modality.curve,
        recipe.pdf.augmentation,
        seed=recipe.pdf.seed,
        cache=training.cache,
        progress=lambda done, total: training.progress(f"{materials.element} curves", done, total),
    )
    spectra = load_site_spectra(training.data.folder, materials.element)
    kept: SiteSpectra = spectra.without_formulas(training.data.held_out)
    return joint_data(
        kept,
        materials,
        curves,
        edge_model=xanes.edge_model,
        augmentation=recipe.xanes.augmentation,
        recipe=replace(recipe.pdf, smallest_class=recipe.smallest_class),
    )


def _write(
    folder: Path,
    training: JointTraining,
    data: JointData,
    modality: Modality,
    singles: Mapping[str, Bundle],
) -> None:
    recipe = training.recipe
    judgement = judge_joint(data, recipe, singles)
    bundle = train_joint_bundle(
        data,
        modality,
        recipe,
        singles,
        calibration=judgement.calibration,
        held_out=judgement.held_out,
    )
    forests = stored_forests(bundle)
    tables, entries = row_tables(data.both(data.aligned), data.materials.formula, forests, recipe.pdf)
    name, _, number = folder.name.rpartition("-")
    manifest: dict[str, Any] = {
        **bundle.manifest,
        "name": name,
        "version": int(number),
        "training": _provenance(training, data),
        "metrics": {
            "simulated": [score_row(score) for score in judgement.scores["joint"]],
            "alone": {
                part: [score_row(score) for score in judgement.scores[part]] for part in ("xanes", "pdf")
            },
            "coverage": dict(judgement.coverage),
            "measured": [],
        },
        "packages": package_versions(),
        "licence": {"bundle": "BSD-3-Clause", "data": DATA_LICENCE},
        **entries,
    }
    write_bundle(folder, manifest, forests, joint_model_card(manifest), tables)


def _provenance(training: JointTraining, data: JointData) -> dict[str, Any]:
    folder, materials = training.data.folder, data.materials
    files = (structures_file(folder), *library_files(folder, materials.element))
    return {
        "files": file_hashes(folder, dict.fromkeys(files)),
        "n_materials": len(materials),
        "n_formulas": int(np.unique(materials.formula).size),
        "copies": len(data.curves),
        "held_out_formulas": list(training.data.held_out),
        "split": f"{training.recipe.pdf.folds} folds by formula",
    }
