"""Documents on disk from the moment they come until their run is answered, so that a process may die.

A thread of its own takes documents from the inbox and appends them to an SQLite file; the worker reads them
from there, so that a burst waits on disk and not in memory. The documents of a run are removed once it is
answered, but for the runs answered last: a new process of the analysis learns their dark frames, backgrounds
and calibrations again.

A journal belongs to one living process, which holds a lock. What a dead process left is taken over by the
next one for the same server and container, before anything new.
"""

import json
import logging
import math
import os
import secrets
import shutil
import sqlite3
import tempfile
import time
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from threading import Condition, Thread

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
    Sync,
)
from bluesky_xpdml.callbacks.journal_file import (
    ANSWERED,
    ENDED,
    FORMAT,
    GIVEN_UP,
    OPEN,
    Entry,
    KnownRun,
    Row,
    begins,
    create_file,
    entry_of,
    has_no_room,
    item_of,
    lock_file,
    named,
    remove_file,
    try_lock,
)
from bluesky_xpdml.documents.run_index import RunIndex
from bluesky_xpdml.errors import attempt
from bluesky_xpdml.sources.wire import decode
from bluesky_xpdml.vocabulary import Reason, ReasonCode

logger = logging.getLogger(__name__)

LIMIT = 2_000_000_000
"""Size of the waiting documents beyond which whole runs are given up [bytes]."""
KEPT_RUNS, KEPT_BYTES = 48, 256_000_000
"""Answered runs that are kept for a new process of the analysis, and their size."""
MOST_WAITING = 100
"""Runs that wait for their answer before a source that can wait should do so."""
REMEMBERED = 10_000
"""Answered runs whose uids are remembered."""
STALE = 86_400.0
"""A run of a dead watcher without a document for so long will not go on [s]."""
RETRY = 1.0
"""Pause while the journal is full, or the disk is [s]."""

