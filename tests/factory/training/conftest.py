"""A library of simulated iron spectra and measured standards, small enough to train on in a second."""

import csv
import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bluesky_xpdml.factory.dataset.library import SITES_TABLE, SiteSpectra, load_site_spectra, spectra_file
from bluesky_xpdml.factory.training.alignment import Augmentation
from bluesky_xpdml.factory.training.xanes import XanesRecipe, usable_sites
from bluesky_xpdml.models.standards import MeasuredSpectrum
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES

Absorption = Callable[[np.ndarray, float, float], np.ndarray]


def write_library(folder: Path, absorption: Absorption, element: str = "Fe", n: int = 60) -> None:
    random = np.random.default_rng(11)
    x = np.arange(0.5, 60.0, 0.25)
    valence, number = 2 + np.arange(n) % 3, np.where(np.arange(n) % 4 < 2, 6, 4)
    length = 2.2 - 0.1 * valence + 0.06 * (number - 4) + random.normal(0.0, 0.01, n)
    edges = 4.5 + 3.0 * valence + random.normal(0.0, 0.4, n)
    identifiers = np.array([f"m-{row:02d}" for row in range(n)])
    np.savez(
        folder / spectra_file(element),
        energy=(FOIL_ENERGIES[element] + x).astype(np.float32),
        mu=np.stack([absorption(x, edge, cn) for edge, cn in zip(edges, number, strict=True)]).astype(
            np.float32
        ),
        id=identifiers,
        site=np.zeros(n, dtype=int),
        source=np.array(["test"] * n),
    )
    with gzip.open(folder / SITES_TABLE, "wt", newline="") as lines:
        writer = csv.writer(lines)
        names = ["id", "site", "element", "formula", "valence", "cn", "only_O", "d_mean"]
        writer.writerow([*names, "geometry", "d_std", "ocn", "mood"])
        for row in range(n):
            formula = f"Fe{row // 2}O"
            values = [valence[row], number[row], "True", round(float(length[row]), 4)]
            polyhedron = "O:6" if number[row] == 6 else "T:4"
            around = [polyhedron, 0.01 * number[row], 0.5 * number[row], 2.6 + 0.02 * number[row]]
            writer.writerow([identifiers[row], 0, element, formula, *values, *around])


@pytest.fixture(scope="session")
def tiny_recipe() -> XanesRecipe:
    return XanesRecipe(
        trees=8, length_trees=8, leaf=2, length_leaf=3, folds=2, augmentation=Augmentation(copies=2)
    )


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory, oxide_absorption: Absorption) -> Path:
    """Folder of 60 simulated sites of 30 formulas."""
    folder = tmp_path_factory.mktemp("library")
    write_library(folder, oxide_absorption)
    return folder


@pytest.fixture(scope="session")
def iron_sites(library: Path, tiny_recipe: XanesRecipe) -> SiteSpectra:
    return usable_sites(load_site_spectra(library, "Fe"), tiny_recipe)


@pytest.fixture(scope="session")
def standards(measured: Callable[..., MeasuredSpectrum]) -> list[MeasuredSpectrum]:
    """Six compounds, one of them measured twice, one without calibration."""
    return [
        measured("FeO", 2.0),
        measured("FeO", 2.0, error=0.3),
        measured("Fe2SiO4", 2.0, error=-0.4),
        measured("Fe3O4", 8.0 / 3.0, number=5.333),
        measured("Fe2O3", 3.0, error=0.2),
        measured("FePO4", 3.0, number=4.0, calibrated=False),
        measured("SrFeO3", 4.0, error=-0.1),
    ]
