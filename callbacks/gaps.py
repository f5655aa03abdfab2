"""What did not arrive: events that were lost on their way, runs that have not stopped or never began."""

from collections.abc import Mapping, Sized
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """What did not arrive so far."""

    events: int = 0
    """Events that are missing in runs that ended, by their numbers and the count of the stop document."""
    unstopped: int = 0
    """Runs whose stop document has not come."""
    unstarted: int = 0
    """Runs that ended without a start document; they are not answered."""


@dataclass(slots=True)
class _Stream:
    run: str
    name: str
    count: int = 0
    highest: int = 0


class GapCounter:
    """Counts the events of running runs, and at their end those that are missing.

    Examples
    --------
    >>> counter = GapCounter()
    >>> counter.count("a", "descriptor", {"uid": "d", "name": "primary"})
    >>> counter.count("a", "event", {"descriptor": "d", "seq_num": 3})
    >>> counter.count("a", "stop", {"num_events": {"primary": 4}})
    >>> counter.events
    3
    """

    def __init__(self) -> None:
        self.events = 0
        self._streams: dict[str, _Stream] = {}

    def count(self, run: str, name: str, doc: object) -> None:
        """Count a document of a run; anything else than events, descriptors and stops changes nothing."""
        if not isinstance(doc, Mapping) or not run:
            return
        if name == "descriptor":
            self._streams.setdefault(str(doc.get("uid")), _Stream(run, str(doc.get("name"))))
        elif name in {"event", "event_page"}:
            stream, numbers = self._streams.get(str(doc.get("descriptor"))), doc.get("seq_num")
            if stream is not None:
                stream.count += len(numbers) if isinstance(numbers, Sized) else 1
                stream.highest = max(stream.highest, _last(numbers))
        elif name == "stop":
            self._end(run, doc.get("num_events"))

    def _end(self, run: str, stated: object) -> None:
        own = {uid: each for uid, each in self._streams.items() if each.run == run}
        counts = (
            {name: n for name, n in stated.items() if isinstance(n, int)}
            if isinstance(stated, Mapping)
            else {}
        )
        for uid, stream in own.items():
            del self._streams[uid]
            counts[stream.name] = max(counts.get(stream.name, 0), stream.highest) - stream.count
        self.events += sum(max(0, missing) for missing in counts.values())


def _last(numbers: object) -> int:
    if isinstance(numbers, list | tuple):
        numbers = max((n for n in numbers if isinstance(n, int)), default=0)
    return numbers if isinstance(numbers, int) else 0