ORPHANED = Reason(
    "no stop document was kept before the session ended: if the run stopped, replay it", ReasonCode.NO_STOP
)


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
        self.is_temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="xpdml-journal-"))
        self._path = self.folder / f"journal-{os.getpid()}-{secrets.token_hex(4)}.sqlite"
        self._lock = lock_file(self._path)
        self._file = create_file(self._path, outlived=outlived)
        self._changed = Condition()
        self._seq = self._taken = self._bytes = 0
        self._memory: list[Row] = []
        self._retry_at = 0.0
        self._adopt_at = math.inf
        self._runs: OrderedDict[str, KnownRun] = OrderedDict()
        self._markers: deque[tuple[int, Flush | Close]] = deque()
        self._loose: deque[tuple[int, int]] = deque()
        """Positions and sizes of documents that belong to no run whose start document came."""
        self._unstarted: set[str] = set()
        self._index, self._gaps = RunIndex(), GapCounter()
        self._closed = self._ended = False
        self._thread = Thread(target=self._write, name="xpdml-journal", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Number of runs that have ended and are not answered."""
        return self._count(ENDED)

    @property
    def waiting_since(self) -> float | None:
        """When the oldest run that is not answered ended [s since 1970]; None if there is none."""
        waiting = (known.ended for known in tuple(self._runs.values()) if known.state == ENDED)
        return min(waiting, default=None)

    @property
    def gaps(self) -> Gaps:
        """What did not arrive so far."""
        return Gaps(events=self._gaps.events, unstopped=self._count(OPEN), unstarted=len(self._unstarted))

    def knows(self, run: str) -> bool:
        """Return whether documents of a run are here, or were before it was answered."""
        return run in self._runs

    def is_answered(self, run: str) -> bool:
        """Return whether a run was answered."""
        known = self._runs.get(run)
        return known is not None and known.state == ANSWERED

    def is_open(self, run: str) -> bool:
        """Return whether a run has begun here and neither stopped nor been answered."""
        known = self._runs.get(run)
        return known is not None and known.state == OPEN

    def join(self, timeout: float) -> bool:
        """Wait until all that came before the end is written, and return whether it is; timeout in [s]."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def add_run(self, documents: Sequence[tuple[str, Mapping[str, object]]]) -> None:
        """Append the documents of a whole run, such as one read from a catalog; an open one is replaced."""
        run = str(documents[0][1]["uid"])
        with self._changed:
            before = [GiveUp(run, None, None)] if self.is_open(run) else []
            self._remove(run)
            self._append([*before, *documents], RunIndex())

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
                        return deque(map(item_of, rows))
                elif self._markers:
                    return deque([self._markers.popleft()[1]])
                else:
                    self._changed.wait()

    def is_idle(self) -> bool:
        """Return whether hardly anything waits, so that there is time for live results."""
        return self._seq - self._taken <= IDLE

    def is_half_full(self) -> bool:
        """Return whether a source that can wait should do so."""
        return 2 * self._bytes > LIMIT or self.backlog > MOST_WAITING

    def settle(self, run: str, *, keep: bool) -> None:
        """Note that a run is answered; its documents are removed, or kept for a new analysis process."""
        with self._changed:
            known = self._runs.setdefault(run, KnownRun())
            known.state = ANSWERED
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
            # Whoever waits for everything before a marker waits for this, too.
            self._markers = deque((self._seq, marker) for _, marker in self._markers)

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
            self._retry_at = 0.0
            self._store([])
            waiting, is_open = self._count(ENDED), self._count(OPEN)
            in_memory = {row.run for row in self._memory}
            lost = [run for run in in_memory & self._runs.keys() if not self.is_answered(run)]
            if lost:
                logger.error("%d runs are lost: there was no room in %s", len(lost), self.folder)
            self._ended = True
            self._changed.notify_all()
            self._file.close()
            if not waiting and not is_open:
                remove_file(self._path)
        if self.is_temporary:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()
        return waiting

    def _write(self) -> None:
        """Append what comes, after what others left, until the end."""
        self._adopt()
        while not self._closed:
            items = self._inbox.take()
            if time.monotonic() >= self._adopt_at:
                self._adopt()
            marker = items.pop() if isinstance(items[-1], Flush | Sync | Close) else None
            while self._is_full() and not self._closed:
                time.sleep(RETRY)
            entries = [item for item in items if isinstance(item, tuple | GiveUp)]
            error = attempt(partial(self._append, entries, self._index))
            if isinstance(error, Exception):
                logger.error("%d documents could not be kept", len(entries), exc_info=error)
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
        contents = [named(item, index) for item in items]
        with self._changed:
            rows = [
                Row(self._seq + number, run, name, body, now)
                for number, (run, name, body) in enumerate(contents, start=1)
            ]
            for row, item in zip(rows, items, strict=True):
                self._note(row, item, index)
            self._store(rows)
            self._seq += len(rows)
            self._changed.notify_all()

    def _note(self, row: Row, item: Entry, index: RunIndex) -> None:
        """Keep account of the run that a row belongs to."""
        self._bytes += len(row.body)
        if isinstance(item, tuple):
            self._gaps.count(row.run, *item)
        if isinstance(item, GiveUp) and item.reason is None:
            # Its documents come once more.
            self._remove(row.run)
            self._runs.pop(row.run, None)
        known = self._runs.get(row.run)
        if not row.run or (known is None and not begins(item)):
            self._loose.append((row.seq, len(row.body)))
            if row.run and row.name == "stop":
                self._note_unstarted(row.run)
            return
        if known is None or (known.state == ANSWERED and row.name == "start"):
            self._remove(row.run)
            known = self._runs[row.run] = KnownRun(first=row.seq)
        known.size += len(row.body)
        if row.name in {"stop", GIVEN_UP} and known.state == OPEN:
            known.state, known.ended = ENDED, row.time
            index.forget(row.run)

    def _note_unstarted(self, run: str) -> None:
        """Say once that a run cannot be answered: this process may have begun in its midst."""
        if run not in self._unstarted and len(self._unstarted) < REMEMBERED:
            self._unstarted.add(run)
            logger.warning(
                "run %.60r ended, but its start document never came: it is not answered; `xpdml catch-up` "
                "answers it from a catalog of raw runs",
                run,
            )

    def _store(self, rows: list[Row]) -> None:
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

    def _read(self, last: int, most: int, *, run: str | None = None) -> list[Row]:
        """Return the next rows up to a number, or the first ones of a run; of large ones few."""
        where, value = ("run = ?", run) if run is not None else ("seq > ?", self._taken)
        query = f"SELECT * FROM documents WHERE {where} ORDER BY seq LIMIT ?"  # noqa: S608 - fixed texts
        rows: list[Row] = []
        size = 0
        with closing(self._file.execute(query, (value, most))) as found:
            for each in found:
                row = Row(*each)
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
        kept = [run for run, known in self._runs.items() if known.state == ANSWERED and known.size]
        size = sum(self._runs[run].size for run in kept)
        for number, run in enumerate(kept):
            if len(kept) - number <= KEPT_RUNS and size <= KEPT_BYTES:
                break
            size -= self._runs[run].size
            self._remove(run)
        answered = self._count(ANSWERED)
        for run in [run for run, known in self._runs.items() if known.state == ANSWERED and not known.size]:
            if answered <= REMEMBERED:
                break
            del self._runs[run]
            answered -= 1
        # Documents that name no run are kept as long as an older run is not answered.
        first = min((each.first for each in self._runs.values() if each.state != ANSWERED), default=self._seq)
        end = min(first, self._taken)
        if self._loose and self._loose[0][0] < end:
            # A start document that came late made some of them belong to a run.
            self._execute(
                "DELETE FROM documents WHERE seq < ? AND run NOT IN (SELECT value FROM json_each(?))",
                (end, json.dumps(list(self._runs))),
            )
        while self._loose and self._loose[0][0] < end:
            self._bytes -= self._loose.popleft()[1]

    def _count(self, state: str) -> int:
        return sum(known.state == state for known in tuple(self._runs.values()))

    def _adopt(self) -> None:
        """Take over the journals whose owner is dead, or try again later if there is no room for them."""
        self._adopt_at = math.inf
        for path in sorted(self.folder.glob("journal-*.sqlite")):
            lock = None if path == self._path else try_lock(path)
            if lock is None:
                continue
            with lock:
                found = attempt(partial(self._take_over, path))
                if self._is_set_aside(path, found) if isinstance(found, Exception) else found:
                    remove_file(path)

    def _is_set_aside(self, path: Path, error: Exception) -> bool:
        """Rename a journal that cannot be read; one for which there is no room is tried again later."""
        if has_no_room(error):
            logger.error("%s: cannot be taken over now (%s); free some room", path, error)
            self._adopt_at = time.monotonic() + RETRY
            return False
        aside = path.with_suffix(f".damaged-{time.time():.0f}")
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
        logger.error(
            "%s: expected the documents of an earlier session, found a damaged file (%r): it is now %s; "
            "`xpdml catch-up` analyses what a catalog of raw runs holds",
            path,
            error,
            aside.name,
        )
        return True

    def _take_over(self, path: Path) -> bool:
        """Append the documents of another journal, and return whether its file is no longer needed."""
        with closing(sqlite3.connect(path)) as other:
            version = other.execute("PRAGMA user_version").fetchone()[0]
            if version > FORMAT:
                logger.warning(
                    "%s: of a later version of this package, which has to be started to answer it", path
                )
                return False
            if version == 0:
                # Its owner was killed before it had made the tables.
                return True
            (outlived,) = other.execute("SELECT outlived FROM owner").fetchone()
            answered = {run for (run,) in other.execute("SELECT run FROM answered")}
            with self._changed:
                latest = self._copy(path)
                for run in latest.keys() & answered:
                    self.settle(run, keep=True)
                left = latest.keys() - answered
                for run in left:
                    is_stale = not outlived or time.time() - latest[run] > STALE
                    if is_stale and self._runs[run].state == OPEN:
                        self.give_up(run, ORPHANED)
                waiting = sum(self._runs[run].state == ENDED for run in left)
            if waiting:
                logger.warning("%s: %d runs of an earlier session are answered now", path.parent, waiting)
            return True

    def _copy(self, path: Path) -> dict[str, float]:
        """Append the rows of another journal; return the runs that were not known, and when each came last.

        In one step: a process that is killed meanwhile leaves no half of a run to be taken for the whole.
        """
        first = self._seq
        self._file.execute("ATTACH ? AS other", (str(path),))
        try:
            with self._file:
                self._file.execute(
                    "INSERT INTO documents SELECT seq + ?, run, name, body, time FROM other.documents "
                    "WHERE run NOT IN (SELECT value FROM json_each(?))",
                    (first, json.dumps(list(self._runs))),
                )
        finally:
            self._file.execute("DETACH other")
        latest = dict[str, float]()
        query = "SELECT * FROM documents WHERE seq > ? ORDER BY seq LIMIT ?"
        while rows := self._file.execute(query, (self._seq, BATCH)).fetchall():
            for row in map(Row._make, rows):
                item = entry_of(row)
                self._index.find(*item) if isinstance(item, tuple) else None
                self._note(row, item, self._index)
                latest |= {row.run: row.time} if row.run in self._runs else {}
                self._seq = row.seq
        self._changed.notify_all()
        return latest
