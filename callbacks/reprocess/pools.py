"""Where the runs of a catalog are analysed: processes of this computer, or a Dask cluster.

A worker that dies loses nothing. What was on the way is done again, run by run and alone, so that a run which
ends every process that works on it is known by name, and costs the others nothing.
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Protocol, TypeAlias

from bluesky_xpdml.callbacks.reprocess.worker import Job, Unit, UnitResult, analyse_units, set_access
from bluesky_xpdml.errors import SourceError, needs_extra

logger = logging.getLogger(__name__)

RUNS_PER_TASK = 8
"""Runs that a worker is given at a time: some seconds of work."""
CONNECT_TIMEOUT = 30.0
"""Longest time for the first answer of a Dask scheduler [s]."""

Task: TypeAlias = tuple[Unit, ...]
Results: TypeAlias = list[UnitResult]


class Pool(Protocol):
    """Takes tasks and gives their results, or an error if the process that worked on one ended."""

    window: int
    """Tasks that are handed out at a time."""
    tries: int
    """A run that ended its process so often, while nothing else was at work, is given up."""

    def submit(self, job: Job, units: Task) -> "Future[Results]":
        """Hand out a task."""

    def is_death(self, error: BaseException) -> bool:
        """Return whether an error says that the process ended, and nothing about what it did."""

    def close(self) -> None:
        """Take no further tasks, and free what was used."""


class LocalPool:
    """Processes of this computer.

    Parameters
    ----------
    workers
        How many.
    uri, api_key
        Of the Tiled server; they go to the processes through a pipe that no list of processes shows.
    """

    tries = 3

    def __init__(self, workers: int, *, uri: str, api_key: str | None) -> None:
        # As many as are at work: all of these are repeated if one of them dies.
        self.window = workers
        self._access = uri, api_key
        self._executor = self._started()

    def _started(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.window, mp_context=get_context("spawn"), initializer=set_access, initargs=self._access
        )

    def submit(self, job: Job, units: Task) -> "Future[Results]":
        """Hand out a task, to new processes if those before have ended."""
        try:
            return self._executor.submit(analyse_units, job, units)
        except BrokenProcessPool:
            self._executor.shutdown(wait=True)
            self._executor = self._started()
            return self._executor.submit(analyse_units, job, units)

    def is_death(self, error: BaseException) -> bool:
        """Return whether a process ended; all tasks fail then that were handed out."""
        return isinstance(error, BrokenProcessPool)

    def close(self) -> None:
        """Wait for the tasks at work, and drop the others."""
        self._executor.shutdown(wait=True, cancel_futures=True)


class DaskPool:
    """Workers of a Dask cluster; they take the key of the Tiled server from their own environment.

    Parameters
    ----------
    address
        Of the scheduler, `tcp://host:8786`.

    Raises
    ------
    MissingExtraError
        If Dask is not installed.
    SourceError
        If the scheduler does not answer.
    """

    window = 100_000
    # Dask itself gives a task whose worker died to three others.
    tries = 1

    def __init__(self, address: str) -> None:
        with needs_extra("dask"):
            from distributed import Client, KilledWorker
        self._deaths = KilledWorker
        if not address.rpartition(":")[2].isdecimal():
            # Dask leaves a thread behind that keeps the process from ending.
            raise SourceError(f"expected the address of a Dask scheduler, tcp://host:8786, found {address!r}")
        try:
            self._client: Any = Client(address, timeout=CONNECT_TIMEOUT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise SourceError(
                f"expected a Dask scheduler at {address}, found {type(error).__name__}: check the address, "
                "and that the scheduler runs"
            ) from error
        if not self._client.scheduler_info()["workers"]:
            logger.warning("the Dask cluster has no worker yet: the runs wait until one comes")
        self._executor = self._client.get_executor(pure=False)

    def submit(self, job: Job, units: Task) -> "Future[Results]":
        """Hand out a task."""
        future: Future[Results] = self._executor.submit(analyse_units, job, units)
        return future

    def is_death(self, error: BaseException) -> bool:
        """Return whether all workers ended that worked on a task."""
        return isinstance(error, self._deaths)

    def close(self) -> None:
        """Drop the tasks that are left, and close the connection."""
        self._executor.shutdown(wait=False)
        self._client.close()


def completed(pool: Pool, job: Job, units: Sequence[Unit]) -> Iterator[UnitResult]:
    """Yield the result of each unit, in any order, whichever workers die on the way.

    Errors of a task as a whole are raised: the server is away or refuses the key.
    """
    waiting, running = deque(_tasks(units)), dict[Future[Results], Task]()
    repeated: list[Unit] = []
    while waiting or running:
        while waiting and len(running) < pool.window:
            task = waiting.popleft()
            running[pool.submit(job, task)] = task
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            task = running.pop(future)
            results = _results(pool, future)
            if results is None:
                repeated += task
            else:
                yield from results
    for unit in repeated:
        yield _alone(pool, job, unit)


def _tasks(units: Sequence[Unit]) -> Iterator[Task]:
    """Yield units in tasks of a few runs each."""
    task: list[Unit] = []
    for unit in units:
        if task and sum(len(each.runs) for each in (*task, unit)) > RUNS_PER_TASK:
            yield tuple(task)
            task = []
        task.append(unit)
    if task:
        yield tuple(task)


def _alone(pool: Pool, job: Job, unit: Unit) -> UnitResult:
    """Return the result of a unit while nothing else is at work, so that its process dies by it alone."""
    for _ in range(pool.tries):
        results = _results(pool, pool.submit(job, (unit,)))
        if results is not None:
            return results[0]
    return UnitResult(unit=unit, is_killed=True)


def _results(pool: Pool, future: "Future[Results]") -> Results | None:
    """Return the results of a task; None if the process that worked on it ended."""
    try:
        return future.result()
    except CancelledError as error:
        raise SourceError(
            "expected the Dask scheduler until all runs are analysed, found that it has ended: run the "
            "command again, which skips what is done"
        ) from error
    except Exception as error:
        if pool.is_death(error):
            return None
        raise
