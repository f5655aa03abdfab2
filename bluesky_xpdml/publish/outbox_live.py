"""Live runs in an outbox: which of their parts can still be sent, and how a run ends that lost some.

The functions are parts of one transaction. A live run is `waiting` until its start is on the server, then
`there`; it is `cut` if rows were dropped, so that only its stop may follow, and `dropped` if nothing may.
"""

import json
import logging
import sqlite3
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from bluesky_xpdml.publish.documents import NamedDocument
from bluesky_xpdml.publish.outbox_entry import OutboxEntry, content_of, described, packed, unpacked

logger = logging.getLogger(__name__)

STREAM = "updates"
"""The stream of live runs."""
MOST_ROWS = 100
"""Rows that wait as one part: a server that is slower than the analysis takes them at once."""
LONGEST_KEPT = 30 * 86_400.0
"""How long it is known that a live run began whose end never came [s]."""

WAITING, THERE, CUT, DROPPED = "waiting", "there", "cut", "dropped"

_TEXTS = ("uid", "raw_uid", "sample", "scan_id", "technique", "element")


def described_part(
    connection: sqlite3.Connection, documents: Sequence[NamedDocument], now: float
) -> OutboxEntry | None:
    """Return the entry of the next part of a live run; None if the run cannot be continued."""
    name, document = documents[0]
    names = [each for each, _ in documents]
    ends = "stop" in names
    if name == "start":
        entry = described(document, added=now)
        _insert_run(connection, entry, now)
        state = WAITING
    else:
        found = _find(connection, document)
        if found is None:
            return None
        entry, state = replace(found[0], added=now), found[1]
    for descriptor in (each for each_name, each in documents if each_name == "descriptor"):
        connection.execute(
            "UPDATE live_runs SET descriptor = ? WHERE uid = ?", (descriptor["uid"], entry.uid)
        )
    if state == DROPPED and ends:
        connection.execute("DELETE FROM live_runs WHERE uid = ?", (entry.uid,))
    if state == DROPPED or (state == CUT and not ends):
        return None
    return replace(entry, live=True, rows=names.count("event"), ends=ends)


def add_to_last_part(
    connection: sqlite3.Connection,
    entry: OutboxEntry,
    documents: Sequence[NamedDocument],
    *,
    but: Collection[int],
) -> bool:
    """Add rows to the last part of their run that waits, and return whether there is one.

    Parts at the positions `but` are on the server already, and parts that are claimed may be.
    """
    if entry.ends or any(name != "event" for name, _ in documents):
        return False
    found = connection.execute(
        "SELECT seq, owner IS NULL AND rows < ? FROM entries WHERE live AND uid = ? "
        "ORDER BY seq DESC LIMIT 1",
        (MOST_ROWS, entry.uid),
    ).fetchone()
    if found is None or not found[1] or found[0] in but:
        return False
    try:
        content = packed([*unpacked(content_of(connection, seq=found[0]) or b""), *documents])
    except (zlib.error, ValueError, TypeError):
        # Who sends the damaged part will say so.
        return False
    connection.execute("UPDATE contents SET documents = ? WHERE seq = ?", (content, found[0]))
    connection.execute(
        "UPDATE entries SET rows = rows + ?, bytes = ? WHERE seq = ?", (entry.rows, len(content), found[0])
    )
    return True


def _insert_run(connection: sqlite3.Connection, entry: OutboxEntry, now: float) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO live_runs VALUES (?, ?, ?, ?, ?, ?, '', ?, 0, ?)",
        (*(getattr(entry, name) for name in _TEXTS), WAITING, now),
    )


def _find(connection: sqlite3.Connection, document: dict[str, Any]) -> tuple[OutboxEntry, str] | None:
    """Return the live run that a document belongs to, and its state."""
    row = connection.execute(
        f"SELECT state, {', '.join(_TEXTS)} FROM live_runs WHERE uid = ? OR (descriptor = ? AND descriptor != '')",  # noqa: S608, E501 - constants only
        (document.get("run_start", ""), document.get("descriptor", "")),
    ).fetchone()
    return None if row is None else (OutboxEntry(**dict(zip(_TEXTS, row[1:], strict=True))), row[0])


def note_sent(connection: sqlite3.Connection, entry: OutboxEntry) -> None:
    """Note that the server has a part."""
    if entry.ends:
        connection.execute("DELETE FROM live_runs WHERE uid = ?", (entry.uid,))
        return
    connection.execute(
        "UPDATE live_runs SET sent_rows = sent_rows + ?, state = CASE state WHEN ? THEN ? ELSE state END "
        "WHERE uid = ?",
        (entry.rows, WAITING, THERE, entry.uid),
    )


def sent_rows(connection: sqlite3.Connection, *, uid: str) -> int | None:
    """Return the number of rows of a live run that the server has; None if nothing is known of it."""
    row = connection.execute("SELECT sent_rows FROM live_runs WHERE uid = ?", (uid,)).fetchone()
    return None if row is None else int(row[0])


