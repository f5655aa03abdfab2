"""Rows of the simulated benchmark: features of sites or materials in each modality, and their labels.

Spectra are of single sites, so that XANES has one row per site. A PDF shows all sites of an element at once:
it has one row per material whose sites agree in valence and coordination number. To compare modalities, both
are given the same rows: materials that have both, with the mean of their sites' spectra.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.factory.dataset.library import SiteSpectra, StringArray
from bluesky_xpdml.factory.training.materials import Materials
from bluesky_xpdml.factory.training.scores import WINDOW_POINTS, distorted, window_features
from bluesky_xpdml.features.pdf import BALANCED
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import Descriptor, Modality

Rows = NDArray[np.int64]

CLASSES = (Descriptor.OXIDATION_STATE, Descriptor.COORDINATION_NUMBER, Descriptor.GEOMETRY)
"""Targets that are classes."""
GEOMETRIES = {"T:4": 4.0, "S:5": 5.0, "O:6": 6.0}
"""Tetrahedron, square pyramid and octahedron of Carbone et al. (2019); other sites have no label."""
COPIES = 3
"""Training rows per original row: the original and distorted copies."""


class Block(Protocol):
    """Features of n samples from one measurement."""

    def to_train(self, rows: Rows, random: np.random.Generator) -> FloatArray:
        """Return features of augmented copies of some rows, (COPIES * rows, columns), copy after copy."""

    def to_test(self, rows: Rows) -> FloatArray:
        """Return features of some rows, (rows, columns)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectra:
    """XANES on the energy axis and at the width of the simulation."""

    window: FloatArray
    """Absorption on an even grid, (n, 141)."""
    step: float
    """Spacing of the grid [eV]."""

    def to_train(self, rows: Rows, random: np.random.Generator) -> FloatArray:
        """Return features of the originals and of distorted copies."""
        original = self.window[rows]
        copies = [distorted(original, self.step, random) for _ in range(COPIES - 1)]
        return np.concatenate([window_features(window) for window in (original, *copies)])

    def to_test(self, rows: Rows) -> FloatArray:
        """Return features of spectra as they were simulated."""
        return window_features(self.window[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Pair distribution functions with thermal motion, range of Q, and noise drawn at random."""

    features: FloatArray
    """Of every copy, (COPIES, n, 92)."""

    def to_train(self, rows: Rows, random: np.random.Generator) -> FloatArray:  # noqa: ARG002 - drawn before
        """Return features of all copies."""
        return np.asarray(self.features[:, rows].reshape(-1, self.features.shape[2])[:, BALANCED])

    def to_test(self, rows: Rows) -> FloatArray:
        """Return features of the first copy, noise and all."""
        return np.asarray(self.features[0, rows][:, BALANCED])


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Rows of one element with labels, in one modality or a combination."""

    element: str
    modality: str
    """`xanes`, `pdf`, `dpdf`, `xanes+pdf` or `xanes+dpdf`."""
    formula: StringArray
    """Reduced formula, (n,)."""
    labels: Mapping[str, FloatArray]
    """By target, NaN where not known, (n,)."""
    blocks: Sequence[Block]
    """One, or two for a combination."""

    def __len__(self) -> int:
        return len(self.formula)


def site_samples(sites: SiteSpectra) -> Samples:
    """Return the rows of XANES: one per site."""
    return Samples(
        element=sites.element,
        modality=Modality.XANES,
        formula=sites.formula,
        labels=_labels(sites),
        blocks=[Spectra(window=sites.mu[:, :WINDOW_POINTS], step=float(sites.energy[1] - sites.energy[0]))],
    )


def material_samples(
    materials: Materials, features: Mapping[str, FloatArray], smallest_class: int
) -> dict[str, Samples]:
    """Return the rows of `pdf` and `dpdf`: one per material."""
    kept = _frequent(materials, np.ones(len(materials), dtype=bool), smallest_class)
    labels = _labels(materials)
    return {
        name: _chosen(materials, labels, name, [Curves(features=values[:, kept])], kept)
        for name, values in features.items()
    }


def joint_samples(
    sites: SiteSpectra,
    materials: Materials,
    features: Mapping[str, FloatArray],
    smallest_class: int,
) -> dict[str, Samples]:
    """Return the same rows in five modalities: XANES, each kind of PDF, and XANES with each of them."""
    present = np.isin(materials.identifier, sites.material)
    kept = _frequent(materials, present, smallest_class)
    names, place = np.unique(sites.material, return_inverse=True)
    total = np.zeros((names.size, WINDOW_POINTS))
    np.add.at(total, place, sites.mu[:, :WINDOW_POINTS])
    mean = total / np.bincount(place)[:, None]
    window = mean[np.searchsorted(names, materials.identifier[kept])]
    spectra = Spectra(window=window, step=float(sites.energy[1] - sites.energy[0]))
    labels = _labels(materials)
    blocks: dict[str, list[Block]] = {Modality.XANES: [spectra]}
    for name, values in features.items():
        curves = Curves(features=values[:, kept])
        blocks |= {name: [curves], f"xanes+{name}": [spectra, curves]}
    return {name: _chosen(materials, labels, name, seen, kept) for name, seen in blocks.items()}


def _chosen(
    materials: Materials,
    labels: Mapping[str, FloatArray],
    modality: str,
    blocks: Sequence[Block],
    kept: Rows,
) -> Samples:
    return Samples(
        element=materials.element,
        modality=modality,
        formula=materials.formula[kept],
        labels={target: values[kept] for target, values in labels.items()},
        blocks=blocks,
    )


def _frequent(materials: Materials, present: NDArray[np.bool_], smallest: int) -> Rows:
    """Return the rows that are present and whose classes hold enough of them."""
    kept = present.copy()
    for labels in (materials.valence, materials.coordination_number):
        values, counts = np.unique(labels[present], return_counts=True)
        kept &= np.isin(labels, values[counts >= smallest])
    return np.flatnonzero(kept)


def _labels(rows: Materials | SiteSpectra) -> dict[str, FloatArray]:
    """Return the labels by target, NaN where not known."""
    return {
        Descriptor.OXIDATION_STATE: rows.valence,
        Descriptor.COORDINATION_NUMBER: rows.coordination_number,
        Descriptor.GEOMETRY: np.array([GEOMETRIES.get(name, np.nan) for name in rows.geometry.tolist()]),
        Descriptor.BOND_LENGTH: rows.bond_length,
        **{name: getattr(rows, name) for name in Descriptor.surroundings()},
    }
