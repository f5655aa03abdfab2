"""The tables of a data set on disk: parquet files with fixed columns, and a manifest.

====================  ==========================================================================
`sites.parquet`       one row per labelled site
`spectra.parquet`     one row per spectrum, on one axis per element
`structures.parquet`  one row per structure: cell, species and positions
`dropped.parquet`     one row per entry that was left out, with the reason
`manifest.json`       sources, settings, counts, SHA-256 of the tables; written last
====================  ==========================================================================
"""

import gzip
import hashlib
import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.simulation.structure import Structure, read_cif

if TYPE_CHECKING:
    import pyarrow as pa

SITES = "sites.parquet"
SPECTRA = "spectra.parquet"
STRUCTURES = "structures.parquet"
STRUCTURES_FILE = "structures.jsonl.gz"
"""Structures of other folders: one JSON object per line with `id`, `formula` and `cif`."""
DROPPED = "dropped.parquet"
MANIFEST = "manifest.json"
TABLES = (SITES, SPECTRA, STRUCTURES, DROPPED)
FORMAT = "xpdml-dataset"
FORMAT_VERSION = 1

COLUMNS: Mapping[str, Mapping[str, str]] = {
    SITES: {
        "id": "string",
        "site": "int32",
        "element": "string",
        "formula": "string",
        "n_sites": "int32",
        "valence": "float64",
        "valence_reason": "string",
        "coordination_number": "int32",
        "only_oxygen": "bool",
        "bond_length": "float64",
        "nnrs": "float64",
        "ocn": "float64",
        "mood": "float64",
        "geometry": "string",
        "csm": "float64",
        "geometry_reason": "string",
    },
    SPECTRA: {
        "id": "string",
        "site": "int32",
        "element": "string",
        "source": "string",
        "file": "string",
        "energy": "list<float64>",
        "mu": "list<float32>",
    },
    STRUCTURES: {
        "id": "string",
        "formula": "string",
        "n_sites": "int32",
        "file": "string",
        "lattice": "list<float64>",
        "species": "list<string>",
        "fractional": "list<float64>",
    },
    DROPPED: {
        "kind": "string",
        "id": "string",
        "site": "int32",
        "element": "string",
        "file": "string",
        "reason": "string",
        "detail": "string",
    },
}
"""Type of each column by table."""


def is_built(folder: Path) -> bool:
    """Return whether a folder holds a finished data set of this layout."""
    return (folder / MANIFEST).is_file() and (folder / SITES).is_file()


def write_table(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table; NaN stands for an unknown number."""
    import pyarrow as pa
    from pyarrow import parquet

    types = COLUMNS[name]
    schema = pa.schema([pa.field(column, _type(kind)) for column, kind in types.items()])
    values = {column: [row[column] for row in rows] for column in types}
    parquet.write_table(pa.table(values, schema=schema), folder / name, compression="zstd")


def read_table(folder: Path, name: str, *, element: str = "") -> dict[str, list[Any]]:
    """Read a table by columns."""
    from pyarrow import parquet

    path = folder / name
    if not path.is_file():
        msg = f"{path} is missing: build the data set with `xpdml dataset build`"
        raise TrainingError(msg)
    missing = set(COLUMNS[name]) - set(parquet.read_schema(path).names)
    if missing:
        msg = f"{path} has no column {', '.join(sorted(missing))}: it is of another layout"
        raise TrainingError(msg)
    filters = [("element", "=", element)] if element else None
    columns: dict[str, list[Any]] = parquet.read_table(path, filters=filters).to_pydict()
    return columns


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read what a data set says about itself."""
    path = folder / MANIFEST
    if not path.is_file():
        msg = f"{path} is missing: {folder} holds no finished data set, see `xpdml dataset build`"
        raise TrainingError(msg)
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if (manifest.get("format"), manifest.get("version")) != (FORMAT, FORMAT_VERSION):
        found = f"{manifest.get('format')} {manifest.get('version')}"
        msg = f"{path} is of format {found}: expected {FORMAT} {FORMAT_VERSION}"
        raise TrainingError(msg)
    return manifest


def write_whole(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON so that a file of this name is whole, whenever the process ends."""
    passing = path.with_name(path.name + ".tmp")
    passing.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    passing.replace(path)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def file_hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of files by name."""
    return {name: sha256(folder / name) for name in names}


def _type(kind: str) -> "pa.DataType":
    import pyarrow as pa

    if kind.startswith("list<"):
        return pa.list_(_type(kind[5:-1]))
    return {"bool": pa.bool_()}.get(kind) or pa.type_for_alias(kind)


def structures_file(folder: Path) -> str:
    """Return the name of a folder's file of structures, in either layout."""
    return STRUCTURES if is_built(folder) else STRUCTURES_FILE


def load_structures(folder: Path, wanted: Container[str] | None = None) -> Iterator[tuple[str, Structure]]:
    """Read structures of a data set one by one."""
    if is_built(folder):
        yield from _load_built(folder, wanted)
        return
    path = folder / STRUCTURES_FILE
    if not path.is_file():
        msg = f"{path} is missing: expected one line of JSON per structure with id, formula and cif"
        raise TrainingError(msg)
    with gzip.open(path, "rt") as lines:
        for line in lines:
            entry = json.loads(line)
            if wanted is None or entry["id"] in wanted:
                yield entry["id"], read_cif(entry["cif"])


def _load_built(folder: Path, wanted: Container[str] | None) -> Iterator[tuple[str, Structure]]:
    columns = read_table(folder, STRUCTURES)
    names = ("id", "lattice", "fractional", "species")
    for identifier, lattice, fractional, species in zip(*(columns[name] for name in names), strict=True):
        if wanted is None or identifier in wanted:
            yield (
                identifier,
                Structure(
                    lattice=np.array(lattice, dtype=float).reshape(3, 3),
                    fractional=np.array(fractional, dtype=float).reshape(-1, 3),
                    species=tuple(species),
                ),
            )
