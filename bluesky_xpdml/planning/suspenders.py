"""A suspender that stops measuring after several novel or failed predictions in a row.

A person has to resume it: nothing is measured while the RunEngine is suspended, so no better prediction can
come. `PredictionAlarm.acknowledge` ends the alarm.
"""

import logging
from collections.abc import Mapping
from threading import Lock
from typing import Any

from bluesky.suspenders import SuspenderBase
from ophyd import Signal

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.publish.published import PublishedPrediction

logger = logging.getLogger(__name__)

SCORE, THRESHOLD = "novelty_score", "novelty_threshold"


def is_novel(diagnostics: Mapping[str, float]) -> bool:
    """Return whether the diagnostics of a prediction call its sample unlike the training data."""
    prefixes = [name.removesuffix(SCORE) for name in diagnostics if name.endswith(SCORE)]
    return any(
        diagnostics[prefix + SCORE] > diagnostics.get(prefix + THRESHOLD, float("inf")) for prefix in prefixes
    )


class PredictionAlarm:
    """Counts novel and failed predictions, and keeps the reason for an alarm in an ophyd signal.

    A catalog feeds it: `catalog.subscribe(alarm.take, query=Query(beamline="bmm"))`.

    Parameters
    ----------
    novel
        Number of novel predictions in a row that are an alarm; failures between them are ignored.
    failed
        Number of failures in a row that are an alarm.

    Attributes
    ----------
    signal : ophyd.Signal
        The reason for the alarm, for people; empty without alarm.

    Raises
    ------
    PlanningError
        If a number is less than one.
    """

    def __init__(self, *, novel: int, failed: int) -> None:
        if novel < 1 or failed < 1:
            raise PlanningError(f"expected numbers of predictions, one or more, found {novel} and {failed}")
        self.signal = Signal(name="xpdml_alarm", value="")
        self._max_novel, self._max_failed = novel, failed
        self._n_novel = self._n_failed = 0
        self._seen: set[str] = set()
        self._lock = Lock()

    @property
    def reason(self) -> str:
        """The reason for the alarm; empty without alarm."""
        return str(self.signal.get())

    def take(self, prediction: PublishedPrediction) -> None:
        """Count a prediction as the catalog delivers it; each one once."""
        with self._lock:
            if prediction.uid in self._seen:
                return
            self._seen.add(prediction.uid)
            reason = self._count(prediction)
        if reason:
            logger.warning("alarm: %s", reason)
            self.signal.put(reason)

    def acknowledge(self) -> None:
        """End the alarm and restart the counts: measuring goes on."""
        with self._lock:
            self._n_novel = self._n_failed = 0
        self.signal.put("")

    def _count(self, prediction: PublishedPrediction) -> str:
        """Count a prediction and return the reason for an alarm, or an empty text."""
        if prediction.failed:
            self._n_failed += 1
            kind, count, limit = "failed", self._n_failed, self._max_failed
        else:
            self._n_failed = 0
            self._n_novel = self._n_novel + 1 if is_novel(prediction.diagnostics) else 0
            kind, count, limit = "novel", self._n_novel, self._max_novel
        if count < limit:
            return ""
        of = prediction.sample.name or ", ".join(prediction.raw_uids)
        why = "; ".join(prediction.quality.reasons) or "no reason is given"
        return f"{count} {kind} in a row, the last of {of}: {why}"


class SuspendOnAlarm(SuspenderBase):  # type: ignore[misc]
    """Suspends the RunEngine until an alarm is acknowledged.

    It waits for `sleep` [s] after that, and runs plans before it waits and before it goes on, such as closing
    and opening a shutter.
    """

    def __init__(
        self, alarm: PredictionAlarm, *, sleep: float = 0.0, pre_plan: Any = None, post_plan: Any = None
    ) -> None:
        super().__init__(alarm.signal, sleep=sleep, pre_plan=pre_plan, post_plan=post_plan)
        self._alarm = alarm

    def _should_suspend(self, value: object) -> bool:
        return bool(value)

    def _should_resume(self, value: object) -> bool:
        return not value

    def _get_justification(self) -> str:
        if not self.tripped:
            return ""
        return f"{self._alarm.reason}; look at it, then acknowledge the alarm"
