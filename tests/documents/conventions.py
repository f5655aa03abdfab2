"""Document streams as three beamlines write them, made from a known spectrum.

`Known` says what the sample absorbs; the functions write it as BMM, ISS and QAS do: as columns of events,
or as raw counts of currents and encoders with offsets, gains and times of their own.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Documents = list[tuple[str, dict[str, Any]]]

EPOCH = 1_700_000_000.0
APB_FIELDS = ("timestamp", "i0", "it", "ir", "iff", "aux1", "aux2", "aux3", "aux4")
APB_DTYPE = [("timestamp", "<f8"), *((name, "<i4") for name in APB_FIELDS[1:])]
ENCODER_DTYPE = [("ts_s", "<i8"), ("ts_ns", "<i8"), ("encoder", "<i8"), ("index", "<i8"), ("state", "<i8")]
TRIGGER_DTYPE = [("timestamp", "<f8"), ("transition", "<i8")]


@dataclass(frozen=True)
class Known:
    """A sample and its foil: arctangent edges with white lines [eV]."""

    element: str = "Fe"
    edge: str = "K"
    edge_energy: float = 7112.0
    sample_above: float = 12.0
    foil_above: float = -0.5
    low: float = -150.0
    high: float = 290.0

    def mu(self, energy: np.ndarray, above: float) -> np.ndarray:
        position = self.edge_energy + above
        step = 0.5 + np.arctan((energy - position) / 2.0) / np.pi
        return step + 0.4 * np.exp(-(((energy - position - 6.0) / 4.0) ** 2))

    def grid(self) -> np.ndarray:
        """Return the energies of a step scan."""
        offsets = np.concatenate(
            [np.arange(self.low, -30.0, 5.0), np.arange(-30.0, 70.0, 0.5), np.arange(70.0, self.high, 4.0)]
        )
        return self.edge_energy + offsets

    def i0(self, energy: np.ndarray) -> np.ndarray:
        return 25.0 + 0.002 * (energy - self.edge_energy)

    def it(self, energy: np.ndarray) -> np.ndarray:
        return self.i0(energy) * np.exp(-self.mu(energy, self.sample_above) - 0.3)

    def ir(self, energy: np.ndarray) -> np.ndarray:
        return self.it(energy) * np.exp(-0.7 * self.mu(energy, self.foil_above) - 0.4)

    def fluorescence(self, energy: np.ndarray) -> np.ndarray:
        return self.i0(energy) * (self.mu(energy, self.sample_above) + 0.05)


class _Run:
    """Writes the documents of one run."""

    def __init__(self, start: Mapping[str, Any]) -> None:
        self.uid = str(uuid.uuid4())
        self.documents: Documents = [("start", {"uid": self.uid, "time": EPOCH, "scan_id": 7, **start})]
        self._n_events: dict[str, int] = {}

    def describe(self, stream: str, keys: Mapping[str, Mapping[str, Any]], **more: Any) -> str:
        uid = str(uuid.uuid4())
        data_keys = {
            key: {"source": f"PV:{key}", "dtype": "number", "shape": [], **said} for key, said in keys.items()
        }
        document = {
            "uid": uid,
            "run_start": self.uid,
            "time": EPOCH,
            "name": stream,
            "data_keys": data_keys,
            "object_keys": {stream: list(data_keys)},
            "hints": {},
            "configuration": {},
        }
        self.documents.append(("descriptor", document | more))
        self._n_events[stream] = 0
        return uid

    def events(self, stream: str, descriptor: str, rows: list[dict[str, Any]]) -> None:
        for data in rows:
            self._n_events[stream] += 1
            event = {
                "uid": str(uuid.uuid4()),
                "descriptor": descriptor,
                "seq_num": self._n_events[stream],
                "time": EPOCH,
                "data": data,
                "timestamps": dict.fromkeys(data, EPOCH),
                "filled": {},
            }
            self.documents.append(("event", event))

    def page(self, stream: str, descriptor: str, data: dict[str, list[Any]]) -> None:
        n = len(next(iter(data.values())))
        self._n_events[stream] = n
        page = {
            "uid": [str(uuid.uuid4()) for _ in range(n)],
            "descriptor": descriptor,
            "seq_num": list(range(1, n + 1)),
            "time": [EPOCH] * n,
            "data": data,
            "timestamps": {key: [EPOCH] * n for key in data},
            "filled": {},
        }
        self.documents.append(("event_page", page))

    def stop(self, exit_status: str = "success") -> Documents:
        stop = {
            "uid": str(uuid.uuid4()),
            "run_start": self.uid,
            "time": EPOCH + 60.0,
            "exit_status": exit_status,
            "reason": "",
            "num_events": dict(self._n_events),
        }
        return [*self.documents, ("stop", stop)]


def bmm_documents(
    known: Known,
    *,
    mode: str = "transmission",
    descending: bool = False,
    stop_after: int | None = None,
    legacy: bool = False,
    others: tuple[str, ...] = (),
    energy: np.ndarray | None = None,
    start: Mapping[str, Any] | None = None,
) -> Documents:
    """Return a step scan of BMM: `dcm_energy` and currents in nA, counts by detector element, a baseline."""
    energy = known.grid() if energy is None else energy
    energy = energy[::-1] if descending else energy
    n_planned = energy.size
    elements = (
        ("DTC1", "DTC2", "DTC3", "DTC4") if legacy else tuple(f"{known.element}{i}" for i in range(1, 5))
    )
    run = _Run(_bmm_start(known, mode, n_planned, elements, descending) | dict(start or {}))
    _bmm_baseline(run)
    columns = {"I0": known.i0(energy), "It": known.it(energy), "Ir": known.ir(energy)}
    columns |= {"dcm_energy": energy, "dcm_energy_setpoint": np.round(energy)}
    if "yield" in mode:
        columns["Iy"] = 3e-3 * known.fluorescence(energy)
    if "fluorescence" in mode:
        columns |= {name: (100.0 + 10 * i) * known.fluorescence(energy) for i, name in enumerate(elements)}
        columns |= {f"{other}{i}": 50.0 * known.i0(energy) for other in others for i in range(1, 5)}
        columns |= {
            f"{kind}{i}": 1e4 * known.i0(energy) for kind in ("ICR", "OCR", "ROI") for i in range(1, 5)
        }
    units = {"dcm_energy": "eV", "dcm_energy_setpoint": "eV", "I0": "nA", "It": "nA", "Ir": "nA"}
    keys = {name: {"units": units[name]} if name in units else {} for name in columns}
    spectra = [f"{name}_xrf" for name in elements] if "fluorescence" in mode else []
    external = {"dtype": "array", "shape": [4096], "external": "FILESTORE:"}
    descriptor = run.describe("primary", keys | dict.fromkeys(spectra, external))
    rows = [
        {
            **{name: float(values[i]) for name, values in columns.items()},
            **{s: f"xrf/{s}/{i}" for s in spectra},
        }
        for i in range(n_planned)
    ]
    run.events("primary", descriptor, rows[:stop_after])
    return run.stop()


def _bmm_start(
    known: Known, mode: str, n_planned: int, elements: tuple[str, ...], descending: bool
) -> dict[str, Any]:
    hint = "xafs xs" if "fluorescence" in mode else f"xafs {mode}"
    return {
        "plan_name": f"scan_nd xafs {mode}",
        "num_points": n_planned,
        "motors": ["dcm_energy", "quadem1_acquire_time"],
        "BMM_kafka": {
            "hint": hint,
            "filename": "feo",
            "folder": "/nsls2/data/bmm",
            "element": known.element,
            "edge": known.edge,
            "repetitions": 3,
            "count": 1,
        },
        "XDI": {
            "_mode": (mode,),
            "_comment": ("measured at night",),
            "_dtc": elements,
            "_user": {"e0": known.edge_energy, "bounds": [-200, -30, 30, 700], "steps": [5, 0.5, 4]},
            "Element": {"symbol": known.element, "edge": known.edge, "reference": known.element},
            "Scan": {"edge_energy": known.edge_energy},
            "Mono": {
                "name": "Si(111)",
                "d_spacing": "3.1353241 Å",
                "direction": "backward" if descending else "forward",
            },
            "Sample": {"name": "iron oxide", "prep": "powder on tape"},
        },
    }


def _bmm_baseline(run: _Run) -> None:
    names = ("xafs_x", "xafs_y", "xafs_wheel", "dcm_bragg", "dcm_energy")
    descriptor = run.describe(
        "baseline", {name: {"units": "eV"} if name == "dcm_energy" else {} for name in names}
    )
    run.events("baseline", descriptor, [dict.fromkeys(names, 1.0), dict.fromkeys(names, 2.0)])


@dataclass(frozen=True)
class Box:
    """How one beamline writes continuous scans."""

    apb: str
    encoder: str
    trigger: str
    detector: str
    counts_per_degree: float
    angle_offset: float
    plane_distance: float = 3.1356
    offsets: tuple[float, ...] = (5.0, -3.5, 2.25, 0.5, 0.0, 0.0, 0.0, 0.0)
    """[mV]"""
    gains: tuple[int, ...] = (6, 7, 7, 8, 0, 0, 0, 0)
    """[log10]"""
    start: Mapping[str, Any] = field(default_factory=dict)


ISS = Box(
    "apb_stream",
    "pb9_enc1",
    "apb_trigger_xs",
    "xs_stream",
    360000.0,
    0.125,
    start={"experiment": "fly_scan", "trajectory_filename": "Fe_K.txt"},
)
QAS = Box(
    "apb_stream",
    "pb1_enc1",
    "apb_trigger",
    "xs_stream",
    26222.222222222223,
    -0.31,
    start={"experiment": "fly_energy_scan_apb", "hutch": "b"},
)


def raw_sweeps(
    known: Known, box: Box, *, n_samples: int = 20_000, sweeps: int = 1, noise: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the tables of the currents and of the encoder over so many sweeps, up and down in turn."""
    seconds = 10.0 * sweeps
    time = np.linspace(0.02, seconds - 0.02, n_samples)
    encoder_time = np.linspace(0.0, seconds, n_samples // 4)

    def energy(at: np.ndarray) -> np.ndarray:
        phase = np.abs((at / 10.0 + 1.0) % 2.0 - 1.0)
        return known.edge_energy + known.low + phase * (known.high - known.low)

    angle = np.rad2deg(np.arcsin(12398.41984 / (2.0 * box.plane_distance * energy(encoder_time))))
    counts = np.round(-(angle + box.angle_offset) * box.counts_per_degree).astype(np.int64)
    encoder = np.zeros(encoder_time.size, dtype=ENCODER_DTYPE)
    encoder["ts_s"] = (EPOCH + encoder_time).astype(np.int64)
    encoder["ts_ns"] = np.round((EPOCH + encoder_time - encoder["ts_s"]) * 1e9)
    encoder["encoder"] = counts % 2**24
    generator = np.random.default_rng(7)
    apb = np.zeros(time.size, dtype=APB_DTYPE)
    apb["timestamp"] = EPOCH + time
    at = energy(time)
    currents = (known.i0(at), known.it(at), known.ir(at), known.fluorescence(at))
    for i, current in enumerate(currents):
        scaled = -current * 1e-9 * 10.0 ** box.gains[i] * 1e6 * (10.0 if i == 0 else 1.0)
        jitter = generator.normal(0.0, noise, time.size) * np.abs(scaled)
        apb[APB_FIELDS[i + 1]] = np.round(scaled + jitter + box.offsets[i] * 1e3)
    return apb, encoder


def triggers_and_counts(
    known: Known, sweeps: int = 1, *, n_frames: int = 400
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the table of the triggers, and the counts of four detector elements in each exposure."""
    period = 10.0 * sweeps / n_frames
    rises = EPOCH + period * np.arange(n_frames) + 0.1 * period
    falls = rises + 0.7 * period
    table = np.zeros(2 * n_frames, dtype=TRIGGER_DTYPE)
    table["timestamp"] = np.column_stack([rises, falls]).reshape(-1)
    table["transition"] = np.tile([1, 0], n_frames)
    middle = (rises + falls) / 2.0 - EPOCH
    phase = np.abs((middle / 10.0 + 1.0) % 2.0 - 1.0)
    energy = known.edge_energy + known.low + phase * (known.high - known.low)
    return table, [np.round((1e5 + 1e3 * i) * known.fluorescence(energy)) for i in range(4)]


def fly_start(known: Known, box: Box) -> dict[str, Any]:
    """Return what the start document of a continuous scan says."""
    said: dict[str, Any] = {
        "plan_name": "execute_trajectory",
        "name": "iron oxide 0001",
        "comment": "",
        "element": known.element,
        "edge": known.edge,
        "e0": known.edge_energy,
        "angle_offset": str(box.angle_offset),
        "detectors": {},
    }
    for i, (offset, gain) in enumerate(zip(box.offsets, box.gains, strict=True), start=1):
        said |= {f"ch{i}_offset": offset, f"ch{i}_amp_gain": gain}
    return said | dict(box.start)


def iss_documents(known: Known, *, start: Mapping[str, Any] | None = None, **how: Any) -> Documents:
    """Return a continuous scan of ISS."""
    return _fly_documents(known, ISS, dict(start or {}), **how)


def qas_documents(known: Known, *, start: Mapping[str, Any] | None = None, **how: Any) -> Documents:
    """Return a continuous scan of QAS."""
    return _fly_documents(known, QAS, dict(start or {}), **how)


def _fly_documents(
    known: Known,
    box: Box,
    start: dict[str, Any],
    *,
    triggered: bool = False,
    structured: bool = True,
    **how: Any,
) -> Documents:
    apb, encoder = raw_sweeps(known, box, **how)
    run = _Run(fly_start(known, box) | start)
    array = {"dtype": "array"}
    tables = {box.encoder: encoder, box.apb: apb}
    if triggered:
        tables[box.trigger], counts = triggers_and_counts(known, how.get("sweeps", 1))
    for name, table in tables.items():
        descriptor = run.describe(name, {name: {**array, "shape": [table.size]}})
        value = table if structured else [list(row) for row in table.tolist()]
        run.page(name, descriptor, {name: [value]})
    if triggered and box is ISS:
        keys = [f"xs_ch{i:02d}_roi01" for i in range(1, 5)]
        descriptor = run.describe(box.detector, {key: {**array, "shape": [counts[0].size]} for key in keys})
        run.page(box.detector, descriptor, {key: [values] for key, values in zip(keys, counts, strict=True)})
    elif triggered:
        descriptor = run.describe(box.detector, {box.detector: {**array, "shape": [1]}})
        names = [f"CHAN{i}ROI1" for i in range(1, 5)]
        rows = [dict(zip(names, row, strict=True)) for row in np.column_stack(counts).tolist()]
        run.events(box.detector, descriptor, [{box.detector: row} for row in rows])
    return run.stop()


def qas_diffraction_documents(image: np.ndarray, **start: Any) -> Documents:
    """Return a run of the area detector of QAS."""
    said = {
        "experiment": "diffraction",
        "plan_name": "count_qas",
        "sample_name": "nickel",
        "frame_count": 2,
        "subframe_time": 0.2,
    }
    run = _Run(said | start)
    descriptor = run.describe("primary", {"pe1_image": {"dtype": "array", "shape": list(image.shape)}})
    run.events("primary", descriptor, [{"pe1_image": image}, {"pe1_image": image}])
    return run.stop()
