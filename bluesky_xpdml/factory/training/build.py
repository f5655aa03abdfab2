"""From simulated sites and measured standards to bundles on disk."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.factory.dataset.library import SiteSpectra, library_files, load_site_spectra
from bluesky_xpdml.factory.training.benchmark import Score, score_split
from bluesky_xpdml.factory.training.card import model_card
from bluesky_xpdml.factory.training.compact import CLASS_LEVELS, LENGTH_LEVELS
from bluesky_xpdml.factory.training.leave_one_out import calibrate_intervals, leave_one_compound_out
from bluesky_xpdml.factory.training.supplement import familiar, novelty_threshold, supplement
from bluesky_xpdml.factory.training.surroundings import with_surroundings
from bluesky_xpdml.factory.training.xanes import XanesRecipe, train_bundle, training_rows, usable_sites
from bluesky_xpdml.models.bundle import Bundle, write_bundle
from bluesky_xpdml.models.edge_model import fit_edge_models
from bluesky_xpdml.models.novelty import NOVELTY
from bluesky_xpdml.models.standards import CompoundAnswer, MeasuredSpectrum, edge_standards
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES

DATA_LICENCE = (
    "simulated spectra: OmniXAS (BSD-3-Clause) and FEFF10 calculations; structures: Materials Project "
    "(CC BY 4.0); measured standards enter as fitted edge curves and interval widths only"
)
Progress = Callable[[str, int, int], None]


REGRESSIONS = ("bond_length", "surroundings")
"""Targets whose leaves hold lengths and numbers, not probabilities."""


def silent(_what: str, _done: int, _total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """What bundles are trained from."""

    folder: Path
    """Simulated spectra and their table of sites."""
    sites: Mapping[str, SiteSpectra]
    """Usable sites by element."""
    standards: Sequence[MeasuredSpectrum]
    """Measured spectra with known labels."""
    held_out: tuple[str, ...]
    """Reduced formulas kept out of training."""


def load_training_data(
    folder: Path,
    standards: Sequence[MeasuredSpectrum],
    *,
    elements: Iterable[str],
    held_out: Iterable[str],
    recipe: XanesRecipe,
) -> TrainingData:
    """Read the simulated sites of some elements and those of every measured standard.

    Parameters
    ----------
    folder
        Simulated spectra and their table of sites.
    standards
        Measured spectra with known labels.
    elements
        Chemical symbols to train for.
    held_out
        Reduced formulas to keep out.
    recipe
        Settings.

    Raises
    ------
    TrainingError
        If files are missing or too few sites can be used.
    """
    formulas = tuple(sorted(held_out))
    wanted = sorted({*elements, *(standard.element for standard in standards)}, key=list(FOIL_ENERGIES).index)
    sites = {
        element: usable_sites(load_site_spectra(folder, element).without_formulas(formulas), recipe)
        for element in wanted
    }
    return TrainingData(folder=folder, sites=sites, standards=standards, held_out=formulas)


def build_bundles(
    data: TrainingData,
    elements: Sequence[str],
    output: Path,
    *,
    recipe: XanesRecipe,
    bundle_version: int,
    progress: Progress = silent,
) -> list[Path]:
    """Judge the recipe on compounds left out, then train and write one bundle an element.

    Parameters
    ----------
    data
        Simulated sites and measured standards.
    elements
        Chemical symbols.
    output
        Folder of the bundles.
    recipe
        Settings.
    bundle_version
        Last part of the bundles' names.
    progress
        Called with what is done, how many of it, and of how many.

    Returns
    -------
    list of Path
        Folders written.
    """
    answers = leave_one_compound_out(
        data.standards, data.sites, recipe, lambda done, total: progress("compounds left out", done, total)
    )
    intervals = calibrate_intervals(answers)
    shift = recipe.pre_edge_shift
    curves = fit_edge_models(edge_standards(data.standards, shift), list(data.sites), pre_edge_shift=shift)
    rows = {element: training_rows(data.sites[element], curves[element], recipe) for element in data.sites}
    references = {
        element: familiar(
            np.tile(data.sites[element].formula, recipe.augmentation.copies), table, recipe.seed
        )
        for element, table in rows.items()
    }
    threshold = novelty_threshold(data.standards, references)
    folders = []
    for done, element in enumerate(elements, start=1):
        folder = output / f"{element}-xanes-{bundle_version}"
        sites = data.sites[element]
        bundle = train_bundle(sites, curves[element], recipe, intervals)
        bundle = with_surroundings(bundle, sites, rows[element], recipe)
        forests = stored_forests(bundle)
        tables, entries = supplement(bundle, forests, sites, rows[element], recipe)
        reference = references[element]
        entries[NOVELTY] = {**reference.entry, "threshold": threshold}
        manifest = _manifest(bundle, folder.name, data, answers, recipe) | entries
        write_bundle(folder, manifest, forests, model_card(manifest), {**tables, **reference.tables})
        folders.append(folder)
        progress("bundles", done, len(elements))
    return folders


def _manifest(
    bundle: Bundle,
    name: str,
    data: TrainingData,
    answers: Sequence[CompoundAnswer],
    recipe: XanesRecipe,
) -> dict[str, Any]:
    element = bundle.element
    family, _, number = name.rpartition("-")
    scores = score_split(data.sites[element], recipe, "formula", recipe.seed)
    return {
        **bundle.manifest,
        "name": family,
        "version": int(number),
        "modality": "xanes",
        "training": _provenance(element, data, recipe),
        "metrics": {
            "simulated": [score_row(score) for score in scores],
            "measured": [_answer(answer) for answer in answers if answer.element == element],
        },
        "packages": package_versions(),
        "licence": {"bundle": "BSD-3-Clause", "data": DATA_LICENCE},
    }


def stored_forests(bundle: Bundle) -> dict[str, dict[str, NDArray[np.generic]]]:
    """Return the arrays of a bundle's forests as they are stored, by target.

    Parameters
    ----------
    bundle
        In memory.
    """
    return {
        target: forest.quantised(levels=LENGTH_LEVELS if target in REGRESSIONS else CLASS_LEVELS)
        for target, forest in bundle.forests.items()
    }


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that a training depends on."""
    return {package: version(package) for package in ("numpy", "scikit-learn", "scipy")}


