"""The SQLite file of a journal: its tables, its rows, and the lock of the process that it belongs to."""

import fcntl
import os
import sqlite3
import weakref
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias

from bluesky_xpdml.callbacks.inbox import GiveUp
from bluesky_xpdml.documents.run_index import RunIndex
from bluesky_xpdml.errors import DocumentError
from bluesky_xpdml.publish.status import is_alive
from bluesky_xpdml.sources.wire import decode, encode
from bluesky_xpdml.vocabulary import Reason, ReasonCode

FORMAT = 1
"""Of the file; a journal of a later format is left where it is."""
GIVEN_UP = "given up"
"""Name of the row that states that a run is given up."""

OPEN, ENDED, ANSWERED = "open", "ended", "answered"
"""States of a run."""

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
_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
}


@dataclass(slots=True)
class KnownRun:
    """What is known of a run whose documents are here."""

    state: str = OPEN
    first: int = 0
    size: int = 0
    ended: float = 0.0


class Row(NamedTuple):
    """One document in the file."""

    seq: int
    run: str
    name: str
    body: bytes
    time: float


def entry_of(row: Row) -> Entry:
    """Return a row as it came in; what is no document now was none when it came."""
    item = item_of(row)
    if isinstance(item, tuple):
        try:
            return row.name, decode(row.body)
        except DocumentError:
            return row.name, None
    return item


def item_of(row: Row) -> Entry:
    """Return a row as the worker takes it: a document stays in bytes."""
    if row.name != GIVEN_UP:
        return row.name, row.body
    note = decode(row.body)
    reason = None if note["code"] is None else Reason(note["text"], ReasonCode(note["code"]))
    return GiveUp(row.run, note["start"], reason)


def named(item: Entry, index: RunIndex) -> tuple[str, str, bytes]:
    """Return run, name and content of a row."""
    if isinstance(item, GiveUp):
        code = None if item.reason is None else str(item.reason.code)
        note = {"start": item.start, "text": str(item.reason), "code": code}
        return item.uid, GIVEN_UP, encode(note)
    name, doc = item
    return index.find(name, doc), str(name), encode(doc)  # type: ignore[arg-type]


def left_runs(folder: Path) -> int:
    """Return how many runs wait in the journals of processes that have ended.

    Their locks are left alone: a process that starts at this moment must be able to take them over.
    """
    total = 0
    for path in folder.glob("journal-*.sqlite"):
        if is_alive(int(path.name.split("-")[1])):
            continue
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as file:
            (number,) = file.execute(
                "SELECT count(DISTINCT run) FROM documents WHERE name = 'start' "
                "AND run NOT IN (SELECT run FROM answered)"
            ).fetchone()
            total += int(number)
    return total


def create_file(path: Path, *, outlived: bool) -> sqlite3.Connection:
    """Return the connection to a new file, which the journal's threads share under its lock."""
    file = sqlite3.connect(path, check_same_thread=False)
    path.chmod(0o600)
    file.executescript(_TABLES)
    with file:
        file.execute("INSERT INTO owner VALUES (?)", (outlived,))
    return file


def lock_file(path: Path) -> IO[bytes]:
    """Return the lock of a new journal, held until it is closed or the process ends."""
    lock = path.with_suffix(".lock").open("ab")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # A child that outlives this process must not keep the lock.
    reference = weakref.ref(lock)
    os.register_at_fork(after_in_child=lambda: _close(reference()))
    return lock


def _close(lock: IO[bytes] | None) -> None:
    if lock is not None:
        lock.close()


def try_lock(path: Path) -> IO[bytes] | None:
    """Return the lock of a journal; None if its owner is alive."""
    lock = path.with_suffix(".lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def remove_file(path: Path) -> None:
    """Remove a journal and what SQLite keeps beside it; the lock goes last."""
    for suffix in (".sqlite", ".sqlite-wal", ".sqlite-shm", ".lock"):
        path.with_suffix(suffix).unlink(missing_ok=True)


def has_no_room(error: Exception) -> bool:
    """Return whether a file could not be used for a reason that passes, its content not among them."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in _PASSING or isinstance(error, OSError)


def begins(item: Entry) -> bool:
    """Return whether something begins a run, or stands for all of it."""
    return item[0] == "start" if isinstance(item, tuple) else item.reason is not None
