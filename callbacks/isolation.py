"""The analysis in a process of its own, which is watched and replaced.

A thread that waits for a file that never answers cannot be stopped, and a crash or a lack of memory ends a
whole process: so the documents go to a child process, one batch at a time, and the answers come back. Over
its time limit the child is killed; the run it was at fails with the reason, and a new child begins with the
documents that the journal keeps. A child that crashes, or is killed from outside, gets the same run again, a
few times.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event
from typing import Any, NoReturn

from bluesky_xpdml.analysis.memory import FetchRun
from bluesky_xpdml.callbacks.journal import Journal
from bluesky_xpdml.callbacks.processor import Answer, Entry
from bluesky_xpdml.documents import FindsSamples
from bluesky_xpdml.errors import ProcessEndedError, PublishError, attempt
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.publish import LivePublisher, Publisher
from bluesky_xpdml.publish.documents import NamedDocument
from bluesky_xpdml.publish.live import live_stop
from bluesky_xpdml.settings import Settings
from bluesky_xpdml.sources.wire import encode
from bluesky_xpdml.vocabulary import Reason, ReasonCode

logger = logging.getLogger(__name__)

START_TIMEOUT = 120.0
"""A process of the analysis that is not ready by then is started again [s]."""
PAUSE = 5.0
"""Before a process that could not start is started again [s]."""
TRIES = 3
"""A run at which this many processes crashed is given up."""
TRIES_IF_KILLED = 10
"""The same if they were killed from outside: by somebody, or by a system that lacks memory."""
CRASH_TIME = 5.0
"""Longest time that a crashing process takes to end, its dump written [s]."""
KILLED = f"signal {signal.SIGKILL.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a process of the analysis begins with."""

    settings: Settings
    store: BundleStore | None
    fetches: bool
    """Whether dark and background runs can be fetched."""
    finds_samples: bool
    """Whether they are also found by their sample."""
    live: bool
    """Whether partial results are published."""
    log_level: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents to work on; None ends all open runs with a reason."""

    items: Sequence[Entry]
    update: bool = False
    give_up: Reason | None = None


@dataclass(frozen=True, slots=True)
class Begin:
    """The child begins to work on a run."""

    uid: str


@dataclass(frozen=True, slots=True)
class Extend:
    """Partial results to publish; the parent answers with None, or what went wrong."""

    documents: Sequence[NamedDocument]


@dataclass(frozen=True, slots=True)
class Fetch:
    """A stored run to fetch; the parent answers with documents, one by one, then None, or what went wrong."""

    uid: str


@dataclass(frozen=True, slots=True)
class FindSample:
    """A sample whose run is looked for; the parent answers with its uid, or what went wrong."""

    arguments: tuple[Any, ...]
    exclude: Sequence[str]


@dataclass(frozen=True, slots=True)
class Log:
    """A message for the parent's log."""

    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """The batch is finished; counts since the child began."""

    orphans: int
    errors: int


