"""How many runs a second several watchers answer that share a topic of Kafka and a Tiled server."""

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.factory.bench.fault_kafka import Cluster
from bluesky_xpdml.factory.bench.fault_place import ANSWERING, Place
from bluesky_xpdml.factory.bench.fault_watch import Watcher

WORKERS = (1, 2, 4)
RUNS = 80
"""That wait in the topic before the first watcher starts."""
COUNTED = 0.25, 0.75
"""Parts of the runs between which the time is taken: watchers start before, and have less to do after."""


def measure_workers(progress: Callable[[str, int, int], None]) -> dict[int, float]:
    """Return by the number of watchers how many answers a second come into the server."""
    found = {}
    with TemporaryDirectory(prefix="xpdml-workers-") as folder, Place(Path(folder)) as place:
        for done, workers in enumerate(WORKERS, start=1):
            found[workers] = _rate(place, workers)
            progress("numbers of watchers", done, len(WORKERS))
    return found


def _rate(place: Place, workers: int) -> float:
    path = f"workers-{workers}"
    with Cluster(place.folder, path, "xpdml") as cluster, ExitStack() as open_:
        for number in range(RUNS):
            cluster.send(f"{path}-{number}")
        watchers = [
            open_.enter_context(
                Watcher(place, cluster.options, path, patience=1.0, folder=f"{path}-{number}")
            )
            for number in range(workers)
        ]
        begin, end = (_when(watchers, round(part * RUNS)) for part in COUNTED)
        for each in watchers:
            each.end(signal.SIGTERM)
    return (COUNTED[1] - COUNTED[0]) * RUNS / (end - begin)


def _when(watchers: list[Watcher], answers: int) -> float:
    """Return when the watchers have so many answers in the server [s]."""
    end = time.monotonic() + ANSWERING
    while sum(len(each.said) for each in watchers) < answers:
        if time.monotonic() > end:
            raise XpdmlError(f"expected {answers} answers, found {[len(each.said) for each in watchers]}")
        time.sleep(0.02)
    return time.monotonic()
