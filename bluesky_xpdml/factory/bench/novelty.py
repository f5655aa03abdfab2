"""How well the novelty score separates unfamiliar spectra and curves from familiar ones, on simulation.

Familiar are sites and materials of held-out formulas, distorted like the training rows. Unfamiliar are
spectra of other elements read on this element's foil scale; spectra with a planted spike; spectra whose
axis is off by 4 to 8 eV; curves of other elements; curves of materials in which the element has other
neighbours than oxygen; and curves of the metal. The data hold no spectrum of a site that has other
neighbours.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_xpdml.factory.bench.accuracy_tables import MEAN, short
from bluesky_xpdml.factory.bench.cells import SMALLEST_CLASS, ElementData, Progress, element_data
from bluesky_xpdml.factory.dataset.library import SiteSpectra, StringArray, load_site_spectra, site_rows
from bluesky_xpdml.factory.dataset.tables import load_structures
from bluesky_xpdml.factory.training.alignment import EXTENT, AlignedSpectra, on_fine_grid
from bluesky_xpdml.factory.training.conformal import split_groups
from bluesky_xpdml.factory.training.materials import PdfAugmentation, copies_of
from bluesky_xpdml.factory.training.novelty import fit_novelty
from bluesky_xpdml.factory.training.scores import TEST_SHARE, distorted
from bluesky_xpdml.factory.training.xanes import XanesRecipe, usable_sites
from bluesky_xpdml.features.xanes import FINE_STEP, features_of_shifts
from bluesky_xpdml.models.novelty import from_tables, novelty_scores
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.simulation.structure import Structure
from bluesky_xpdml.vocabulary import Modality

FLOORS = {
    "another element": (0.80, 0.97),
    "no oxide": (0.90, 0.97),
    "spike": (0.99, 1.0),
    "axis off by 4 to 8 eV": (0.99, 1.0),
    "metal": (0.99, 1.0),
}
"""Floor and aim of each kind."""
CALIBRATION_SHARE = 0.25
STRANGERS = 60
"""Rows of each other element."""
MOST_SITES = 1500
METALS: Mapping[str, tuple[str, float, float]] = {
    "Ti": ("hcp", 2.951, 4.684),
    "V": ("bcc", 3.024, 0.0),
    "Cr": ("bcc", 2.885, 0.0),
    "Mn": ("bcc", 3.081, 0.0),
    "Fe": ("bcc", 2.866, 0.0),
    "Co": ("hcp", 2.507, 4.069),
    "Ni": ("fcc", 3.524, 0.0),
    "Cu": ("fcc", 3.615, 0.0),
}
"""Lattice and its constants a, c [angstrom] at room temperature; Mn as the high-temperature phase."""
SITES = {
    "fcc": ((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)),
    "bcc": ((0, 0, 0), (0.5, 0.5, 0.5)),
    "hcp": ((1 / 3, 2 / 3, 0.25), (2 / 3, 1 / 3, 0.75)),
}
"""Fractional coordinates in the conventional cell."""


def measure_novelty(
    simulation: Path, elements: Sequence[str], *, seeds: Sequence[int], cache: Path, progress: Progress
) -> list[dict[str, Any]]:
    """Return areas under the ROC curve of unfamiliar against familiar rows, by element, modality and kind."""
    recipe = XanesRecipe(most_sites=MOST_SITES, smallest_class=SMALLEST_CLASS)
    sites = {name: usable_sites(load_site_spectra(simulation, name), recipe) for name in elements}
    data = element_data(simulation, elements, cache=cache, progress=progress)
    rows = []
    for done, element in enumerate(elements, start=1):
        others = _no_oxides(simulation, element)
        areas: dict[tuple[str, str], list[float]] = {}
        for seed in seeds:
            _add(areas, Modality.XANES, _spectra(sites, element, seed))
            for modality in (Modality.PDF, Modality.DPDF):
                _add(areas, str(modality), _curves(data, element, modality, others, seed))
        rows += [_row(element, modality, kind, found) for (modality, kind), found in areas.items()]
        progress("novelty", done, len(elements))
    return rows


def _add(areas: dict[tuple[str, str], list[float]], modality: str, found: Mapping[str, float]) -> None:
    for kind, area in found.items():
        areas.setdefault((modality, kind), []).append(area)


def _row(element: str, modality: str, kind: str, found: Sequence[float]) -> dict[str, Any]:
    return {
        "element": element,
        "rows": "all",
        "modality": modality,
        "target": "novelty",
        "split": "formula",
        "metric": f"auroc, {kind}",
        "mean": float(np.mean(found)),
        "sd": float(np.std(found, ddof=1)) if len(found) > 1 else None,
        "n_train": None,
        "n_test": None,
        "majority": 0.5,
    }


def novelty_table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per kind and modality: mean over elements, lowest, floor and aim."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["modality"], row["metric"].removeprefix("auroc, ")), []).append(row)
    table = []
    for (modality, kind), same in groups.items():
        lowest = min(same, key=lambda row: row["mean"])
        floor, aim = FLOORS[kind]
        table.append(
            {
                "modality": modality,
                "strange": kind,
                MEAN: short(float(np.mean([row["mean"] for row in same]))),
                "lowest": f"{short(lowest['mean'])} ({lowest['element']})",
                "floor": floor,
                "aim": aim,
            }
        )
    return table


def _spectra(sites: Mapping[str, SiteSpectra], element: str, seed: int) -> dict[str, float]:
    own, random = sites[element], np.random.default_rng(seed)
    train, calibration, test = _three_ways(own.formula, seed)
    familiar = _features(own, random)
    scores = _scorer(
        np.concatenate([familiar[train], _features(own, None)[train]]), familiar[calibration], seed
    )
    unseen = own.select(test)
    shift = random.uniform(4.0, 8.0, len(unseen)) * random.choice([-1.0, 1.0], len(unseen))
    strange = {
        "spike": _features(unseen, random, spikes=True),
        "axis off by 4 to 8 eV": _features(unseen, random, shift=shift),
    }
    others = [_sample(_features(rows, random), random) for name, rows in sites.items() if name != element]
    if others:
        strange["another element"] = np.concatenate(others)
    return {kind: _area(scores(familiar[test]), scores(rows)) for kind, rows in strange.items()}


def _features(
    sites: SiteSpectra,
    random: np.random.Generator | None,
    *,
    shift: FloatArray | float = 0.0,
    spikes: bool = False,
) -> FloatArray:
    """Return the features of spectra on the foil's scale, distorted if `random` is given, (n, 72)."""
    x = sites.energy - FOIL_ENERGIES[sites.element]
    kept = x <= EXTENT
    step = float(x[1] - x[0])
    mu = sites.mu[:, kept] if random is None else distorted(sites.mu[:, kept], step, random)
    none = np.zeros(len(mu))
    aligned = AlignedSpectra(x=x[kept], mu=mu, half_edge=none, shift=none)
    signal = on_fine_grid(aligned, mu, none + shift, none)
    if spikes and random is not None:
        _plant_spikes(signal, random)
    return features_of_shifts(signal, np.zeros(1))[:, 0, :]


