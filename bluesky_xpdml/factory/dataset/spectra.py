"""Simulated spectra from the files of several programs, one by one."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_xpdml.errors import DocumentError, FileFormatError, MissingDataError, TrainingError
from bluesky_xpdml.factory.dataset.entries import Dropped, Kind, files_of, json_entries
from bluesky_xpdml.records import FloatArray

SPECTRUM_SUFFIXES = (".npz", "xmu.dat", ".json", "spectra.parquet")
INDEX = "spectra.csv"
"""Table of the files by site: columns file, id, site, element and, if wanted, source."""
AVERAGED = -1
"""Site of a spectrum that is the mean over all sites of the element."""
NPZ_NAME = re.compile(r"xanes_([A-Z][a-z]?)\.npz")
STEP_RANGE = (0.5, 2.0)
"""Where the mean of the last tenth of a spectrum in units of the edge step lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectrumEntry:
    """The K-edge spectrum of one site."""

    id: str
    site: int
    """Index in the structure; -1 for the mean over all sites of the element."""
    element: str
    source: str
    """Which simulation made it."""
    file: str
    energy: FloatArray
    """[eV], (m,)"""
    mu: FloatArray
    """Absorption in units of the edge step, (m,)."""


def read_spectra(paths: Sequence[Path], elements: Sequence[str]) -> Iterator[SpectrumEntry | Dropped]:
    """Read spectra one by one."""
    for path, name in files_of(paths, SPECTRUM_SUFFIXES):
        for entry in _read(path, name, elements):
            yield _checked(entry, elements) if isinstance(entry, SpectrumEntry) else entry


def _read(path: Path, name: str, elements: Sequence[str]) -> Iterator[SpectrumEntry | Dropped]:
    if path.suffix == ".npz":
        yield from _read_npz(path, name, elements)
    elif path.suffix == ".json":
        yield from _read_json(path, name)
    elif path.suffix == ".parquet":
        yield from _read_parquet(path, name)
    else:
        yield _read_feff(path, name, elements)


