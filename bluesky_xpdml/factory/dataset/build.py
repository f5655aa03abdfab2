"""From structures and spectra to a data set on disk, resumable and independent of the workers."""

import itertools
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_xpdml.errors import FileFormatError, TrainingError
from bluesky_xpdml.factory.dataset.entries import (
    STRUCTURE_SUFFIXES,
    Dropped,
    Kind,
    StructureEntry,
    files_of,
    read_structures,
)
from bluesky_xpdml.factory.dataset.join import EnergyAxis, join_spectra, on_one_axis
from bluesky_xpdml.factory.dataset.labels import FAILURES, LabelSettings, label_sites
from bluesky_xpdml.factory.dataset.spectra import SPECTRUM_SUFFIXES, read_spectra
from bluesky_xpdml.factory.dataset.tables import (
    DROPPED,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    SITES,
    SPECTRA,
    STRUCTURES,
    TABLES,
    read_manifest,
    sha256,
    write_table,
    write_whole,
)
from bluesky_xpdml.simulation.structure import Structure, from_pymatgen, read_cif

PARTS = "parts"
"""Folder of what is done while a data set is being built."""
PLAN = "plan.json"
PACKAGES = ("pymatgen", "pymatgen-core", "numpy", "scipy", "spglib")
"""Their versions decide what the labels are."""


Progress = Callable[[str, int, int], None]
"""Called with what is done, how many of it, and of how many."""
Batch = list[StructureEntry | Dropped]
Part = dict[str, Any]
"""Rows of the tables `sites`, `structures`, `dropped`, and `seconds` by label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Processes or cluster for labelling."""

    n_jobs: int = 1
    """Processes on this machine."""
    scheduler: str = ""
    """Address of a Dask scheduler, which is then used instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSettings:
    """What a data set holds."""

    elements: tuple[str, ...]
    """Absorbing elements."""
    axes: Mapping[str, EnergyAxis] = field(default_factory=dict)
    """Axis of the spectra by element; needed where the files of an element have several axes."""
    limit: int = 0
    """Number of structures, from the first on; 0 for all."""
    batch: int = 16
    """Structures per part: at most these are lost when a build is killed."""
    labels: LabelSettings = field(default_factory=LabelSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A finished data set, and what this run did for it."""

    folder: Path
    manifest: dict[str, Any]
    n_labelled: int
    """Structures labelled in this run."""
    n_resumed: int
    """Parts that were there from an earlier run."""
    seconds: dict[str, float]
    """Time by label, over the structures of this run and all processes [s]."""


