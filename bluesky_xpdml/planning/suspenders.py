"""A suspender that stops measuring when the answers make no sense: novel, or failed, again and again.

What resumes it is a person: nothing is measured while the RunEngine is suspended, so no better prediction
will come by itself. `PredictionAlarm.acknowledge` says that someone looked.
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
    """Return whether a prediction is about something unlike what its models were trained on.

    Parameters
    ----------
    diagnostics
        Of the prediction.

    Examples
    --------
    >>> is_novel({"novelty_score": 3.1, "novelty_threshold": 1.8}), is_novel({})
    (True, False)
    """
    beginnings = [name.removesuffix(SCORE) for name in diagnostics if name.endswith(SCORE)]
    return any(
        diagnostics[start + SCORE] > diagnostics.get(start + THRESHOLD, float("inf")) for start in beginnings
    )


class PredictionAlarm:
    """Watches predictions and keeps the reason for an alarm in an ophyd signal.

    A catalog feeds it: `catalog.subscribe(alarm.take, query=Query(beamline="bmm"))`.

    Parameters
    ----------
    novel
        So many novel answers in a row are an alarm; failures between them do not matter.
    failed
        So many failures in a row are an alarm.

    Attributes
    ----------
    signal : ophyd.Signal
        Why measuring should stop, for people; empty while nothing is wrong.

    Raises
    ------
    PlanningError
        If a number is less than one.
    """

    def __init__(self, *, novel: int, failed: int) -> None:
        if novel < 1 or failed < 1:
            raise PlanningError(f"expected numbers of predictions, one or more, found {novel} and {failed}")
        self.signal = Signal(name="xpdml_alarm", value="")
        self._limits = {"novel": novel, "failed": failed}
        self._in_a_row = dict.fromkeys(self._limits, 0)
        self._seen: set[str] = set()
        self._lock = Lock()

    @property
    def reason(self) -> str:
        """Why measuring should stop; empty while nothing is wrong."""
        return str(self.signal.get())

    def take(self, prediction: PublishedPrediction) -> None:
        """Look at a prediction; one that was looked at before does not count again.

        Parameters
        ----------
        prediction
            As the catalog gives it.
        """
        with self._lock:
            if prediction.uid in self._seen:
                return
            self._seen.add(prediction.uid)
            reason = self._counted(prediction)
        if reason:
            logger.warning("alarm: %s", reason)
            self.signal.put(reason)

    def acknowledge(self) -> None:
        """Say that someone looked: measuring goes on, and counting begins anew."""
        with self._lock:
            self._in_a_row = dict.fromkeys(self._limits, 0)
        self.signal.put("")

    def _counted(self, prediction: PublishedPrediction) -> str:
        """Count a prediction and return why it is an alarm; an empty text where it is none."""
        if prediction.failed:
            kind = "failed"
            self._in_a_row["failed"] += 1
        else:
            kind = "novel"
            self._in_a_row["failed"] = 0
            novel = is_novel(prediction.diagnostics)
            self._in_a_row["novel"] = self._in_a_row["novel"] + 1 if novel else 0
        count = self._in_a_row[kind]
        if count < self._limits[kind]:
            return ""
        of = prediction.sample.name or ", ".join(prediction.raw_uids)
        why = "; ".join(prediction.quality.reasons) or "no reason is given"
        return f"{count} {kind} in a row, the last of {of}: {why}"


class SuspendOnAlarm(SuspenderBase):  # type: ignore[misc]
    """Suspends the RunEngine while an alarm is not acknowledged.

    Parameters
    ----------
    alarm
        What is watched.
    sleep
        How long to wait after the acknowledgement [s].
    pre_plan, post_plan
        What the RunEngine does before it waits and before it goes on, such as closing and opening a shutter.

    Examples
    --------
    >>> alarm = PredictionAlarm(novel=3, failed=5)
    >>> suspender = SuspendOnAlarm(alarm)
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
