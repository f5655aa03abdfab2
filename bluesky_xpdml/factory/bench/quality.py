"""Verdicts compared with those of beamline staff, who called each spectrum good or bad.

A folder of judged spectra holds `labels.csv` (`scan_uid, collection, score`: 1 is good, 0 bad, anything else
left out) and `bmm_spectra.npz` (`energy` [eV], `mu`, both (n, m), one row per label). The channels of one
scan stay together on one side of every split.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_xpdml.documents import absorption_scan
from bluesky_xpdml.errors import MissingDataError, XpdmlError
from bluesky_xpdml.factory.bench.report import Report
from bluesky_xpdml.records import Verdict
from bluesky_xpdml.reduction.edges import CONTRAST, largest_rise
from bluesky_xpdml.reduction.xanes import reduce_xanes

SEED = 2026
"""Seed of the folds and of the split into the half for choosing limits and the other one."""
FOLDS = 5
HALVES = ("tuning", "held-out")
_SCORES = {"1": "good", "0": "bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One spectrum, judged by people and by the reduction."""

    scan_uid: str
    collection: str
    staff: str
    """`good`, `bad` or `left out`."""
    half: str
    """`tuning` or `held-out`."""
    verdict: Verdict
    contrast: float
    """Step of the largest rise over the scatter around it; 0 if nothing rises."""


def measure_quality(folder: Path) -> Report:
    """Compare the verdicts of the reduction with those of people."""
    judged = judge(folder)
    rows = [_row(half, "all", [item for item in judged if item.half == half]) for half in HALVES]
    for half in HALVES:
        for collection in dict.fromkeys(item.collection for item in judged):
            chosen = [item for item in judged if (item.half, item.collection) == (half, collection)]
            rows.append(_row(half, collection, chosen))
    return Report(
        what="verdicts of the reduction beside those of beamline staff",
        conditions={
            "split": f"scan ids sorted, numpy default_rng({SEED}).permutation, first half for tuning",
            "scans": {half: len({item.scan_uid for item in judged if item.half == half}) for half in HALVES},
            "agreement": "good is good, suspect and failed are bad",
            "left out": dict(Counter(str(item.verdict) for item in judged if item.staff == "left out")),
            "contrast of the edge alone": f"balanced accuracy {cross_validated(judged):.4f} over {FOLDS} "
            f"folds of scans, the limit of each chosen on the others; the limit in use is {CONTRAST:g}",
        },
        rows=rows,
    )


def judge(folder: Path) -> tuple[Judged, ...]:
    """Reduce every spectrum of a folder, the element unknown."""
    table, arrays = folder / "labels.csv", folder / "bmm_spectra.npz"
    if not (table.is_file() and arrays.is_file()):
        raise MissingDataError(f"expected labels.csv and bmm_spectra.npz in {folder}")
    with table.open(newline="", encoding="utf-8") as lines:
        labels = list(csv.DictReader(lines))
    with np.load(arrays) as spectra:
        energies, absorptions = spectra["energy"].astype(float), spectra["mu"].astype(float)
    tuning = tuning_half([label["scan_uid"] for label in labels])
    return tuple(
        Judged(
            scan_uid=label["scan_uid"],
            collection=label["collection"],
            staff=_SCORES.get(label["score"], "left out"),
            half=HALVES[label["scan_uid"] not in tuning],
            verdict=_verdict(energy, mu),
            contrast=_contrast(energy, mu),
        )
        for label, energy, mu in zip(labels, energies, absorptions, strict=True)
    )


def tuning_half(scan_uids: Sequence[str]) -> frozenset[str]:
    """Return the scans that limits may be chosen on."""
    unique = sorted(set(scan_uids))
    order = np.random.default_rng(SEED).permutation(len(unique))
    return frozenset(unique[index] for index in order[: len(unique) // 2])


def balanced_accuracy(judged: Sequence[Judged]) -> float | None:
    """Return the mean of the shares of good and of bad spectra with the right verdict; None without both."""
    agree: dict[str, list[bool]] = {"good": [], "bad": []}
    for item in judged:
        if item.staff in agree:
            agree[item.staff].append((item.verdict is Verdict.GOOD) == (item.staff == "good"))
    if not all(agree.values()):
        return None
    return float(np.mean([np.mean(values) for values in agree.values()]))


def cross_validated(judged: Sequence[Judged]) -> float:
    """Return the balanced accuracy of the contrast alone, its limit chosen without the scans it judges."""
    counted = [item for item in judged if item.staff != "left out"]
    unique = sorted({item.scan_uid for item in counted})
    order = np.random.default_rng(SEED).permutation(len(unique))
    fold = {unique[index]: place % FOLDS for place, index in enumerate(order)}
    agree: dict[str, list[bool]] = {"good": [], "bad": []}
    for number in range(FOLDS):
        limit = _limit([item for item in counted if fold[item.scan_uid] != number])
        for item in counted:
            if fold[item.scan_uid] == number:
                agree[item.staff].append((item.contrast >= limit) == (item.staff == "good"))
    return float(np.mean([np.mean(values) for values in agree.values()]))


def _limit(judged: Sequence[Judged]) -> float:
    """Return the limit between good and bad with the best balanced accuracy, the middle one of the best."""
    good = np.array([item.contrast for item in judged if item.staff == "good"])
    bad = np.array([item.contrast for item in judged if item.staff == "bad"])
    candidates = np.unique([*good, *bad])
    middles = np.sqrt(np.maximum(candidates[1:] * candidates[:-1], 1e-6))
    scores = [np.mean(good >= middle) + np.mean(bad < middle) for middle in middles]
    best = middles[np.isclose(scores, np.max(scores))]
    return float(best[best.size // 2])


def _verdict(energy: np.ndarray, mu: np.ndarray) -> Verdict:
    try:
        return reduce_xanes(absorption_scan(energy=energy, energy_unit="eV", mu=mu)).quality.verdict
    except XpdmlError:
        return Verdict.FAILED


def _contrast(energy: np.ndarray, mu: np.ndarray) -> float:
    rise = largest_rise(energy, mu)
    return 0.0 if rise is None else float(min(rise.contrast, 1e6))


def _row(half: str, collection: str, judged: Sequence[Judged]) -> dict[str, Any]:
    counts = Counter((item.staff, item.verdict) for item in judged)
    cells = {
        f"{staff}: {verdict}": counts[staff, verdict] for staff in ("good", "bad") for verdict in Verdict
    }
    return {"half": half, "collection": collection, "balanced_accuracy": balanced_accuracy(judged), **cells}
