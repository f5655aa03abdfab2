"""Materials to train PDF forests on, and their simulated, augmented features.

A PDF shows all sites of an element at once, so only materials whose sites agree in valence and coordination
number have labels; lengths and surroundings are means over the sites, and a polyhedron is known where all
sites have the same. Features are simulated from the structures.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.library import StringArray, site_rows
from bluesky_xpdml.factory.dataset.tables import load_structures, sha256, structures_file
from bluesky_xpdml.features.pdf import FEATURE_NAMES, GRID, pdf_features
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.simulation.pair_distribution import Instrument, Pairs, curve, reach_needed
from bluesky_xpdml.simulation.pair_histogram import PairHistogram, pair_histogram
from bluesky_xpdml.simulation.structure import Structure
from bluesky_xpdml.vocabulary import Modality

R_STEP = 0.02
"""Spacing of simulated curves [angstrom]."""
R_MAX = 10.2
"""Simulated curves end here, so that distances may be stretched [angstrom]."""
HC = 12398.4198
"""Energy times wavelength of a photon [eV angstrom]."""
BACKSCATTERING = (0.80, 0.97)
"""q_max of an anomalous measurement, in units of 4 pi / wavelength (scattering by 106 to 152 degree)."""
BATCH = 32
"""Materials simulated between two reports of progress."""


PAIRS: Mapping[Modality, Pairs] = {
    Modality.PDF: Pairs.TOTAL,
    Modality.DPDF: Pairs.SCATTERING,
    Modality.DPDF_ANOMALOUS: Pairs.ANOMALOUS,
}
"""Which pairs a modality shows.

All of them weigh pairs by form factors at Q = 0, which measurements do not. Weights at every Q in half of the
copies of ordinary PDFs were tried on eight elements: on curves with such weights, they gained 0.5 points of
oxidation states, 0.7 of coordination numbers, and 1.6 % of the error of bond lengths; on the others they
lost 0.1 and 0.2 points and 0.7 %: too little on balance for a second kind of curve.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PdfAugmentation:
    """Ranges of what is varied between copies."""

    copies: int = 4
    u_iso: tuple[float, float] = (0.003, 0.015)
    """Displacement of each species [angstrom^2]."""
    q_min: tuple[float, float] = (0.3, 1.2)
    """[1/angstrom]"""
    q_max: tuple[float, float] = (18.0, 30.0)
    """[1/angstrom]; anomalous measurements take it from the energy of the edge."""
    q_damp: tuple[float, float] = (0.01, 0.06)
    """[1/angstrom]"""
    stretch: float = 0.005
    """Largest relative error of distances."""
    noise: float = 0.1
    """Largest root mean square of the noise, in units of the curve's over 1.5 to 6 angstrom."""
    anomalous_noise: float = 0.3
    """The same for anomalous differences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Materials:
    """Labelled materials of one element, one row per material."""

    element: str
    identifier: StringArray
    formula: StringArray
    """Reduced formula; a split never separates rows of the same formula."""
    valence: FloatArray
    coordination_number: FloatArray
    bond_length: FloatArray
    """Mean over the sites of the mean nearest-neighbour distance [angstrom]."""
    geometry: StringArray
    """ChemEnv symbol that all sites have; empty if they differ or one is unknown."""
    ocn: FloatArray
    """Mean coordination number of the neighbours, over the sites; NaN where unknown."""
    nnrs: FloatArray
    """Mean over the sites of the spread of the nearest distances [angstrom]; NaN where unknown."""
    mood: FloatArray
    """Mean over the sites of the smallest O-O distance of the shell [angstrom]; NaN where unknown."""

    def __len__(self) -> int:
        return len(self.identifier)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Materials":
        """Return the chosen rows, by mask or by index."""
        return replace(self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)[1:]})


def q_max_range(element: str, modality: Modality, settings: PdfAugmentation) -> tuple[float, float]:
    """Return the range of q_max that a bundle is trained for [1/angstrom]."""
    if modality is not Modality.DPDF_ANOMALOUS:
        return settings.q_max
    limit = 4.0 * np.pi * FOIL_ENERGIES[element] / HC
    return BACKSCATTERING[0] * limit, BACKSCATTERING[1] * limit


def load_materials(folder: Path, element: str) -> Materials:
    """Read the labelled oxides of one element whose sites agree."""
    sites: dict[str, list[dict[str, str]]] = {}
    for row in site_rows(folder, element):
        sites.setdefault(row["id"], []).append(row)
    kept = {name: rows for name, rows in sites.items() if _agree(rows)}
    if not kept:
        msg = f"{folder} holds {len(sites)} materials with {element}, none of them with sites that agree"
        raise TrainingError(msg)
    first = [rows[0] for rows in kept.values()]
    return Materials(
        element=element,
        identifier=np.array(list(kept)),
        formula=np.array([row["formula"] for row in first]),
        valence=np.array([float(row["valence"]) for row in first]),
        coordination_number=np.array([float(row["cn"]) for row in first]),
        bond_length=_means(kept.values(), "d_mean"),
        geometry=np.array([_common(rows, "geometry") for rows in kept.values()], dtype=np.str_),
        ocn=_means(kept.values(), "ocn"),
        nnrs=_means(kept.values(), "d_std"),
        mood=_means(kept.values(), "mood"),
    )


def simulated_features(
    folder: Path,
    materials: Materials,
    modality: Modality,
    settings: PdfAugmentation,
    *,
    seed: int,
    cache: Path,
    progress: Callable[[int, int], None],
) -> FloatArray:
    """Return the simulated, augmented features of materials, from the cache if possible, (copies, n, 92)."""
    key = {
        "materials": zlib.crc32("".join(materials.identifier).encode()),
        "structures": sha256(folder / structures_file(folder)),
        "settings": asdict(settings),
        "q_max": q_max_range(materials.element, modality, settings),
        "grid": [R_STEP, R_MAX, *GRID],
        "names": FEATURE_NAMES,
        "seed": seed,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = cache / f"{materials.element}-{modality}-{digest}.npy"
    if path.is_file():
        progress(len(materials), len(materials))
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    found = np.stack(_simulate(folder, materials, modality, settings, seed=seed, progress=progress), axis=1)
    cache.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.npy")
    np.save(partial, found)
    partial.replace(path)
    return found


def copies_of(
    structure: Structure,
    element: str,
    modality: Modality,
    settings: PdfAugmentation,
    random: np.random.Generator,
) -> FloatArray:
    """Draw copies of one material's curve and compute their features, (copies, 92)."""
    q_range = q_max_range(element, modality, settings)
    farthest = reach_needed(R_MAX, Instrument(q_max=q_range[0]), settings.u_iso[1])
    pairs = pair_histogram(structure, reach=farthest, r_step=R_STEP)
    return np.stack([_one_copy(pairs, element, modality, settings, random) for _ in range(settings.copies)])


