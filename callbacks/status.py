"""The status of this process: collected from its parts, and written by a thread of its own."""

import logging
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from bluesky_xpdml import __version__
from bluesky_xpdml.callbacks.isolation import IsolatedProcessor
from bluesky_xpdml.callbacks.journal import Journal
from bluesky_xpdml.callbacks.worker import Processing, Statistics, Worker
from bluesky_xpdml.errors import attempt
from bluesky_xpdml.publish import OutboxPublisher, Publisher, connect
from bluesky_xpdml.publish.nodes import FIRST_ANSWER_TIMEOUT
from bluesky_xpdml.publish.status import (
    INTERVAL,
    STALE,
    GapCounts,
    OutboxStatus,
    ProcessKind,
    Status,
    StatusNode,
    is_alive,
    node_name,
    write_status_file,
)
from bluesky_xpdml.settings import Settings
from bluesky_xpdml.settings_keys import publishable
from bluesky_xpdml.sources.stream import DocumentSource

logger = logging.getLogger(__name__)

_TIMEOUT_TO_REMOVE = 3.0
"""Longest time that the end of a callback waits for its record to be removed [s]."""
_LONGEST_ERROR = 200
_lock, _names = Lock(), set[tuple[str, str, str]]()


def new_status(settings: Settings, source: DocumentSource | None) -> Status:
    """Return a record of who this process is and what feeds it, without a name and counts."""
    now = time.time()
    return Status(
        host=socket.gethostname(),
        pid=os.getpid(),
        kind=ProcessKind.SESSION if source is None else ProcessKind.WATCH,
        source="" if source is None else str(publishable(source.address)),
        version=__version__,
        server=str(publishable(settings.tiled_uri)),
        container=settings.tiled_path,
        started=now,
        time=now,
    )


def current_status(
    own: Status,
    counts: Statistics,
    *,
    worker: Worker,
    journal: Journal | None,
    processor: Processing,
    publisher: Publisher,
    source: DocumentSource | None,
) -> Status:
    """Return the record of this process as it is now."""
    now = time.time()
    refused = 0 if source is None else sum(tuple(source.refused.values()))
    outbox = attempt(lambda: _outbox(publisher))
    own = replace(
        own,
        time=now,
        documents=counts.documents,
        runs=counts.runs,
        predicted=counts.predicted,
        failed=counts.failed,
        ignored=counts.ignored,
        unpublished=counts.unpublished,
        failures=dict(worker.failures.copy()),
        last_answer=worker.last_answer,
        # A file that cannot be read at this moment is a trouble of the outbox, not of its status.
        outbox=OutboxStatus(last_error=str(outbox)[:_LONGEST_ERROR])
        if isinstance(outbox, Exception)
        else outbox,
        gaps=GapCounts(refused=refused),
        memory=memory_of(own.pid),
        memory_of_analysis=memory_of(processor.pid) if isinstance(processor, IsolatedProcessor) else 0,
    )
    if journal is None:
        return own
    gaps, since = journal.gaps, journal.waiting_since
    return replace(
        own,
        backlog=journal.backlog,
        open_runs=gaps.unstopped,
        lag=0.0 if since is None else max(now - since, 0.0),
        gaps=GapCounts(**asdict(gaps), refused=refused),
    )


def _outbox(publisher: Publisher) -> OutboxStatus:
    if not isinstance(publisher, OutboxPublisher):
        return OutboxStatus()
    entries = publisher.waiting
    return OutboxStatus(
        entries=entries,
        bytes=publisher.outbox.size,
        server_is_away=publisher.server_is_away and entries > 0,
        last_error=publisher.last_error[:_LONGEST_ERROR] if entries else "",
    )


