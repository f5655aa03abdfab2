"""How long after a run has stopped its prediction is found in Tiled, and what the RunEngine pays for it."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bluesky_xpdml.beamline import scan_sample
from bluesky_xpdml.bench.conditions import machine
from bluesky_xpdml.bench.report import Report
from bluesky_xpdml.bench.session import PIXELS, Session


def measure_publish(*, rounds: int, seed: int, progress: Callable[[str, int, int], None]) -> Report:
    """Measure every sample of the simulated beamlines several times, and time the callback beside it.

    Parameters
    ----------
    rounds
        How often each sample is measured.
    seed
        Of the counting statistics.
    progress
        Called with what is done, how many of it, and of how many.
    """
    with Session(seed) as session:
        names = list(session.beamline.wheel.samples) * rounds
        session.measure(names[0])
        seconds = []
        for done, name in enumerate(names, start=1):
            seconds.append(session.measure(name).seconds_stop_to_found)
            progress("scans, stop to found", done, len(names))
        images = list(session.scattering.changer.samples) * rounds
        session.measure_scattering(images[0])
        image_seconds = []
        for done, name in enumerate(images, start=1):
            image_seconds.append(session.measure_scattering(name).seconds_stop_to_found)
            progress("images, stop to found", done, len(images))
        per_document = _per_document(session, names)
        statistics = session.callback.statistics
    return Report(
        what="from a raw stop document to the prediction being found in Tiled",
        conditions={
            "runs": len(names) + len(images),
            "images": f"{PIXELS} x {PIXELS} pixels, with dark frames, mask and background",
            "server": "embedded in the same process, SQLite and DuckDB on disk",
            "first run": "not counted: models and modules are loaded by it",
            "poll": "every 5 ms",
            "failed": statistics.failed,
            **machine(),
        },
        rows=[
            _row("stop_to_found", np.array(seconds) * 1e3, "ms"),
            _row("stop_to_found_image", np.array(image_seconds) * 1e3, "ms"),
            _row("callback_per_document", np.array(per_document) * 1e6, "us"),
        ],
    )


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
    """Make a document one of another run."""
    keys = ("uid", "run_start", "descriptor")
    return {
        key: value + suffix if key in keys and isinstance(value, str) else value
        for key, value in document.items()
    }


def _row(metric: str, values: np.ndarray[Any, np.dtype[np.float64]], unit: str) -> dict[str, Any]:
    quantiles = {f"p{q}": float(np.percentile(values, q)) for q in (50, 95, 99)}
    return {"metric": metric, **quantiles, "n": values.size, "unit": unit}
