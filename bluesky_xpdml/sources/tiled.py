"""Raw runs of a Tiled container, read as documents when they are whole, so that every run is answered once.

The server's stream, where it has one, only notifies that there is something to read; a cursor says how far
the container was read. It is kept in a file, and passes no run that is not answered: what a watcher that dies
has not answered is read again by the next one. Several watchers share the runs.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote

from bluesky_xpdml.documents import StoredRuns
from bluesky_xpdml.documents.start import is_derived
from bluesky_xpdml.errors import DocumentError, MissingDataError, PublishError, XpdmlError, attempt
from bluesky_xpdml.publish.answered import answered_runs
from bluesky_xpdml.publish.cursor import Cursor, LostCursorError, end_of, read_on
from bluesky_xpdml.publish.requests import PAGE, Requests, Run
from bluesky_xpdml.publish.subscription import StreamListener
from bluesky_xpdml.sources.sharing import Sharing
from bluesky_xpdml.sources.stream import Ledger, Receiver

logger = logging.getLogger(__name__)

INTERVAL = 10.0
"""Longest time between two looks at the server [s]."""
EAGER = 1.0
"""The same while a run goes on, or where the server has no stream [s]."""
LOOK_INTERVAL = 5.0
"""Between two looks who shares the container, and what others have answered [s]."""
PATIENCE = 120.0
"""How long each further watcher of a run waits for the answer of the one before [s]."""
STALE = 86_400.0
"""A run that has been without a stop document for so long will not go on [s]."""
MOST_AT_ONCE = 20
"""Runs that are passed on before the next look at the server."""
ATTEMPTS = 3
"""How often a run is read before it counts as unreadable."""
_BUSY_PAUSE = 0.1


@dataclass(slots=True)
class _Seen:
    """A run that is not answered."""

    since: float
    is_whole: bool = False
    is_taken: bool = False
    attempts: int = 0


class TiledSource:
    """Reads the whole runs of a container.

    Parameters
    ----------
    uri, path
        Address of the server and container of the raw runs, as they are shown: without keys.
    raw, derived
        Connect to the containers of the raw runs and of the predictions.
    file
        Keeps how far the container is answered.
    sharing
        Knows which watchers share the container.
    from_beginning
        Whether a first start begins with the oldest run; else with the next one that comes.

    Attributes
    ----------
    documents : int
        Documents passed on.
    refused : Counter
        Runs that could not be read, by reason.
    connected : bool
        Whether the server answers.
    """

    repeats = True

    def __init__(
        self,
        uri: str,
        path: str,
        *,
        raw: Callable[[], Any],
        derived: Callable[[], Any],
        file: Path,
        sharing: Callable[[str], Sharing],
        from_beginning: bool = False,
    ) -> None:
        self.address = f"{uri.rstrip('/')}/{quote(path.strip('/'))}"
        self.documents = 0
        self.refused: Counter[str] = Counter()
        self.connected = False
        self._raw, self._derived, self._file = raw, derived, file
        self._sharing = sharing(self.address)
        self._from_beginning = from_beginning
        self._seen: dict[str, _Seen] = {}
        self._settled: deque[str] = deque()
        self._ledger: Ledger[Cursor] | None = None
        self._saved: Cursor | None = None
        self._container: Any = None
        self._listener: StreamListener | None = None
        self._notified = Event()
        self._fault = ""
        self._look_at = 0.0

    def run(self, receiver: Receiver, stop: Event) -> None:
        """Pass on the documents of every whole run, until `stop` is set.

        A server that is away is asked again. Images are fetched one by one.

        Parameters
        ----------
        receiver
            Called in this thread with each document.
        stop
            Set by another thread or a signal; noticed within a second.
        """
        while not stop.is_set():
            self._notified.clear()
            fault = attempt(lambda: self._read_on(receiver, stop))
            self._note(fault if isinstance(fault, Exception) else None)
            self._wait(stop)

    def settled(self, run: str) -> None:
        """Note that the answer to a run is safe."""
        self._settled.append(run)

    def close(self) -> None:
        """Note how far everything is answered, and close the connection."""
        attempt(self._settle)
        self._disconnect()

    def _wait(self, stop: Event) -> None:
        """Wait for a notification, or for the time to look again."""
        has_stream = self._listener is not None and self._listener.is_connected
        is_eager = not has_stream or any(not each.is_whole for each in self._seen.values())
        end = time.monotonic() + (EAGER if is_eager else INTERVAL)
        while not (stop.is_set() or self._notified.is_set() or self._settled) and time.monotonic() < end:
            self._notified.wait(_BUSY_PAUSE)

    def _note(self, fault: Exception | None) -> None:
        """Say each fault once until the server answers again."""
        self.connected = fault is None
        if fault is None:
            self._fault = ""
            return
        if isinstance(fault, LostCursorError):
            logger.warning("%s was emptied or replaced: all that is there now is read", self.address)
            self._ledger = Ledger(Cursor())
            self._seen.clear()
            return
        # One that cannot be foreseen is said with its place.
        if str(fault) != self._fault:
            self._fault = str(fault)
            trace = None if isinstance(fault, XpdmlError) else fault
            logger.warning("%s cannot be read now: %.500a", self.address, str(fault), exc_info=trace)
        self._disconnect()

    def _disconnect(self) -> None:
        listener, self._listener = self._listener, None
        container, self._container = self._container, None
        if listener is not None:
            listener.close()
        if container is not None:
            container.context.http_client.close()

    def _read_on(self, receiver: Receiver, stop: Event) -> None:
        """Take note of the runs that came, and pass on those that are whole and this watcher's."""
        if self._container is None:
            self._container = self._raw()
            self._listener = StreamListener(self._container, self._notified.set)
        requests = Requests(self._container)
        ledger = self._begun(requests)
        for run, behind in read_on(requests, ledger.place):
            if run is not None and run.key not in ledger and _is_raw(run):
                ledger.hold(run.key)
                self._seen[run.key] = _Seen(time.monotonic(), run.complete)
            ledger.place = behind
            if stop.is_set():
                return
        self._settle()
        self._look_for_whole(requests)
        self._look_at_others()
        self._pass_on(receiver, stop)
        self._settle()

    def _begun(self, requests: Requests) -> Ledger[Cursor]:
        """Return the ledger, which begins where the file says."""
        if self._ledger is None:
            cursor = self._kept()
            if cursor is None:
                cursor = Cursor() if self._from_beginning else end_of(requests)
            # Runs that go on belong to what comes.
            self._ledger = Ledger(cursor)
            for run in cursor.pending:
                self._ledger.hold(run)
                self._seen[run] = _Seen(time.monotonic())
            self._save(self._ledger.safe)
        return self._ledger

    def _kept(self) -> Cursor | None:
        try:
            return Cursor.from_text(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError, PublishError) as error:
            logger.warning("%s: %.300a; the container is read from now on", self._file, str(error))
            return None

    def _save(self, cursor: Cursor) -> None:
        if cursor == self._saved:
            return
        written = self._file.with_suffix(f".new-{time.time_ns():x}")
        written.write_text(cursor.as_text(), encoding="utf-8")
        written.replace(self._file)
        self._saved = cursor

    def _settle(self) -> None:
        """Note what is answered."""
        while self._settled:
            self._release(self._settled.popleft())
        if self._ledger is not None:
            self._save(self._ledger.safe)

    def _release(self, run: str) -> None:
        self._seen.pop(run, None)
        if self._ledger is not None:
            self._ledger.release(run)
            place = self._ledger.place
            self._ledger.place = replace(place, pending=tuple(key for key in place.pending if key != run))

    def _look_for_whole(self, requests: Requests) -> None:
        """Look which runs have ended, and release those that will not."""
        from tiled.queries import KeysFilter

        now = time.monotonic()
        going = [run for run, each in self._seen.items() if not each.is_whole]
        for keys in _pages(going):
            found = {run.key: run for page in requests.pages([KeysFilter(keys=keys)]) for run in page}
            for key in keys:
                if key in found and found[key].complete:
                    self._seen[key].is_whole, self._seen[key].since = True, now
                elif key not in found or now - self._seen[key].since > STALE:
                    logger.warning("run %.60a was removed, or does not go on: it is left out", key)
                    self._release(key)

    def _look_at_others(self) -> None:
        """Look who shares the container, and release what others have answered."""
        is_due = time.monotonic() >= self._look_at
        if is_due:
            self._look_at = time.monotonic() + LOOK_INTERVAL
            self._sharing.look()
        # Before a run is taken, and of those of others now and then.
        asked = [
            run
            for run, each in self._seen.items()
            if each.is_whole and not each.is_taken and (is_due or self._is_mine(run, each))
        ]
        for uids in _pages(asked):
            for run in answered_runs(self._derived, uids):
                self._release(run)

    def _is_mine(self, run: str, each: _Seen) -> bool:
        """Return whether this watcher takes a run now."""
        return time.monotonic() - each.since >= PATIENCE * self._sharing.place(run)

    def _pass_on(self, receiver: Receiver, stop: Event) -> None:
        """Pass on some runs; of many, the rest after another look at who shares them."""
        mine = [
            run
            for run, each in self._seen.items()
            if each.is_whole and not each.is_taken and self._is_mine(run, each)
        ]
        if len(mine) > MOST_AT_ONCE:
            self._notified.set()
        for run in mine[:MOST_AT_ONCE]:
            if stop.is_set():
                return
            each = self._seen[run]
            each.attempts += 1
            fault = attempt(partial(self._pass_on_run, run, receiver, stop))
            each.is_taken = fault is True
            if isinstance(fault, Exception):
                self._give_up(run, each, fault)

    def _pass_on_run(self, run: str, receiver: Receiver, stop: Event) -> bool:
        """Pass on the documents of a run as there is room for them; return whether that was to the end."""
        is_passed_on = False
        try:
            for name, document in StoredRuns(self._container).documents(run):
                while receiver.is_busy and not stop.is_set():
                    stop.wait(_BUSY_PAUSE)
                    self._settle()
                if stop.is_set():
                    return False
                self.documents += 1
                receiver(name, document)
            is_passed_on = True
        finally:
            if not is_passed_on:
                receiver.forget(run)
        return True

    def _give_up(self, run: str, each: _Seen, fault: Exception) -> None:
        """Try a run again later, unless that was done often enough."""
        if not isinstance(fault, DocumentError | MissingDataError):
            raise fault
        if each.attempts >= ATTEMPTS:
            self.refused["a run that cannot be read"] += 1
            logger.error("run %.60a has no answer and cannot be read: %.500a", run, str(fault))
            self._release(run)


def _is_raw(run: Run) -> bool:
    return bool(run.start) and not is_derived(run.start)


def _pages(uids: Sequence[str]) -> Iterator[list[str]]:
    """Yield lists that fit into the address of a request."""
    waiting = iter(uids)
    while page := list(islice(waiting, PAGE)):
        yield page
