"""Scans read from files as Bluesky runs, so that they are analysed like a live measurement."""

import hashlib
import time
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np

from bluesky_xpdml.documents import REMARK_CODES
from bluesky_xpdml.records import AbsorptionScan, FloatArray

NAMESPACE = uuid.UUID("6f2f3c5a-0c39-5d0e-9d51-5d7a4b1c7e11")
"""Namespace of the uids of replayed runs, which follow from their content."""


def scan_documents(
    scan: AbsorptionScan, *, when: float | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the documents of a scan as a run: start, descriptor, one page of events, stop.

    The uids follow from the content, so that the same scan is the same run whenever it is replayed. The
    energy is the motor, the channels are detectors; data keys are `energy` [eV], `i0`, `it`, `ir`, `if`,
    `iy`, `mu`, and the names of the detector elements.

    Parameters
    ----------
    scan
        As it was read from a file.
    when
        Time of all documents [s since 1970]; now if None.

    Examples
    --------
    >>> scan = AbsorptionScan(energy=np.arange(7000.0, 7010.0), mu=np.ones(10), element="Fe", edge="K")
    >>> [name for name, _ in scan_documents(scan)]
    ['start', 'descriptor', 'event_page', 'stop']
    """
    when = time.time() if when is None else when
    columns = _columns(scan)
    run = uuid.uuid5(NAMESPACE, _digest(scan, columns))
    descriptor = str(uuid.uuid5(run, "primary"))
    n_points = scan.energy.size
    yield "start", _start(scan, str(run), when)
    yield "descriptor", _descriptor(str(run), descriptor, tuple(columns), when)
    yield (
        "event_page",
        {
            "uid": [str(uuid.uuid5(run, f"event {number}")) for number in range(1, n_points + 1)],
            "descriptor": descriptor,
            "seq_num": list(range(1, n_points + 1)),
            "time": [when] * n_points,
            "data": {name: values.tolist() for name, values in columns.items()},
            "timestamps": {name: [when] * n_points for name in columns},
            "filled": {},
        },
    )
    yield (
        "stop",
        {
            "uid": str(uuid.uuid5(run, "stop")),
            "run_start": str(run),
            "time": when,
            "exit_status": "success",
            "reason": "",
            "num_events": {"primary": n_points},
        },
    )


def _columns(scan: AbsorptionScan) -> dict[str, FloatArray]:
    channels = {
        "energy": scan.energy,
        "i0": scan.i0,
        "it": scan.it,
        "ir": scan.ir,
        "if": scan.fluorescence,
        "iy": scan.electron_yield,
        "mu": scan.mu,
        **scan.fluorescence_elements,
    }
    return {name: values for name, values in channels.items() if values is not None}


def _digest(scan: AbsorptionScan, columns: dict[str, FloatArray]) -> str:
    """Return a hash of everything in the documents but the time."""
    digest = hashlib.sha256(repr((scan.element, scan.edge, scan.sample, scan.source)).encode())
    digest.update(repr((scan.completeness, scan.quality.reasons)).encode())
    for name, values in columns.items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
    return digest.hexdigest()


def _start(scan: AbsorptionScan, uid: str, when: float) -> dict[str, Any]:
    stated = {
        "element": scan.element,
        "edge": scan.edge,
        "sample_name": scan.sample.name,
        "sample_uid": scan.sample.uid,
        "sample_composition": scan.sample.composition,
        "source": scan.source,
    }
    return {
        "uid": uid,
        "time": when,
        "plan_name": "xas_replay",
        "plan_type": "generator",
        "motors": ["energy"],
        "hints": {"dimensions": [[["energy"], "primary"]]},
        "num_points": round(scan.energy.size / max(scan.completeness, 1e-6)),
        "remarks": [str(reason) for reason in scan.quality.reasons],
        REMARK_CODES: [str(getattr(reason, "code", "")) for reason in scan.quality.reasons],
        "detector_elements": list(scan.fluorescence_elements),
        # Unknown is a missing key, not an empty one.
        **{key: value for key, value in stated.items() if value},
    }


def _descriptor(run: str, uid: str, names: tuple[str, ...], when: float) -> dict[str, Any]:
    units = {"energy": {"units": "eV"}}
    keys = {
        name: {"source": "file", "dtype": "number", "dtype_numpy": "<f8", "shape": [], "object_name": name}
        | units.get(name, {})
        for name in names
    }
    return {
        "uid": uid,
        "run_start": run,
        "time": when,
        "name": "primary",
        "data_keys": keys,
        "object_keys": {name: [name] for name in names},
        "hints": {name: {"fields": [name]} for name in names},
        "configuration": {name: {"data": {}, "timestamps": {}, "data_keys": {}} for name in names},
    }
