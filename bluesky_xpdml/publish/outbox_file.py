"""The SQLite file of an outbox, shared by processes: tables, format, and what is done if it is damaged."""

import fcntl
import logging
import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from threading import RLock
from typing import TypeVar

from bluesky_xpdml.errors import PublishError, SettingsError
from bluesky_xpdml.publish.state import private_folder

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

FILE_NAME = "outbox.sqlite"
FORMAT = 1
"""Number of the format, which `PRAGMA user_version` of the file holds."""
BUSY_TIMEOUT = 5.0
"""How long another process may hold the file before it counts as not writable [s]."""
PAGES_GIVEN_BACK = 1_000
"""Pages of 4 kB that one call of `shrink` gives back, which takes some 70 ms."""
LARGEST_CHECKED = 64_000_000
"""Larger files are not checked as a whole when they are opened [bytes]."""

TABLES = """
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    uid TEXT NOT NULL,
    raw_uid TEXT NOT NULL,
    lane TEXT NOT NULL,
    sample TEXT NOT NULL,
    scan_id TEXT NOT NULL,
    technique TEXT NOT NULL,
    element TEXT NOT NULL,
    live INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    ends INTEGER NOT NULL,
    added REAL NOT NULL,
    bytes INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    not_before REAL NOT NULL DEFAULT 0,
    owner TEXT
);
CREATE UNIQUE INDEX whole_runs ON entries (uid) WHERE NOT live;
CREATE INDEX runs ON entries (uid);
CREATE INDEX lanes ON entries (lane, seq);
CREATE INDEX owners ON entries (owner) WHERE owner IS NOT NULL;
CREATE TABLE contents (seq INTEGER PRIMARY KEY, documents BLOB NOT NULL);
CREATE TRIGGER contents_of_entries AFTER DELETE ON entries
BEGIN DELETE FROM contents WHERE seq = OLD.seq; END;
CREATE TABLE live_runs (
    uid TEXT PRIMARY KEY,
    raw_uid TEXT NOT NULL,
    sample TEXT NOT NULL,
    scan_id TEXT NOT NULL,
    technique TEXT NOT NULL,
    element TEXT NOT NULL,
    descriptor TEXT NOT NULL,
    state TEXT NOT NULL,
    sent_rows INTEGER NOT NULL,
    began REAL NOT NULL
);
CREATE INDEX live_descriptors ON live_runs (descriptor);
"""


class UnwritableError(PublishError):
    """The file cannot be read or written now: the disk is full, the file locked, the folder gone."""


