"""The process of the analysis: takes documents from its parent, sends answers back, and ends with it."""

import logging
import os
import resource
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any

from bluesky_xpdml.analysis.runs import RunAnalysis
from bluesky_xpdml.callbacks.isolation import Batch, Begin, Done, Extend, Fetch, FindSample, Log, Setup
from bluesky_xpdml.callbacks.live import LiveUpdates
from bluesky_xpdml.callbacks.processor import Processor
from bluesky_xpdml.callbacks.router import Router
from bluesky_xpdml.documents import Profile
from bluesky_xpdml.publish.documents import NamedDocument
from bluesky_xpdml.sources.wire import decode

WATCH_INTERVAL = 1.0
"""Between two looks at whether the parent lives [s]; a child that waits for a file would not notice."""


class RemoteFetch:
    """Fetches stored runs through the parent, which has the connection and its key."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __call__(self, uid: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the documents of a run."""
        self._connection.send(Fetch(uid))
        documents = []
        while isinstance(message := self._connection.recv(), tuple):
            documents.append(message)
        if message is not None:
            raise message
        return ((name, decode(body)) for name, body in documents)


class RemoteStoredRuns(RemoteFetch):
    """Also finds runs by the name of their sample."""

    def uid_of_sample(self, name: str, profile: Profile, *, exclude: Collection[str] = ()) -> str:
        """Return the uid of the newest total-scattering run of a sample."""
        self._connection.send(FindSample((name, profile), tuple(exclude)))
        found = self._connection.recv()
        if isinstance(found, Exception):
            raise found
        return str(found)


class RemotePublisher:
    """Hands partial results to the parent."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def extend(self, documents: Sequence[NamedDocument]) -> None:
        """Publish the next documents of a run in progress."""
        self._connection.send(Extend(list(documents)))
        error = self._connection.recv()
        if error is not None:
            raise error


class _LogHandler(QueueHandler):
    """Sends log messages to the parent."""

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send one message."""
        with suppress(ConnectionError):
            self.queue.send(Log(record.__dict__))  # type: ignore[attr-defined]


def main(descriptor: int) -> None:
    """Work for the parent at the other end of a socket until it ends."""
    parent = os.getppid()
    Thread(target=_end_with, args=(parent,), daemon=True).start()
    connection = Connection(descriptor)
    setup: Setup = connection.recv()
    root = logging.getLogger()
    root.addHandler(_LogHandler(connection))  # type: ignore[arg-type]
    root.setLevel(setup.log_level)
    processor = _processor(setup, connection)
    _limit_memory(setup.settings.limits.memory)
    connection.send(Done(0, 0))
    while True:
        batch: Batch = connection.recv()
        answers = (
            processor.feed(batch.items, update=batch.update)
            if batch.give_up is None
            else processor.give_up_all(batch.give_up)
        )
        for answer in answers:
            connection.send(answer)
        connection.send(Done(processor.orphans, processor.errors))


def _processor(setup: Setup, connection: Connection) -> Processor:
    settings = setup.settings
    fetch = RemoteStoredRuns(connection) if setup.finds_samples else RemoteFetch(connection)
    analysis = RunAnalysis(settings, store=setup.store, fetch=fetch if setup.fetches else None)
    return Processor(
        analysis,
        Router.under(settings),
        live=LiveUpdates(analysis, RemotePublisher(connection)) if setup.live else None,
        begin=lambda uid: connection.send(Begin(uid)),
    )


def _limit_memory(limit: float) -> None:
    """Let this process take so much more memory than it has now [bytes], where the system can limit it."""
    try:
        fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
        used = int(fields[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + int(limit),) * 2)
    except (OSError, ValueError):
        logging.getLogger(__name__).debug("the memory of the analysis is not limited on this system")


def _end_with(parent: int) -> None:
    """End this process when its parent has."""
    while os.getppid() == parent:
        time.sleep(WATCH_INTERVAL)
    os._exit(0)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except (EOFError, ConnectionError):
        # The parent has ended.
        sys.exit(0)
