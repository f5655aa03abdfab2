"""Entries of an outbox: the record, its documents as bytes, and its row in the file."""

import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bluesky_xpdml.publish.documents import NamedDocument

LONGEST_TEXT = 200
"""Longer texts of others are cut where they are listed; the documents hold all of them."""
_LONGEST_SHOWN = 60
_COMPRESSION = 1
"""Level of compression: higher ones take longer and save nothing."""

FIELDS = (
    "seq",
    "uid",
    "raw_uid",
    "sample",
    "scan_id",
    "technique",
    "element",
    "live",
    "rows",
    "ends",
    "added",
    "bytes",
    "attempts",
    "error",
)
"""Of an entry, and of its row."""
COLUMNS = ", ".join(FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEntry:
    """One run, or part of a live run, that waits.

    Examples
    --------
    >>> str(OutboxEntry(uid="d-1", raw_uid="r-1", sample="LFP", scan_id="12"))
    "run 'r-1' (sample 'LFP', scan '12')"
    """

    seq: int = 0
    """Position in the order of arrival; negative if it waits in memory."""
    uid: str
    """Of the derived run."""
    raw_uid: str = ""
    """Of the first raw run; empty for files."""
    sample: str = ""
    scan_id: str = ""
    technique: str = ""
    element: str = ""
    live: bool = False
    """Whether it is part of a run of partial answers."""
    rows: int = 0
    """Events of a part."""
    ends: bool = False
    """Whether a part holds the stop document."""
    added: float = 0.0
    """When it came [s since 1970]."""
    bytes: int = 0
    """Size of its compressed documents."""
    attempts: int = 0
    """How often the server refused it."""
    error: str = ""
    """Why, the last time."""

    @property
    def lane(self) -> str:
        """What is sent in order: the answers to one raw run, or for files one derived run."""
        return self.raw_uid or self.uid

    def __str__(self) -> str:
        run, sample, scan = (text[:_LONGEST_SHOWN] for text in (self.lane, self.sample, self.scan_id))
        return f"run {run!r} (sample {sample!r}, scan {scan!r})"


class KeptRun:
    """A whole run on its way to the file, or in memory."""

    def __init__(self, entry: OutboxEntry, content: bytes, raw_uids: tuple[str, ...], *, away: bool) -> None:
        self.entry = entry
        self.content = content
        self.raw_uids = raw_uids
        self.away = away
        self.not_before = 0.0


def described(start: Mapping[str, Any], *, added: float, size: int = 0) -> OutboxEntry:
    """Return the entry of a start document, whose texts may be anything."""
    sample, origin = start.get("sample"), start.get("origin")
    return OutboxEntry(
        uid=str(start["uid"]),
        raw_uid=text(start.get("raw_uid")),
        sample=text(sample.get("name") if isinstance(sample, Mapping) else sample),
        scan_id=text(origin.get("scan_id") if isinstance(origin, Mapping) else None),
        technique=text(start.get("technique")),
        element=text(start.get("element")),
        added=added,
        bytes=size,
    )


def raw_uids(start: Mapping[str, Any]) -> tuple[str, ...]:
    """Return all raw runs of a start document, as entries hold them."""
    uids = start.get("raw_uids")
    return tuple(
        text(uid) for uid in (start.get("raw_uid"), *(uids if isinstance(uids, list | tuple) else ()))
    )


def text(value: object) -> str:
    """Return a value as an entry holds it."""
    whole = "" if value is None else str(value)
    # SQLite stores no lone surrogates.
    return whole[:LONGEST_TEXT].encode("utf-8", "backslashreplace").decode()


def packed(documents: Sequence[NamedDocument]) -> bytes:
    """Return documents as compressed msgpack, which keeps every float."""
    import msgpack

    return zlib.compress(msgpack.packb([list(each) for each in documents], default=_plain), _COMPRESSION)


def _plain(value: Any) -> Any:
    """Return arrays and numbers of NumPy as lists and numbers."""
    try:
        return value.tolist()
    except AttributeError as error:
        msg = f"expected documents of plain JSON values, found {type(value).__name__}"
        raise TypeError(msg) from error


def unpacked(content: bytes) -> list[NamedDocument]:
    """Return documents from compressed msgpack; raises zlib.error, ValueError or TypeError if it is none."""
    import msgpack

    return [
        (name, document) for name, document in msgpack.unpackb(zlib.decompress(content), strict_map_key=False)
    ]


def insert_entry(
    connection: sqlite3.Connection,
    entry: OutboxEntry,
    content: bytes,
    *,
    not_before: float = 0.0,
) -> None:
    """Insert an entry behind all others."""
    names = [name for name in FIELDS if name != "seq"]
    columns = [*names, "lane", "not_before"]
    seq = connection.execute(
        f"INSERT INTO entries ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",  # noqa: S608
        (*(getattr(entry, name) for name in names), entry.lane, not_before),
    ).lastrowid
    connection.execute("INSERT INTO contents VALUES (?, ?)", (seq, content))


def entry_of(row: Sequence[Any]) -> OutboxEntry:
    """Return the entry of a row."""
    values = dict(zip(FIELDS, row, strict=True))
    return OutboxEntry(**values | {"live": bool(values["live"]), "ends": bool(values["ends"])})


def content_of(connection: sqlite3.Connection, *, seq: int) -> bytes | None:
    """Return the compressed documents of an entry; None if there is none."""
    row = connection.execute("SELECT documents FROM contents WHERE seq = ?", (seq,)).fetchone()
    return None if row is None else bytes(row[0])


def total_bytes(connection: sqlite3.Connection) -> int:
    """Return the sum of what waits [bytes]."""
    (total,) = connection.execute("SELECT total(bytes) FROM entries").fetchone()
    return int(total)
