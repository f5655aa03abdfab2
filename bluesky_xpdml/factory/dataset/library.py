"""Simulated single-site XANES with labels, as stored in the layout of the development data.

A folder holds `xanes_<Element>.npz` (`energy`, `mu`, `id`, `site`, `source`) and `sites.csv.gz` (one row per
site: valence by BVAnalyzer; coordination number, mean and spread of the bond lengths, coordination of the
neighbours and smallest O-O distance by CrystalNN; geometry by ChemEnv). A data set that `xpdml dataset build`
made, in parquet files, is read just as well.
"""

import csv
import gzip
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset import tables
from bluesky_xpdml.factory.dataset.entries import Dropped
from bluesky_xpdml.factory.dataset.tables import (
    DROPPED,
    SITES,
    TABLES,
    load_structures,
    read_manifest,
    read_table,
    sha256,
)
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.simulation.structure import Structure

StringArray = NDArray[np.str_]
BoolArray = NDArray[np.bool_]

SITES_TABLE = "sites.csv.gz"
"""Name of the table of sites."""
BUILT_NAMES = {
    "coordination_number": "cn",
    "bond_length": "d_mean",
    "nnrs": "d_std",
    "only_oxygen": "only_O",
}
"""What columns of a built data set are called in that table."""


def spectra_file(element: str) -> str:
    """Return the name of an element's file of spectra."""
    return f"xanes_{element}.npz"


def sites_file(folder: Path) -> str:
    """Return the name of a folder's table of sites, in either layout."""
    return tables.SITES if tables.is_built(folder) else SITES_TABLE


def library_files(folder: Path, element: str) -> tuple[str, ...]:
    """Return the names of the files that an element's spectra and labels stand in, in either layout."""
    built = tables.is_built(folder)
    return (tables.SPECTRA if built else spectra_file(element), sites_file(folder))


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSpectra:
    """K-edge spectra of single sites of one element, one row per site."""

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
        shared = ("element", "energy")
        names = [field.name for field in fields(self) if field.name not in shared]
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def without_formulas(self, formulas: Iterable[str]) -> "SiteSpectra":
        """Return the spectra of all other compounds."""
        return self.select(~np.isin(self.formula, list(formulas)))


def load_site_spectra(folder: Path, element: str) -> SiteSpectra:
    """Read the spectra and labels of one element."""
    built = tables.is_built(folder)
    spectra = _read_built(folder, element) if built else _read_archive(folder / spectra_file(element))
    labels = {(row["id"], int(row["site"])): row for row in site_rows(folder, element)}
    keys = list(zip(spectra["id"].tolist(), spectra["site"].tolist(), strict=True))
    missing = [key for key in keys if key not in labels]
    if missing:
        names = library_files(folder, element)
        msg = f"{len(missing)} spectra of {names[0]} have no row in {names[1]}, first {missing[0]}"
        raise TrainingError(msg)
    rows = [labels[key] for key in keys]
    return SiteSpectra(
        element=element,
        energy=spectra["energy"].astype(float),
        mu=spectra["mu"].astype(float),
        material=spectra["id"].astype(str),
        site=spectra["site"].astype(np.int64),
        formula=np.array([row["formula"] for row in rows]),
        valence=_numbers(rows, "valence"),
        coordination_number=_numbers(rows, "cn"),
        bond_length=_numbers(rows, "d_mean"),
        only_oxygen=np.array([row["only_O"] == "True" for row in rows]),
        geometry=np.array([row.get("geometry", "") for row in rows], dtype=np.str_),
        nnrs=_numbers(rows, "d_std"),
        ocn=_numbers(rows, "ocn"),
        mood=_numbers(rows, "mood"),
        source=spectra["source"].astype(str),
    )


def site_rows(folder: Path, element: str) -> list[dict[str, str]]:
    """Read the rows of the table of sites that an element has."""
    if tables.is_built(folder):
        columns = tables.read_table(folder, tables.SITES, element=element)
        texts = {
            BUILT_NAMES.get(name, name): [_text(value) for value in values]
            for name, values in columns.items()
        }
        return [dict(zip(texts, row, strict=True)) for row in zip(*texts.values(), strict=True)]
    table = folder / SITES_TABLE
    _require(table)
    with gzip.open(table, "rt", newline="") as lines:
        return [row for row in csv.DictReader(lines) if row["element"] == element]


def _text(value: Any) -> str:
    return "" if isinstance(value, float) and np.isnan(value) else str(value)


def _require(path: Path) -> None:
    if not path.is_file():
        msg = f"{path} is missing: expected simulated spectra and their table of sites in {path.parent}"
        raise TrainingError(msg)


def _read_archive(path: Path) -> dict[str, NDArray[Any]]:
    _require(path)
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in ("energy", "mu", "id", "site", "source")}


def _read_built(folder: Path, element: str) -> dict[str, NDArray[Any]]:
    """Read the same arrays from the table of spectra of a built data set."""
    columns = tables.read_table(folder, tables.SPECTRA, element=element)
    if not columns["id"]:
        known = ", ".join(tables.read_manifest(folder)["counts"]["spectra"]) or "none"
        msg = f"{folder} holds no spectra of {element}: expected one of {known}"
        raise TrainingError(msg)
    found = {name: np.array(columns[name]) for name in ("mu", "id", "site", "source")}
    return {**found, "energy": np.array(columns["energy"][0])}


def _numbers(rows: list[dict[str, str]], column: str) -> FloatArray:
    """Return a column of the table of sites, NaN where it is blank or the table has none."""
    return np.array([float(row.get(column) or "nan") for row in rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A data set on disk; its tables are read on demand."""

    folder: Path
    manifest: dict[str, Any]
    """What it was made of and how, with counts."""

    @property
    def elements(self) -> tuple[str, ...]:
        """Absorbing elements that have labelled sites."""
        return tuple(self.manifest["counts"]["sites"])

    def spectra(self, element: str) -> SiteSpectra:
        """Read the spectra of an element with their labels."""
        return load_site_spectra(self.folder, element)

    def sites(self, element: str) -> dict[str, list[Any]]:
        """Read the labels of all sites of an element by column, also of those without a spectrum."""
        return read_table(self.folder, SITES, element=element)

    def structures(self) -> Iterator[tuple[str, Structure]]:
        """Yield identifiers and structures."""
        yield from load_structures(self.folder)

    def dropped(self) -> list[Dropped]:
        """Read what was left out and why."""
        columns = read_table(self.folder, DROPPED)
        rows = zip(*columns.values(), strict=True)
        return [Dropped(**dict(zip(columns, row, strict=True))) for row in rows]


def load_dataset(folder: Path, *, verify: bool) -> Dataset:
    """Open the output of `xpdml dataset build`; with `verify` the SHA-256 of its tables is checked.

    It raises `TrainingError` if there is no finished data set, or a table is missing or was altered.
    """
    manifest = read_manifest(folder)
    for name in TABLES:
        if not (folder / name).is_file():
            msg = f"{folder / name} is missing: build the data set again"
            raise TrainingError(msg)
        if verify and sha256(folder / name) != manifest["files"][name]:
            msg = f"{folder / name} is not what was built: its SHA-256 differs from the manifest's"
            raise TrainingError(msg)
    return Dataset(folder=folder, manifest=manifest)