def _checked(entry: SpectrumEntry, elements: Sequence[str]) -> SpectrumEntry | Dropped:
    """Return a sound spectrum, or what is wrong with it."""
    if entry.element not in elements:
        return drop_spectrum(entry, "of another element", "")
    if entry.energy.size < 10 or entry.energy.shape != entry.mu.shape:
        return drop_spectrum(entry, "too short", f"{entry.energy.size} energies, {entry.mu.size} values")
    if not (np.all(np.isfinite(entry.mu)) and np.all(np.diff(entry.energy) > 0.0)):
        return drop_spectrum(entry, "not finite, or energies do not rise", "")
    end = float(np.mean(entry.mu[-max(1, entry.mu.size // 10) :]))
    if not STEP_RANGE[0] <= end <= STEP_RANGE[1]:
        return drop_spectrum(entry, "not in units of the edge step", f"ends at {end:.4g}, expected about 1")
    return entry


def drop_spectrum(entry: SpectrumEntry, reason: str, detail: str = "") -> Dropped:
    """Return a spectrum as an entry that was left out."""
    return Dropped(
        kind=Kind.SPECTRUM,
        id=entry.id,
        site=entry.site,
        element=entry.element,
        file=entry.file,
        reason=reason,
        detail=detail,
    )


def _drop_file(name: str, element: str, reason: str, detail: str) -> Dropped:
    return Dropped(kind=Kind.FILE, element=element, file=name, reason=reason, detail=detail)


def _read_npz(path: Path, name: str, elements: Sequence[str]) -> Iterator[SpectrumEntry | Dropped]:
    matched = NPZ_NAME.fullmatch(path.name)
    if matched is None:
        yield _drop_file(name, "", "name does not say the element", "expected xanes_<Element>.npz")
        return
    if matched[1] not in elements:
        yield _drop_file(name, matched[1], "of another element", "")
        return
    with np.load(path, allow_pickle=False) as archive:
        missing = {"energy", "mu", "id", "site", "source"} - set(archive)
        if missing:
            yield _drop_file(name, matched[1], "arrays are missing", ", ".join(sorted(missing)))
            return
        energy = archive["energy"].astype(float)
        columns = [archive[key].tolist() for key in ("id", "site", "source")]
        for mu, identifier, site, source in zip(archive["mu"].astype(float), *columns, strict=True):
            yield SpectrumEntry(
                id=str(identifier),
                site=int(site),
                element=matched[1],
                source=str(source),
                file=name,
                energy=energy,
                mu=mu,
            )


def _read_parquet(path: Path, name: str) -> Iterator[SpectrumEntry]:
    from pyarrow import parquet

    for batch in parquet.ParquetFile(path).iter_batches():
        for row in batch.to_pylist():
            yield SpectrumEntry(
                id=row["id"],
                site=row["site"],
                element=row["element"],
                source=row["source"],
                file=name,
                energy=np.array(row["energy"], dtype=float),
                mu=np.array(row["mu"], dtype=float),
            )


def _read_json(path: Path, name: str) -> Iterator[SpectrumEntry | Dropped]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        yield _drop_file(name, "", "not JSON", str(error))
        return
    for identifier, entry in json_entries(content, path.stem):
        yield _json_spectrum(identifier, entry, name)


def _json_spectrum(identifier: str, entry: Any, name: str) -> SpectrumEntry | Dropped:
    """Read a document of the Materials Project, or a pymatgen XAS by itself."""
    document = entry if isinstance(entry, Mapping) else {}
    spectrum = document.get("spectrum", document)
    try:
        said = {**document, **spectrum}
        element, index = said["absorbing_element"], said.get("absorbing_index")
        found = SpectrumEntry(
            id=identifier,
            site=AVERAGED if index is None else int(index),
            element=str(element["element"] if isinstance(element, Mapping) else element),
            source=str(said.get("source", "materials project")),
            file=name,
            energy=np.array(said["x"], dtype=float),
            mu=np.array(said["y"], dtype=float),
        )
    except (KeyError, TypeError, ValueError) as error:
        return _drop_file(
            name, "", "no spectrum in the entry", f"{identifier}: {type(error).__name__} {error}"
        )
    if said.get("edge", "K") != "K" or said.get("spectrum_type", "XANES") not in {"XANES", "XAFS"}:
        return drop_spectrum(found, "no K-edge XANES", f"{said.get('edge')} {said.get('spectrum_type')}")
    return found


def _read_feff(path: Path, name: str, elements: Sequence[str]) -> SpectrumEntry | Dropped:
    from pymatgen.core import Element

    try:
        key = _site_of(path)
        spectrum = read_xmu(path)
    except (DocumentError, TrainingError) as error:
        return _drop_file(name, "", "not read", str(error).replace(str(path), name))
    said = Element.from_Z(spectrum.atomic_number).symbol if spectrum.atomic_number else ""
    element = key.get("element", "") or said or (elements[0] if len(elements) == 1 else "")
    entry = SpectrumEntry(
        id=key["id"],
        site=int(key["site"]),
        element=element,
        source=key.get("source", "") or "feff",
        file=name,
        energy=spectrum.energy,
        mu=spectrum.mu,
    )
    if said and said != element:
        return drop_spectrum(entry, "element disagrees with the header", f"header says {said}")
    if spectrum.shell not in {"", "K"}:
        return drop_spectrum(entry, "no K-edge XANES", spectrum.shell)
    return entry


def _site_of(path: Path) -> dict[str, str]:
    """Return the site of a spectrum file: from the table in a parent folder, or from its folders' names."""
    for folder in path.parents[:3]:
        table = folder / INDEX
        if table.is_file():
            with table.open(newline="", encoding="utf-8") as lines:
                for row in csv.DictReader(lines):
                    if row["file"] == path.relative_to(folder).as_posix():
                        return row
            msg = f"{path} has no row in {table}"
            raise TrainingError(msg)
    site, identifier = path.parent.name, path.parent.parent.name
    if not (site.isdecimal() and identifier):
        msg = f"{path}: expected ID/SITE/xmu.dat, or a table {INDEX} with columns file, id, site, element"
        raise TrainingError(msg)
    return {"id": identifier, "site": site}


COLUMNS = ("omega", "e", "k", "mu", "mu0", "chi")
NORMALISATION = re.compile(r"xsedge\s*\+\s*(\d+),\s*used to normalize mu\s+([-+.\dEe]+)")
ABSORBER = re.compile(r"Abs\s+Z=\s*(\d+).*?\b([KLM]\d?)\s+shell")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeffSpectrum:
    """One spectrum of FEFF."""

    energy: FloatArray
    """[eV], (n,)"""
    mu: FloatArray
    """Absorption in units of the edge step, (n,)."""
    atomic_number: int
    """Of the absorber; 0 where the header does not say."""
    shell: str
    """Such as K; empty where the header does not say."""


def read_xmu(path: Path) -> FeffSpectrum:
    """Read `xmu.dat`."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    header = "\n".join(line for line in lines if line.lstrip().startswith("#"))
    table = _table([line for line in lines if line.strip() and not line.lstrip().startswith("#")], path)
    if NORMALISATION.search(header) is None:
        msg = f"{path}: expected a line `xsedge+ 50, used to normalize mu`: mu may be in absolute units"
        raise MissingDataError(msg)
    absorber = ABSORBER.search(header)
    return FeffSpectrum(
        energy=table[:, 0],
        mu=table[:, 3],
        atomic_number=int(absorber[1]) if absorber else 0,
        shell=absorber[2] if absorber else "",
    )


def _table(lines: list[str], path: Path) -> FloatArray:
    try:
        table = np.array([[float(word) for word in line.split()] for line in lines])
    except ValueError as error:
        msg = f"{path} is no xmu.dat: expected numbers in the columns {', '.join(COLUMNS)} ({error})"
        raise FileFormatError(msg) from error
    if table.ndim != 2 or table.shape[1] != len(COLUMNS):
        msg = f"{path} is no xmu.dat: expected the columns {', '.join(COLUMNS)}, found shape {table.shape}"
        raise FileFormatError(msg)
    if np.any(np.diff(table[:, 0]) <= 0.0):
        msg = f"{path}: the energies do not rise from line to line"
        raise FileFormatError(msg)
    return table
