"""From simulated sites and measured standards to bundles on disk."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.models.bundle import Bundle, write_bundle
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.simulation.library import SiteSpectra, library_files, load_site_spectra
from bluesky_xpdml.training.benchmark import Score, score_split
from bluesky_xpdml.training.card import model_card
from bluesky_xpdml.training.compact import CLASS_LEVELS, LENGTH_LEVELS
from bluesky_xpdml.training.edge_fit import fit_edge_models
from bluesky_xpdml.training.leave_one_out import (
    CompoundAnswer,
    MeasuredSpectrum,
    calibrate_intervals,
    edge_standards,
    leave_one_compound_out,
)
from bluesky_xpdml.training.xanes import Intervals, XanesRecipe, train_bundle, usable_sites

DATA_LICENCE = (
    "simulated spectra: OmniXAS (BSD-3-Clause) and FEFF10 calculations; structures: Materials Project "
    "(CC BY 4.0); measured standards enter as fitted edge curves and interval widths only"
)
Progress = Callable[[str, int, int], None]


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
    folders = []
    for done, element in enumerate(elements, start=1):
        folder = output / f"{element}-xanes-{bundle_version}"
        _build(folder, data.sites[element], data, answers, intervals, recipe=recipe)
        folders.append(folder)
        progress("bundles", done, len(elements))
    return folders


def _build(
    folder: Path,
    sites: SiteSpectra,
    data: TrainingData,
    answers: Sequence[CompoundAnswer],
    intervals: Intervals,
    *,
    recipe: XanesRecipe,
) -> None:
    element = sites.element
    name, _, number = folder.name.rpartition("-")
    edge_model = fit_edge_models(edge_standards(data.standards), [element])[element]
    bundle = train_bundle(sites, edge_model, recipe, intervals)
    scores = score_split(sites, recipe, "formula", recipe.seed)
    manifest: dict[str, Any] = {
        **bundle.manifest,
        "name": name,
        "version": int(number),
        "modality": "xanes",
        "training": _provenance(element, data),
        "metrics": {
            "simulated": [score_row(score) for score in scores],
            "measured": [_answer(answer) for answer in answers if answer.element == element],
        },
        "packages": package_versions(),
        "licence": {"bundle": "BSD-3-Clause", "data": DATA_LICENCE},
    }
    write_bundle(folder, manifest, stored_forests(bundle), model_card(manifest))


def stored_forests(bundle: Bundle) -> dict[str, dict[str, NDArray[np.generic]]]:
    """Return the arrays of a bundle's forests as they are stored, by target.

    Parameters
    ----------
    bundle
        In memory.
    """
    return {
        target: forest.quantised(levels=LENGTH_LEVELS if target == "bond_length" else CLASS_LEVELS)
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


def _provenance(element: str, data: TrainingData) -> dict[str, Any]:
    sites = data.sites[element]
    files = library_files(data.folder, element)
    sources, counts = np.unique(sites.source, return_counts=True)
    return {
        "files": file_hashes(data.folder, files),
        "n_sites": len(sites),
        "n_formulas": int(np.unique(sites.formula).size),
        "sources": dict(zip(sources.tolist(), counts.tolist(), strict=True)),
        "held_out_formulas": list(data.held_out),
        "edge_standards": len(edge_standards(data.standards)),
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
