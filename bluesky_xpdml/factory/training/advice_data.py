"""Materials with both a spectrum and a structure, for training on both measurements together.

A material enters if its sites agree in valence and coordination number, and if there is a spectrum of at
least one of them. Its absorption is the mean over these sites, as a beam sees it; its curves are simulated
from its structure. Both are drawn several times, as wide, shifted and noisy as measurements are, so that no
modality looks better for being clean.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.library import SiteSpectra, StringArray, library_files, load_site_spectra
from bluesky_xpdml.factory.dataset.tables import file_hashes, structures_file
from bluesky_xpdml.factory.training.materials import (
    Materials,
    PdfAugmentation,
    load_materials,
    simulated_features,
)
from bluesky_xpdml.factory.training.scores import WINDOW_POINTS, window_features
from bluesky_xpdml.features.pdf import BALANCED
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.edge_position import smooth
from bluesky_xpdml.vocabulary import Descriptor, Modality, Technique

SINGLE = (Technique.XANES, Technique.PDF, Technique.DPDF)
"""What is measured alone."""
JOINT = (Technique.XANES_PDF, Technique.XANES_DPDF)
"""What is measured together."""
CLASSES = (Descriptor.OXIDATION_STATE, Descriptor.COORDINATION_NUMBER)
"""Descriptors that are answered with classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviceRecipe:
    """Hyperparameters for estimating the gain of a second modality."""

    seed: int = 0
    trees: int = 150
    length_trees: int = 60
    leaf: int = 2
    columns: float = 0.1
    """Share of the columns that a node looks at."""
    folds: int = 5
    """Folds by reduced formula."""
    copies: int = 2
    """Copies that are drawn of each material, for training and for questions."""
    smallest_class: int = 5
    """Valences and coordination numbers with fewer materials are left out."""
    most_materials: int = 700
    """More materials than this are drawn from at random."""
    coverage: float = 0.9
    """Share of true values that sets and intervals are to hold."""
    axis_sigma: float = 0.5
    """Standard deviation of the shift of an absorption spectrum [eV]."""
    broadening: float = 1.5
    """Largest standard deviation of the Gaussian that widens it [eV]."""
    slope: float = 0.05
    """Largest relative slope over its window."""
    noise: float = 0.01
    """Largest standard deviation of its noise [edge steps]."""
    augmentation: PdfAugmentation = field(default_factory=lambda: PdfAugmentation(copies=3))
    """Of the simulated curves, at least as many copies as above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JointMaterials:
    """Materials of one element with the features of every single modality."""

    materials: Materials
    """n materials."""
    features: Mapping[Technique, FloatArray]
    """By technique: (copies, n, columns), columns as forests are trained on them."""

    def truth(self, descriptor: Descriptor) -> FloatArray:
        """Return the labels of one descriptor, (n,)."""
        labels = {
            Descriptor.OXIDATION_STATE: self.materials.valence,
            Descriptor.COORDINATION_NUMBER: self.materials.coordination_number,
            Descriptor.BOND_LENGTH: self.materials.bond_length,
        }
        return labels[descriptor]

    def columns(self, technique: Technique) -> FloatArray:
        """Return the features of a technique, those of both side by side for a joint one."""
        return np.concatenate([self.features[part] for part in technique.parts], axis=2)


def load_joint(
    folder: Path,
    element: str,
    recipe: AdviceRecipe,
    *,
    cache: Path,
    progress: Callable[[int, int], None],
) -> JointMaterials:
    """Read the materials of one element and draw copies of what would be measured of them."""
    materials, spectra = load_materials(folder, element), load_site_spectra(folder, element)
    chosen = _chosen(materials, spectra, recipe)
    features = {
        modality.technique: simulated_features(
            folder,
            materials,
            modality,
            recipe.augmentation,
            seed=recipe.seed,
            cache=cache,
            progress=progress,
        )[: recipe.copies, chosen][..., BALANCED]
        for modality in (Modality.PDF, Modality.DPDF)
    }
    kept = materials.select(chosen)
    mean = np.stack([spectra.mu[spectra.material == name].mean(axis=0) for name in kept.identifier])
    step = float(spectra.energy[1] - spectra.energy[0])
    features[Technique.XANES] = measured_copies(mean[:, :WINDOW_POINTS], step, recipe)
    return JointMaterials(materials=kept, features=features)


def measured_copies(mu: FloatArray, step: float, recipe: AdviceRecipe) -> FloatArray:
    """Draw copies of absorption spectra as they may be measured, and compute their features."""
    random = np.random.default_rng(recipe.seed)
    return np.stack([window_features(_distorted(mu, step, recipe, random)) for _ in range(recipe.copies)])


def data_hashes(folder: Path, element: str) -> dict[str, str]:
    """Return the hashes of the files that an element's materials come from."""
    return file_hashes(folder, [*library_files(folder, element), structures_file(folder)])


def _chosen(materials: Materials, spectra: SiteSpectra, recipe: AdviceRecipe) -> NDArray[np.int64]:
    measured = np.isin(materials.identifier, spectra.material)
    while True:
        rare = np.zeros(len(materials), dtype=bool)
        for labels in (materials.valence, materials.coordination_number):
            values, counts = np.unique(labels[measured], return_counts=True)
            rare |= ~np.isin(labels, values[counts >= recipe.smallest_class])
        if not np.any(measured & rare):
            break
        measured &= ~rare
    _require_enough(materials.formula[measured], len(materials), materials.element, recipe)
    rows = np.flatnonzero(measured)
    if rows.size <= recipe.most_materials:
        return rows
    drawn = np.random.default_rng(recipe.seed).choice(rows.size, recipe.most_materials, replace=False)
    return rows[np.sort(drawn)]


def _require_enough(formulas: StringArray, total: int, element: str, recipe: AdviceRecipe) -> None:
    if np.unique(formulas).size < recipe.folds:
        msg = (
            f"{formulas.size} of {total} materials of {element} have a spectrum, a structure and labels that "
            f"are not rare: expected at least {recipe.folds} formulas"
        )
        raise TrainingError(msg)


def _distorted(mu: FloatArray, step: float, recipe: AdviceRecipe, random: np.random.Generator) -> FloatArray:
    n, m = mu.shape
    grid = np.arange(m, dtype=float)
    shift = np.asarray(random.normal(0.0, recipe.axis_sigma, n)) / step
    width = np.asarray(random.uniform(0.0, recipe.broadening, n)) / step
    places = zip(list(mu), shift.tolist(), width.tolist(), strict=True)
    moved = np.stack([smooth(np.interp(grid - by, grid, row), sd) for row, by, sd in places])
    tilt = 1.0 + random.uniform(-recipe.slope, recipe.slope, (n, 1)) * np.linspace(-0.5, 0.5, m)
    return np.asarray(moved * tilt + random.uniform(0.0, recipe.noise, (n, 1)) * random.normal(size=(n, m)))
