"""Partial results of running runs: as often as the worker has time, never more often than set."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from bluesky_xpdml.documents import CollectedRun
from bluesky_xpdml.publish import LiveRun
from bluesky_xpdml.publish.documents import NamedDocument
from bluesky_xpdml.records import Prediction


class LiveAnalysis(Protocol):
    """Gives partial predictions."""

    def update(self, run: CollectedRun) -> Sequence[Prediction]:
        """Return the predictions for what was collected so far."""

    def live_interval(self, run: CollectedRun) -> float:
        """Return the least time between two looks at a running run [s]."""


class Extends(Protocol):
    """Takes runs in parts, as a `LivePublisher` does."""

    def extend(self, documents: Sequence[NamedDocument]) -> None:
        """Write the next documents of a run."""


class LiveUpdates:
    """Publishes partial predictions, one live run for each raw run and element."""

    def __init__(
        self,
        analysis: LiveAnalysis,
        publisher: Extends,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._analysis = analysis
        self._publisher = publisher
        self._clock = clock
        self._due: dict[str, float] = {}
        self._open: dict[str, dict[str, LiveRun]] = {}

    def is_due(self, uid: str) -> bool:
        """Return whether it is time for another row of a run."""
        return self._clock() >= self._due.get(uid, float("-inf"))

    def update(self, uid: str, run: CollectedRun | None) -> None:
        """Publish a row for each element of a run; nothing if the run is not open any more.

        Raises
        ------
        PublishError
            If a row could not be published.
        """
        if run is None:
            return
        interval = self._analysis.live_interval(run)
        runs = self._open.setdefault(uid, {})
        try:
            for prediction in self._analysis.update(run):
                live = runs.get(prediction.element) or LiveRun()
                self._publisher.extend(live.update(prediction))
                # If the first row could not be written, the next one starts a run of its own.
                runs[prediction.element] = live
        finally:
            # The interval lies between the end of one update and the begin of the next.
            self._due[uid] = self._clock() + interval

    def finish(self, uid: str) -> None:
        """End the live runs of a run.

        Raises
        ------
        PublishError
            If the end could not be published.
        """
        self._due.pop(uid, None)
        for live in self._open.pop(uid, {}).values():
            self._publisher.extend(live.finish())
