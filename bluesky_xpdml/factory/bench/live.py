"""Live predictions of partial scans against those of the whole scans, on measured oxides, and their cost."""

import time
from collections.abc import Callable, Iterator, Mapping
from csv import DictReader
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_xpdml.analysis.xanes import analyse_partial_scan, analyse_scan
from bluesky_xpdml.callbacks.callback import XpdmlCallback
from bluesky_xpdml.demo.simulated_scan import simulated_scan
from bluesky_xpdml.errors import DocumentError, MissingDataError
from bluesky_xpdml.factory.bench.report import Report, machine
from bluesky_xpdml.models.partial import REACHES, WIDENING
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.publish import CallbackPublisher
from bluesky_xpdml.records import AbsorptionScan, FloatArray, Prediction
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.reduction.xanes import XanesSettings
from bluesky_xpdml.settings import LiveSettings
from bluesky_xpdml.sources.files import read_scan
from bluesky_xpdml.sources.standards import LABELS
from bluesky_xpdml.vocabulary import Descriptor

CUTS = (*REACHES, 40.0, 60.0, 100.0)
"""Where scans are cut [eV above the foil]."""
PAUSE = 2e-3
"""Time between the documents of a scan [s], so that the worker predicts while they arrive."""
PATIENCE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A measured scan cut at some energy, its prediction compared with that of the whole scan."""

    element: str
    reach: float
    """Where it was cut [eV above the foil]."""
    completeness: float
    """Share of the points of the file."""
    error: Mapping[Descriptor, float]
    """Absolute difference of the partial from the final answer, by descriptor."""
    edge_error: float
    """The same for the oxidation state by the edge position alone [e]."""
    inside: bool
    """Whether the final oxidation state lies within the widened interval."""


def measure_live(standards: Path, *, scans: int, progress: Callable[[str, int, int], None]) -> Report:
    """Cut every measured oxide at each energy and compare; time the callback during live predictions."""
    store = BundleStore.default()
    cuts: list[Cut] = []
    rows = _standards(standards)
    refused = []
    for done, row in enumerate(rows, start=1):
        try:
            scan = read_scan(standards / row["file"], element=row["element"], edge="K")
        except DocumentError:
            refused.append(row["file"])
        else:
            cuts += _cuts(scan, row, store)
        progress("scans cut", done, len(rows))
    files = sum(cut.reach == CUTS[0] for cut in cuts)
    off, on = (_per_document(store, live=live, scans=scans) for live in (False, True))
    return Report(
        what="live answers of measured oxides against the final ones, by how far the scan has come",
        conditions={
            "files": files,
            "files in formats that are not read": len(refused),
            "error": "|live - final|, median and 90 % quantile over the files",
            "by the edge alone": "oxidation state by the edge position of the cut scan alone",
            "inside": "final oxidation states within the live 90 % interval",
            "widening of others": "final states within the 90 % quantile of the other elements' files, mean",
            "callback per document, live off, median [us]": float(np.median(off) * 1e6),
            "callback per document, live on, median [us]": float(np.median(on) * 1e6),
            "callback per document, live on, 99 % [us]": float(np.percentile(on, 99) * 1e6),
            "documents timed": on.size,
            **machine(),
        },
        rows=[_row([cut for cut in cuts if cut.reach == reach], reach) for reach in CUTS],
    )


def _standards(folder: Path) -> list[dict[str, str]]:
    table = folder / LABELS
    if not table.is_file():
        raise MissingDataError(f"{table} is missing: expected a table of labelled measured spectra")
    with table.open(newline="") as lines:
        return [
            row
            for row in DictReader(lines)
            if row["is_oxide"] == "1" and row["element"] in FOIL_ENERGIES and row["oxidation_state"]
        ]


def _cuts(scan: AbsorptionScan, row: Mapping[str, str], store: BundleStore) -> Iterator[Cut]:
    """Predict a scan as a whole, and cut at every energy that it reaches."""
    offset = row["energy_offset"]
    settings = XanesSettings(energy_offset=float(offset) if offset else "reference")
    final = analyse_scan(scan, store=store, settings=settings)
    if not final.descriptors or final.xanes is None:
        return
    zero = FOIL_ENERGIES[row["element"]] - final.xanes.axis.offset
    for reach in CUTS:
        if scan.energy[-1] < zero + reach:
            return
        kept = np.arange(scan.energy.size) <= np.searchsorted(scan.energy, zero + reach)
        for live in analyse_partial_scan(_part(scan, kept), store=store, settings=settings):
            yield _compared(live, final, reach, float(kept.mean()))


def _part(scan: AbsorptionScan, kept: np.ndarray[Any, np.dtype[np.bool_]]) -> AbsorptionScan:
    changed: dict[str, Any] = {}
    for each in fields(scan):
        value = getattr(scan, each.name)
        if isinstance(value, np.ndarray):
            changed[each.name] = value[kept]
        elif isinstance(value, Mapping):
            changed[each.name] = {key: inner[kept] for key, inner in value.items()}
    return replace(scan, **changed)


def _compared(live: Prediction, final: Prediction, reach: float, completeness: float) -> Cut:
    state = final.descriptors[Descriptor.OXIDATION_STATE].value
    interval = live.descriptors[Descriptor.OXIDATION_STATE]
    return Cut(
        element=live.element,
        reach=reach,
        completeness=completeness,
        error={
            name: abs(live.descriptors[name].value - final.descriptors[name].value)
            for name in map(Descriptor, WIDENING)
        },
        edge_error=abs(live.diagnostics["edge_curve_oxidation_state"] - state),
        inside=interval.low <= state <= interval.high,
    )


def _row(cuts: list[Cut], reach: float) -> dict[str, Any]:
    row: dict[str, Any] = {
        "reach_ev": reach,
        "files": len(cuts),
        "completeness": float(np.median([cut.completeness for cut in cuts])),
    }
    for name, unit in zip(Descriptor.main(), ("state", "number", "length"), strict=True):
        errors = np.array([cut.error[name] for cut in cuts])
        row |= {f"{unit}_p50": float(np.median(errors)), f"{unit}_p90": float(np.quantile(errors, 0.9))}
    row["edge_alone_p50"] = float(np.median([cut.edge_error for cut in cuts]))
    row["edge_alone_p90"] = float(np.quantile([cut.edge_error for cut in cuts], 0.9))
    row["inside"] = float(np.mean([cut.inside for cut in cuts]))
    row["widening_of_others"] = _transferred(cuts)
    return row


def _transferred(cuts: list[Cut]) -> float:
    """Return the share of files whose error is within the 90 % quantile of the other elements' files."""
    errors = np.array([cut.error[Descriptor.OXIDATION_STATE] for cut in cuts])
    elements = np.array([cut.element for cut in cuts])
    held = np.zeros(errors.size, dtype=bool)
    for element in np.unique(elements):
        others = elements != element
        held[~others] = errors[~others] <= np.quantile(errors[others], 0.9) if others.any() else True
    return float(held.mean())