class IsolatedProcessor:
    """Hands documents to a child process and yields its answers.

    Parameters
    ----------
    settings
        Of the beamtime; `limits` are those of a run.
    store
        The models that may answer; None for those of the settings.
    journal
        Keeps the documents that a new child needs.
    publisher
        Takes partial results, if the settings ask for them.
    fetch
        Gives the documents of dark and background runs.
    """

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        *,
        store: BundleStore | None,
        publisher: Publisher,
        live: bool,
        fetch: FetchRun | None,
    ) -> None:
        self._settings, self._journal, self._fetch = settings, journal, fetch
        self._publisher = publisher if live and isinstance(publisher, LivePublisher) else None
        self._setup = Setup(
            settings=settings,
            store=store,
            fetches=fetch is not None,
            finds_samples=isinstance(fetch, FindsSamples),
            live=live,
            log_level=logging.getLogger("bluesky_xpdml").getEffectiveLevel(),
        )
        self._closing = Event()
        self._run, self._spent = "", defaultdict[str, float](float)
        self._crashes = Counter[str]()
        self._live_runs: set[str] = set()
        self._earlier = self._counts = Done(0, 0)
        self._failed_starts = 0
        # Started now, so that the first run finds it ready.
        self._child = _Child()

    @property
    def orphans(self) -> int:
        """Documents that belong to no run whose start was seen."""
        return self._earlier.orphans + self._counts.orphans

    @property
    def errors(self) -> int:
        """Internal errors that were caught."""
        return self._earlier.errors + self._counts.errors

    @property
    def is_live(self) -> bool:
        """Whether partial results are published."""
        return self._setup.live

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._child.pid

    def feed(self, items: Sequence[Entry], *, update: bool) -> Iterator[Answer]:
        """Yield the answers to the runs that end by some documents.

        Raises
        ------
        ProcessEndedError
            If the child ended: everything that the journal keeps has to be fed again.
        """
        yield from self._answers(Batch(items, update=update))

    def give_up_all(self, reason: Reason) -> Iterator[Answer]:
        """Yield the failures of all open runs; raises as `feed`."""
        yield from self._answers(Batch((), give_up=reason))

    def close(self) -> None:
        """End the child; what it was at is left to the journal."""
        self._closing.set()
        self._child.kill()

    def _answers(self, batch: Batch) -> Iterator[Answer]:
        try:
            self._child.begin(self._setup)
            self._child.send(batch)
            while not isinstance(message := self._receive(), Done):
                if isinstance(message, Answer):
                    self._spent.pop(message.uid, None)
                    self._crashes.pop(message.uid, None)
                    yield message
                else:
                    self._serve(message)
            self._counts = message
            self._run = ""
            self._crashes.pop("", None)
            if self._child.memory() > self._settings.limits.memory + _Child.own_memory:
                logger.info(
                    "the process of the analysis has grown after run %.60a, and is replaced", self._run
                )
                self._replace()
        except _Gone as error:
            self._blame(error.reason)
            self._replace()

    def _receive(self) -> object:
        """Return the next message of the child, which has the rest of its run's time for it."""
        limit = self._settings.limits.time
        begin = time.monotonic()
        message = self._child.receive(limit - self._spent[self._run])
        self._spent[self._run] += time.monotonic() - begin
        if message is None:
            text = (
                f"expected an analysis within {limit:g} s, found none: a file may not answer, or the run is "
                "too large; raise limits.time in the settings if it needs longer"
            )
            raise _Gone(Reason(text, ReasonCode.TIME_LIMIT))
        return message

    def _serve(self, message: object) -> None:
        """Do what the child asks for."""
        match message:
            case Begin(uid):
                self._run = uid
                # Documents that name no run are no run of their own: each batch of them has the whole time.
                self._spent.pop("", None)
            case Log(record):
                log = logging.getLogger(record["name"])
                if log.isEnabledFor(record["levelno"]):
                    log.handle(logging.makeLogRecord(dict(record)))
            case Extend(documents):
                self._child.send(self._extend(documents))
            case Fetch(uid):
                self._child.send_documents(self._fetch, uid)
            case FindSample(arguments, exclude) if isinstance(self._fetch, FindsSamples):
                find = self._fetch.uid_of_sample
                self._child.send(attempt(lambda: find(*arguments, exclude=exclude)))

    def _extend(self, documents: Sequence[NamedDocument]) -> PublishError | None:
        """Publish partial results, and remember which runs of them have to be ended."""
        publisher = self._publisher
        if publisher is None:
            return PublishError("expected a publisher that takes running runs, found none")
        error: object = attempt(lambda: publisher.extend(documents))
        if isinstance(error, Exception):
            return (
                error if isinstance(error, PublishError) else PublishError(f"{type(error).__name__}: {error}")
            )
        for name, document in documents:
            if name == "start":
                self._live_runs.add(document["uid"])
            elif name == "stop":
                self._live_runs.discard(document["run_start"])
        return None

    def _blame(self, reason: Reason | None) -> None:
        """Give up the run that the child was at if it exceeded a limit, or crashes again and again."""
        # One that crashed has closed its connection before the system knows how it ended.
        run, status = self._run, self._child.kill(0.0 if reason else CRASH_TIME)
        if self._closing.is_set():
            return
        self._crashes[run] += self._child.was_ready
        tries = TRIES_IF_KILLED if status == KILLED else TRIES
        if reason is None and self._crashes[run] < tries:
            logger.warning(
                "the process of the analysis ended (%s) at run %.60a; it is started again", status, run
            )
            return
        reason = reason or Reason(
            f"the process of the analysis ended {tries} times at this run (the last time {status}): "
            "a library that reads its files crashed, or it was killed",
            ReasonCode.PROCESS_ENDED,
        )
        logger.error("run %.60a is given up: %s", run, reason)
        self._crashes.pop(run, None)
        self._spent.pop(run, None)
        if run:
            self._journal.give_up(run, reason)
        else:
            self._journal.drop_unnamed()

    def _replace(self) -> NoReturn:
        """Start another child, to which everything that is kept has to be fed again."""
        self._child.kill()
        self._end_live_runs()
        self._earlier, self._counts = Done(self.orphans, self.errors), Done(0, 0)
        self._run = ""
        if not self._closing.is_set():
            self._failed_starts = 0 if self._child.was_ready else self._failed_starts + 1
            if self._failed_starts >= TRIES:
                logger.error("the process of the analysis does not start; next try in %g s", PAUSE)
                self._closing.wait(PAUSE)
            self._child = _Child()
        raise ProcessEndedError(
            "expected a process of the analysis, found that it ended: it is started again"
        )

    def _end_live_runs(self) -> None:
        """End the runs of partial results that no child goes on with."""
        for uid in tuple(self._live_runs):
            self._extend([("stop", live_stop(uid, time=time.time(), exit_status="abort"))])
        self._live_runs.clear()


