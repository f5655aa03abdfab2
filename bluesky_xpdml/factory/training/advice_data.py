"""Materials whose absorption and scattering are both known: what joint answers are learnt from.

A material enters if its sites agree in valence and coordination number, and if there is a spectrum of at
least one of them. Its absorption is the mean over these sites, as a beam sees it; its curves are simulated
from its structure. Both are drawn several times, as wide, shifted and noisy as measurements are, so that no
modality looks better for being clean.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.library import SiteSpectra, StringArray, library_files, load_site_spectra
from bluesky_xpdml.factory.training.benchmark import WINDOW_POINTS, window_features
from bluesky_xpdml.factory.training.pdf_data import (
    Materials,
    PdfAugmentation,
    load_materials,
    simulated_features,
)
from bluesky_xpdml.features.pdf import BALANCED
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.edge_position import smooth
from bluesky_xpdml.simulation.structure import structures_file
from bluesky_xpdml.vocabulary import Modality

XANES = "xanes"
SINGLE = (XANES, str(Modality.PDF), str(Modality.DPDF))
"""Modalities that are measured alone."""
JOINT = tuple(f"{XANES}+{other}" for other in SINGLE[1:])
"""Modalities that are measured together."""
CLASSES = ("oxidation_state", "coordination_number")
"""Descriptors that are answered with classes."""
LENGTH = "bond_length"
DESCRIPTORS = (*CLASSES, LENGTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviceRecipe:
    """Everything that is chosen when the gain of a second modality is estimated."""

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
    features: Mapping[str, FloatArray]
    """By modality: (copies, n, columns), columns as forests are trained on them."""

    def truth(self, descriptor: str) -> FloatArray:
        """Return the labels of one descriptor, (n,)."""
        labels = {
            "oxidation_state": self.materials.valence,
            "coordination_number": self.materials.coordination_number,
            LENGTH: self.materials.bond_length,
        }
        return labels[descriptor]

    def columns(self, modality: str) -> FloatArray:
        """Return the features of a modality, those of both side by side for a joint one."""
        return np.concatenate([self.features[name] for name in modality.split("+")], axis=2)


def load_joint(
    folder: Path,
    element: str,
    recipe: AdviceRecipe,
    *,
    cache: Path,
    progress: Callable[[int, int], None],
) -> JointMaterials:
    """Read the materials of one element and draw copies of what would be measured of them.

    Parameters
    ----------
    folder
        Holds spectra, labels and structures.
    element
        Chemical symbol.
    recipe
        Sizes and ranges.
    cache
        Keeps simulated curves.
    progress
        Called with materials simulated and their number.

    Raises
    ------
    TrainingError
        If a file is missing, or too few materials have both.
    """
    materials, spectra = load_materials(folder, element), load_site_spectra(folder, element)
    chosen = _chosen(materials, spectra, recipe)
    features = {
        str(modality): simulated_features(
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
    features[XANES] = measured_copies(mean[:, :WINDOW_POINTS], step, recipe)
    return JointMaterials(materials=kept, features=features)


def measured_copies(mu: FloatArray, step: float, recipe: AdviceRecipe) -> FloatArray:
    """Draw copies of absorption spectra as they may be measured, and compute their features.

    Parameters
    ----------
    mu
        Simulated spectra, (n, m).
    step
        Between two points [eV].
    recipe
        Number of copies and ranges.

    Returns
    -------
    FloatArray
        Features, (copies, n, 2 m).
    """
    random = np.random.default_rng(recipe.seed)
    return np.stack([window_features(_distorted(mu, step, recipe, random)) for _ in range(recipe.copies)])


def data_hashes(folder: Path, element: str) -> dict[str, str]:
    """Return the hashes of the files that an element's materials come from."""
    names = [*library_files(folder, element), structures_file(folder)]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def described(recipe: AdviceRecipe) -> dict[str, Any]:
    """Return a recipe as plain JSON values."""
    return asdict(recipe)


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
