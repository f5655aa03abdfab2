"""What is lost, doubled or delayed when servers, disks, processes, networks and files fail."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from bluesky_xpdml.factory.bench.fault_ends import session_ends
from bluesky_xpdml.factory.bench.fault_files import bundle_bomb, files_named
from bluesky_xpdml.factory.bench.fault_kafka import (
    kafka_broker_away,
    kafka_consumer_killed,
    kafka_foreign,
    kafka_rebalanced,
)
from bluesky_xpdml.factory.bench.fault_place import Place, Row
from bluesky_xpdml.factory.bench.fault_reprocess import reprocess_twice, reprocess_worker_killed
from bluesky_xpdml.factory.bench.fault_stored import (
    stored_server_killed,
    stored_shared,
    stored_watch_killed,
)
from bluesky_xpdml.factory.bench.fault_trials import (
    analysis_killed,
    burst,
    clock_back,
    disk_full,
    key_refused,
    server_failing,
    server_killed,
    server_killed_and_emptied,
    server_slow,
    two_publishers,
)
from bluesky_xpdml.factory.bench.fault_watch import watch_burst, watch_ends, watch_killed
from bluesky_xpdml.factory.bench.postgres import postgres_restarted
from bluesky_xpdml.factory.bench.report import Report, machine

WHAT = "raw runs without an answer, and with two, after faults of servers, disks, processes and files"
CONDITIONS: Mapping[str, str] = MappingProxyType(
    {
        "runs": "90 points of the simulated XAS beamline, one event each, as fast as given if not paced",
        "server": "Tiled in a process of its own, SQLite and DuckDB on disk",
        "sent": "runs whose stop document came 0.5 s before a kill, or earlier; without those whose answer "
        "the server had confirmed before its storage was removed",
        "found": "with a whole answer in the server; a failure counts where the run itself is at fault",
        "longest_document_ms": "longest call of the callback, waits for a core included; - where another "
        "process makes it",
        "memory_mb": "largest sum of the resident memory of the process and its children",
    }
)


@dataclass(frozen=True, slots=True)
class Trial:
    """One kind of fault, and how many runs it is tried with."""

    try_out: Callable[[Place, int], list[Row]]
    runs: int
    quick_runs: int
    """With `--quick`; 0 leaves it out."""


TRIALS: Mapping[str, Trial] = MappingProxyType(
    {
        "server killed": Trial(server_killed, 200, 30),
        "server emptied": Trial(server_killed_and_emptied, 200, 30),
        "key": Trial(key_refused, 100, 0),
        "slow server": Trial(server_slow, 8, 0),
        "failing server": Trial(server_failing, 20, 3),
        "disk": Trial(disk_full, 60, 15),
        "analysis killed": Trial(analysis_killed, 200, 0),
        "watch killed": Trial(watch_killed, 60, 0),
        "two publishers": Trial(two_publishers, 60, 10),
        "session ends": Trial(session_ends, 30, 5),
        "watch ends": Trial(watch_ends, 30, 0),
        "burst": Trial(burst, 1000, 50),
        "burst over 0MQ": Trial(watch_burst, 1000, 0),
        "Kafka rebalanced": Trial(kafka_rebalanced, 500, 0),
        "Kafka consumer killed": Trial(kafka_consumer_killed, 100, 0),
        "Kafka broker away": Trial(kafka_broker_away, 60, 0),
        "Kafka foreign": Trial(kafka_foreign, 20, 0),
        "stored, watcher killed": Trial(stored_watch_killed, 60, 0),
        "stored, shared": Trial(stored_shared, 60, 0),
        "stored, server killed": Trial(stored_server_killed, 60, 0),
        "PostgreSQL": Trial(postgres_restarted, 30, 0),
        "catalog anew, worker killed": Trial(reprocess_worker_killed, 60, 0),
        "catalog anew, twice": Trial(reprocess_twice, 1000, 0),
        "clock": Trial(clock_back, 5, 2),
        "files": Trial(files_named, 12, 4),
        "bundle": Trial(bundle_bomb, 4, 2),
    }
)


def measure_faults(*, quick: bool, progress: Callable[[str, int, int], None]) -> Report:
    """Try every fault, and count what is lost and doubled."""
    chosen = {
        name: trial.quick_runs if quick else trial.runs
        for name, trial in TRIALS.items()
        if trial.quick_runs or not quick
    }
    rows: list[Row] = []
    with TemporaryDirectory(prefix="xpdml-faults-") as folder, Place(Path(folder)) as place:
        for done, (name, runs) in enumerate(chosen.items(), start=1):
            rows += TRIALS[name].try_out(place, runs)
            progress("faults tried", done, len(chosen))
    return Report(
        what=WHAT,
        conditions={**CONDITIONS, "load of the machine": f"{os.getloadavg()[0]:.1f}", **machine()},
        rows=rows,
    )