class OutboxFile:
    """Transactions on the file; each is one function of the connection.

    A damaged file is renamed, which the log says, and a new one begun.

    Attributes
    ----------
    n_replaced : int
        How often the file was found replaced: it was damaged, or somebody removed it.

    Raises
    ------
    PublishError
        If a later version wrote the file.
    SettingsError
        If the folder belongs to another user.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self.n_replaced = 0
        self._lock = RLock()
        self._connection: sqlite3.Connection | None = None
        self._identity = (0, 0)
        """Device and inode of the file."""
        self._open()

    def run(self, action: Callable[[sqlite3.Connection], Result], *, durable: bool = False) -> Result:
        """Return what an action returns, which happens as a whole or not at all.

        If `durable`, it outlasts a power failure once this function returns.

        Raises
        ------
        UnwritableError
            If nothing can be written now.
        """
        with self._lock:
            found = self._attempt(action, durable=durable)
            if isinstance(found, _Damaged):
                self._open(damaged=found.error)
                found = self._attempt(action, durable=durable)
            if isinstance(found, _Damaged):
                raise self._unwritable(found.error) from found.error
            return found

    def close(self) -> None:
        """Close the file; another action opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def shrink(self) -> bool:
        """Give space of removed entries back to the disk, and return whether there is more of it."""
        with self._lock, suppress(sqlite3.DatabaseError, UnwritableError):
            connection = self._current()
            # `execute` would give back one page only; all at once would hold up everybody else for long.
            connection.executescript(f"PRAGMA incremental_vacuum({PAGES_GIVEN_BACK});")
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            if free:
                return True
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return False

    def _attempt(
        self, action: Callable[[sqlite3.Connection], Result], *, durable: bool
    ) -> "Result | _Damaged":
        try:
            connection = self._current()
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                return action(connection)
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                return _Damaged(error)
            if isinstance(error, sqlite3.OperationalError):
                raise self._unwritable(error) from error
            raise
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> UnwritableError:
        return UnwritableError(
            f"expected to write {self.path}, found {error}: make room on its disk, or name another folder as "
            "outbox.folder in the settings"
        )

    def _current(self) -> sqlite3.Connection:
        """Return the connection, a new one if another process has set the file aside."""
        if self._connection is None or _identity(self.path) != self._identity:
            try:
                self._open()
            except SettingsError as error:
                raise UnwritableError(str(error)) from error
        if self._connection is None:
            raise UnwritableError(f"expected to open {self.path}, found no room or no right to do it")
        return self._connection

    def _open(self, damaged: sqlite3.DatabaseError | None = None) -> None:
        """Connect to the file; one that is damaged, or found to be, is set aside before."""
        self.close()
        folder = private_folder(self.path.parent)
        try:
            with exclusive(folder / "outbox.lock"):
                if damaged is not None and _identity(self.path) == self._identity:
                    self._set_aside(damaged)
                try:
                    self._connection = _connect(self.path)
                except sqlite3.DatabaseError as error:
                    if not is_damage(error):
                        raise
                    self._set_aside(error)
                    self._connection = _connect(self.path)
                before, self._identity = self._identity, _identity(self.path)
                self.n_replaced += before not in {(0, 0), self._identity}
        except (sqlite3.OperationalError, OSError) as error:
            # What is published meanwhile waits in memory.
            logger.error("%s", self._unwritable(error))  # noqa: TRY400 - the traceback says nothing more

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        moment = time.strftime("%Y%m%dT%H%M%S")
        aside = self.path.with_name(f"{self.path.name}.damaged-{moment}-{token_hex(2)}")
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).rename(aside.with_name(aside.name + suffix))
        # An error, because the command line shows no less.
        logger.error(
            "the outbox %s is damaged (%s); it was renamed to %s, and a new one begun: what waited in it is "
            "not published, analyse those runs again with `xpdml replay`",
            self.path,
            error,
            aside.name,
        )


class _Damaged:
    """The file was found damaged."""

    def __init__(self, error: sqlite3.DatabaseError) -> None:
        self.error = error


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Return whether an error means that the file is no database, or a damaged one."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return found.st_dev, found.st_ino


def _connect(path: Path) -> sqlite3.Connection:
    """Return a connection to the file, which is made if there is none."""
    # Only a file that is new may be opened and closed apart from SQLite: closing it drops SQLite's own locks.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, path)
    except (sqlite3.DatabaseError, PublishError):
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check the format of a file, and make its tables if it is new."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > FORMAT:
        raise PublishError(
            f"expected an outbox of format {FORMAT} in {path}, found {version}, which a later version of "
            "bluesky_xpdml wrote: upgrade, or name another folder as outbox.folder in the settings"
        )
    if version == 0:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    if version == 0:
        connection.executescript(f"BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {FORMAT}; COMMIT;")
    elif path.stat().st_size <= LARGEST_CHECKED:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            error = sqlite3.DatabaseError(f"its check found {found}")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file, for which other processes wait."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class OwnerLock:
    """Shows other processes that an owner of entries lives: a file that is locked as long as it does."""

    def __init__(self, folder: Path) -> None:
        self.owner = f"{os.getpid()}-{token_hex(4)}"
        self._path = _lock_file(folder, self.owner)
        self._descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        # A child that outlives this process must not keep the lock.
        lock = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _close(lock()))

    def close(self) -> None:
        """Give the lock up."""
        self._path.unlink(missing_ok=True)
        _close(self)

    def close_descriptor(self) -> None:
        """Close the file without removing it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _close(lock: OwnerLock | None) -> None:
    if lock is not None:
        lock.close_descriptor()


def is_alive(folder: Path, owner: str) -> bool:
    """Return whether the process of an owner runs; the lock file of one that ended is removed."""
    path = _lock_file(folder, owner)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def has_other_owner(folder: Path, own: str) -> bool:
    """Return whether another owner of entries than one's own lives."""
    found = [path.stem.partition("-")[2] for path in folder.glob(_lock_file(folder, "*").name)]
    return any(is_alive(folder, owner) for owner in found if owner != own)


def _lock_file(folder: Path, owner: str) -> Path:
    return folder / f"owner-{owner}.lock"
