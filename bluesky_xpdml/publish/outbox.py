"""Derived runs that wait on disk until the server has them whole."""

import logging
import sqlite3
import time
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from json import dumps
from pathlib import Path
from threading import RLock
from typing import Any

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish import outbox_live
from bluesky_xpdml.publish.documents import NamedDocument
from bluesky_xpdml.publish.outbox_entry import (
    COLUMNS,
    KeptRun,
    OutboxEntry,
    content_of,
    described,
    entry_of,
    insert_entry,
    packed,
    raw_uids,
    total_bytes,
    unpacked,
)
from bluesky_xpdml.publish.outbox_file import (
    FILE_NAME,
    OutboxFile,
    OwnerLock,
    UnwritableError,
    has_other_owner,
    is_alive,
)

logger = logging.getLogger(__name__)

DEFAULT_LIMIT = 2_000_000_000
"""Largest sum of what waits [bytes]."""
LARGEST_IN_MEMORY = 64_000_000
"""Largest sum of what waits in memory while nothing can be written to the disk [bytes]."""
LONGEST_ERROR = 500
LONGEST_PAUSE = 3600.0
"""Longest time until a refused run is tried again [s]; a clock that was set back must not make it longer."""
DROP_PAUSE = 60.0
"""Time until a part is tried again that could not be dropped [s]."""
MOVE_INTERVAL = 1.0
"""Least time between two attempts to move what waits in memory to the disk [s]."""

# Within a lane, which is one raw run, everything waits for the first.
_NEXT = f"""
SELECT {COLUMNS} FROM entries AS entry
WHERE (not_before <= :now OR not_before > :now + :longest)
  AND (owner IS NULL OR owner = :owner OR owner IN (SELECT value FROM json_each(:dead)))
  AND seq NOT IN (SELECT value FROM json_each(:gone))
  AND seq NOT IN (SELECT value FROM json_each(:later))
  AND seq NOT IN (SELECT value FROM json_each(:last))
  AND NOT EXISTS (
    SELECT 1 FROM entries AS earlier
    WHERE earlier.lane = entry.lane AND earlier.seq < entry.seq
      AND earlier.seq NOT IN (SELECT value FROM json_each(:gone)))
ORDER BY seq LIMIT 1
"""  # noqa: S608 - constants only


