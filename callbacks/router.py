"""Documents of many runs, interleaved and out of order, sorted into one collector per run."""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self

from bluesky_xpdml.documents import CollectedRun, RunCollector, collector_for
from bluesky_xpdml.settings import Settings
from bluesky_xpdml.vocabulary import Reason, ReasonCode

MAXIMUM_OPEN_RUNS = 64
"""Runs that may be open at once; beyond it the oldest has lost its stop document."""

MAXIMUM_WAITING = 10_000
"""Events that are kept until their descriptor comes."""

_MAXIMUM_REMEMBERED = 1_000


class Router:
    """Sorts documents into runs and gives each run back once it has ended.

    `event_model.RunRouter` does the same for orderly streams; it raises on a descriptor without a start and
    on a stop that comes twice, which happens in a live stream that was joined midway.

    Examples
    --------
    >>> router = Router()
    >>> router.feed("start", {"uid": "a", "time": 0.0})
    []
    >>> [run.uid for run in router.feed("stop", {"uid": "z", "run_start": "a", "exit_status": "success"})]
    ['a']
    >>> router.feed("stop", {"uid": "y", "run_start": "b"}), router.orphans
    ([], 1)
    """

    def __init__(
        self,
        max_open_runs: int = MAXIMUM_OPEN_RUNS,
        *,
        collect: Callable[[Mapping[str, object]], RunCollector] = RunCollector,
    ) -> None:
        self._max_open_runs = max_open_runs
        self._collect = collect
        self._run_of_resource: dict[str, str] = {}
        self._open: OrderedDict[str, RunCollector] = OrderedDict()
        self._run_of_descriptor: dict[str, str] = {}
        self._waiting: OrderedDict[str, list[tuple[str, object]]] = OrderedDict()
        self._n_waiting = 0
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._orphans: Counter[str] = Counter()

    @classmethod
    def under(cls, settings: Settings) -> Self:
        """Return a router whose runs are collected as the settings of a beamtime say."""
        return cls(
            collect=partial(
                collector_for,
                profile=settings.profile,
                root_map=settings.scattering.root_map,
                anywhere=not settings.remote_documents,
            )
        )

    @property
    def orphans(self) -> int:
        """Number of documents that belong to no run whose start was seen."""
        # Copied first, in one step: another thread may ask while the worker counts.
        return sum(tuple(self._orphans.values()))

    def feed(self, name: str, doc: object) -> list[CollectedRun]:
        """Take one document and return the runs that ended by it: at most the run it stops, or the oldest."""
        if not isinstance(doc, Mapping):
            self._orphans["malformed"] += 1
            return []
        match name:
            case "start":
                return self._start(doc)
            case "descriptor":
                self._descriptor(doc)
            case "event" | "event_page":
                self._event(name, doc)
            case "stop":
                return self._stop(doc)
            case _:
                self._files(name, doc)
        return []

    def feed_until_ended(self, items: deque[Any]) -> list[CollectedRun]:
        """Take documents away from the front until a run has ended, and return it; stop at other items."""
        while items and isinstance(items[0], tuple):
            name, doc = items[0]
            uid = self.run_of(name, doc) if name == "event" else ""
            if uid:
                self._open[uid].feed_events(items)
                continue
            items.popleft()
            ended = self.feed(name, doc)
            if ended:
                return ended
        return []

    def run_of(self, name: str, doc: object) -> str:
        """Return the uid of the open run that an event or stream datum belongs to; empty if there is none."""
        if name not in {"event", "event_page", "stream_datum"} or not isinstance(doc, Mapping):
            return ""
        return self._run_of_descriptor.get(_text(doc.get("descriptor")), "")

    def snapshot(self, uid: str) -> CollectedRun | None:
        """Return what was collected so far of an open run; None if no such run is open."""
        collector = self._open.get(uid)
        return None if collector is None else collector.snapshot()

    def give_up(self, uid: str, reason: Reason) -> list[CollectedRun]:
        """Close an open run before its stop and return it, or nothing if no such run is open."""
        collector = self._close(uid)
        if collector is None or (collector.n_events == 0 and uid in self._ended):
            # A start document that came again after its run had ended opened an empty run: nothing is lost.
            return []
        self._remember(uid)
        return [collector.finish(given_up=reason)]

    def forget(self, uid: str) -> None:
        """Forget an open run, whose documents will come once more."""
        self._close(uid)

    def give_up_all(self, reason: Reason) -> list[CollectedRun]:
        """Close every open run before its stop and return them."""
        return [run for uid in list(self._open) for run in self.give_up(uid, reason)]

    def _start(self, doc: Mapping[str, object]) -> list[CollectedRun]:
        uid = doc.get("uid")
        if not isinstance(uid, str) or not uid:
            self._orphans["start"] += 1
            return []
        if uid in self._open:
            self._open[uid].feed("start", doc)
            return []
        self._open[uid] = self._collect(doc)
        if len(self._open) <= self._max_open_runs:
            return []
        oldest = next(iter(self._open))
        text = f"no stop document came while {self._max_open_runs} later runs were started"
        return self.give_up(oldest, Reason(text, ReasonCode.NO_STOP))

    def _descriptor(self, doc: Mapping[str, object]) -> None:
        uid, run = doc.get("uid"), doc.get("run_start")
        if not isinstance(uid, str) or not isinstance(run, str) or run not in self._open:
            self._orphans["descriptor"] += 1
            return
        self._run_of_descriptor[uid] = run
        self._open[run].feed("descriptor", doc)
        for name, event in self._waiting.pop(uid, ()):
            self._n_waiting -= 1
            self._open[run].feed(name, event)

    def _files(self, name: str, doc: Mapping[str, object]) -> None:
        """Sort a document of external files; any other is ignored."""
        if name in {"resource", "stream_resource"}:
            self._resource(name, doc)
        elif name in {"datum", "datum_page"}:
            self._give_to(self._run_of_resource.get(_text(doc.get("resource")), ""), name, doc)
        elif name == "stream_datum":
            self._give_to(self._run_of_descriptor.get(_text(doc.get("descriptor")), ""), name, doc)

    def _resource(self, name: str, doc: Mapping[str, object]) -> None:
        """Keep which run a resource belongs to; one that names none belongs to the only open run."""
        run = _text(doc.get("run_start")) or (next(iter(self._open)) if len(self._open) == 1 else "")
        if run in self._open:
            self._run_of_resource[_text(doc.get("uid"))] = run
        self._give_to(run, name, doc)

    def _give_to(self, run: str, name: str, doc: Mapping[str, object]) -> None:
        """Give a document of external files to its run; without one it is ignored."""
        if run in self._open:
            self._open[run].feed(name, doc)

    def _event(self, name: str, doc: Mapping[str, object]) -> None:
        descriptor = doc.get("descriptor")
        if not isinstance(descriptor, str):
            self._orphans[name] += 1
        elif descriptor in self._run_of_descriptor:
            self._open[self._run_of_descriptor[descriptor]].feed(name, doc)
        else:
            self._wait(descriptor, name, doc)

    def _wait(self, descriptor: str, name: str, doc: Mapping[str, object]) -> None:
        """Keep an event until its descriptor comes; without an open run none will come."""
        if not self._open:
            self._orphans[name] += 1
            return
        self._waiting.setdefault(descriptor, []).append((name, doc))
        self._n_waiting += 1
        while self._n_waiting > MAXIMUM_WAITING:
            _, dropped = self._waiting.popitem(last=False)
            self._n_waiting -= len(dropped)
            self._orphans["event"] += len(dropped)

    def _stop(self, doc: Mapping[str, object]) -> list[CollectedRun]:
        uid = doc.get("run_start")
        collector = self._close(uid) if isinstance(uid, str) else None
        if collector is None:
            self._orphans["stop"] += 1
            return []
        collector.feed("stop", doc)
        self._remember(collector.uid)
        return [collector.finish()]

    def _close(self, uid: str) -> RunCollector | None:
        collector = self._open.pop(uid, None)
        if collector is not None:
            self._run_of_descriptor = {d: run for d, run in self._run_of_descriptor.items() if run != uid}
            self._run_of_resource = {r: run for r, run in self._run_of_resource.items() if run != uid}
        if not self._open:
            self._orphans["event"] += self._n_waiting
            self._waiting.clear()
            self._n_waiting = 0
        return collector

    def _remember(self, uid: str) -> None:
        self._ended[uid] = None
        while len(self._ended) > _MAXIMUM_REMEMBERED:
            self._ended.popitem(last=False)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