class _Gone(Exception):  # noqa: N818 - not an error of the package
    """The child has ended, or is to be ended for a reason."""

    def __init__(self, reason: Reason | None = None) -> None:
        super().__init__(reason)
        self.reason = reason


class _Child:
    """One child process and the connection to it."""

    own_memory = 400_000_000
    """Of the program, the models and the dark frames [bytes]."""

    def __init__(self) -> None:
        mine, its = socket.socketpair()
        path = os.pathsep.join(each for each in sys.path if each)
        with its:
            # In a session of its own: Ctrl-C in the terminal is for the RunEngine.
            self._process = subprocess.Popen(  # noqa: S603 - this program
                [sys.executable, "-m", "bluesky_xpdml.callbacks.child", str(its.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": path},
            )
        self._connection = Connection(mine.detach())
        self._is_set_up = self.was_ready = False
        self.pid = self._process.pid

    def begin(self, setup: Setup) -> None:
        """Set the child up, once."""
        if not self._is_set_up:
            self.send(setup)
            self._is_set_up = True
            if not isinstance(self.receive(START_TIMEOUT), Done):
                raise _Gone
            self.was_ready = True

    def send(self, message: object) -> None:
        """Send a message, pickled: both ends are this program."""
        try:
            self._connection.send(message)
        except OSError as error:
            raise _Gone from error

    def send_documents(self, fetch: FetchRun | None, uid: str) -> None:
        """Fetch a stored run and send it document by document, then None, or what went wrong."""

        def send() -> None:
            for name, document in fetch(uid) if fetch is not None else ():
                self.send((name, encode(document)))

        error = attempt(send)
        if isinstance(error, _Gone):
            raise error
        self.send(error)

    def receive(self, timeout: float) -> object:
        """Return the next message; None after a time [s]."""
        try:
            return self._connection.recv() if self._connection.poll(max(timeout, 0.0)) else None
        except (EOFError, OSError) as error:
            raise _Gone from error

    def memory(self) -> int:
        """Return its resident memory [bytes]; 0 where the system does not say."""
        try:
            fields = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()
        except OSError:
            return 0
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def kill(self, patience: float = 0.0) -> str:
        """End the child unless it ends by itself in a time [s], and return how it ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        if self._process.poll() is None:
            self._process.kill()
        status = self._process.wait()
        self._connection.close()
        return f"signal {-status}" if status < 0 else f"exit status {status}"