def build_dataset(
    structures: Sequence[Path],
    spectra: Sequence[Path],
    output: Path,
    settings: DatasetSettings,
    *,
    workers: Workers,
    progress: Progress,
) -> Built:
    """Label structures, join spectra, and write the tables.

    A build that was stopped goes on where it was when it is called again with the same arguments. The result
    depends on the inputs, the settings and the versions of pymatgen and numpy only.
    """
    plan = _plan(structures, spectra, settings)
    if (output / MANIFEST).is_file():
        return _finished(output, plan)
    usable, refused = _spectra(spectra, settings)
    entries = list(_entries(structures, settings.limit))
    parts, n_resumed = _parts(output, plan)
    n_labelled, seconds = _label(entries, parts, settings, workers, progress)
    numbers = range(-(-len(entries) // settings.batch))
    made = [json.loads(_part(parts, number).read_text(encoding="utf-8")) for number in numbers]
    names = {SITES: "sites", STRUCTURES: "structures", DROPPED: "dropped"}
    rows = {table: [row for part in made for row in part[name]] for table, name in names.items()}
    rows[SPECTRA], unlabelled = join_spectra(usable, rows[SITES], rows[STRUCTURES])
    rows[DROPPED] += [asdict(entry) for entry in (*refused, *unlabelled)]
    for name in TABLES:
        write_table(output, name, rows[name])
    manifest = {**plan, **_counts(rows), "files": {name: sha256(output / name) for name in TABLES}}
    write_whole(output / MANIFEST, manifest)
    shutil.rmtree(parts)
    return Built(
        folder=output, manifest=manifest, n_labelled=n_labelled, n_resumed=n_resumed, seconds=seconds
    )


def _plan(structures: Sequence[Path], spectra: Sequence[Path], settings: DatasetSettings) -> dict[str, Any]:
    """Return what the result depends on, as JSON would hold it."""
    kinds = {"structures": (structures, STRUCTURE_SUFFIXES), "spectra": (spectra, SPECTRUM_SUFFIXES)}
    inputs = {
        kind: [{"file": name, "sha256": sha256(path)} for path, name in files_of(paths, suffixes)]
        for kind, (paths, suffixes) in kinds.items()
    }
    plan = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "settings": asdict(settings),
        "packages": {name: version(name) for name in PACKAGES},
        "inputs": inputs,
    }
    if not inputs["structures"]:
        expected = ", ".join(STRUCTURE_SUFFIXES)
        raise TrainingError(f"no structure under {', '.join(map(str, structures))}: expected {expected}")
    loaded: dict[str, Any] = json.loads(json.dumps(plan))
    return loaded


def _differences(found: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    return ", ".join(key for key in plan if found.get(key) != plan[key])


def _finished(output: Path, plan: Mapping[str, Any]) -> Built:
    manifest = read_manifest(output)
    if differ := _differences(manifest, plan):
        msg = f"{output} holds a finished data set that differs in: {differ}; name another folder"
        raise TrainingError(msg)
    return Built(folder=output, manifest=manifest, n_labelled=0, n_resumed=0, seconds={})


def _parts(output: Path, plan: Mapping[str, Any]) -> tuple[Path, int]:
    """Return the folder of parts, and how many of them an earlier run of the same plan left."""
    parts = output / PARTS
    if not (parts / PLAN).is_file():
        if output.exists() and any(output.iterdir()) and not parts.is_dir():
            msg = f"{output} holds files but no data set: name an empty folder or one that does not exist"
            raise TrainingError(msg)
        parts.mkdir(parents=True, exist_ok=True)
        write_whole(parts / PLAN, plan)
    found = json.loads((parts / PLAN).read_text(encoding="utf-8"))
    if differ := _differences(found, plan):
        msg = f"{output} holds an unfinished build that differs in: {differ}; name another folder"
        raise TrainingError(msg)
    return parts, len(list(parts.glob("[0-9]*.json")))


def _part(parts: Path, number: int) -> Path:
    return parts / f"{number:06d}.json"


def _entries(paths: Sequence[Path], limit: int) -> Iterator[StructureEntry | Dropped]:
    """Yield structures; the second of an identifier is dropped."""
    seen: set[str] = set()
    entries = read_structures(paths)
    for entry in itertools.islice(entries, limit) if limit else entries:
        if isinstance(entry, StructureEntry) and entry.id in seen:
            reason = "identifier is taken"
            yield Dropped(kind=Kind.STRUCTURE, id=entry.id, file=entry.file, reason=reason)
        else:
            seen.add(entry.id)
            yield entry


def _spectra(paths: Sequence[Path], settings: DatasetSettings) -> tuple[list[Any], list[Dropped]]:
    """Read spectra and put them on one axis an element, before the long work begins."""
    found = list(read_spectra(paths, settings.elements))
    refused = [entry for entry in found if isinstance(entry, Dropped)]
    sound = [entry for entry in found if not isinstance(entry, Dropped)]
    usable, outside = on_one_axis(sound, settings.axes)
    return usable, refused + outside


def _label(
    entries: Sequence[StructureEntry | Dropped],
    parts: Path,
    settings: DatasetSettings,
    workers: Workers,
    progress: Progress,
) -> tuple[int, dict[str, float]]:
    """Make the parts that are missing."""
    size = settings.batch
    batches: dict[int, Batch] = {
        start // size: list(entries[start : start + size]) for start in range(0, len(entries), size)
    }
    missing = {number: batch for number, batch in batches.items() if not _part(parts, number).is_file()}
    done = sum(len(batch) for number, batch in batches.items() if number not in missing)
    progress("structures", done, len(entries))
    seconds: Counter[str] = Counter()
    n_labelled = 0
    for number, part in label_batches(missing, settings.elements, settings.labels, workers):
        seconds.update(part.pop("seconds"))
        n_labelled += part.pop("labelled")
        write_whole(_part(parts, number), part)
        done += len(batches[number])
        progress("structures", done, len(entries))
    return n_labelled, dict(seconds)


def _counts(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Count what is there, what is unknown, and what was dropped and why."""
    sites, dropped = rows[SITES], rows[DROPPED]
    few_oxygens = ["fewer than two oxygens" for row in sites if np.isnan(row["mood"])]
    return {
        "counts": {
            "structures": len(rows[STRUCTURES]),
            "sites": _counted(row["element"] for row in sites),
            "spectra": _counted(row["element"] for row in rows[SPECTRA]),
        },
        "unknown": {
            "valence": _counted(filter(None, (row["valence_reason"] for row in sites))),
            "geometry": _counted(filter(None, (row["geometry_reason"] for row in sites))),
            "mood": _counted(few_oxygens),
        },
        "dropped": {
            kind: _counted(row["reason"] for row in dropped if row["kind"] == kind)
            for kind in sorted({row["kind"] for row in dropped})
        },
    }


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def label_batches(
    batches: Mapping[int, Batch], elements: Sequence[str], settings: LabelSettings, workers: Workers
) -> Iterator[tuple[int, Part]]:
    """Label batches of structures, in the order in which they get done."""
    if workers.scheduler:
        yield from _on_cluster(batches, elements, settings, workers.scheduler)
    elif workers.n_jobs == 1:
        for number, batch in batches.items():
            yield label_batch(number, batch, elements, settings)
    else:
        import joblib

        parallel = joblib.Parallel(n_jobs=workers.n_jobs, backend="loky", return_as="generator_unordered")
        calls = (joblib.delayed(label_batch)(n, batch, elements, settings) for n, batch in batches.items())
        yield from parallel(calls)


def label_batch(
    number: int, batch: Batch, elements: Sequence[str], settings: LabelSettings
) -> tuple[int, Part]:
    """Label one batch; see `label_batches`."""
    part: Part = {"sites": [], "structures": [], "dropped": [], "seconds": {}, "labelled": 0}
    for entry in batch:
        if isinstance(entry, Dropped):
            part["dropped"].append(asdict(entry))
        else:
            _label_entry(entry, elements, settings, part)
    return number, part


def _label_entry(entry: StructureEntry, elements: Sequence[str], settings: LabelSettings, part: Part) -> None:
    from pymatgen.core import Composition

    try:
        structure = parse(entry)
    except (FileFormatError, *FAILURES) as error:
        reason = "disordered" if "occupancy" in str(error) else "not readable"
        part["dropped"].append(_dropped(entry, Kind.STRUCTURE, reason, str(error)))
        return
    if not set(elements) & set(structure.species):
        part["dropped"].append(_dropped(entry, Kind.STRUCTURE, "holds none of the elements", ""))
        return
    labelled = label_sites(structure, elements, settings)
    amounts = {symbol: structure.species.count(symbol) for symbol in structure.species}
    formula = Composition(amounts).reduced_formula
    common = {"id": entry.id, "formula": formula, "n_sites": len(structure.species)}
    part["sites"] += [{**common, **asdict(site)} for site in labelled.sites]
    part["dropped"] += [
        _dropped(entry, Kind.SITE, reason, "", site=site, element=structure.species[site])
        for site, reason in labelled.failed.items()
    ]
    part["structures"].append(
        {
            **common,
            "file": entry.file,
            "lattice": structure.lattice.ravel().tolist(),
            "species": list(structure.species),
            "fractional": structure.fractional.ravel().tolist(),
        }
    )
    part["labelled"] += 1
    for what, seconds in labelled.seconds.items():
        part["seconds"][what] = part["seconds"].get(what, 0.0) + seconds


def parse(entry: StructureEntry) -> Structure:
    """Return the structure of an entry."""
    if entry.cif:
        return read_cif(entry.cif)
    from pymatgen.core import Structure as PymatgenStructure

    return from_pymatgen(PymatgenStructure.from_dict(json.loads(entry.json)))


def _dropped(
    entry: StructureEntry, kind: Kind, reason: str, detail: str, *, site: int = -1, element: str = ""
) -> dict[str, Any]:
    left_out = Dropped(
        kind=kind, id=entry.id, site=site, element=element, file=entry.file, reason=reason, detail=detail
    )
    return asdict(left_out)


def _on_cluster(
    batches: Mapping[int, Batch], elements: Sequence[str], settings: LabelSettings, scheduler: str
) -> Iterator[tuple[int, Part]]:
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        msg = "a Dask scheduler needs the package `distributed`: install bluesky-xpdml[dask]"
        raise TrainingError(msg) from error
    with Client(scheduler) as client:
        futures = [
            client.submit(label_batch, number, batch, elements, settings, pure=False)
            for number, batch in batches.items()
        ]
        for future in as_completed(futures):
            yield future.result()
