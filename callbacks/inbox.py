"""The bounded queue between the RunEngine's thread and the worker."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event
from typing import TypeAlias

import numpy as np

from bluesky_xpdml.vocabulary import Reason, ReasonCode

MAXIMUM_BYTES = 1 << 30
"""Memory that arrays in waiting documents may take."""

BATCH, BATCH_BYTES = 256, 1 << 25
"""Documents, and memory of their arrays, that are taken at once."""

IDLE = 4
"""Documents that may wait while live results are computed."""

_RUN_KEYS = {
    "start": "uid",
    "descriptor": "run_start",
    "stop": "run_start",
    "resource": "run_start",
    "stream_resource": "run_start",
}

QUEUE_FULL = Reason("queue full: the analysis could not keep up with the documents", ReasonCode.QUEUE_FULL)


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A run whose documents no longer fit."""

    uid: str
    start: Mapping[str, object] | None
    """Its start document, if the worker has not got it."""


@dataclass(frozen=True, slots=True)
class Flush:
    """A marker that is set once everything before it has been processed."""

    reached: Event


@dataclass(frozen=True, slots=True)
class Close:
    """The last thing in the queue."""


Item: TypeAlias = tuple[str, object] | GiveUp | Flush | Close


class Inbox:
    """Takes documents without ever blocking or raising; a full queue gives up whole runs.

    Only one thread puts documents in, as a RunEngine does, and one takes them; any number may add markers.
    `n_orphans` counts the documents that were refused and name no run.

    Examples
    --------
    >>> inbox = Inbox(capacity=1)
    >>> inbox.offer("start", {"uid": "a"})
    >>> inbox.offer("start", {"uid": "b"})
    >>> inbox.offer("stop", {"run_start": "b"})
    >>> list(inbox.take())
    [('start', {'uid': 'a'}), GiveUp(uid='b', start={'uid': 'b'})]
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._queue: SimpleQueue[Item] = SimpleQueue()
        # Each is written by one thread only, so that no lock is needed.
        self._bytes_in = 0
        self._bytes_out = 0
        self._run_of_descriptor: dict[str, str] = {}
        self._given_up: dict[str, None] = {}
        self.n_orphans = 0

    def offer(self, name: str, doc: object) -> None:
        """Put in a reference to a document, or give up the run that it belongs to."""
        if name == "event" and not self._given_up and self._has_room():
            self._put(name, doc)
            return
        uid = self._run_of(name, doc)
        if uid in self._given_up:
            if name == "stop":
                del self._given_up[uid]
        elif self._has_room():
            self._put(name, doc)
        elif uid:
            self._give_up(uid, name, doc)
        else:
            self.n_orphans += 1

    def _has_room(self) -> bool:
        return self._queue.qsize() < self._capacity and self._bytes_in - self._bytes_out < MAXIMUM_BYTES

    def _put(self, name: str, doc: object) -> None:
        self._bytes_in += _weight(doc)
        self._queue.put((name, doc))

    def _give_up(self, uid: str, name: str, doc: object) -> None:
        """Put in that a run was lost: one marker per run goes in above the capacity."""
        if name != "stop":
            self._given_up[uid] = None
        start = doc if name == "start" and isinstance(doc, Mapping) else None
        self._queue.put(GiveUp(uid, start))

    def mark(self, marker: Flush | Close) -> None:
        """Put a marker behind everything that waits."""
        self._queue.put(marker)

    def take(self, *, singly: bool = False) -> deque[Item]:
        """Wait for what is next; return it with what waits behind it, up to a marker or some MB.

        If few items wait, they may be taken singly: partial results between them are then possible.
        """
        taken: deque[Item] = deque()
        most = 1 if singly and self.is_idle() else BATCH
        weight = 0
        item = self._queue.get()
        while True:
            taken.append(item)
            if not isinstance(item, tuple):
                break
            weight += _weight(item[1])
            if weight > BATCH_BYTES or len(taken) >= most or self._queue.empty():
                break
            item = self._queue.get()
        self._bytes_out += weight
        return taken

    def is_idle(self) -> bool:
        """Return whether hardly anything waits, so that there is time for live results."""
        return self._queue.qsize() <= IDLE

    def _run_of(self, name: str, doc: object) -> str:
        """Return the uid of the run that a document belongs to; empty if it names none."""
        if not isinstance(doc, Mapping):
            return ""
        key = _RUN_KEYS.get(name, "")
        run = doc.get(key) if key else self._run_of_descriptor.get(_text(doc.get("descriptor")), "")
        uid = _text(run)
        if name == "descriptor" and uid:
            self._run_of_descriptor[_text(doc.get("uid"))] = uid
        if name == "stop":
            self._run_of_descriptor = {d: r for d, r in self._run_of_descriptor.items() if r != uid}
        return uid


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _weight(doc: object) -> int:
    """Return how much memory the arrays of an event take [bytes]."""
    data = doc.get("data") if isinstance(doc, dict) else None
    if not isinstance(data, dict):
        return 0
    return sum(map(_size, data.values()))


def _size(value: object) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    # A page holds a list of arrays under each key, one an event.
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return len(value) * value[0].nbytes
    return 0
