"""Forests beside boosted trees, networks, support vectors, and averages of them, on the same splits."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_xpdml.factory.bench.accuracy_cells import SHARED, Cell, CellStore, ElementData, Progress
from bluesky_xpdml.factory.bench.accuracy_tables import short
from bluesky_xpdml.factory.bench.report import Report
from bluesky_xpdml.factory.training.cells import CellRecipe, divide, known_rows
from bluesky_xpdml.factory.training.rivals import MEMBERS, score_rivals

MODALITIES = ("xanes", "dpdf", "xanes+dpdf")
TARGETS = ("oxidation_state", "coordination_number", "bond_length")
COLUMNS = {
    "OS accuracy": ("oxidation_state", "accuracy"),
    "OS mF1": ("oxidation_state", "macro_f1"),
    "CN accuracy": ("coordination_number", "accuracy"),
    "CN mF1": ("coordination_number", "macro_f1"),
    "BL RMSE [A]": ("bond_length", "rmse"),
    "BL R2": ("bond_length", "r2"),
}
FOLDER = "rivals"
"""Rivals' cells are kept beside those of forests."""


def measure_rivals(
    simulation: Path,
    elements: Sequence[str],
    *,
    seeds: Sequence[int],
    cache: Path,
    threads: int,
    progress: Progress,
) -> Report:
    """Train and score every rival on splits by formula, on the materials that all modalities share.

    Parameters
    ----------
    simulation
        Folder of simulated spectra and structures.
    elements
        Chemical symbols.
    seeds
        One split and training each.
    cache
        Folder in which finished cells and simulated curves are kept: an interrupted run goes on.
    threads
        To train with.
    progress
        Called with what is done, how many of it, and of how many.
    """
    store = CellStore(cache / FOLDER, replace(CellRecipe(), threads=1))
    cells = [
        Cell(element=element, rows=SHARED, modality=modality, split="formula", seed=seed)
        for seed in seeds
        for element in elements
        for modality in MODALITIES
    ]
    data = {
        element: ElementData(folder=simulation, element=element, cache=cache, progress=progress)
        for element in elements
    }
    kept = {element: store.open(simulation, element) for element in elements}
    results = []
    for done, cell in enumerate(cells, start=1):
        found = kept[cell.element].get(cell)
        if found is None:
            found = _score(cell, data[cell.element], threads)
            kept[cell.element].put(cell, found)
        results.append((cell, json.loads(json.dumps(found))))
        progress("rivals", done, len(cells))
    return Report(
        what="rivals of the forests on simulated spectra and curves",
        conditions={
            "elements": list(elements),
            "seeds": list(seeds),
            "split": "20 % of the reduced formulas held out",
            "rows": "materials that have both a spectrum and a curve; each learner sees all columns",
            "networks": f"{MEMBERS} members of 64 and 64 units, 25 epochs",
            "wide networks": f"{MEMBERS} members of 256 and 128 units, at most 60 epochs, stopped early",
            "seconds": "of training on a shared machine, oxidation state",
        },
        rows=[row for modality in MODALITIES for row in _rows(modality, results)],
    )


def _score(cell: Cell, data: ElementData, threads: int) -> dict[str, Any]:
    samples = data.samples[cell.rows, cell.modality]
    division = divide(samples, cell.split, cell.seed)
    return {
        target: score_rivals(target, known_rows(samples, division, target), threads) for target in TARGETS
    }


def _rows(modality: str, results: Sequence[tuple[Cell, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    found = [result for cell, result in results if cell.modality == modality]
    rows = []
    for name in found[0][TARGETS[0]]:
        figures = {
            title: short(float(np.mean([part[target][name]["metrics"][metric][0] for part in found])))
            for title, (target, metric) in COLUMNS.items()
        }
        spent = [part[TARGETS[0]][name]["seconds"] for part in found]
        seconds = None if spent[0] is None else round(float(np.mean(spent)), 2)
        rows.append({"modality": modality, "learner": name, **figures, "seconds": seconds})
    return rows