def _plant_spikes(signal: FloatArray, random: np.random.Generator) -> None:
    """Add a glitch of 0.25 to 0.75 eV and 0.3 to 1 edge steps to each spectrum, within the window."""
    for row in signal:
        start = int(random.integers(round(7.5 / FINE_STEP), round(37.5 / FINE_STEP)))
        row[start : start + int(random.integers(1, 4))] += random.choice([-1.0, 1.0]) * random.uniform(
            0.3, 1.0
        )


def _curves(
    data: Mapping[str, ElementData],
    element: str,
    modality: Modality,
    others: Sequence[Structure],
    seed: int,
) -> dict[str, float]:
    random = np.random.default_rng(seed)
    features = data[element].curves[str(modality)]
    train, calibration, test = _three_ways(data[element].materials.formula, seed)
    scores = _scorer(np.concatenate(features[:2, train]), features[0, calibration], seed)
    strange = {"metal": _metal(element, modality, random)}
    no_oxide = [copies_of(one, element, modality, PdfAugmentation(copies=1), random) for one in others]
    if no_oxide:
        strange["no oxide"] = np.concatenate(no_oxide)
    known = [rows.curves[str(modality)][0] for name, rows in data.items() if name != element]
    if known:
        strange["another element"] = np.concatenate([_sample(rows, random) for rows in known])
    familiar = scores(features[0, test])
    return {kind: _area(familiar, scores(rows)) for kind, rows in strange.items()}


def _no_oxides(folder: Path, element: str) -> list[Structure]:
    """Return structures in which a site of the element has other neighbours than oxygen."""
    names = {row["id"] for row in site_rows(folder, element) if row["only_O"] == "False"}
    chosen = set(sorted(names)[:STRANGERS])
    return [structure for _, structure in load_structures(folder, chosen)] if chosen else []


def _metal(element: str, modality: Modality, random: np.random.Generator) -> FloatArray:
    kind, a, c = METALS[element]
    lattice = np.diag([a, a, a])
    if kind == "hcp":
        lattice = np.array([[a, 0.0, 0.0], [-a / 2.0, a * 3.0**0.5 / 2.0, 0.0], [0.0, 0.0, c]])
    sites = np.array(SITES[kind], dtype=float)
    structure = Structure(lattice=lattice, fractional=sites, species=(element,) * len(sites))
    return copies_of(structure, element, modality, PdfAugmentation(copies=20), random)


def _three_ways(formula: StringArray, seed: int) -> tuple[Any, Any, Any]:
    """Return rows to train on, to calibrate with and to test on, every formula in one of them."""
    known, test = split_groups(formula, TEST_SHARE, seed)
    train, calibration = split_groups(formula[known], CALIBRATION_SHARE, seed)
    return known[train], known[calibration], test


def _scorer(rows: FloatArray, calibration: FloatArray, seed: int) -> Callable[[FloatArray], FloatArray]:
    reference = from_tables(*fit_novelty(rows, calibration, seed=seed))
    return lambda asked: novelty_scores(reference, asked)


def _sample(rows: FloatArray, random: np.random.Generator) -> FloatArray:
    return rows[random.choice(len(rows), min(STRANGERS, len(rows)), replace=False)]


def _area(familiar: FloatArray, strange: FloatArray) -> float:
    from sklearn.metrics import roc_auc_score

    truth = np.repeat([0, 1], [familiar.size, strange.size])
    return float(roc_auc_score(truth, np.concatenate([familiar, strange])))