def _agree(rows: Sequence[Mapping[str, str]]) -> bool:
    known = all(row["valence"] and row["cn"] and row["d_mean"] and row["only_O"] == "True" for row in rows)
    return known and len({(row["valence"], row["cn"]) for row in rows}) == 1


def _means(materials: Iterable[Sequence[Mapping[str, str]]], column: str) -> FloatArray:
    """Return the means over the sites of each material; NaN if a site has no value."""
    return np.array([np.mean([float(row.get(column) or "nan") for row in rows]) for rows in materials])


def _common(sites: Sequence[Mapping[str, str]], column: str) -> str:
    """Return the value that all sites have; empty if they differ."""
    values = {row.get(column, "") for row in sites}
    return values.pop() if len(values) == 1 else ""


def _simulate(
    folder: Path,
    materials: Materials,
    modality: Modality,
    settings: PdfAugmentation,
    *,
    seed: int,
    progress: Callable[[int, int], None],
) -> list[FloatArray]:
    from joblib import Parallel, delayed

    structures = dict(load_structures(folder, set(materials.identifier.tolist())))
    missing = sorted(set(materials.identifier.tolist()) - set(structures))
    if missing:
        msg = f"{len(missing)} materials have no structure in {structures_file(folder)}, first {missing[0]}"
        raise TrainingError(msg)
    named = [(name, structures[name]) for name in materials.identifier.tolist()]
    jobs = (
        delayed(_batch)(named[start : start + BATCH], materials.element, modality, settings, seed)
        for start in range(0, len(named), BATCH)
    )
    result: list[FloatArray] = []
    for batch in Parallel(n_jobs=-1, return_as="generator")(jobs):
        result += batch
        progress(len(result), len(materials))
    return result


def _batch(
    structures: Sequence[tuple[str, Structure]],
    element: str,
    modality: Modality,
    settings: PdfAugmentation,
    seed: int,
) -> list[FloatArray]:
    seeds = [[seed, zlib.crc32(name.encode())] for name, _ in structures]
    return [
        copies_of(structure, element, modality, settings, np.random.default_rng(own))
        for (_, structure), own in zip(structures, seeds, strict=True)
    ]


def _one_copy(
    pairs: PairHistogram,
    element: str,
    modality: Modality,
    settings: PdfAugmentation,
    random: np.random.Generator,
) -> FloatArray:
    instrument = Instrument(
        q_min=random.uniform(*settings.q_min),
        q_max=random.uniform(*q_max_range(element, modality, settings)),
        q_damp=random.uniform(*settings.q_damp),
    )
    u_iso = {symbol: random.uniform(*settings.u_iso) for symbol in pairs.species}
    r, g = curve(pairs, r_max=R_MAX, instrument=instrument, u_iso=u_iso, which=PAIRS[modality], metal=element)
    largest = settings.anomalous_noise if modality is Modality.DPDF_ANOMALOUS else settings.noise
    inside = (r >= 1.5) & (r <= 6.0)
    noise = _noise(r, instrument, random)
    level = random.uniform(0.0, largest) * np.sqrt(np.mean(g[inside] ** 2) / np.mean(noise[inside] ** 2))
    stretch = 1.0 + random.uniform(-settings.stretch, settings.stretch)
    return pdf_features(r * stretch, g + level * noise)


def _noise(r: FloatArray, instrument: Instrument, random: np.random.Generator) -> FloatArray:
    """Return noise as a transform makes it: independent in F(Q), growing with Q, cut where the data end."""
    step = np.pi / R_MAX
    q = np.arange(np.ceil(instrument.q_min / step), np.ceil(instrument.q_max / step)) * step
    amplitude = random.normal(size=q.size) * q ** random.uniform(0.0, 2.0)
    return np.asarray(np.sin(np.outer(r, q)) @ amplitude)