def _per_document(store: BundleStore, *, live: bool, scans: int) -> FloatArray:
    """Time the callback in the thread that sends documents while its worker predicts [s]."""
    durations: list[float] = []
    scan = simulated_scan()
    settings = LiveSettings(xanes=live, interval=0.0)
    publisher = CallbackPublisher(lambda name, document: None)  # noqa: ARG005 - thrown away
    with XpdmlCallback(publisher, store=store, live=settings) as callback:
        for number in range(scans):
            for name, document in scan_documents(scan, f"run-{number}"):
                begin = time.perf_counter()
                callback(name, document)
                durations.append(time.perf_counter() - begin)
                time.sleep(PAUSE)
            callback.drain(PATIENCE)
    return np.array(durations)


def scan_documents(scan: AbsorptionScan, uid: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the documents of a step scan, one event per point."""
    channels = {name: getattr(scan, name) for name in ("energy", "i0", "it", "ir")}
    start = {"plan_name": "xafs", "element": scan.element, "edge": scan.edge, "num_points": scan.energy.size}
    yield "start", {"uid": uid, "time": 0.0, **start}
    keys = {name: {"dtype": "number", "shape": [], "source": "scan"} for name in channels}
    keys["energy"]["units"] = "eV"
    yield "descriptor", {"uid": f"{uid}-d", "run_start": uid, "name": "primary", "data_keys": keys}
    for number in range(scan.energy.size):
        data = {name: float(values[number]) for name, values in channels.items()}
        event = {"uid": f"{uid}-{number}", "descriptor": f"{uid}-d", "seq_num": number + 1, "time": 0.0}
        yield "event", event | {"data": data, "timestamps": dict.fromkeys(data, 0.0)}
    yield "stop", {"uid": f"{uid}-s", "run_start": uid, "exit_status": "success", "time": 1.0}
