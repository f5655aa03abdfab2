"""Entries of a data set, and entries that were left out."""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from bluesky_xpdml.errors import TrainingError

STRUCTURE_SUFFIXES = (".cif", ".json", ".jsonl", ".jsonl.gz")
NAMES = ("id", "material_id", "task_id")
"""Keys that hold an identifier."""


class Kind(StrEnum):
    """Kind of an entry that was left out."""

    STRUCTURE = "structure"
    SITE = "site"
    SPECTRUM = "spectrum"
    FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """An entry that did not become part of a data set."""

    kind: str
    id: str = ""
    site: int = -1
    """Index of the site, -1 if it is about no site."""
    element: str = ""
    file: str
    reason: str
    """A few words; entries are counted by it."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureEntry:
    """A structure as it stands in a file."""

    id: str
    file: str
    cif: str
    """CIF, or empty."""
    json: str
    """JSON of a pymatgen Structure, or empty."""


def files_of(paths: Sequence[Path], suffixes: Sequence[str]) -> list[tuple[Path, str]]:
    """Return the files under some paths, with their names below them, in order of their names."""
    found: list[tuple[Path, str]] = []
    for path in paths:
        if path.is_dir():
            names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
            found += [(path / name, name) for name in names if name.endswith(tuple(suffixes))]
        elif not path.is_file():
            msg = f"{path} is missing: expected a file or a folder of {', '.join(suffixes)}"
            raise TrainingError(msg)
        elif path.name.endswith(tuple(suffixes)):
            found.append((path, path.name))
        else:
            msg = f"{path} is of no known kind: expected a file that ends in {', '.join(suffixes)}"
            raise TrainingError(msg)
    return found


def read_structures(paths: Sequence[Path]) -> Iterator[StructureEntry | Dropped]:
    """Read structures one by one, without parsing them."""
    for path, name in files_of(paths, STRUCTURE_SUFFIXES):
        stem = path.name.partition(".")[0]
        if path.suffix == ".cif":
            text = path.read_text(encoding="utf-8", errors="replace")
            yield StructureEntry(id=stem, file=name, cif=text, json="")
            continue
        try:
            for identifier, content in _json_entries(path, stem):
                yield _entry(identifier, content, name)
        except ValueError as error:
            yield Dropped(kind=Kind.FILE, id=stem, file=name, reason="not JSON", detail=str(error))


def _json_entries(path: Path, stem: str) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".json":
        yield from json_entries(json.loads(path.read_text(encoding="utf-8")), stem)
        return
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if line.strip():
                yield from json_entries(json.loads(line), f"{stem}-{number}")


def json_entries(content: Any, default: str) -> Iterator[tuple[str, Any]]:
    """Split JSON into entries with their identifiers."""
    if isinstance(content, list):
        for number, part in enumerate(content):
            yield from json_entries(part, f"{default}-{number}")
    elif isinstance(content, Mapping) and not _is_entry(content) and _is_mapping_of_entries(content):
        for identifier, part in content.items():
            yield from json_entries(part, str(identifier))
    else:
        named = content if isinstance(content, Mapping) else {}
        yield next((str(named[key]) for key in NAMES if key in named), default), content


def _is_entry(content: Mapping[str, Any]) -> bool:
    return not {"cif", "structure", "lattice", "spectrum", "x"}.isdisjoint(content)


def _is_mapping_of_entries(content: Mapping[str, Any]) -> bool:
    return bool(content) and all(isinstance(part, Mapping) for part in content.values())


def _entry(identifier: str, content: Any, file: str) -> StructureEntry | Dropped:
    if isinstance(content, Mapping):
        if isinstance(content.get("cif"), str):
            return StructureEntry(id=identifier, file=file, cif=content["cif"], json="")
        inner = content.get("structure", content)
        if isinstance(inner, Mapping) and {"lattice", "sites"} <= set(inner):
            return StructureEntry(id=identifier, file=file, cif="", json=json.dumps(inner))
    return Dropped(
        kind=Kind.STRUCTURE,
        id=identifier,
        file=file,
        reason="no structure in the entry",
        detail="expected `cif`, or `lattice` and `sites` of a pymatgen Structure",
    )
