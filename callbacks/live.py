"""Partial results while a run goes on: as often as the worker has time for, never more often than asked."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bluesky_xpdml.documents import CollectedRun
from bluesky_xpdml.publish import LivePublisher, LiveRun
from bluesky_xpdml.records import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """What is published of absorption runs while they go on; total scattering has `ScatteringSettings.live`.

    Examples
    --------
    >>> LiveSettings(xanes=True).interval
    2.0
    """

    xanes: bool = False
    """Whether absorption scans are answered while they go on, as runs of the purpose `xpdml.live`."""
    interval: float = 2.0
    """Least time between two answers for one run [s]."""


class LiveUpdates:
    """Publishes what can be said of runs that go on, one live run for each of them and each element.

    Parameters
    ----------
    predict
        Returns the predictions for what was collected up to now.
    publisher
        Where the rows go.
    interval
        Least time between two rows of a run [s].
    clock
        Tells the time [s].
    """

    def __init__(
        self,
        predict: Callable[[CollectedRun], Sequence[Prediction]],
        publisher: LivePublisher,
        interval: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._predict = predict
        self._publisher = publisher
        self._interval = interval
        self._clock = clock
        self._last: dict[str, float] = {}
        self._open: dict[str, dict[str, LiveRun]] = {}

    def is_due(self, uid: str) -> bool:
        """Return whether it is time for another row of a run.

        Parameters
        ----------
        uid
            Uid of the raw run.
        """
        return self._clock() - self._last.get(uid, float("-inf")) >= self._interval

    def update(self, uid: str, run: CollectedRun | None) -> None:
        """Publish a row for each element of a run that goes on.

        Parameters
        ----------
        uid
            Uid of the raw run.
        run
            What was collected up to now; None where the run is not open any more.

        Raises
        ------
        PublishError
            If a row could not be handed over.
        """
        if run is None:
            return
        self._last[uid] = self._clock()
        runs = self._open.setdefault(uid, {})
        for prediction in self._predict(run):
            live = runs.get(prediction.element) or LiveRun()
            self._publisher.extend(live.update(prediction))
            # If the first row could not be written, the next one starts a run of its own.
            runs[prediction.element] = live
        # A prediction takes its time too: the interval is what lies between.
        self._last[uid] = self._clock()

    def finish(self, uid: str) -> None:
        """End the live runs of a run.

        Parameters
        ----------
        uid
            Uid of the raw run.

        Raises
        ------
        PublishError
            If the end could not be handed over.
        """
        self._last.pop(uid, None)
        for live in self._open.pop(uid, {}).values():
            self._publisher.extend(live.finish())