class Outbox:
    """An append-only file of derived runs, which several processes of one computer share.

    Every entry is claimed by one process at a time; those of a process that ended can be claimed by others.
    If the disk is full, whole runs wait in memory until there is room. The methods may be called from any
    thread, `claim` from one thread alone.

    Parameters
    ----------
    folder
        Private folder of the file, made if there is none; `state_folder` names the usual one.
    limit
        Largest sum of what waits [bytes].
    clock
        Returns the time [s since 1970].

    Raises
    ------
    PublishError
        If a later version wrote the file.
    SettingsError
        If the folder belongs to another user, or cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     outbox = Outbox(Path(folder) / "outbox")
    ...     _ = outbox.add([("start", {"uid": "d-1", "raw_uid": "r-1"}), ("stop", {"run_start": "d-1"})])
    ...     print([entry.uid for entry in outbox.entries()], outbox.size > 0)
    ...     outbox.close()
    ['d-1'] True
    """

    def __init__(
        self, folder: Path, limit: float = DEFAULT_LIMIT, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.folder = folder
        self.limit = int(limit)
        self._clock = clock
        self._file = OutboxFile(folder)
        self._lock = RLock()
        self._owner: OwnerLock | None = None
        self._kept: dict[int, KeptRun] = {}
        """What waits in memory, in order, by negative positions."""
        self._n_kept = 0
        self._gone: dict[int, OutboxEntry] = {}
        """What was sent and could not be removed from the file yet."""
        self._later: dict[int, float] = {}
        """When refused runs are due, if it could not be written to the file [s since 1970]."""
        self._move_at = 0.0
        with suppress(UnwritableError):
            self._file.run(partial(outbox_live.forget_old_runs, now=clock()))

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / FILE_NAME

    @property
    def n_replaced(self) -> int:
        """How often the file was found replaced, because it was damaged or removed."""
        return self._file.n_replaced

    @property
    def size(self) -> int:
        """Sum of what waits [bytes]."""
        with self._lock:
            return self._file.run(total_bytes) + sum(len(kept.content) for kept in self._kept.values())

    def __len__(self) -> int:
        with self._lock:
            (stored,) = self._file.run(lambda each: each.execute("SELECT count(*) FROM entries").fetchone())
            return int(stored) - len(self._gone) + len(self._kept)

    def __bool__(self) -> bool:
        return True

    @property
    def n_in_memory(self) -> int:
        """Number of runs that wait in memory, because they cannot be written to the disk."""
        return len(self._kept)

    def is_shared(self) -> bool:
        """Return whether another process sends from it at this time."""
        return has_other_owner(self.folder, "" if self._owner is None else self._owner.owner)

    def holds(self, uid: str) -> bool:
        """Return whether the run of this uid, or part of it, waits."""
        with self._lock:
            if any(kept.entry.uid == uid for kept in self._kept.values()):
                return True
            rows = self._file.run(
                lambda each: each.execute("SELECT seq FROM entries WHERE uid = ?", (uid,)).fetchall()
            )
            return any(seq not in self._gone for (seq,) in rows)

    def entries(self) -> list[OutboxEntry]:
        """Return what waits, in the order of arrival.

        Raises
        ------
        PublishError
            If the file cannot be read.
        """
        rows = self._file.run(
            lambda each: each.execute(f"SELECT {COLUMNS} FROM entries ORDER BY seq").fetchall()  # noqa: S608
        )
        with self._lock:
            stored = [entry for entry in map(entry_of, rows) if entry.seq not in self._gone]
            return [*stored, *(kept.entry for kept in self._kept.values())]

    def add(
        self, documents: Sequence[NamedDocument], live: bool = False, *, away: bool = False
    ) -> str | None:
        """Keep a run, or the next part of a live run, and return its uid; None if it is not kept.

        A whole run is on the disk when this returns, unless the disk is full. A run that waits already is not
        added twice. A part of a live run that cannot be continued is dropped.

        Parameters
        ----------
        documents
            Names and documents, plain JSON.
        live
            Whether they are part of a live run.
        away
            Whether the server is away: a whole run then makes the partial answers to its raw runs obsolete.

        Raises
        ------
        PublishError
            If there is no room for a whole run.
        """
        content = packed(documents)
        if live:
            return self._add_part(documents, content)
        start = documents[0][1]
        entry = described(start, added=self._clock(), size=len(content))
        kept = KeptRun(entry, content, raw_uids(start), away=away)
        with self._lock:
            self._move()
            if self._kept:
                self._keep(kept)
                return entry.uid
            try:
                self._file.run(partial(self._insert, kept), durable=True)
            except UnwritableError as error:
                self._keep(kept)
                logger.error(  # noqa: TRY400 - the traceback says nothing more
                    "%s; derived runs wait in memory until there is room, and are lost if this process ends",
                    error,
                )
        return entry.uid

    def claim(self, *, last: Collection[int] = ()) -> OutboxEntry | None:
        """Return the first entry that is due, claimed for this process; None if there is none.

        Entries of one raw run are due one after the other. Those at the positions in `last` come after all
        others.
        """
        with self._lock:
            self._move()
            known = self._known(last)
            try:
                row = self._file.run(partial(self._claim, known))
            except UnwritableError:
                # A full disk does not keep from sending: two senders of one run write it once.
                row = self._first(known)
            return entry_of(row) if row is not None else self._first_kept()

    def documents(self, entry: OutboxEntry) -> list[NamedDocument]:
        """Return the documents of an entry.

        Raises
        ------
        PublishError
            If the entry is not there any more, or cannot be read.
        """
        with self._lock:
            kept = self._kept.get(entry.seq)
            content = kept.content if kept else self._file.run(partial(content_of, seq=entry.seq))
        if content is None:
            raise PublishError(f"expected {entry} in {self.path}, found none: another process removed it")
        try:
            documents = unpacked(content)
        except (zlib.error, ValueError, TypeError) as error:
            msg = (
                f"expected the documents of {entry} in {self.path}, found {error}; analyse the raw run again"
            )
            raise PublishError(msg) from error
        if entry.live and entry.ends:
            rows = self._file.run(partial(outbox_live.sent_rows, uid=entry.uid))
            if rows is not None:
                outbox_live.correct_count(documents, rows)
        return documents

    def remove(self, entry: OutboxEntry) -> None:
        """Remove an entry that the server has."""
        with self._lock:
            if self._kept.pop(entry.seq, None) is not None:
                return
            self._gone[entry.seq] = entry
            self._later.pop(entry.seq, None)
            with suppress(UnwritableError):
                self._file.run(self._remove_gone)
                self._gone.clear()

    def release(self, entry: OutboxEntry) -> None:
        """Give up the claim of an entry, which another process may then send."""
        with suppress(UnwritableError):
            self._file.run(
                lambda each: each.execute("UPDATE entries SET owner = NULL WHERE seq = ?", (entry.seq,))
            )

    def note_failure(self, entry: OutboxEntry, error: str, *, pause: float) -> None:
        """Note that the server refused a run, which is due again after a pause [s]."""
        text, later = error[:LONGEST_ERROR], self._clock() + pause
        with self._lock, suppress(UnwritableError):
            kept = self._kept.get(entry.seq)
            if kept is not None:
                kept.entry = replace(kept.entry, attempts=kept.entry.attempts + 1, error=text)
                kept.not_before = later
                return
            self._later[entry.seq] = later
            self._file.run(
                lambda each: each.execute(
                    "UPDATE entries SET owner = NULL, attempts = attempts + 1, error = ?, not_before = ? "
                    "WHERE seq = ?",
                    (text, later, entry.seq),
                )
            )
            del self._later[entry.seq]

    def drop_live(self, entry: OutboxEntry) -> None:
        """Drop what waits of a live run that cannot be continued, and what is added of it later."""
        try:
            self._file.run(partial(outbox_live.drop_run, uid=entry.uid))
        except UnwritableError:
            self._later[entry.seq] = self._clock() + DROP_PAUSE

    def drop(self, entries: Collection[OutboxEntry]) -> int:
        """Remove entries that no other process sends at this moment, and return their number."""

        def drop(connection: sqlite3.Connection) -> int:
            dead = self._dead(connection)
            return sum(
                connection.execute(
                    "DELETE FROM entries WHERE seq = ? AND uid = ? AND (owner IS NULL OR owner IN "
                    "(SELECT value FROM json_each(?)))",
                    (entry.seq, entry.uid, dead),
                ).rowcount
                for entry in entries
            )

        return self._file.run(drop)

    def make_due(self) -> None:
        """Let refused runs be tried again at once."""
        self._file.run(lambda each: each.execute("UPDATE entries SET not_before = 0 WHERE not_before > 0"))

    def due_in(self) -> float | None:
        """Return the time until a refused run is due [s]; None if none waits for its time."""
        now = self._clock()
        with self._lock, suppress(UnwritableError):
            (stored,) = self._file.run(
                lambda each: each.execute(
                    "SELECT min(not_before) FROM entries WHERE not_before > ?", (now,)
                ).fetchone()
            )
            kept = [each.not_before for each in self._kept.values() if each.not_before > now]
            unwritten = [due for due in self._later.values() if due > now]
            times = [*kept, *unwritten, *(() if stored is None else (stored,))]
            return min(min(times) - now, LONGEST_PAUSE) if times else None
        return None

    def shrink(self) -> bool:
        """Give space of removed entries back to the disk, and return whether there is more of it."""
        return self._file.shrink()

    def close(self) -> None:
        """Close the file; what waits in memory is lost, which the log then says."""
        with self._lock:
            self._move_at = 0.0
            self._move()
            for kept in self._kept.values():
                logger.error("%s is lost: it could be neither sent nor written to %s", kept.entry, self.path)
            self._file.close()
            if self._owner is not None:
                self._owner.close()
                self._owner = None

    def _add_part(self, documents: Sequence[NamedDocument], content: bytes) -> str | None:
        """Keep the next part of a live run, unless that has ended, and return the uid of the run."""

        def insert(connection: sqlite3.Connection) -> str | None:
            part = outbox_live.described_part(connection, documents, self._clock())
            if part is None:
                return None
            entry = replace(part, bytes=len(content))
            missing = total_bytes(connection) + len(content) - self.limit
            if missing > 0:
                missing -= outbox_live.make_room(connection, missing, spare=entry.uid)
            if missing > 0 and not entry.ends:
                outbox_live.cut_run(connection, entry.uid)
                return None
            if not outbox_live.add_to_last_part(connection, entry, documents, but=self._gone):
                insert_entry(connection, entry, content)
            return entry.uid

        try:
            return self._file.run(insert)
        except UnwritableError as error:
            first = documents[0][1]
            run = next((first[key] for key in ("run_start", "descriptor", "uid") if key in first), "")
            logger.info("a partial answer of the live run %.80a is dropped: %s", run, error)
            return None

    def _insert(self, kept: KeptRun, connection: sqlite3.Connection) -> None:
        """Insert a whole run, unless it waits already; partial answers make room for it."""
        entry = kept.entry
        found = connection.execute("SELECT 1 FROM entries WHERE NOT live AND uid = ?", (entry.uid,))
        if found.fetchone() is not None:
            return
        for part, stop in outbox_live.end_runs(connection, kept.raw_uids, self._clock(), away=kept.away):
            content = packed(stop)
            insert_entry(connection, replace(part, bytes=len(content)), content)
        missing = total_bytes(connection) + entry.bytes - self.limit
        if missing > 0:
            missing -= outbox_live.make_room(connection, missing)
        if missing > 0:
            raise PublishError(
                f"expected room for {entry} in {self.path}, found {self.limit} bytes full of runs that the "
                "server does not have yet: start it, send them by `xpdml outbox send`, or raise outbox.limit"
            )
        insert_entry(connection, entry, kept.content, not_before=kept.not_before)

    def _keep(self, kept: KeptRun) -> None:
        """Keep a whole run in memory."""
        if sum(len(each.content) for each in self._kept.values()) + len(kept.content) > LARGEST_IN_MEMORY:
            raise PublishError(
                f"expected room for {kept.entry} on the disk of {self.path} or in memory, found none: "
                "make room on the disk, or start the server"
            )
        if any(each.entry.uid == kept.entry.uid for each in self._kept.values()):
            return
        self._n_kept += 1
        kept.entry = replace(kept.entry, seq=-self._n_kept)
        self._kept[kept.entry.seq] = kept

    def _move(self) -> None:
        """Write to the disk what could not be written before."""
        if not (self._kept or self._gone) or time.monotonic() < self._move_at:
            return
        self._move_at = time.monotonic() + MOVE_INTERVAL
        # What finds no room below the limit waits on in memory, too.
        with suppress(PublishError):
            self._file.run(self._remove_gone)
            self._gone.clear()
            moved = bool(self._kept)
            for seq, kept in list(self._kept.items()):
                self._file.run(partial(self._insert, kept), durable=True)
                del self._kept[seq]
            if moved:
                logger.warning("the derived runs that waited in memory are in %s now", self.path)

    def _remove_gone(self, connection: sqlite3.Connection) -> None:
        for seq, entry in self._gone.items():
            if not entry.live:
                # Not by its position: a run in memory may have been written to the file meanwhile.
                connection.execute("DELETE FROM entries WHERE NOT live AND uid = ?", (entry.uid,))
            elif connection.execute(
                "DELETE FROM entries WHERE live AND seq = ? AND uid = ?", (seq, entry.uid)
            ).rowcount:
                outbox_live.note_sent(connection, entry)

    def _known(self, last: Collection[int]) -> dict[str, object]:
        """Return the parameters of the search for the next entry, but the owners that have ended."""
        if self._owner is None:
            with suppress(OSError):
                self._owner = OwnerLock(self.folder)
        now = self._clock()
        return {
            "now": now,
            "longest": LONGEST_PAUSE,
            "owner": "" if self._owner is None else self._owner.owner,
            "gone": dumps(list(self._gone)),
            "later": dumps([seq for seq, due in self._later.items() if due > now]),
            "last": dumps(list(last)),
        }

    def _dead(self, connection: sqlite3.Connection) -> str:
        """Return the owners of entries whose processes have ended, as a JSON list."""
        own = "" if self._owner is None else self._owner.owner
        owners = connection.execute("SELECT DISTINCT owner FROM entries WHERE owner IS NOT NULL").fetchall()
        return dumps([owner for (owner,) in owners if owner != own and not is_alive(self.folder, owner)])

    def _claim(self, known: Mapping[str, object], connection: sqlite3.Connection) -> tuple[Any, ...] | None:
        row = _next(connection, {**known, "dead": self._dead(connection)})
        if row is not None and self._owner is not None:
            claimed = (self._owner.owner, row[0])
            connection.execute("UPDATE entries SET owner = ? WHERE seq = ?", claimed)
        return row

    def _first(self, known: Mapping[str, object]) -> tuple[Any, ...] | None:
        """Return the next entry without a claim, as long as nothing can be written."""
        row: tuple[Any, ...] | None = None
        with suppress(UnwritableError):
            row = self._file.run(partial(_next, known={**known, "dead": "[]"}))
        return row

    def _first_kept(self) -> OutboxEntry | None:
        """Return the first due entry in memory that waits for none of the same raw run."""
        now, lanes = self._clock(), set()
        if self._kept:
            with suppress(PublishError):
                lanes = {entry.lane for entry in self.entries() if entry.seq > 0}
        for kept in self._kept.values():
            if kept.entry.lane not in lanes and kept.not_before <= now:
                return kept.entry
            lanes.add(kept.entry.lane)
        return None


def _next(connection: sqlite3.Connection, known: Mapping[str, object]) -> tuple[Any, ...] | None:
    """Return the row of the next entry that is due."""
    row: tuple[Any, ...] | None = connection.execute(_NEXT, known).fetchone()
    if row is None and known["last"] != "[]":
        row = connection.execute(_NEXT, {**known, "last": "[]"}).fetchone()
    return row
