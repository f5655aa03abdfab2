"""Reading of a built data set."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.dataset_entries import Dropped
from bluesky_xpdml.factory.dataset.library import SiteSpectra, load_site_spectra
from bluesky_xpdml.simulation.dataset_tables import (
    DROPPED,
    SITES,
    TABLES,
    read_manifest,
    read_table,
    sha256,
)
from bluesky_xpdml.simulation.structure import Structure, load_structures


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A data set on disk; its tables are read when they are asked for."""

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
    """Open a data set.

    Parameters
    ----------
    folder
        As `xpdml dataset build` left it.
    verify
        Whether to compare the tables with their SHA-256.

    Raises
    ------
    TrainingError
        If there is no finished data set, or a table is missing or was altered.
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
