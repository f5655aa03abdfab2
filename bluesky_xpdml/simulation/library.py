"""Simulated single-site XANES with labels, as stored in the layout of the development data.

A folder holds `xanes_<Element>.npz` (`energy`, `mu`, `id`, `site`, `source`) and `sites.csv.gz` (a row a
site: valence by BVAnalyzer; coordination number, mean and spread of the bond lengths, coordination of the
neighbours and smallest O-O distance by CrystalNN; geometry by ChemEnv). A data set that `xpdml dataset build`
made, in parquet files, is read just as well.
"""

import csv
import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.simulation import dataset_tables

StringArray = NDArray[np.str_]
BoolArray = NDArray[np.bool_]

SITES_TABLE = "sites.csv.gz"
"""Name of the table of sites."""


def spectra_file(element: str) -> str:
    """Return the name of an element's file of spectra.

    Examples
    --------
    >>> spectra_file("Fe")
    'xanes_Fe.npz'
    """
    return f"xanes_{element}.npz"


def library_files(folder: Path, element: str) -> tuple[str, ...]:
    """Return the names of the files that an element's spectra and labels stand in.

    Parameters
    ----------
    folder
        Of either layout.
    element
        Chemical symbol.
    """
    if dataset_tables.is_built(folder):
        return (dataset_tables.SPECTRA, dataset_tables.SITES)
    return (spectra_file(element), SITES_TABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSpectra:
    """K-edge spectra of single sites of one element, a row a site."""

    element: str
    energy: FloatArray
    """Energy on the axis of the simulation [eV], (m,)."""
    mu: FloatArray
    """Absorption in units of the edge step, (n, m)."""
    material: StringArray
    """Identifier of the structure, (n,)."""
    site: NDArray[np.int64]
    """Index of the site in its structure, (n,)."""
    formula: StringArray
    """Reduced formula, (n,): splits keep a formula on one side."""
    valence: FloatArray
    """Formal valence, NaN where none could be assigned, (n,)."""
    coordination_number: FloatArray
    """Coordination number, (n,)."""
    bond_length: FloatArray
    """Mean nearest-neighbour distance [angstrom], (n,)."""
    only_oxygen: BoolArray
    """Whether every nearest neighbour is oxygen, (n,)."""
    geometry: StringArray
    """ChemEnv symbol of the nearest ideal polyhedron, such as O:6, empty where unknown, (n,)."""
    nnrs: FloatArray
    """Nearest-neighbour radial spread, the standard deviation of the distances [angstrom], (n,)."""
    ocn: FloatArray
    """Mean coordination number of the neighbours, (n,)."""
    mood: FloatArray
    """Smallest distance of two oxygens of the shell [angstrom], NaN where it has fewer than two, (n,)."""
    source: StringArray
    """Which simulation made the spectrum, (n,)."""

    def __len__(self) -> int:
        return len(self.mu)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "SiteSpectra":
        """Return the chosen rows, by mask or by index."""
        return SiteSpectra(
            element=self.element,
            energy=self.energy,
            mu=self.mu[rows],
            material=self.material[rows],
            site=self.site[rows],
            formula=self.formula[rows],
            valence=self.valence[rows],
            coordination_number=self.coordination_number[rows],
            bond_length=self.bond_length[rows],
            only_oxygen=self.only_oxygen[rows],
            geometry=self.geometry[rows],
            nnrs=self.nnrs[rows],
            ocn=self.ocn[rows],
            mood=self.mood[rows],
            source=self.source[rows],
        )

    def without_formulas(self, formulas: Iterable[str]) -> "SiteSpectra":
        """Return the spectra of all other compounds."""
        return self.select(~np.isin(self.formula, list(formulas)))


def load_site_spectra(folder: Path, element: str) -> SiteSpectra:
    """Read the spectra and labels of one element.

    Parameters
    ----------
    folder
        Holds `xanes_<element>.npz` and `sites.csv.gz`, or a built data set.
    element
        Chemical symbol.

    Raises
    ------
    TrainingError
        If a file or the element is missing, or a spectrum has no row in the table of sites.
    """
    if dataset_tables.is_built(folder):
        return _load_built(folder, element)
    spectra, table = folder / spectra_file(element), folder / SITES_TABLE
    for path in (spectra, table):
        if not path.is_file():
            msg = f"{path} is missing: expected simulated spectra and their table of sites in {folder}"
            raise TrainingError(msg)
    labels = _read_labels(table, element)
    with np.load(spectra, allow_pickle=False) as archive:
        keys = list(zip(archive["id"].tolist(), archive["site"].tolist(), strict=True))
        missing = [key for key in keys if key not in labels]
        if missing:
            msg = f"{len(missing)} spectra of {spectra.name} have no row in {table.name}, first {missing[0]}"
            raise TrainingError(msg)
        rows = [labels[key] for key in keys]
        return SiteSpectra(
            element=element,
            energy=archive["energy"].astype(float),
            mu=archive["mu"].astype(float),
            material=archive["id"].astype(str),
            site=archive["site"].astype(np.int64),
            formula=np.array([row["formula"] for row in rows]),
            valence=_numbers(rows, "valence"),
            coordination_number=_numbers(rows, "cn"),
            bond_length=_numbers(rows, "d_mean"),
            only_oxygen=np.array([row["only_O"] == "True" for row in rows]),
            geometry=np.array([row.get("geometry", "") for row in rows], dtype=np.str_),
            nnrs=_numbers(rows, "d_std"),
            ocn=_numbers(rows, "ocn"),
            mood=_numbers(rows, "mood"),
            source=archive["source"].astype(str),
        )


def _load_built(folder: Path, element: str) -> SiteSpectra:
    """Read the spectra and labels of one element from the tables of a built data set."""
    spectra = dataset_tables.read_table(folder, dataset_tables.SPECTRA, element=element)
    sites = dataset_tables.read_table(folder, dataset_tables.SITES, element=element)
    if not spectra["id"]:
        known = ", ".join(dataset_tables.read_manifest(folder)["counts"]["spectra"]) or "none"
        msg = f"{folder} holds no spectra of {element}: expected one of {known}"
        raise TrainingError(msg)
    order = {key: row for row, key in enumerate(zip(sites["id"], sites["site"], strict=True))}
    rows = [order[key] for key in zip(spectra["id"], spectra["site"], strict=True)]

    def labels(column: str) -> NDArray[Any]:
        return np.array(sites[column])[rows]

    return SiteSpectra(
        element=element,
        energy=np.array(spectra["energy"][0], dtype=float),
        mu=np.array(spectra["mu"], dtype=float),
        material=np.array(spectra["id"], dtype=np.str_),
        site=np.array(spectra["site"], dtype=np.int64),
        formula=labels("formula"),
        valence=labels("valence"),
        coordination_number=labels("coordination_number").astype(float),
        bond_length=labels("bond_length"),
        only_oxygen=labels("only_oxygen"),
        geometry=labels("geometry").astype(np.str_),
        nnrs=labels("nnrs"),
        ocn=labels("ocn"),
        mood=labels("mood"),
        source=np.array(spectra["source"], dtype=np.str_),
    )


def _read_labels(table: Path, element: str) -> dict[tuple[str, int], dict[str, str]]:
    with gzip.open(table, "rt", newline="") as lines:
        return {
            (row["id"], int(row["site"])): row for row in csv.DictReader(lines) if row["element"] == element
        }


def _numbers(rows: list[dict[str, str]], column: str) -> FloatArray:
    """Return a column of the table of sites, NaN where it is blank or the table has none."""
    return np.array([float(row.get(column) or "nan") for row in rows])
