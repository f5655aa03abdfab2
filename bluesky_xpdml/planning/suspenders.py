"""A suspender that stops measuring when the answers make no sense: novel, or failed, again and again.

What resumes it is a person: nothing is measured while the RunEngine is suspended, so no better prediction
will come by itself. `PredictionAlarm.acknowledge` says that someone looked.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from threading import Event, Lock, Thread
from typing import Any, Self

from bluesky.suspenders import SuspenderBase
from ophyd import Signal

from bluesky_xpdml.errors import PlanningError, PublishError
from bluesky_xpdml.planning.answers import MOST_ANSWERS, require_health
from bluesky_xpdml.publish.predictions import PredictionCatalog
from bluesky_xpdml.publish.published import PublishedPrediction
from bluesky_xpdml.publish.query import Query

logger = logging.getLogger(__name__)

OVERLAP = 60.0
"""Predictions may reach the server so much later than they were made [s]."""
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


class AlarmFeed:
    """Asks the catalog again and again for new predictions, in a thread, and shows them to an alarm.

    Parameters
    ----------
    catalog
        Where predictions are.
    alarm
        What looks at them.
    query
        Which predictions matter: those of a campaign, a beamline, a proposal.
    since
        Predicted at this time or later [s since 1970].
    interval
        Between two questions [s].
    """

    def __init__(
        self,
        catalog: PredictionCatalog,
        alarm: PredictionAlarm,
        *,
        query: Query,
        since: float,
        interval: float = 1.0,
    ) -> None:
        self._catalog = catalog
        self._alarm = alarm
        self._query = query
        self._since = self._latest = since
        self._interval = interval
        self._closed = Event()
        self._thread = Thread(target=self._work, name="xpdml-alarm", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop asking; what was asked is waited for no longer than ten seconds."""
        self._closed.set()
        self._thread.join(10.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        while not self._closed.is_set():
            began = time.monotonic()
            for prediction in self._new():
                self._latest = max(self._latest, prediction.time)
                self._alarm.take(prediction)
            self._closed.wait(max(self._interval - (time.monotonic() - began), 0.0))

    def _new(self) -> list[PublishedPrediction]:
        """Return predictions from a little before the latest on, oldest first; none if the server is away."""
        import httpx

        after = max(self._since, self._latest - OVERLAP)
        try:
            require_health(self._catalog)
            found = self._catalog.find(replace(self._query, after=after), limit=MOST_ANSWERS, superseded=True)
        except (httpx.HTTPError, OSError, PublishError) as error:
            logger.warning("the predictions could not be asked for: %s", error)
            return []
        return sorted((each for each in found if each.time >= after), key=lambda each: each.time)


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
