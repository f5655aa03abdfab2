"""The worker: one thread that hands documents to the analysis and publishes its answers."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Thread
from typing import Protocol, TypeVar

from bluesky_xpdml.callbacks.inbox import Close, Flush, GiveUp, Inbox, Sync
from bluesky_xpdml.callbacks.journal import Journal
from bluesky_xpdml.callbacks.processor import CLOSED, Answer, Entry
from bluesky_xpdml.errors import ProcessEndedError, PublishError, attempt, internal_reason
from bluesky_xpdml.publish import OutboxPublisher, Publisher
from bluesky_xpdml.publish.documents import Document, NamedDocument, failed_run
from bluesky_xpdml.publish.outbox_entry import described
from bluesky_xpdml.publish.status import LastAnswer
from bluesky_xpdml.records import Verdict
from bluesky_xpdml.sources.stream import DocumentSource
from bluesky_xpdml.vocabulary import Reason, ReasonCode

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

PAUSE = 1.0
"""Before an analysis that was interrupted begins again [s]."""


class Processing(Protocol):
    """Turns documents into answers: in this process, or in one of its own."""

    @property
    def orphans(self) -> int:
        """Documents that belong to no run whose start was seen."""

    @property
    def errors(self) -> int:
        """Internal errors that were caught."""

    @property
    def is_live(self) -> bool:
        """Whether partial results are published."""

    def feed(self, items: Sequence[Entry], *, update: bool) -> Iterator[Answer]:
        """Yield the answers to the runs that end by some documents.

        Raises
        ------
        ProcessEndedError
            If the process of the analysis ended: everything that is not answered has to be fed again.
        """

    def give_up_all(self, reason: Reason) -> Iterator[Answer]:
        """Yield the failures of all open runs; raises as `feed`."""


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


class _Named:
    """Names the raw run of a derived run in a message, if that is written."""

    def __init__(self, start: Document) -> None:
        self._start = start

    def __str__(self) -> str:
        return str(described(self._start, added=0.0))


class Worker:
    """Processes documents in a thread of its own and publishes the answers."""

    def __init__(
        self,
        source: Inbox | Journal,
        processor: Processing,
        publisher: Publisher,
        fed_by: DocumentSource | None = None,
    ) -> None:
        self._source = source
        self._fed_by = fed_by
        self._journal = source if isinstance(source, Journal) else None
        self._processor = processor
        self._publisher = publisher
        self._abandoned = self._keep_open = False
        self.failures = Counter[str]()
        """By reason code, the failed derived runs that state it, and those that could not be published."""
        self._last_start: Document | None = None
        self._marker: Flush | Sync | Close | None = None
        # Every key is there from the start: the counts are read from another thread.
        self._counts = Counter(dict.fromkeys(_COUNTED, 0))
        # A daemon, so that a process whose callback was never closed can still end.
        self._thread = Thread(target=self._work, name="xpdml-worker", daemon=True)
        self._thread.start()

    @property
    def last_answer(self) -> LastAnswer | None:
        """The answer that was published last; None if there was none."""
        return None if self._last_start is None else LastAnswer.of(self._last_start)

    def join(self, timeout: float) -> bool:
        """Wait for the worker to end and return whether it has; the timeout is in seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """Take no further documents: those that wait are left to the journal."""
        self._abandoned = True

    def statistics(self, documents: int, orphans: int) -> Statistics:
        """Return the counts so far; documents, and those refused at the door, are counted by others."""
        counts = self._counts | {"errors": self._counts["errors"] + self._processor.errors}
        return Statistics(documents=documents, orphans=orphans + self._processor.orphans, **counts)

    def _work(self) -> None:
        while not self._abandoned:
            found = attempt(self._step)
            if isinstance(found, Exception):
                self._recover(found)
            elif found:
                return

    def _step(self) -> bool:
        """Work on what is next, and return whether that was the end."""
        items = self._source.take(singly=self._processor.is_live)
        marker = self._marker = None if isinstance(items[-1], tuple | GiveUp) else items[-1]
        entries = [item for item in items if isinstance(item, tuple | GiveUp)]
        answers = self._processor.feed(entries, update=self._source.is_idle())
        if entries and not self._finish_all(answers):
            return False
        if isinstance(marker, Flush):
            marker.reached.set()
        return isinstance(marker, Close) and self._is_closed(marker)

    def _recover(self, error: Exception) -> None:
        """Begin again with what is kept: a disk could not be read, or no process could be started."""
        self._counts["errors"] += 1
        logger.error("the analysis was interrupted and begins again in %g s", PAUSE, exc_info=error)
        if self._journal is not None:
            self._journal.rewind()
        if isinstance(self._marker, Flush | Close):
            self._source.put_back(self._marker)
        time.sleep(PAUSE)

    def _is_closed(self, marker: Close) -> bool:
        """Finish what is open and close the publisher, unless the documents have to be read again first."""
        self._keep_open = marker.keep_open
        # The source gives what is open again: a failure would be said of a run that goes on.
        comes_again = self._fed_by is not None and self._fed_by.repeats
        if not (comes_again or self._finish_all(self._processor.give_up_all(CLOSED))):
            if self._journal is not None:
                self._journal.put_back(marker)
            return False
        # An outbox has the rest of the time to send: the callback closes it.
        if not isinstance(self._publisher, OutboxPublisher):
            self._guarded(self._publisher.close, "what %s had left", "the publisher")
        return True

    def _finish_all(self, answers: Iterator[Answer]) -> bool:
        """Publish answers; return False if the process of the analysis ended on the way."""
        try:
            for answer in answers:
                self._finish(answer)
        except ProcessEndedError:
            if self._journal is not None:
                self._journal.rewind()
            return False
        return True

    def _finish(self, answer: Answer) -> None:
        """Publish the answer to a run, unless that was done before its documents were read again."""
        journal = self._journal
        if journal is not None and journal.is_answered(answer.uid):
            return
        self._counts["runs"] += 1
        self._counts["given_up"] += answer.given_up
        outcome = self._outcome(answer)
        self._counts[outcome] += 1
        if journal is not None and not self._keep_open:
            journal.settle(answer.uid, keep=outcome in {"predicted", "ignored"})
            if self._fed_by is not None and outcome != "unpublished":
                self._fed_by.settled(answer.uid)

    def _outcome(self, answer: Answer) -> str:
        """Publish the derived runs of an answer and return the outcome that is counted."""
        self.failures.update([ReasonCode.INTERNAL_ERROR] if answer.is_lost else [])
        if not answer.runs:
            return "unpublished" if answer.is_lost else "ignored"
        outcomes = [self._publish(documents) for documents in answer.runs]
        if answer.is_lost or any(isinstance(outcome, Exception) for outcome in outcomes):
            return "unpublished"
        return "predicted" if "predicted" in outcomes else "failed"

    def _publish(self, documents: list[NamedDocument]) -> str | Exception:
        """Publish a derived run, or an internal failure in its place, and return the outcome."""
        run = _Named(documents[0][1])
        sent = self._guarded(lambda: self._publisher.publish(documents), "the answer to %s", run)
        if isinstance(sent, Exception) and not isinstance(sent, PublishError):
            documents = failed_run(documents, internal_reason(sent))
            sent = self._guarded(lambda: self._publisher.publish(documents), "the failure of %s", run)
        if isinstance(sent, Exception):
            self.failures[ReasonCode.PUBLISHING_FAILED] += 1
            return sent
        start = self._last_start = documents[0][1]
        quality = start["quality"]
        logger.info("%s: %s %s: %s", run, start["technique"], start["element"], quality["verdict"])
        if quality["verdict"] != Verdict.FAILED:
            return "predicted"
        self.failures.update(quality["codes"])
        return "failed"

    def _guarded(self, action: Callable[[], Result], what: str, whose: object) -> Result | Exception:
        """Return what an action returns or raises."""
        found = attempt(action)
        if isinstance(found, Exception):
            self._counts["errors"] += not isinstance(found, PublishError)
            logger.error(f"{what} could not be published; the RunEngine goes on", whose, exc_info=found)  # noqa: G004
        return found