def file_hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of files by name.

    Parameters
    ----------
    folder
        Holds the files.
    names
        Of the files.
    """
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def _provenance(element: str, data: TrainingData, recipe: XanesRecipe) -> dict[str, Any]:
    sites = data.sites[element]
    files = library_files(data.folder, element)
    sources, counts = np.unique(sites.source, return_counts=True)
    return {
        "files": file_hashes(data.folder, files),
        "n_sites": len(sites),
        "n_formulas": int(np.unique(sites.formula).size),
        "sources": dict(zip(sources.tolist(), counts.tolist(), strict=True)),
        "held_out_formulas": list(data.held_out),
        "edge_standards": len(edge_standards(data.standards, recipe.pre_edge_shift)),
        "split": "simulated: 20 % of the formulas held out; measured: one compound left out at a time",
    }


def score_row(score: Score) -> dict[str, Any]:
    """Return one score as a manifest holds it.

    Parameters
    ----------
    score
        One metric of one target.
    """
    return {
        "target": score.target,
        "metric": score.metric,
        "value": round(score.value, 4),
        "majority": round(score.majority, 4),
        "n_train": score.n_train,
        "n_test": score.n_test,
    }


def _answer(answer: CompoundAnswer) -> dict[str, Any]:
    return {
        "compound": answer.compound,
        "n_spectra": answer.n_spectra,
        "calibrated": answer.calibrated,
        "truth": {key: value for key, value in answer.truth.items() if np.isfinite(value)},
        "value": {key: round(value, 3) for key, value in answer.value.items()},
        "edge_curve": round(answer.edge_curve, 3),
    }
