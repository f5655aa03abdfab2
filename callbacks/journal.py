"""Documents on disk from the moment they come until their run is answered, so that a process may die.

A thread of its own takes documents from the inbox and appends them to an SQLite file; the worker reads them
from there, so that a burst waits on disk and not in memory. The documents of a run are removed once it is
answered, but for the runs answered last: a new process of the analysis learns their dark frames, backgrounds
and calibrations again.

A journal belongs to one living process, which holds a lock. What a dead process left is taken over by the
next one for the same server and container, before anything new.
"""

import fcntl
import logging
import os
import secrets
import shutil
import sqlite3
import tempfile
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Condition, Thread
from typing import IO, NamedTuple, TypeAlias

from bluesky_xpdml.callbacks.gaps import GapCounter, Gaps
from bluesky_xpdml.callbacks.inbox import (
    BATCH,
    BATCH_BYTES,
    IDLE,
    MAXIMUM_BYTES,
    Close,
    Flush,
    GiveUp,
    Inbox,
    Item,
    RunIndex,
    Sync,
)
from bluesky_xpdml.errors import DocumentError
from bluesky_xpdml.sources.wire import decode, encode
from bluesky_xpdml.vocabulary import Reason, ReasonCode

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of the file; a journal of a later format is left where it is."""
LIMIT = 2_000_000_000
"""Size of the waiting documents beyond which whole runs are given up [bytes]."""
KEPT_RUNS, KEPT_BYTES = 48, 256_000_000
"""Answered runs that are kept for a new process of the analysis, and their size."""
REMEMBERED = 10_000
"""Answered runs whose uids are remembered."""
STALE = 86_400.0
"""A run of a dead watcher without a document for so long will not go on [s]."""
RETRY = 1.0
"""Pause while the journal is full, or the disk is [s]."""

ORPHANED = Reason("the session ended before the run stopped", ReasonCode.NO_STOP)

_GIVEN_UP = "given up"
"""Name of the row that states that a run is given up."""
_OPEN, _ENDED, _ANSWERED = "open", "ended", "answered"

Entry: TypeAlias = tuple[str, object] | GiveUp
"""A document, or the note that a run was given up."""

_TABLES = f"""
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE documents (
    seq INTEGER PRIMARY KEY, run TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL, time REAL NOT NULL
);
CREATE INDEX by_run ON documents (run);
CREATE TABLE answered (run TEXT PRIMARY KEY);
CREATE TABLE owner (outlived INTEGER NOT NULL);
PRAGMA user_version = {FORMAT};
"""


class _Row(NamedTuple):
    """One document in the file."""

    seq: int
    run: str
    name: str
    body: bytes
    time: float


@dataclass(slots=True)
class _Run:
    """What is known of a run whose documents are here."""

    state: str = _OPEN
    first: int = 0
    size: int = 0
    ended: float = 0.0


class Journal:
    """The documents that wait, on disk: one thread writes them, the worker takes and settles them.

    Parameters
    ----------
    inbox
        Where the documents come from.
    folder
        Where the journals of this server and container are; None for a file that is removed at the end.
    outlived
        Whether runs may go on when this process has ended, as those of a RunEngine in another process do.
    """

    def __init__(self, inbox: Inbox, folder: Path | None, *, outlived: bool = False) -> None:
        self._inbox = inbox
        self._is_temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="xpdml-journal-"))
        self._path = self.folder / f"journal-{os.getpid()}-{secrets.token_hex(4)}.sqlite"
        self._lock = _lock(self._path)
        self._file = _create(self._path, outlived=outlived)
        self._changed = Condition()
        self._seq = self._taken = self._bytes = 0
        self._memory: list[_Row] = []
        self._retry_at = 0.0
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._markers: deque[tuple[int, Flush | Close]] = deque()
        self._loose: deque[tuple[int, int]] = deque()
        self._index, self._gaps = RunIndex(), GapCounter()
        self._closed = self._ended = False
        self._thread = Thread(target=self._write, name="xpdml-journal", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Number of runs that have ended and are not answered."""
        return self._count(_ENDED)

    @property
    def waiting_since(self) -> float | None:
        """When the oldest run that is not answered ended [s since 1970]; None if there is none."""
        waiting = (known.ended for known in tuple(self._runs.values()) if known.state == _ENDED)
        return min(waiting, default=None)

    @property
    def gaps(self) -> Gaps:
        """What did not arrive so far."""
        return Gaps(events=self._gaps.events, unstopped=self._count(_OPEN))

    def knows(self, run: str) -> bool:
        """Return whether documents of a run are here, or were before it was answered."""
        return run in self._runs

    def is_answered(self, run: str) -> bool:
        """Return whether a run was answered."""
        known = self._runs.get(run)
        return known is not None and known.state == _ANSWERED

    def add_run(self, documents: Iterable[tuple[str, Mapping[str, object]]]) -> None:
        """Append the documents of a whole run, such as one read from a catalog."""
        self._append(list(documents), RunIndex())

    def take(self, *, singly: bool = False) -> deque[Item]:
        """Wait for what is next; return it with what waits behind it, up to a marker or some MB.

        The documents are bytes for `decode`. If few items wait, they may be taken singly.
        """
        with self._changed:
            while True:
                if self._ended:
                    return deque([Close(keep_open=True)])
                last = self._markers[0][0] if self._markers else self._seq
                if self._taken < last:
                    rows = self._read(last, 1 if singly and self.is_idle() else BATCH)
                    self._taken = rows[-1].seq if rows else last
                    if rows:
                        return deque(map(_item, rows))
                elif self._markers:
                    return deque([self._markers.popleft()[1]])
                else:
                    self._changed.wait()

    def is_idle(self) -> bool:
        """Return whether hardly anything waits, so that there is time for live results."""
        return self._seq - self._taken <= IDLE

    def settle(self, run: str, *, keep: bool) -> None:
        """Note that a run is answered; its documents are removed, or kept for a new analysis process."""
        with self._changed:
            known = self._runs.setdefault(run, _Run())
            known.state = _ANSWERED
            self._runs.move_to_end(run)
            if keep:
                self._execute("INSERT OR IGNORE INTO answered VALUES (?)", (run,))
            else:
                self._remove(run)
            self._tidy()

    def give_up(self, run: str, reason: Reason) -> None:
        """Put the note that a run is given up in the place of its documents, behind everything that waits."""
        with self._changed:
            starts = [row for row in self._read(self._seq, 1, run=run) if row.name == "start"]
            self._remove(run)
            start = decode(starts[0].body) if starts else None
            self._append([GiveUp(run, start, reason)], RunIndex())

    def drop_unnamed(self) -> None:
        """Remove the documents that were read and name no run."""
        with self._changed:
            self._execute("DELETE FROM documents WHERE run = '' AND seq <= ?", (self._taken,))

    def rewind(self) -> None:
        """Begin again with the first document that is kept."""
        with self._changed:
            self._taken = 0
            self._changed.notify_all()

    def put_back(self, marker: Flush | Close) -> None:
        """Put a marker that was taken behind everything that waits again."""
        with self._changed:
            self._markers.appendleft((self._seq, marker))
            self._changed.notify_all()

    def close(self) -> int:
        """End the thread, and return how many runs wait for an answer of the next process.

        The file is removed if neither these nor runs that are open are left.
        """
        self._closed = True
        self._thread.join(RETRY + 1.0)
        with self._changed:
            waiting, is_open = self._count(_ENDED), self._count(_OPEN)
            self._ended = True
            self._changed.notify_all()
            self._file.close()
            if not waiting and not is_open:
                _remove_file(self._path)
        if self._is_temporary:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()
        return waiting

    def _write(self) -> None:
        """Append what comes, after what others left, until the end."""
        self._adopt()
        while not self._closed:
            items = self._inbox.take()
            marker = items.pop() if isinstance(items[-1], Flush | Sync | Close) else None
            while self._is_full() and not self._closed:
                time.sleep(RETRY)
            self._append([item for item in items if isinstance(item, tuple | GiveUp)], self._index)
            if isinstance(marker, Sync):
                marker.reached.set()
            elif isinstance(marker, Flush | Close):
                with self._changed:
                    self._markers.append((self._seq, marker))
                    self._changed.notify_all()
            if isinstance(marker, Close):
                return

    def _is_full(self) -> bool:
        in_memory = sum(len(row.body) for row in self._memory) if self._memory else 0
        return self._bytes > LIMIT or in_memory > MAXIMUM_BYTES

    def _append(self, items: Sequence[Entry], index: RunIndex, *, when: float | None = None) -> None:
        """Append documents, in memory if the disk is full."""
        now = time.time() if when is None else when
        named = [_named(item, index) for item in items]
        with self._changed:
            rows = [
                _Row(self._seq + number, run, name, body, now)
                for number, (run, name, body) in enumerate(named, start=1)
            ]
            for row, item in zip(rows, items, strict=True):
                self._note(row, item, index)
            self._store(rows)
            self._seq += len(rows)
            self._changed.notify_all()

    def _note(self, row: _Row, item: Entry, index: RunIndex) -> None:
        """Keep account of the run that a row belongs to."""
        self._bytes += len(row.body)
        if isinstance(item, tuple):
            self._gaps.count(row.run, *item)
        known = self._runs.get(row.run)
        if not row.run or (known is None and row.name not in {"start", _GIVEN_UP}):
            self._loose.append((row.seq, len(row.body)))
            return
        if known is None or (known.state == _ANSWERED and row.name == "start"):
            self._remove(row.run)
            known = self._runs[row.run] = _Run(first=row.seq)
        known.size += len(row.body)
        if row.name in {"stop", _GIVEN_UP} and known.state == _OPEN:
            known.state, known.ended = _ENDED, row.time
            index.forget(row.run)

    def _store(self, rows: list[_Row]) -> None:
        """Write rows to the file, or keep them in memory until there is room on the disk."""
        waiting = [*self._memory, *rows]
        if time.monotonic() < self._retry_at or not waiting:
            self._memory = waiting
            return
        if self._execute("INSERT INTO documents VALUES (?, ?, ?, ?, ?)", waiting, many=True):
            if self._memory:
                logger.info("%s: there is room again, everything is on disk", self._path)
            self._memory = []
        else:
            self._memory, self._retry_at = waiting, time.monotonic() + RETRY

    def _execute(self, statement: str, values: Sequence[object], *, many: bool = False) -> bool:
        """Change the file, and return whether that was possible."""
        try:
            with self._file:
                (self._file.executemany if many else self._file.execute)(statement, values)  # type: ignore[arg-type]
        except (sqlite3.Error, OSError) as error:
            if not self._memory:
                logger.error(  # noqa: TRY400 - a full disk is no fault of the program
                    "%s: cannot be written (%s): documents wait in memory until it can; free some room",
                    self._path,
                    error,
                )
            return False
        return True

    def _read(self, last: int, most: int, *, run: str | None = None) -> list[_Row]:
        """Return the next rows up to a number, or the first ones of a run; of large ones few."""
        where, value = ("run = ?", run) if run is not None else ("seq > ?", self._taken)
        query = f"SELECT * FROM documents WHERE {where} ORDER BY seq LIMIT ?"  # noqa: S608 - fixed texts
        rows: list[_Row] = []
        size = 0
        with closing(self._file.execute(query, (value, most))) as found:
            for each in found:
                row = _Row(*each)
                rows.append(row)
                size += len(row.body)
                if size > BATCH_BYTES:
                    return rows
        wanted = (r for r in self._memory if (r.run == run if run is not None else r.seq > self._taken))
        return [row for row in [*rows, *wanted] if row.seq <= last][:most]

    def _remove(self, run: str) -> None:
        """Remove the documents of a run."""
        known = self._runs.get(run)
        if known is None or not known.size:
            return
        self._execute("DELETE FROM documents WHERE run = ?", (run,))
        self._execute("DELETE FROM answered WHERE run = ?", (run,))
        self._memory = [row for row in self._memory if row.run != run]
        self._bytes -= known.size
        known.size = 0

    def _tidy(self) -> None:
        """Remove what no new process of the analysis would need."""
        kept = [run for run, known in self._runs.items() if known.state == _ANSWERED and known.size]
        size = sum(self._runs[run].size for run in kept)
        for number, run in enumerate(kept):
            if len(kept) - number <= KEPT_RUNS and size <= KEPT_BYTES:
                break
            size -= self._runs[run].size
            self._remove(run)
        answered = self._count(_ANSWERED)
        for run in [run for run, known in self._runs.items() if known.state == _ANSWERED and not known.size]:
            if answered <= REMEMBERED:
                break
            del self._runs[run]
            answered -= 1
        # Documents that name no run are kept as long as an older run is not answered.
        first = min(
            (each.first for each in self._runs.values() if each.state != _ANSWERED), default=self._seq
        )
        end = min(first, self._taken)
        if self._loose and self._loose[0][0] < end:
            self._execute("DELETE FROM documents WHERE run = '' AND seq < ?", (end,))
        while self._loose and self._loose[0][0] < end:
            self._bytes -= self._loose.popleft()[1]

    def _count(self, state: str) -> int:
        return sum(known.state == state for known in tuple(self._runs.values()))

    def _adopt(self) -> None:
        """Take over the journals whose owner is dead."""
        for path in sorted(self.folder.glob("journal-*.sqlite")):
            lock = None if path == self._path else _try_lock(path)
            if lock is None:
                continue
            with lock:
                try:
                    with closing(sqlite3.connect(path)) as other:
                        is_done = self._take_over(path, other)
                except (sqlite3.Error, OSError, DocumentError) as error:
                    aside = path.with_suffix(f".damaged-{time.time():.0f}")
                    path.rename(aside)
                    logger.error(  # noqa: TRY400 - the file is at fault, not the program
                        "%s: expected the documents of an earlier session, found a damaged file (%s): it is "
                        "now %s; `xpdml catch-up` analyses what a catalog of raw runs holds",
                        path,
                        error,
                        aside.name,
                    )
                    is_done = True
                if is_done:
                    _remove_file(path)

    def _take_over(self, path: Path, other: sqlite3.Connection) -> bool:
        """Append the documents of another journal, and return whether its file is no longer needed."""
        version = other.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT:
            logger.warning(
                "%s: of a later version of this package, which has to be started to answer it", path
            )
            return False
        if version < FORMAT:
            return True
        (outlived,) = other.execute("SELECT outlived FROM owner").fetchone()
        answered = {run for (run,) in other.execute("SELECT run FROM answered")}
        latest = self._copy(_Row(*each) for each in other.execute("SELECT * FROM documents ORDER BY seq"))
        for run in latest.keys() & answered:
            self.settle(run, keep=True)
        left = latest.keys() - answered
        for run in left:
            is_stale = not outlived or time.time() - latest[run] > STALE
            if is_stale and self._runs[run].state == _OPEN:
                self.give_up(run, ORPHANED)
        waiting = sum(self._runs[run].state == _ENDED for run in left)
        if waiting:
            logger.warning("%s: %d runs of an earlier session are answered now", path.parent, waiting)
        return not self._memory

    def _copy(self, rows: Iterable[_Row]) -> dict[str, float]:
        """Append rows of another journal; return the runs that were not known, and when each came last."""
        known, latest = set(self._runs), dict[str, float]()
        new = (row for row in rows if row.run not in known)
        while chunk := list(islice(new, BATCH)):
            self._append([_entry(row) for row in chunk], self._index, when=chunk[-1].time)
            latest |= {row.run: row.time for row in chunk if row.run}
        return latest


