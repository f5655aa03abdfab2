"""The bounded queue between the RunEngine's thread and the worker."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event
from typing import TypeAlias

import numpy as np

from bluesky_xpdml.documents.run_index import RunIndex
from bluesky_xpdml.vocabulary import Reason, ReasonCode

MAXIMUM_BYTES = 1 << 29
"""Memory that waiting documents may take."""

BATCH, BATCH_BYTES = 256, 1 << 25
"""Documents, and their memory, that are taken at once."""

MOST_NODES = 2_000
"""Values of a document whose memory is counted one by one: the RunEngine waits for it."""
_SMALLEST, _ITEM, _ENTRY, _COUNTED = 32, 8, 100, 8
"""Memory of a number, a place in a list, an entry of a mapping [bytes]; how many elements are counted."""

IDLE = 4
"""Documents that may wait while live results are computed."""

QUEUE_FULL = Reason("queue full: the analysis could not keep up with the documents", ReasonCode.QUEUE_FULL)


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A run whose documents no longer fit."""

    uid: str
    start: Mapping[str, object] | None
    """Its start document, if the worker has not got it."""
    reason: Reason | None = QUEUE_FULL
    """None if nothing is lost: its documents come once more, as a whole."""


@dataclass(frozen=True, slots=True)
class Flush:
    """A marker that is set once everything before it has been processed."""

    reached: Event


@dataclass(frozen=True, slots=True)
class Sync:
    """A marker that is set once everything before it is on disk; without a journal it never is."""

    reached: Event


@dataclass(frozen=True, slots=True)
class Close:
    """The last thing in the queue."""

    keep_open: bool = False
    """Whether the documents of runs that are open are kept: the next process may get the rest of them."""


Item: TypeAlias = tuple[str, object] | GiveUp | Flush | Sync | Close


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
    >>> taken, given_up = inbox.take()
    >>> taken, given_up.uid
    (('start', {'uid': 'a'}), 'b')
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._queue: SimpleQueue[tuple[Item, int]] = SimpleQueue()
        # Each is written by one thread only, so that no lock is needed.
        self._bytes_in = 0
        self._bytes_out = 0
        self._runs = RunIndex()
        self._given_up: dict[str, None] = {}
        self.n_orphans = 0

    def offer(self, name: str, doc: object) -> None:
        """Put in a reference to a document, or give up the run that it belongs to."""
        if name == "event" and not self._given_up and self._has_room():
            self._put(name, doc)
            return
        uid = self._runs.find(name, doc)
        if name == "stop":
            self._runs.forget(uid)
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
        size = weight(doc)
        self._bytes_in += size
        self._queue.put(((name, doc), size))

    def _give_up(self, uid: str, name: str, doc: object) -> None:
        """Put in that a run was lost: one marker per run goes in above the capacity."""
        if name != "stop":
            self._given_up[uid] = None
        start = doc if name == "start" and isinstance(doc, Mapping) else None
        self._queue.put((GiveUp(uid, start), 0))

    def forget(self, uid: str) -> None:
        """Put in that the documents of a run will come once more, as a whole."""
        self._runs.forget(uid)
        self._given_up.pop(uid, None)
        self._queue.put((GiveUp(uid, None, None), 0))

    def is_half_full(self) -> bool:
        """Return whether a source that can wait should do so."""
        waiting = self._bytes_in - self._bytes_out
        return 2 * self._queue.qsize() > self._capacity or 2 * waiting > MAXIMUM_BYTES

    def mark(self, marker: Flush | Sync | Close) -> None:
        """Put a marker behind everything that waits."""
        self._queue.put((marker, 0))

    def put_back(self, marker: Flush | Close) -> None:
        """Put a marker that was taken behind everything that waits again."""
        self.mark(marker)

    def take(self, *, singly: bool = False) -> deque[Item]:
        """Wait for what is next; return it with what waits behind it, up to a marker or some MB.

        If few items wait, they may be taken singly: partial results between them are then possible.
        """
        taken: deque[Item] = deque()
        most = 1 if singly and self.is_idle() else BATCH
        total = 0
        while True:
            item, size = self._queue.get()
            taken.append(item)
            total += size
            if not isinstance(item, tuple) or len(taken) >= most:
                break
            if total > BATCH_BYTES or self._queue.empty():
                break
        self._bytes_out += total
        return taken

    def is_idle(self) -> bool:
        """Return whether hardly anything waits, so that there is time for live results."""
        return self._queue.qsize() <= IDLE


def weight(value: object) -> int:
    """Return about how much memory a document takes [bytes].

    Long lists are counted by their first elements, as the lists in documents hold values of one kind; what is
    left after `MOST_NODES` values is estimated from those.
    """
    total, nodes = 0.0, 0
    waiting: list[object] = [value]
    while waiting and nodes < MOST_NODES:
        each = waiting.pop()
        nodes += 1
        total += _SMALLEST
        if isinstance(each, dict):
            total += _ENTRY * len(each) + sum(len(key) for key in each if isinstance(key, str))
            waiting += each.values()
        elif isinstance(each, np.ndarray):
            total += each.nbytes
        elif isinstance(each, str | bytes):
            total += len(each)
        elif isinstance(each, list | tuple):
            counted = each[:_COUNTED]
            total += _ITEM * len(each)
            total += len(each) / max(len(counted), 1) * sum(map(_element, counted))
    return round(total * (1.0 + len(waiting) / max(nodes, 1)))


def _element(value: object) -> int:
    """Return about how much memory an element of a list takes [bytes]."""
    return _SMALLEST if isinstance(value, int | float) else weight(value)
