"""The cells of the simulated benchmark, computed once and cached: an interrupted run continues."""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bluesky_xpdml.factory.bench.samples import (
    COPIES,
    Samples,
    joint_samples,
    material_samples,
    site_samples,
)
from bluesky_xpdml.factory.bench.scoring import CellRecipe, score_cell
from bluesky_xpdml.factory.dataset.library import library_files, load_site_spectra
from bluesky_xpdml.factory.dataset.tables import STRUCTURES_FILE, file_hashes
from bluesky_xpdml.factory.training.materials import (
    Materials,
    PdfAugmentation,
    load_materials,
    simulated_features,
)
from bluesky_xpdml.factory.training.scores import Split
from bluesky_xpdml.factory.training.xanes import XanesRecipe, usable_sites
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import Modality

Progress = Callable[[str, int, int], None]

REVISION = 1
"""Increased when the code changes the results, so that cached cells are computed again."""
ALL, SHARED = "all", "shared"
"""Rows of a cell: all rows of its modality, or the materials that have both a spectrum and a curve."""
SINGLE = (Modality.XANES, Modality.PDF, Modality.DPDF)
KINDS = (
    *((ALL, modality) for modality in SINGLE),
    *((SHARED, modality) for modality in (*SINGLE, Modality.XANES_PDF, Modality.XANES_DPDF)),
)
"""Rows and modality of the cells of an element, split and seed."""
SMALLEST_CLASS = 5
"""Valences and coordination numbers with fewer rows are left out."""
CURVE_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Element, rows, modality, split and seed of one training."""

    element: str
    rows: str
    """`all` or `shared`."""
    modality: str
    split: Split
    seed: int


@dataclass(frozen=True, kw_only=True)
class ElementData:
    """Data of one element, read and simulated on first use."""

    folder: Path
    element: str
    cache: Path
    """Cache of simulated curves."""
    progress: Progress

    @cached_property
    def materials(self) -> Materials:
        """Materials whose sites agree."""
        return load_materials(self.folder, self.element)

    @cached_property
    def curves(self) -> dict[str, FloatArray]:
        """Features of `pdf` and `dpdf`, (copies, n, 92)."""
        settings = PdfAugmentation(copies=COPIES)
        return {
            str(modality): simulated_features(
                self.folder,
                self.materials,
                modality,
                settings,
                seed=CURVE_SEED,
                cache=self.cache,
                progress=lambda done, total: self.progress(f"{self.element} curves", done, total),
            )
            for modality in (Modality.PDF, Modality.DPDF)
        }

    @cached_property
    def samples(self) -> dict[tuple[str, str], Samples]:
        """Rows of every kind of cell."""
        recipe = replace(XanesRecipe(), most_sites=10**6, smallest_class=SMALLEST_CLASS)
        sites = usable_sites(load_site_spectra(self.folder, self.element), recipe)
        single = material_samples(self.materials, self.curves, SMALLEST_CLASS)
        shared = joint_samples(sites, self.materials, self.curves, SMALLEST_CLASS)
        return {
            (ALL, Modality.XANES): site_samples(sites),
            **{(ALL, name): samples for name, samples in single.items()},
            **{(SHARED, name): samples for name, samples in shared.items()},
        }


class CellStore:
    """Finished cells of one element, recipe and data set, one JSON line per cell."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found = dict(_read(path))

    def get(self, cell: Cell) -> dict[str, Any] | None:
        """Return the result of a cell; None if it was not computed yet."""
        return self._found.get(cell)

    def put(self, cell: Cell, result: dict[str, Any]) -> dict[str, Any]:
        """Store the result of a cell, and return it as it will be read again."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"cell": asdict(cell), "result": result})
        with self._path.open("a", encoding="utf-8") as lines:
            # A line that was cut off by the end of the machine stays alone on its line.
            lines.write(f"\n{line}\n")
        stored: dict[str, Any] = json.loads(line)["result"]
        self._found[cell] = stored
        return stored


def open_store(cache: Path, recipe: CellRecipe, data: Path, element: str) -> CellStore:
    """Return the finished cells of one element."""
    # How many threads work does not change what comes out.
    named = asdict(replace(recipe, threads=1)) | {"revision": REVISION, "copies": COPIES}
    names = dict.fromkeys((*library_files(data, element), STRUCTURES_FILE))
    key = json.dumps([named, file_hashes(data, names)], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return CellStore(cache / f"cells-{element}-{digest}.jsonl")


def _read(path: Path) -> Iterator[tuple[Cell, dict[str, Any]]]:
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        yield Cell(**entry["cell"]), entry["result"]


def compute_cells(
    data: Path,
    elements: Sequence[str],
    *,
    splits: Sequence[Split],
    seeds: Sequence[int],
    recipe: CellRecipe,
    cache: Path,
    progress: Progress,
) -> Mapping[Cell, dict[str, Any]]:
    """Return the result of every cell, computing those that are not cached.

    Sets and intervals are calibrated in splits by formula, except for single modalities on shared rows.
    """
    cells = [
        Cell(element=element, rows=rows, modality=modality, split=split, seed=seed)
        for split in splits
        for seed in seeds
        for element in elements
        for rows, modality in KINDS
    ]

    def compute(cell: Cell, samples: Samples) -> dict[str, Any]:
        calibrated = cell.split == "formula" and (cell.rows == ALL or cell.modality in Modality.joint())
        # The threads of scikit-learn's forests take the list of warning filters from each other while it
        # is being filled, and then warn of that, thousands of times.
        with warnings.catch_warnings(record=True):
            return score_cell(samples, cell.split, cell.seed, recipe, calibrated=calibrated)

    known = element_data(data, elements, cache=cache, progress=progress)
    return run_cells(cells, known, cache, recipe, compute, what="cells")


def element_data(
    folder: Path, elements: Iterable[str], *, cache: Path, progress: Progress
) -> dict[str, ElementData]:
    """Return the data of several elements, read on first use."""
    return {
        element: ElementData(folder=folder, element=element, cache=cache, progress=progress)
        for element in elements
    }


def run_cells(
    cells: Sequence[Cell],
    data: Mapping[str, ElementData],
    cache: Path,
    recipe: CellRecipe,
    compute: Callable[[Cell, Samples], dict[str, Any]],
    *,
    what: str,
) -> dict[Cell, dict[str, Any]]:
    """Return the result of every cell, computing and storing those that are not cached."""
    stores = {element: open_store(cache, recipe, each.folder, element) for element, each in data.items()}
    results = {}
    for done, cell in enumerate(cells, start=1):
        own, stored = data[cell.element], stores[cell.element]
        found = stored.get(cell)
        if found is None:
            found = stored.put(cell, compute(cell, own.samples[cell.rows, cell.modality]))
        results[cell] = found
        own.progress(what, done, len(cells))
    return results