def memory_of(pid: int) -> int:
    """Return the resident memory of a process [bytes]; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        # Elsewhere only the largest that the own process had is known, on macOS in bytes.
        is_own = pid == os.getpid() and sys.platform == "darwin"
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if is_own else 0


class StatusThread:
    """Writes the status of this process to the server and to a local file, until it is closed.

    Nothing waits for it. A server that is away gets no requests from it.

    Parameters
    ----------
    current
        Returns the record as it is now.
    settings
        Name the server and the container of the predictions.
    api_key
        Key of the server.
    folder
        State folder of that container, for the local file; None for none.
    """

    def __init__(
        self, current: Callable[[], Status], settings: Settings, api_key: str | None, folder: Path | None
    ) -> None:
        self._current = current
        self._folder = folder
        uri, self._path = settings.tiled_uri, settings.tiled_path
        self._connect = partial(connect, uri, api_key=api_key, timeout=FIRST_ANSWER_TIMEOUT)
        self._where = str(publishable(uri)), self._path
        self._host = socket.gethostname()
        self._is_written = True
        self._closed = Event()
        self._thread = Thread(target=self._work, name="xpdml-status", daemon=True)
        self._thread.start()

    def close(self, timeout: float = _TIMEOUT_TO_REMOVE) -> None:
        """Have the record removed, and wait for that some seconds at most."""
        self._closed.set()
        self._thread.join(timeout)

    def _work(self) -> None:
        with _own_name(self._host, *self._where) as (name, number):
            node = StatusNode(self._connect, self._path, name)
            file = self._file(number)
            tidy_at = time.monotonic()
            while True:
                is_due = time.monotonic() >= tidy_at
                tidy_at += STALE if is_due else 0.0
                failure = attempt(partial(self._write, node, file, name, tidy=is_due))
                if isinstance(failure, Exception):
                    logger.debug("the status of this process cannot be collected", exc_info=failure)
                if self._closed.wait(INTERVAL):
                    break
            if file is not None:
                attempt(partial(file.unlink, missing_ok=True))
            # It may be back since the last record.
            last = attempt(self._current)
            if isinstance(last, Exception) or not last.outbox.server_is_away:
                attempt(node.remove)
            attempt(node.close)

    def _file(self, number: int) -> Path | None:
        if self._folder is None:
            return None
        name = f"status-{os.getpid()}" + ("" if number == 1 else f"-{number}")
        return self._folder / f"{name}.json"

    def _write(self, node: StatusNode, file: Path | None, name: str, *, tidy: bool) -> None:
        status = replace(self._current(), name=name)
        if file is not None:
            written = attempt(partial(write_status_file, file, status))
            if isinstance(written, Exception):
                logger.debug("%s: the status cannot be written: %.200a", file, str(written))
            if tidy:
                attempt(partial(_remove_dead_files, file.parent))
        if status.outbox.server_is_away:
            self._is_written = False
            return
        self._note(attempt(partial(node.write, status)), node)
        if tidy and self._is_written:
            dead = attempt(partial(node.remove_dead, self._host))
            if isinstance(dead, list) and dead:
                logger.info("the status of processes that have ended is removed: %.200a", dead)

    def _note(self, outcome: Any, node: StatusNode) -> None:
        """Say once that the status cannot be written, and once that it can be again."""
        is_written = not isinstance(outcome, Exception)
        if is_written is not self._is_written:
            if is_written:
                logger.info("the server takes the status of this process again")
            else:
                logger.info("the server does not take the status of this process: %.500a", str(outcome))
        if not is_written:
            attempt(node.close)
        self._is_written = is_written


@contextmanager
def _own_name(host: str, server: str, path: str) -> Iterator[tuple[str, int]]:
    """Give a name that no other callback of this process uses for the same container, and its number."""
    with _lock:
        number = 1
        while (key := (server, path, node_name(host, os.getpid(), number))) in _names:
            number += 1
        _names.add(key)
    try:
        yield key[2], number
    finally:
        with _lock:
            _names.discard(key)


def _remove_dead_files(folder: Path) -> None:
    """Remove the records of processes that were killed: the folder is of this computer."""
    for path in folder.glob("status-*"):
        pid = path.stem.split("-")[1]
        if not (pid.isdecimal() and is_alive(int(pid))):
            path.unlink(missing_ok=True)
