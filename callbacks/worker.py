"""The worker: one thread that sorts, analyses and publishes, guarded against every exception."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Protocol, TypeVar

from bluesky_xpdml.callbacks.inbox import QUEUE_FULL, Close, Flush, GiveUp, Inbox, Item
from bluesky_xpdml.callbacks.live import LiveUpdates
from bluesky_xpdml.callbacks.router import Router
from bluesky_xpdml.documents import CollectedRun
from bluesky_xpdml.errors import PublishError, attempt, internal_reason
from bluesky_xpdml.publish import Publisher, derived_run
from bluesky_xpdml.records import Prediction, Verdict
from bluesky_xpdml.vocabulary import Reason, ReasonCode

logger = logging.getLogger(__name__)

CLOSED = Reason("the callback was closed before the run stopped", ReasonCode.NO_STOP)

Result = TypeVar("Result")


class Analysis(Protocol):
    """What is done with a run once it has ended."""

    def predict(self, run: CollectedRun) -> Sequence[Prediction]:
        """Return the predictions for a run; none if it is no measurement."""

    def failure(self, run: CollectedRun, reason: Reason) -> Prediction:
        """Return the failed prediction for a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Counts of documents and runs so far.

    Every run that ended is one of `ignored`, `unpublished`, `predicted` and `failed`.
    """

    documents: int = 0
    """Documents that came in."""
    runs: int = 0
    """Runs that ended or were given up."""
    predicted: int = 0
    """Runs with a published prediction that is good or suspect."""
    failed: int = 0
    """Runs with only failed predictions published, with their reasons."""
    ignored: int = 0
    """Runs of other techniques, and of dark frames."""
    given_up: int = 0
    """Runs that were given up before their stop document came."""
    unpublished: int = 0
    """Runs with a prediction that could not be published; the log has the reason."""
    orphans: int = 0
    """Documents of runs whose start was not seen, or that name no run."""
    errors: int = 0
    """Internal errors that were caught; the log has their tracebacks."""


_COUNTED = ("runs", "predicted", "failed", "ignored", "given_up", "unpublished", "errors")


class Worker:
    """Processes the documents of an inbox in a thread of its own: router, analysis, publisher."""

    def __init__(
        self,
        inbox: Inbox,
        analysis: Analysis,
        publisher: Publisher,
        *,
        router: Router,
        live: LiveUpdates | None = None,
    ) -> None:
        self._inbox = inbox
        self._analysis = analysis
        self._publisher = publisher
        self._router = router
        self._live = live
        # Every key is there from the start: the counts are read from another thread.
        self._counts = Counter(dict.fromkeys(_COUNTED, 0))
        # A daemon, so that a process whose callback was never closed can still end.
        self._thread = Thread(target=self._work, name="xpdml-worker", daemon=True)
        self._thread.start()

    def join(self, timeout: float) -> bool:
        """Wait for the worker to end and return whether it has; the timeout is in seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def statistics(self, documents: int) -> Statistics:
        """Return the counts so far; documents are counted by the callback."""
        orphans = self._router.orphans + self._inbox.n_orphans
        return Statistics(documents=documents, orphans=orphans, **self._counts)

    def _work(self) -> None:
        while True:
            items = self._inbox.take(singly=self._live is not None)
            marker = None if isinstance(items[-1], tuple) else items.pop()
            last = items[-1] if items else None
            while items:
                self._finish_all(partial(self._router.feed_until_ended, items))
            self._update(last)
            self._finish_all(partial(self._obey, marker))
            if isinstance(marker, Close):
                self._guarded(self._publisher.close)
                return

    def _finish_all(self, sort: Callable[[], list[CollectedRun]]) -> None:
        """Finish the runs that ended; whatever goes wrong costs one document only."""
        runs = self._guarded(sort)
        for run in runs if isinstance(runs, list) else ():
            self._finish(run)

    def _obey(self, marker: Item | None) -> list[CollectedRun]:
        match marker:
            case Flush():
                marker.reached.set()
            case Close():
                return self._router.give_up_all(CLOSED)
            case GiveUp(uid=uid, start=start):
                evicted = [] if start is None else self._router.feed("start", start)
                return [*evicted, *self._router.give_up(uid, QUEUE_FULL)]
        return []

    def _update(self, item: Item | None) -> None:
        """Publish a partial prediction for a running run, unless documents wait."""
        live = self._live
        if live is None or not isinstance(item, tuple) or not self._inbox.is_idle():
            return
        uid = self._router.run_of(*item)
        if uid and live.is_due(uid):
            self._guarded(lambda: live.update(uid, self._router.snapshot(uid)))

    def _finish(self, run: CollectedRun) -> None:
        """Analyse a run and publish its predictions, or the failure."""
        self._counts["runs"] += 1
        self._counts["given_up"] += bool(run.given_up)
        live = self._live
        if live is not None:
            self._guarded(lambda: live.finish(run.uid))
        predictions = self._guarded(lambda: self._analysis.predict(run))
        if isinstance(predictions, Exception):
            failure = self._internal_failure(run, predictions)
            predictions = failure if isinstance(failure, Exception) else [failure]
        if not isinstance(predictions, Exception) and not predictions:
            self._counts["ignored"] += 1
            logger.debug("run %s is no measurement to be analysed", run.uid)
            return
        self._counts[self._outcome(run, predictions)] += 1

    def _outcome(self, run: CollectedRun, predictions: Sequence[Prediction] | Exception) -> str:
        """Publish the predictions of a run and return the outcome that is counted."""
        if isinstance(predictions, Exception):
            return "unpublished"
        outcomes = [self._publish(run, prediction) for prediction in predictions]
        if any(isinstance(outcome, Exception) for outcome in outcomes):
            return "unpublished"
        return "predicted" if "predicted" in outcomes else "failed"

    def _publish(self, run: CollectedRun, prediction: Prediction) -> str | Exception:
        """Publish a prediction, or an internal failure in its place, and return the outcome."""
        sent = self._guarded(lambda: self._publisher.publish(derived_run(prediction)))
        if isinstance(sent, Exception) and not isinstance(sent, PublishError):
            failure = self._internal_failure(run, sent)
            if isinstance(failure, Prediction):
                prediction = failure
                sent = self._guarded(lambda: self._publisher.publish(derived_run(failure)))
        if isinstance(sent, Exception):
            return sent
        return "failed" if prediction.quality.verdict is Verdict.FAILED else "predicted"

    def _internal_failure(self, run: CollectedRun, error: Exception) -> Prediction | Exception:
        return self._guarded(lambda: self._analysis.failure(run, internal_reason(error)))

    def _guarded(self, action: Callable[[], Result]) -> Result | Exception:
        """Return what an action returns or raises."""
        found = attempt(action)
        if isinstance(found, Exception):
            self._counts["errors"] += not isinstance(found, PublishError)
            logger.error("a run could not be analysed or published; the RunEngine goes on", exc_info=found)
        return found
