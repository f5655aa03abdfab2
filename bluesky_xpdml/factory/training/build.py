"""From simulated spectra, structures and measured standards to bundles on disk, whatever the modality.

`MODALITIES` lists how the bundles of each modality are trained; everything else is the same for all of them.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.factory.dataset.library import SiteSpectra, library_files, load_site_spectra, sites_file
from bluesky_xpdml.factory.dataset.tables import file_hashes, structures_file
from bluesky_xpdml.factory.training.card import model_card
from bluesky_xpdml.factory.training.forests import stored_forests
from bluesky_xpdml.factory.training.joint import JointData, JointRecipe, joint_data, train_joint_bundle
from bluesky_xpdml.factory.training.judgement import Judgement, judge_curves, judge_joint
from bluesky_xpdml.factory.training.leave_one_out import calibrate_intervals, leave_one_compound_out
from bluesky_xpdml.factory.training.materials import Materials, load_materials, simulated_features
from bluesky_xpdml.factory.training.pdf import train_pdf_bundle, usable_materials
from bluesky_xpdml.factory.training.scores import Score, score_split
from bluesky_xpdml.factory.training.supplement import (
    Entries,
    NoveltyFit,
    Tables,
    curve_supplement,
    fit_familiar,
    novelty_threshold,
    xanes_supplement,
)
from bluesky_xpdml.factory.training.xanes import (
    Intervals,
    train_bundle,
    training_rows,
    usable_sites,
    with_surroundings,
)
from bluesky_xpdml.models.bundle import Bundle, write_bundle
from bluesky_xpdml.models.edge_model import EdgeModel, fit_edge_models
from bluesky_xpdml.models.novelty import NOVELTY
from bluesky_xpdml.models.standards import CompoundAnswer, MeasuredSpectrum, edge_standards
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.vocabulary import Modality

Progress = Callable[[str, int, int], None]
PACKAGES = ("numpy", "scikit-learn", "scipy")
"""Packages whose versions decide what a training gives."""
SPECTRA_LICENCE = (
    "simulated spectra: OmniXAS (BSD-3-Clause) and FEFF10 calculations; structures: Materials Project "
    "(CC BY 4.0); measured standards enter as fitted edge curves and interval widths only"
)
STRUCTURES_LICENCE = "structures and their labels: Materials Project (CC BY 4.0)"
BOTH_LICENCE = (
    "simulated spectra: OmniXAS (BSD-3-Clause) and FEFF10 calculations; structures and their labels: "
    "Materials Project (CC BY 4.0); measured standards enter as the XANES bundle's edge curve and intervals"
)


def silent(_what: str, _done: int, _total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What bundles are made from, and how; data are read when they are first needed."""

    folder: Path
    """Simulated spectra, structures and their labels."""
    output: Path
    """Folder of the bundles; joint bundles use the newest single bundles in it."""
    elements: Sequence[str]
    version: int
    """Last part of the bundles' names."""
    recipe: JointRecipe
    """With the recipes of the single modalities."""
    cache: Path
    """Folder in which simulated curves are kept between calls."""
    standards: Sequence[MeasuredSpectrum] = ()
    """Measured spectra with known labels; bundles of spectra need them."""
    held_out_spectra: Collection[str] = ()
    """Reduced formulas whose spectra are kept out of training."""
    held_out_structures: Collection[str] = ()
    """Reduced formulas whose curves are kept out of training."""
    progress: Progress = silent
    """Called with what is done, how many of it, and of how many."""

    @property
    def held_out_joint(self) -> list[str]:
        """Reduced formulas that are kept out of joint bundles."""
        return sorted({*self.held_out_spectra, *self.held_out_structures})

    @cached_property
    def sites(self) -> dict[str, SiteSpectra]:
        """Usable sites of the elements and of those of the standards."""
        wanted = {*self.elements, *(standard.element for standard in self.standards)}
        return {
            element: usable_sites(
                load_site_spectra(self.folder, element).without_formulas(self.held_out_spectra),
                self.recipe.xanes,
            )
            for element in sorted(wanted, key=list(FOIL_ENERGIES).index)
        }

    @cached_property
    def materials(self) -> dict[str, Materials]:
        """Usable materials of the elements, for bundles of curves."""
        return self._without(sorted(self.held_out_structures))

    @cached_property
    def joint_materials(self) -> dict[str, Materials]:
        """The same for joint bundles."""
        return self._without(self.held_out_joint)

    @cached_property
    def measured(self) -> "Measured":
        """What the measured standards give, once for all elements."""
        recipe, standards = self.recipe.xanes, self.standards
        answers = leave_one_compound_out(
            standards,
            self.sites,
            recipe,
            lambda done, total: self.progress("compounds left out", done, total),
        )
        shift = recipe.pre_edge_shift
        curves = fit_edge_models(edge_standards(standards, shift), list(self.sites), pre_edge_shift=shift)
        rows = {
            element: training_rows(sites, curves[element], recipe) for element, sites in self.sites.items()
        }
        copies = recipe.augmentation.copies
        references = {
            element: fit_familiar(np.tile(self.sites[element].formula, copies), table, recipe.seed)
            for element, table in rows.items()
        }
        return Measured(
            answers=answers,
            intervals=calibrate_intervals(answers),
            curves=curves,
            rows=rows,
            references=references,
            novelty_threshold=novelty_threshold(standards, references),
        )

    def curves_of(self, materials: Materials, modality: Modality, what: str) -> FloatArray:
        """Return the augmented features of the materials' curves, (copies, n, 92)."""
        return simulated_features(
            self.folder,
            materials,
            modality,
            self.recipe.pdf.augmentation,
            seed=self.recipe.pdf.seed,
            cache=self.cache,
            progress=lambda done, total: self.progress(f"{materials.element} {what}", done, total),
        )

    def _without(self, held_out: Sequence[str]) -> dict[str, Materials]:
        found = {element: load_materials(self.folder, element) for element in self.elements}
        return {
            element: usable_materials(all_of.select(~np.isin(all_of.formula, held_out)), self.recipe.pdf)
            for element, all_of in found.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What measured standards give to the bundles of spectra."""

    answers: Sequence[CompoundAnswer]
    """Each compound, answered by models that were built without it."""
    intervals: Intervals
    curves: Mapping[str, EdgeModel]
    rows: Mapping[str, FloatArray]
    """Features of the simulated spectra on the measured axis, by element."""
    references: Mapping[str, NoveltyFit]
    novelty_threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A trained bundle, with everything that is written beside its forests."""

    bundle: Bundle
    forests: Mapping[str, Mapping[str, NDArray[np.generic]]]
    """As they are stored, by target."""
    training: Entries
    """What it was trained on."""
    metrics: Entries
    tables: Tables
    entries: Entries
    """More entries of the manifest."""


class Kind(NamedTuple):
    """How the bundles of one modality are made."""

    train: Callable[[Training, str, Modality], Draft]
    licence: str
    """Of the data."""


def build_bundles(training: Training, modalities: Collection[Modality]) -> list[Path]:
    """Judge the recipes on what they have not seen, then train and write one bundle per element and modality.

    Returns the folders that were written. Single modalities come first, since joint bundles use them.
    """
    stages = ((Modality.XANES,), Modality.curves(), Modality.joint())
    wanted = [
        (element, modality)
        for stage in stages
        for element in training.elements
        for modality in stage
        if modality in modalities
    ]
    folders: list[Path] = []
    for element, modality in wanted:
        folder = training.output / f"{element}-{modality}-{training.version}"
        kind = MODALITIES[modality]
        draft = kind.train(training, element, modality)
        manifest = {
            **draft.bundle.manifest,
            "name": f"{element}-{modality}",
            "version": training.version,
            "modality": str(modality),
            "training": draft.training,
            "metrics": draft.metrics,
            "packages": {package: version(package) for package in PACKAGES},
            "licence": {"bundle": "BSD-3-Clause", "data": kind.licence},
            **draft.entries,
        }
        write_bundle(folder, manifest, draft.forests, model_card(manifest), draft.tables)
        folders.append(folder)
        training.progress("bundles", len(folders), len(wanted))
    return folders


def _train_xanes(training: Training, element: str, _modality: Modality) -> Draft:
    recipe, measured, sites = training.recipe.xanes, training.measured, training.sites[element]
    rows = measured.rows[element]
    bundle = train_bundle(sites, measured.curves[element], recipe, measured.intervals)
    bundle = with_surroundings(bundle, sites, rows, recipe)
    forests = stored_forests(bundle.forests)
    tables, entries = xanes_supplement(bundle, forests, sites, rows, recipe)
    reference = measured.references[element]
    entries[NOVELTY] = {**reference.entry, "threshold": measured.novelty_threshold}
    sources, counts = np.unique(sites.source, return_counts=True)
    return Draft(
        bundle=bundle,
        forests=forests,
        training={
            "files": file_hashes(training.folder, library_files(training.folder, element)),
            "n_sites": len(sites),
            "n_formulas": int(np.unique(sites.formula).size),
            "sources": dict(zip(sources.tolist(), counts.tolist(), strict=True)),
            "held_out_formulas": sorted(training.held_out_spectra),
            "edge_standards": len(edge_standards(training.standards, recipe.pre_edge_shift)),
            "split": "simulated: 20 % of the formulas held out; measured: one compound left out at a time",
        },
        metrics={
            "simulated": _rows(score_split(sites, recipe, "formula", recipe.seed)),
            "measured": [_answer(answer) for answer in measured.answers if answer.element == element],
        },
        tables={**tables, **reference.tables},
        entries=entries,
    )


def _train_curves(training: Training, element: str, modality: Modality) -> Draft:
    recipe, materials = training.recipe.pdf, training.materials[element]
    features = training.curves_of(materials, modality, f"{modality} curves")
    judgement = judge_curves(materials, features, recipe)
    bundle = train_pdf_bundle(
        materials,
        features,
        modality,
        recipe,
        calibration=judgement.calibration,
        held_out=judgement.held_out,
    )
    files = (structures_file(training.folder), sites_file(training.folder))
    return _draft(
        training,
        bundle,
        judgement,
        materials=materials,
        features=features,
        files=files,
        held_out=sorted(training.held_out_structures),
    )


def _train_joint(training: Training, element: str, modality: Modality) -> Draft:
    store = BundleStore(training.output)
    singles = {
        Modality.XANES: store.find(element, Modality.XANES.edge, Modality.XANES),
        Modality.PDF: store.find(element, modality.curve.edge, modality.curve),
    }
    data = _paired(training, element, modality, singles[Modality.XANES])
    judgement = judge_joint(data, training.recipe, singles)
    bundle = train_joint_bundle(
        data,
        modality,
        training.recipe,
        singles,
        calibration=judgement.calibration,
        held_out=judgement.held_out,
    )
    files = (structures_file(training.folder), *library_files(training.folder, element))
    return _draft(
        training,
        bundle,
        judgement,
        materials=data.materials,
        features=data.both(data.aligned),
        files=files,
        held_out=training.held_out_joint,
    )


MODALITIES: Mapping[Modality, Kind] = {
    Modality.XANES: Kind(_train_xanes, SPECTRA_LICENCE),
    **dict.fromkeys(Modality.curves(), Kind(_train_curves, STRUCTURES_LICENCE)),
    **dict.fromkeys(Modality.joint(), Kind(_train_joint, BOTH_LICENCE)),
}
"""How the bundles of every modality are made."""


def _paired(training: Training, element: str, modality: Modality, xanes: Bundle) -> JointData:
    recipe, materials = training.recipe, training.joint_materials[element]
    curves = training.curves_of(materials, modality.curve, "curves")
    spectra = load_site_spectra(training.folder, element)
    return joint_data(
        spectra.without_formulas(training.held_out_joint),
        materials,
        curves,
        edge_model=xanes.edge_model,
        augmentation=recipe.xanes.augmentation,
        recipe=replace(recipe.pdf, smallest_class=recipe.smallest_class),
    )


def _draft(
    training: Training,
    bundle: Bundle,
    judgement: Judgement,
    *,
    materials: Materials,
    features: FloatArray,
    files: Iterable[str],
    held_out: Sequence[str],
) -> Draft:
    """Return what is written of a bundle whose rows are materials."""
    forests, recipe = stored_forests(bundle.forests), training.recipe.pdf
    tables, entries = curve_supplement(features, materials.formula, forests, recipe)
    alone = {"alone": {part: _rows(scores) for part, scores in judgement.alone.items()}}
    return Draft(
        bundle=bundle,
        forests=forests,
        training={
            "files": file_hashes(training.folder, dict.fromkeys(files)),
            "n_materials": len(materials),
            "n_formulas": int(np.unique(materials.formula).size),
            "copies": len(features),
            "held_out_formulas": list(held_out),
            "split": f"{recipe.folds} folds by formula",
        },
        metrics={
            "simulated": _rows(judgement.scores),
            **(alone if judgement.alone else {}),
            "coverage": dict(judgement.coverage),
            "measured": [],
        },
        tables=tables,
        entries=entries,
    )


def _rows(scores: Iterable[Score]) -> list[dict[str, Any]]:
    """Return scores as a manifest holds them."""
    return [
        {
            "target": score.target,
            "metric": score.metric,
            "value": round(score.value, 4),
            "majority": round(score.majority, 4),
            "n_train": score.n_train,
            "n_test": score.n_test,
        }
        for score in scores
    ]


def _answer(answer: CompoundAnswer) -> dict[str, Any]:
    return {
        "compound": answer.compound,
        "n_spectra": answer.n_spectra,
        "calibrated": answer.calibrated,
        "truth": {key: value for key, value in answer.truth.items() if np.isfinite(value)},
        "value": {key: round(value, 3) for key, value in answer.value.items()},
        "edge_curve": round(answer.edge_curve, 3),
    }