def _entry(row: _Row) -> Entry:
    """Return a row as it came in."""
    item = _item(row)
    return (row.name, decode(row.body)) if isinstance(item, tuple) else item


def _item(row: _Row) -> Entry:
    """Return a row as the worker takes it: a document stays in bytes."""
    if row.name != _GIVEN_UP:
        return row.name, row.body
    note = decode(row.body)
    return GiveUp(row.run, note["start"], Reason(note["text"], ReasonCode(note["code"])))


def _named(item: Entry, index: RunIndex) -> tuple[str, str, bytes]:
    """Return run, name and content of a row."""
    if isinstance(item, GiveUp):
        note = {"start": item.start, "text": str(item.reason), "code": str(item.reason.code)}
        return item.uid, _GIVEN_UP, encode(note)
    name, doc = item
    return index.find(name, doc), str(name), encode(doc)  # type: ignore[arg-type]


def _create(path: Path, *, outlived: bool) -> sqlite3.Connection:
    """Return the connection to a new file, which the journal's threads share under its lock."""
    file = sqlite3.connect(path, check_same_thread=False)
    path.chmod(0o600)
    file.executescript(_TABLES)
    with file:
        file.execute("INSERT INTO owner VALUES (?)", (outlived,))
    return file


def _lock(path: Path) -> IO[bytes]:
    """Return the lock of a new journal, held until it is closed or the process ends."""
    lock = path.with_suffix(".lock").open("ab")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def _try_lock(path: Path) -> IO[bytes] | None:
    """Return the lock of a journal; None if its owner is alive."""
    lock = path.with_suffix(".lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _remove_file(path: Path) -> None:
    """Remove a journal and what SQLite keeps beside it; the lock goes last."""
    for suffix in (".sqlite", ".sqlite-wal", ".sqlite-shm", ".lock"):
        path.with_suffix(suffix).unlink(missing_ok=True)
