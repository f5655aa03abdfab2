"""Several watchers of one source share its runs, without asking each other.

Each knows the others by the status that they write beside the predictions. By a hash of its name and that of
the watchers, every run has an order of watchers: the first one takes it, and each further one only if no
answer comes for long. Watchers that disagree for a moment analyse a run twice, which is one answer.
"""

import hashlib
import socket
import time
from collections.abc import Callable, Sequence

from bluesky_xpdml.publish.status import INTERVAL, ProcessKind, Status, is_alive

MISSED = 2.5 * INTERVAL
"""A watcher whose status has not changed for so long is not counted [s]."""


class Sharing:
    """Knows which watchers share a source.

    Parameters
    ----------
    name
        Of this watcher, as its status has it.
    source
        What it follows, as its status has it.
    read
        Returns the statuses beside the predictions.

    Examples
    --------
    >>> both = [Status(name=name, source="raw", kind="watch", time=1.0) for name in ("a", "b")]
    >>> a, b = (Sharing(name, "raw", lambda: both) for name in ("a", "b"))
    >>> a.look(now=0.0), b.look(now=0.0)
    (2, 2)
    >>> all(a.place(run) + b.place(run) == 1 for run in ("run 1", "run 2", "run 3"))
    True
    """

    def __init__(self, name: str, source: str, read: Callable[[], Sequence[Status]]) -> None:
        self._name, self._source, self._read = name, source, read
        self._seen: dict[str, tuple[float, float]] = {}
        self._members = [name]

    def look(self, now: float | None = None) -> int:
        """Read who is there, and return how many share the source.

        Clocks of several computers differ: whether a status is written anew tells who is alive, not its time.
        """
        now = time.monotonic() if now is None else now
        found = {
            each.name: each.time
            for each in self._read()
            if each.kind == ProcessKind.WATCH and each.source == self._source and not _has_ended(each)
        }
        before = self._seen
        self._seen = {
            name: before[name] if before.get(name, (None,))[0] == when else (when, now)
            for name, when in found.items()
        }
        living = {name for name, (_, at) in self._seen.items() if now - at <= MISSED}
        self._members = sorted({*living, self._name})
        return len(self._members)

    def place(self, run: str) -> int:
        """Return how many watchers come before this one for a run."""
        mine = _rank(self._name, run)
        return sum(_rank(each, run) < mine for each in self._members)


def _has_ended(status: Status) -> bool:
    """Return whether a process of this computer is gone; those of others are told by their silence."""
    return status.host == socket.gethostname() and not is_alive(status.pid)


def _rank(name: str, run: str) -> bytes:
    return hashlib.sha256(f"{name} {run}".encode()).digest()