def correct_count(documents: Sequence[NamedDocument], before: int) -> None:
    """Make a stop document state the rows that are on the server, some of which may have been dropped."""
    rows = before + sum(name == "event" for name, _ in documents)
    for name, document in documents:
        if name == "stop":
            document["num_events"] = dict.fromkeys(document.get("num_events", {}), rows)


def end_runs(
    connection: sqlite3.Connection, raw_uids: Sequence[str], now: float, *, away: bool
) -> Iterator[tuple[OutboxEntry, list[NamedDocument]]]:
    """Yield the stop documents that live runs lack whose raw runs have their final answers now.

    If the server is away, the partial answers that wait are dropped.
    """
    rows = connection.execute(
        f"SELECT {', '.join(_TEXTS)} FROM live_runs WHERE state != ? AND raw_uid IN "  # noqa: S608
        "(SELECT value FROM json_each(?))",
        (DROPPED, json.dumps([uid for uid in raw_uids if uid])),
    ).fetchall()
    for row in rows:
        entry = OutboxEntry(**dict(zip(_TEXTS, row, strict=True)))
        if away:
            cut_run(connection, entry.uid)
        if _state(connection, entry.uid) in {DROPPED, None} or _has_stop(connection, entry.uid):
            continue
        stop = {
            "uid": str(uuid4()),
            "run_start": entry.uid,
            "time": now,
            "exit_status": "abort",
            "reason": "the process that gave the partial answers ended before the run",
            "num_events": {STREAM: 0},
        }
        yield replace(entry, live=True, ends=True, added=now), [("stop", stop)]


def make_room(connection: sqlite3.Connection, missing: int, *, spare: str = "") -> int:
    """Drop the oldest partial answers until so many bytes are free, and return how many are."""
    freed = 0
    runs = connection.execute(
        "SELECT uid FROM entries WHERE live AND uid != ? GROUP BY uid ORDER BY min(seq)", (spare,)
    ).fetchall()
    for (uid,) in runs:
        if freed >= missing:
            break
        freed += cut_run(connection, uid)
    return freed


def cut_run(connection: sqlite3.Connection, uid: str) -> int:
    """Drop the waiting rows of a live run, and return their bytes; a run on the server keeps its stop.

    What is being sent at this moment is left.
    """
    in_progress = connection.execute(
        "SELECT 1 FROM entries WHERE uid = ? AND owner IS NOT NULL", (uid,)
    ).fetchone()
    is_there = in_progress is not None or _state(connection, uid) in {THERE, CUT}
    had_stop = _has_stop(connection, uid)
    freed = _delete(connection, uid, keep_stop=is_there)
    if is_there or not had_stop:
        _set_state(connection, uid, CUT if is_there else DROPPED)
    else:
        connection.execute("DELETE FROM live_runs WHERE uid = ?", (uid,))
    if freed:
        logger.info("partial answers of the live run %.60a are dropped: %d bytes", uid, freed)
    return freed


def drop_run(connection: sqlite3.Connection, *, uid: str) -> None:
    """Drop all that waits of a live run, and what is added of it later."""
    had_stop = _has_stop(connection, uid)
    connection.execute("DELETE FROM entries WHERE live AND uid = ?", (uid,))
    _set_state(connection, uid, DROPPED)
    if had_stop:
        connection.execute("DELETE FROM live_runs WHERE uid = ?", (uid,))


def forget_old_runs(connection: sqlite3.Connection, now: float) -> None:
    """Forget live runs that never ended and of which nothing waits."""
    connection.execute(
        "DELETE FROM live_runs WHERE began < ? AND uid NOT IN (SELECT uid FROM entries)",
        (now - LONGEST_KEPT,),
    )


def _delete(connection: sqlite3.Connection, uid: str, *, keep_stop: bool) -> int:
    """Delete the unclaimed parts of a live run, and return their bytes."""
    chosen = "live AND uid = ? AND owner IS NULL AND NOT (ends AND ?)"
    (freed,) = connection.execute(
        f"SELECT total(bytes) FROM entries WHERE {chosen}",  # noqa: S608 - constants only
        (uid, keep_stop),
    ).fetchone()
    connection.execute(f"DELETE FROM entries WHERE {chosen}", (uid, keep_stop))  # noqa: S608
    return int(freed)


def _state(connection: sqlite3.Connection, uid: str) -> str | None:
    row = connection.execute("SELECT state FROM live_runs WHERE uid = ?", (uid,)).fetchone()
    return None if row is None else str(row[0])


def _set_state(connection: sqlite3.Connection, uid: str, state: str) -> None:
    connection.execute("UPDATE live_runs SET state = ? WHERE uid = ?", (state, uid))


def _has_stop(connection: sqlite3.Connection, uid: str) -> bool:
    found = connection.execute("SELECT 1 FROM entries WHERE live AND ends AND uid = ?", (uid,))
    return found.fetchone() is not None
