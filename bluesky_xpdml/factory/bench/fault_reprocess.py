"""Trials of catalogs that are analysed anew: a Dask worker killed in the midst, and all of it done twice."""

import os
import signal
import sys
import time
from collections.abc import Collection

from bluesky_xpdml.factory.bench.fault_place import ANSWERING, Place, Row
from bluesky_xpdml.factory.bench.fault_process import Program
from bluesky_xpdml.factory.bench.fault_server import KEY

WORKERS = 2


def reprocess_worker_killed(place: Place, runs: int) -> list[Row]:
    """Kill one of two Dask workers in the midst; then do everything again."""
    from distributed import LocalCluster

    plan = place.plan("reprocess-dask", runs, raw_path="reprocess-dask-raw")
    place.store(plan.raw_path, plan.uids)
    paths = os.pathsep.join(filter(None, sys.path))
    with LocalCluster(
        n_workers=WORKERS,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        env={"TILED_API_KEY": KEY, "PYTHONPATH": paths},
    ) as cluster:
        first = _reprocessing(place, plan.path, ["--dask", cluster.scheduler_address])
        first.wait_for(lambda said: len(said) >= runs // 3, ANSWERING)
        os.kill(next(iter(cluster.workers.values())).process.pid, signal.SIGKILL)
        first.wait(ANSWERING)
        again = _reprocessing(place, plan.path, ["--dask", cluster.scheduler_address])
        again.wait(ANSWERING)
    return [place.row("catalog anew: one of two Dask workers killed, and once more", plan, [first, again])]


def reprocess_twice(place: Place, runs: int) -> list[Row]:
    """Analyse a catalog twice, the second time whether it is done or not."""
    plan = place.plan("reprocess-twice", runs, raw_path="reprocess-twice-raw")
    place.store(plan.raw_path, plan.uids)
    programs = []
    for more in (["--workers", str(WORKERS)], ["--all"]):
        programs.append(_reprocessing(place, plan.path, more))
        programs[-1].wait(6 * ANSWERING)
    return [place.row(f"catalog of {runs} runs anew, twice", plan, programs)]


def _reprocessing(place: Place, path: str, more: Collection[str]) -> Program:
    folder = place.folder / path
    folder.mkdir(exist_ok=True)
    command = ["-c", "from bluesky_xpdml.cli import main; main()", "reprocess", "--json"]
    command += ["--tiled", place.server.uri, "--raw", f"{path}-raw", "--into", path, *more]
    log = folder / f"{time.monotonic_ns()}.log"
    return Program(command, log, TILED_API_KEY=KEY, XDG_STATE_HOME=str(folder))
