"""Materials whose spectra and structures are both at hand, and the features of both.

A sample shows the mean of its sites, so the spectrum of a material is the mean over those of its sites that
were simulated. Copies of the spectrum are paired at random with copies of the PDF.
"""

from dataclasses import dataclass, replace

import numpy as np

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.library import SiteSpectra
from bluesky_xpdml.factory.training.alignment import align
from bluesky_xpdml.factory.training.augmentation import Augmentation, augmented_features
from bluesky_xpdml.factory.training.pdf import PdfRecipe, usable_materials
from bluesky_xpdml.factory.training.pdf_data import Materials
from bluesky_xpdml.models.edge_model import EdgeModel
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES


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
    """Pair the spectra and the curves of the materials that have both.

    Parameters
    ----------
    spectra
        Simulated sites of one element.
    materials
        Materials of the same element, their sites agreeing in valence and coordination number.
    curves
        Their augmented features, (copies, m, 92).
    edge_model
        Measured edge curve of the element.
    augmentation
        Of the spectra; as many copies are drawn as there are of the curves.
    recipe
        Says which labels are too rare, and the seed.

    Raises
    ------
    TrainingError
        If too few materials have both.
    """
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
    """Return the mean spectrum of each material, with its labels.

    Parameters
    ----------
    spectra
        Simulated sites, some of each material.
    materials
        n materials.

    Returns
    -------
    SiteSpectra
        n spectra in the order of the materials.
    """
    members = [np.flatnonzero(spectra.material == name) for name in materials.identifier.tolist()]
    first = spectra.select(np.array([rows[0] for rows in members]))
    return replace(
        first,
        mu=np.stack([spectra.mu[rows].mean(axis=0) for rows in members]),
        valence=materials.valence,
        coordination_number=materials.coordination_number,
        bond_length=materials.bond_length,
        geometry=materials.geometry,
        nnrs=materials.nnrs,
        ocn=materials.ocn,
        mood=materials.mood,
    )
