"""Labelling of structures in batches, in this process, in several, or on a Dask cluster.

The result of a batch is a part: a JSON file of its own that is whole or not there. What is there is not
done again.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_xpdml.errors import FileFormatError, TrainingError
from bluesky_xpdml.factory.dataset.bonds import FAILURES
from bluesky_xpdml.factory.dataset.dataset_entries import Dropped, Kind, StructureEntry
from bluesky_xpdml.factory.dataset.labels import LabelSettings, label_sites
from bluesky_xpdml.simulation.structure import Structure, read_cif

Batch = list[StructureEntry | Dropped]
Part = dict[str, Any]
"""Rows of the tables `sites`, `structures`, `dropped`, and `seconds` by label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Who labels."""

    n_jobs: int = 1
    """Processes on this machine."""
    scheduler: str = ""
    """Address of a Dask scheduler, which is then used instead."""


def label_batches(
    batches: Mapping[int, Batch], elements: Sequence[str], settings: LabelSettings, workers: Workers
) -> Iterator[tuple[int, Part]]:
    """Label batches of structures, in the order in which they get done.

    Parameters
    ----------
    batches
        By number.
    elements
        Whose sites are labelled.
    settings
        How.
    workers
        By whom.

    Yields
    ------
    number, part
        Of a batch.

    Raises
    ------
    TrainingError
        If a scheduler is named and the package for it is missing.
    """
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
            _label(entry, elements, settings, part)
    return number, part


def read_part(path: Path) -> Part:
    """Read the part of a batch."""
    part: Part = json.loads(path.read_text(encoding="utf-8"))
    return part


def _label(entry: StructureEntry, elements: Sequence[str], settings: LabelSettings, part: Part) -> None:
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
    """Return the structure of an entry.

    Raises
    ------
    FileFormatError
        If there is none, or it is disordered.
    """
    if entry.cif:
        return read_cif(entry.cif)
    from pymatgen.core import Structure as PymatgenStructure

    found = PymatgenStructure.from_dict(json.loads(entry.json))
    if not found.is_ordered:
        msg = f"{entry.id} has sites of mixed or partial occupancy: order it first"
        raise FileFormatError(msg)
    return Structure(
        lattice=np.array(found.lattice.matrix, dtype=float),
        fractional=np.array(found.frac_coords, dtype=float),
        species=tuple(site.specie.symbol for site in found),
    )


def _dropped(
    entry: StructureEntry, kind: Kind, reason: str, detail: str, *, site: int = -1, element: str = ""
) -> dict[str, Any]:
    return {
        "kind": str(kind),
        "id": entry.id,
        "site": site,
        "element": element,
        "file": entry.file,
        "reason": reason,
        "detail": detail,
    }


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
