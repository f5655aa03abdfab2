"""Time from the stop of a run to its prediction in Tiled, and what publishing costs RunEngine and server."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bluesky_xpdml.analysis.xanes import analyse_scan
from bluesky_xpdml.demo.beamline import scan_sample
from bluesky_xpdml.demo.session import PIXELS, Session
from bluesky_xpdml.demo.simulated_scan import simulated_scan
from bluesky_xpdml.factory.bench.report import Report, machine
from bluesky_xpdml.factory.bench.workers import RUNS, measure_workers
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.publish import TiledPublisher, derived_run
from bluesky_xpdml.records import DemoMeasurement, FloatArray
from bluesky_xpdml.reduction.xanes import XanesSettings

RUNS_PER_ROUND = 25
"""Runs that are published one after the other, per round."""


def measure_publish(*, rounds: int, seed: int, progress: Callable[[str, int, int], None]) -> Report:
    """Measure every sample of the simulated beamlines several times, and time the callback beside it."""
    with Session(seed) as session:
        names = list(session.beamline.wheel.samples) * rounds
        images = list(session.scattering.changer.samples) * rounds
        scanned = _measured(session.measure, names, "scans, stop to found", progress)
        imaged = _measured(session.measure_scattering, images, "images, stop to found", progress)
        per_document = _per_document(session, names)
        requests, rates = _throughput(session, rounds, progress)
    shared = measure_workers(progress)
    return Report(
        what="from a raw stop document to the prediction being found in Tiled",
        conditions={
            "runs": len(names) + len(images),
            "images": f"{PIXELS} x {PIXELS} pixels, with dark frames, mask and background",
            "server": "embedded in the same process, SQLite and DuckDB on disk",
            "first run": "not counted: models and modules are loaded by it",
            "poll": "every 5 ms",
            "watchers": f"processes that share a topic of Kafka with {RUNS} runs, server in its own process",
            "load average": round(os.getloadavg()[0], 1),
            "failed": sum(not each.start["descriptors"] for each in (*scanned, *imaged)),
            **machine(),
        },
        rows=[
            _row("stop_to_found", _milliseconds(scanned), "ms"),
            _row("stop_to_found_image", _milliseconds(imaged), "ms"),
            _row("callback_per_document", np.array(per_document) * 1e6, "us"),
            _row("requests_per_run", requests, "requests"),
            _row("runs_per_second", rates, "runs/s"),
            *(
                _row("runs_per_second", np.array([rate]), "runs/s", workers=workers)
                for workers, rate in shared.items()
            ),
        ],
    )


def _throughput(
    session: Session, rounds: int, progress: Callable[[str, int, int], None]
) -> tuple[FloatArray, FloatArray]:
    """Publish runs of one spectrum, one after the other; return requests per run, and runs per second."""
    prediction = analyse_scan(simulated_scan(), store=BundleStore.default(), settings=XanesSettings())
    publisher = TiledPublisher.from_uri(session.server.uri, path="throughput")
    client: Any = publisher.container.context.http_client
    sent: list[str] = []
    noting = [*client.event_hooks["request"], lambda request: sent.append(request.method)]
    client.event_hooks = {**client.event_hooks, "request": noting}
    durations, requests = [], []
    try:
        for done in range(RUNS_PER_ROUND * rounds + 1):
            documents = derived_run(replace(prediction, raw_uids=(f"raw-{done}",)))
            sent.clear()
            begin = time.perf_counter()
            publisher.publish(documents)
            durations.append(time.perf_counter() - begin)
            requests.append(len(sent))
            progress("runs published", done, RUNS_PER_ROUND * rounds)
    finally:
        publisher.close()
    # The first run loads modules, on the server too.
    return np.array(requests[1:], dtype=float), 1.0 / np.array(durations[1:])


def _measured(
    measure: Callable[[str], DemoMeasurement],
    names: Sequence[str],
    what: str,
    progress: Callable[[str, int, int], None],
) -> list[DemoMeasurement]:
    """Measure every sample, after one measurement for loading modules and models."""
    measure(names[0])
    measurements = []
    for done, name in enumerate(names, start=1):
        measurements.append(measure(name))
        progress(what, done, len(names))
    return measurements


def _milliseconds(measurements: Sequence[DemoMeasurement]) -> FloatArray:
    return np.array([each.seconds_stop_to_found for each in measurements]) * 1e3


def _per_document(session: Session, names: Sequence[str]) -> list[float]:
    """Time the callback on the RunEngine's thread while its worker analyses the runs before."""
    durations: list[float] = []

    def timed(name: str, document: Any) -> None:
        begin = time.perf_counter()
        session.callback(name, document)
        durations.append(time.perf_counter() - begin)

    documents: list[tuple[str, Any]] = []
    token = session.engine.subscribe(lambda name, document: documents.append((name, document)))
    for name in names[:3]:
        session.engine(scan_sample(session.beamline, name))
    session.engine.unsubscribe(token)
    for repeat in range(5):
        for name, document in documents:
            timed(name, _renamed(document, f"-{repeat}"))
            # A scan's documents do not come in one burst: the worker runs between them.
            time.sleep(1e-4)
    session.callback.drain(60.0)
    return durations


def _renamed(document: Any, suffix: str) -> dict[str, Any]:
    """Rename a document to another run."""
    keys = ("uid", "run_start", "descriptor")
    return {
        key: value + suffix if key in keys and isinstance(value, str) else value
        for key, value in document.items()
    }


def _row(metric: str, values: FloatArray, unit: str, *, workers: int | None = None) -> dict[str, Any]:
    quantiles = {f"p{q}": float(np.percentile(values, q)) for q in (50, 95, 99)}
    return {"metric": metric, "workers": workers, **quantiles, "n": values.size, "unit": unit}
