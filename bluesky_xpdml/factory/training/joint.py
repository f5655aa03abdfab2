"""Training of the joint forests of one element, on materials with both a spectrum and a structure.

A measurement shows the mean of all sites, so the spectrum of a material is the mean over those of its sites
that were simulated. Copies of the spectrum are paired at random with copies of the PDF.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.library import SiteSpectra
from bluesky_xpdml.factory.training.alignment import Augmentation, align, augmented_features
from bluesky_xpdml.factory.training.conformal import Places
from bluesky_xpdml.factory.training.materials import Materials
from bluesky_xpdml.factory.training.pdf import (
    PdfRecipe,
    class_labels,
    describe_target,
    fit_classes,
    usable_materials,
)
from bluesky_xpdml.factory.training.supplement import (
    HeldOut,
    PermutationSettings,
    forest_importances,
    pdf_places,
    xanes_places,
)
from bluesky_xpdml.factory.training.xanes import GROUP_VALENCE, XanesRecipe
from bluesky_xpdml.features.joint import COLUMNS, N_XANES
from bluesky_xpdml.models import pdf as pdf_models
from bluesky_xpdml.models import xanes as xanes_models
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.edge_model import EdgeModel
from bluesky_xpdml.models.explain import IMPORTANCES
from bluesky_xpdml.models.joint import STACKS
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.vocabulary import Descriptor, Modality

FAR = 1000
"""Distance between the places of curve and spectrum, so that they are not shuffled together."""
FROM_XANES = ("interval_floor", "interval_factor", "interval_factor_uncalibrated")
"""Entries of the XANES bundle that give the interval of the oxidation state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JointData:
    """n materials with the features of both measurements, in several copies."""

    materials: Materials
    aligned: FloatArray
    """Features of spectra on the measured axis, (copies, n, 72): what bundles are trained on."""
    unaligned: FloatArray
    """The same with one shift for all valences, which needs no label: what scores are counted on."""
    curves: FloatArray
    """Features of PDFs, (copies, n, 92)."""

    def both(self, spectra: FloatArray) -> FloatArray:
        """Return the features of both, (copies, n, 164)."""
        return np.concatenate([spectra, self.curves], axis=2)


def joint_data(
    spectra: SiteSpectra,
    materials: Materials,
    curves: FloatArray,
    *,
    edge_model: EdgeModel,
    augmentation: Augmentation,
    recipe: PdfRecipe,
) -> JointData:
    """Pair the spectra and the curves of the materials that have both."""
    there = np.flatnonzero(np.isin(materials.identifier, spectra.material))
    if not there.size:
        raise TrainingError(f"none of {len(materials)} materials of {materials.element} has a spectrum")
    every = replace(recipe, most_materials=there.size)
    kept = usable_materials(materials.select(there), every)
    index = {name: row for row, name in enumerate(materials.identifier.tolist())}
    columns = np.array([index[name] for name in kept.identifier.tolist()])
    aligned = align(material_spectra(spectra, kept), FOIL_ENERGIES[kept.element], edge_model)
    copies = len(curves)
    settings = replace(augmentation, copies=copies)
    tables = [
        augmented_features(each, settings, np.random.default_rng(recipe.seed)).reshape(copies, len(kept), -1)
        for each in (aligned, replace(aligned, shift=np.full_like(aligned.shift, aligned.shift.mean())))
    ]
    order = np.tile(np.arange(copies)[:, None], (1, len(kept)))
    order = np.random.default_rng(recipe.seed).permuted(order, axis=0)
    return JointData(
        materials=kept, aligned=tables[0], unaligned=tables[1], curves=curves[order, columns[None, :]]
    )


