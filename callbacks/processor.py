"""From documents to derived runs: sorts documents, analyses the runs that ended, catches every exception."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol, TypeVar

from bluesky_xpdml.callbacks.inbox import GiveUp
from bluesky_xpdml.callbacks.live import LiveUpdates
from bluesky_xpdml.callbacks.router import Router
from bluesky_xpdml.documents import CollectedRun
from bluesky_xpdml.documents.run_index import RunIndex
from bluesky_xpdml.errors import DocumentError, PublishError, attempt, internal_reason
from bluesky_xpdml.publish import derived_run
from bluesky_xpdml.publish.documents import NamedDocument
from bluesky_xpdml.records import Prediction
from bluesky_xpdml.sources.wire import decode
from bluesky_xpdml.vocabulary import Reason, ReasonCode

logger = logging.getLogger(__name__)

CLOSED = Reason("the callback was closed before the run stopped", ReasonCode.NO_STOP)

Entry = tuple[str, object] | GiveUp
Result = TypeVar("Result")


class Analysis(Protocol):
    """What is done with a run once it has ended."""

    def expect(self, run: CollectedRun) -> None:
        """Get ready for the end of a running run."""

    def predict(self, run: CollectedRun) -> Sequence[Prediction]:
        """Return the predictions for a run; none if it is no measurement."""

    def failure(self, run: CollectedRun, reason: Reason) -> Prediction:
        """Return the failed prediction for a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one run ended in."""

    uid: str
    """Of the raw run."""
    runs: tuple[list[NamedDocument], ...]
    """Derived runs; none if the run is no measurement to be analysed."""
    given_up: bool = False
    """Whether its stop document did not come."""
    is_lost: bool = False
    """Whether not even a failure could be made of it; the log has the reason."""


class Processor:
    """Turns documents into answers, one run after the other.

    Parameters
    ----------
    analysis
        What is done with a run that ended.
    router
        Sorts documents into runs.
    live
        Publishes partial results of running runs; None for none.
    begin
        Called with the uid of a run before it is worked on.

    Attributes
    ----------
    errors : int
        Internal errors that were caught.
    """

    def __init__(
        self,
        analysis: Analysis,
        router: Router,
        *,
        live: LiveUpdates | None = None,
        begin: Callable[[str], object] = lambda uid: None,  # noqa: ARG005 - called with it
    ) -> None:
        self._analysis = analysis
        self._router = router
        self._live = live
        self._begin = begin
        self._index = RunIndex()
        self._expected = ""
        self.errors = 0

    @property
    def orphans(self) -> int:
        """Documents that belong to no run whose start was seen."""
        return self._router.orphans

    @property
    def is_live(self) -> bool:
        """Whether partial results are published."""
        return self._live is not None

    def feed(self, items: Sequence[Entry], *, update: bool) -> Iterator[Answer]:
        """Yield the answers to the runs that end by some documents, which may be bytes.

        With `update`, there is time: the run of the last document is prepared for, and a partial result of it
        is published if it is due.
        """
        entries = [_opened(item) for item in items]
        for uid, group in groupby(entries, key=self._run_of):
            self._begin(uid)
            waiting: deque[Entry] = deque(group)
            while waiting:
                for run in self._sorted(uid, waiting):
                    yield self._answer(run)
        if update and entries:
            self._update(entries[-1])

    def give_up_all(self, reason: Reason) -> Iterator[Answer]:
        """Yield the failures of all open runs."""
        found = self._guarded(lambda: self._router.give_up_all(reason), "the open runs")
        for run in found if isinstance(found, list) else ():
            self._begin(run.uid)
            yield self._answer(run)

    def _run_of(self, item: Entry) -> str:
        if isinstance(item, GiveUp):
            return item.uid
        uid = self._index.find(*item)
        if item[0] == "stop":
            self._index.forget(uid)
        return uid

    def _sorted(self, uid: str, waiting: deque[Entry]) -> list[CollectedRun]:
        """Sort documents of a run until it ends; if that fails, the run is given up with the reason."""
        found = self._guarded(lambda: self._sort(waiting), _label(uid))
        if isinstance(found, Exception):
            waiting.clear()
            reason = internal_reason(found)
            found = self._guarded(lambda: self._router.give_up(uid, reason), _label(uid))
        return found if isinstance(found, list) else []

    def _sort(self, waiting: deque[Entry]) -> list[CollectedRun]:
        if not isinstance(waiting[0], GiveUp):
            return self._router.feed_until_ended(waiting)
        note = waiting.popleft()
        assert isinstance(note, GiveUp)  # noqa: S101 - for the type checker
        if note.reason is None:
            self._router.forget(note.uid)
            return []
        evicted = [] if note.start is None else self._router.feed("start", note.start)
        return [*evicted, *self._router.give_up(note.uid, note.reason)]

    def _update(self, item: Entry) -> None:
        """Prepare for the end of the running run of a document, and publish a partial prediction if due."""
        uid = self._router.run_of(*item) if isinstance(item, tuple) else ""
        if not uid:
            return
        live = self._live
        if uid != self._expected:
            self._expected = uid
            # What fails here fails again in the analysis, which says so.
            attempt(lambda: self._expect(uid))
        if live is not None and live.is_due(uid):
            self._guarded(lambda: live.update(uid, self._router.snapshot(uid)), _label(uid))

    def _expect(self, uid: str) -> None:
        run = self._router.snapshot(uid)
        if run is not None:
            self._analysis.expect(run)

    def _answer(self, run: CollectedRun) -> Answer:
        """Analyse a run that ended."""
        live, label = self._live, _label(run.uid, run.start)
        if live is not None:
            self._guarded(lambda: live.finish(run.uid), label)
        predictions = self._guarded(lambda: self._analysis.predict(run), label)
        if isinstance(predictions, Exception):
            derived = [self._failure(run, predictions)]
        else:
            derived = [self._derived(run, prediction) for prediction in predictions]
        if not derived:
            logger.debug("%s is no measurement to be analysed", label)
        whole = tuple(each for each in derived if each is not None)
        return Answer(uid=run.uid, runs=whole, given_up=bool(run.given_up), is_lost=len(whole) < len(derived))

    def _derived(self, run: CollectedRun, prediction: Prediction) -> list[NamedDocument] | None:
        """Return the documents of a prediction, or of a failure in its place."""
        documents = self._guarded(lambda: derived_run(prediction), _label(run.uid, run.start))
        return self._failure(run, documents) if isinstance(documents, Exception) else documents

    def _failure(self, run: CollectedRun, error: Exception) -> list[NamedDocument] | None:
        """Return the documents of the failure of a run; None if there can be none."""
        reason = internal_reason(error)
        label = _label(run.uid, run.start)
        found = self._guarded(lambda: derived_run(self._analysis.failure(run, reason)), label)
        return None if isinstance(found, Exception) else found

    def _guarded(self, action: Callable[[], Result], run: str) -> Result | Exception:
        """Return what an action returns or raises."""
        found = attempt(action)
        if isinstance(found, Exception):
            self.errors += not isinstance(found, PublishError)
            logger.error("%s could not be analysed; the RunEngine goes on", run, exc_info=found)
        return found


def _label(uid: str, start: Mapping[str, object] | None = None) -> str:
    """Return which run it is, for the log; its texts may be anything."""
    scan = (start or {}).get("scan_id")
    number = str(scan)[:60] if isinstance(scan, int | str) else ""
    return f"run {uid[:60]!a} (scan {number!a})"


def _opened(item: Entry) -> Entry:
    """Return a document that came as bytes as a mapping; None for what is none, which the router counts."""
    if isinstance(item, GiveUp) or not isinstance(item[1], bytes):
        return item
    try:
        return item[0], decode(item[1])
    except DocumentError:
        return item[0], None