def material_spectra(spectra: SiteSpectra, materials: Materials) -> SiteSpectra:
    """Return the mean spectrum of each material, with its labels."""
    members = [np.flatnonzero(spectra.material == name) for name in materials.identifier.tolist()]
    first = spectra.select(np.array([rows[0] for rows in members]))
    return replace(
        first,
        mu=np.stack([spectra.mu[rows].mean(axis=0) for rows in members]),
        valence=materials.valence,
        coordination_number=materials.coordination_number,
        bond_length=materials.bond_length,
        geometry=materials.geometry,
        **{name: getattr(materials, name) for name in Descriptor.surroundings()},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JointRecipe:
    """Hyperparameters of the joint forests."""

    seed: int = 0
    trees: int = 100
    columns: float = 0.1
    """Share of the columns that a node looks at."""
    leaf: int = 4
    """Smallest number of rows in a leaf."""
    smallest_class: int = 12
    """Classes with fewer materials that have both measurements are left out."""
    forest_sigma: float = 0.35
    """Standard deviation of the forest's valence beside the edge [e]. It cannot be tuned: no measured
    compound has both, and simulated edges are aligned by their label."""
    xanes: XanesRecipe = field(default_factory=XanesRecipe)
    pdf: PdfRecipe = field(default_factory=PdfRecipe)
    """Of the single forests that the joint ones are compared with; its folds are those of the joint ones."""


def train_joint_bundle(
    data: JointData,
    modality: Modality,
    recipe: JointRecipe,
    singles: Mapping[Modality, Bundle],
    *,
    calibration: Mapping[str, Mapping[str, Any]],
    held_out: Mapping[str, HeldOut],
) -> Bundle:
    """Train the joint forests of an element."""
    table = data.both(data.aligned)
    copies, _, width = table.shape
    forests, targets, importances = {}, {}, {}
    settings = PermutationSettings(seed=recipe.seed, repeats=2)
    for target, labels in class_labels(data.materials).items():
        rows = table[:, labels.known].reshape(-1, width)
        tiled = np.tile(labels.values[labels.known], copies)
        whole, forests[target] = fit_classes(rows, tiled, target, COLUMNS, recipe)
        targets[target] = {**describe_target(target, labels), **calibration.get(target, {})}
        if target in Descriptor.main():
            importances[target] = forest_importances(whole, COLUMNS, held_out[target], settings)
    targets[Descriptor.OXIDATION_STATE] |= _fusion(data, recipe, singles[Modality.XANES])
    targets[Descriptor.BOND_LENGTH] = {
        "unit": Descriptor.BOND_LENGTH.unit,
        **calibration[Descriptor.BOND_LENGTH],
    }
    element = data.materials.element
    return Bundle(
        manifest={
            "element": element,
            "edge": "K",
            "modality": str(modality),
            "input": {
                Modality.XANES: xanes_models.input_description(element),
                Modality.PDF: {
                    **pdf_models.input_description(),
                    "q_max": singles[Modality.PDF].manifest["input"]["q_max"],
                },
            },
            "edge_model": dict(singles[Modality.XANES].manifest["edge_model"]),
            "targets": targets,
            STACKS: {part: asdict(single.reference) for part, single in singles.items()},
            "recipe": asdict(recipe),
            IMPORTANCES: importances,
        },
        forests=forests,
        sha256="",
    )


def joint_places() -> Places:
    """Return where on its curve each feature of both is read, (164,)."""
    return np.concatenate([xanes_places(N_XANES), FAR + pdf_places()])


def _fusion(data: JointData, recipe: JointRecipe, xanes: Bundle) -> dict[str, Any]:
    """Return how edge and forest are combined; intervals are those of the XANES bundle."""
    largest = GROUP_VALENCE.get(data.materials.element, np.inf)
    of_xanes = xanes.manifest["targets"][Descriptor.OXIDATION_STATE]
    return {
        "forest_sigma": recipe.forest_sigma,
        "forest_sigma_without_peak": recipe.forest_sigma,
        "knows_pre_edge_peaks": bool(data.materials.valence.max() >= largest),
        **{name: of_xanes[name] for name in FROM_XANES},
    }
