"""The state of each trial of a campaign, from the queue and the predictions in Tiled alone.

No state is kept anywhere else, so a planner that was killed finds the same as one that kept running.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import nan
from typing import Any

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.planning.answers import (
    AnswerCriteria,
    is_joint,
    predictions_of_trial,
    select_answer,
)
from bluesky_xpdml.planning.queue.client import QueueItem, QueueState, UnreachableError
from bluesky_xpdml.planning.trials import ID, NOVELTY, QUALITY, outcome_numbers
from bluesky_xpdml.publish.predictions import PredictionCatalog
from bluesky_xpdml.publish.published import PublishedPrediction
from bluesky_xpdml.publish.query import Query
from bluesky_xpdml.publish.tiled import require_health
from bluesky_xpdml.vocabulary import Descriptor, Technique

UNSUCCESSFUL = frozenset({"failed", "aborted", "halted"})
"""Exit statuses of plans that gave no measurement; a stopped one may have given one."""
MAX_PREDICTIONS = 100_000
"""Predictions of one campaign that are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which predictions answer the trials of a campaign."""

    campaign: str
    """Its name; the same name continues the same campaign, also after a restart."""
    descriptor: Descriptor
    """Required in an answer."""
    technique: Technique
    """`xanes`, `pdf`, `dpdf`, or of both: `xanes+pdf`, `xanes+dpdf`."""
    element: str = ""
    """If a plan measures several; empty for any."""

    def read(self, catalog: PredictionCatalog) -> list[PublishedPrediction]:
        """Return the predictions of the campaign, newest first; an `UnreachableError` without server."""
        import httpx
        from tiled.client.utils import ClientError

        try:
            require_health(catalog.container)
            return catalog.find(Query(campaign=self.campaign), limit=MAX_PREDICTIONS)
        except (httpx.HTTPError, ClientError, OSError, PublishError) as error:
            raise UnreachableError(
                f"expected predictions at {catalog.container.uri}, found {type(error).__name__}: {error}; "
                "check that the Tiled server runs"
            ) from error

    def answers(self, predictions: Sequence[PublishedPrediction]) -> dict[str, PublishedPrediction]:
        """Return the prediction that counts for each trial, by its id, also if it failed."""
        criteria = AnswerCriteria(
            technique=self.technique, timeout=0.0, element=self.element, campaign=self.campaign
        )
        joint = [each for each in predictions if is_joint(each.technique)]
        by_trial: dict[str, list[PublishedPrediction]] = {}
        for each in predictions:
            by_trial.setdefault(str(each.origin.trial.get("id", "")), []).append(each)
        by_trial.pop("", None)
        selected = {
            trial: select_answer(predictions_of_trial([*own, *joint], criteria, trial), criteria)
            for trial, own in by_trial.items()
        }
        return {trial: answer for trial, answer in selected.items() if answer is not None}

    def outcome(self, status: "TrialStatus", answer: PublishedPrediction) -> dict[str, Any]:
        """Return the outcome of an answered trial, as an optimizer ingests it."""
        return {
            **status.parameters,
            ID: status.id,
            **outcome_numbers(self.descriptor, answer.descriptors[self.descriptor]),
            NOVELTY: answer.diagnostics.get("novelty_score", nan),
            QUALITY: answer.quality.verdict,
        }


class Stage(StrEnum):
    """How far a trial is."""

    WAITING = "waiting"
    """In the queue."""
    RUNNING = "running"
    AWAITED = "awaited"
    """Measured; its prediction may still come."""
    ANSWERED = "answered"
    FAILED = "failed"
    """Measured without answer."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to the trial."""
        return self in {Stage.ANSWERED, Stage.FAILED}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStatus:
    """The state of one trial."""

    id: str
    parameters: Mapping[str, Any]
    stage: Stage
    reason: str = ""
    """Why it failed; empty if it did not."""
    prediction: PublishedPrediction | None = None
    """Its answer; None if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignProgress:
    """The state of all trials of a campaign."""

    trials: Mapping[str, TrialStatus]
    """By the id of the trial."""
    superfluous: tuple[str, ...]
    """Waiting items that would repeat a trial: the RE manager puts failed items back."""
    waiting: tuple[str, ...]
    """Waiting items, each for a trial of its own."""
    running: bool
    """Whether a plan of the campaign runs."""
    began: float | None
    """When the first measurement began [s since 1970]; None if there is none."""

    @property
    def n_measured(self) -> int:
        """Number of trials that were measured or are being measured."""
        return sum(trial.stage is not Stage.WAITING for trial in self.trials.values())

    @property
    def all_final(self) -> bool:
        """Whether each trial is answered or failed, and none is running."""
        return not self.running and all(trial.stage.is_final for trial in self.trials.values())

    @property
    def all_started_final(self) -> bool:
        """Whether each trial that does not wait in the queue is answered or failed, and none is running."""
        started = [trial for trial in self.trials.values() if trial.stage is not Stage.WAITING]
        return not self.running and all(trial.stage.is_final for trial in started)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Items:
    """Items of a campaign, by the id of their trial."""

    waiting: Mapping[str, Sequence[QueueItem]]
    running: Mapping[str, Sequence[QueueItem]]
    finished: Mapping[str, Sequence[QueueItem]]


def campaign_progress(
    question: Question,
    state: QueueState,
    predictions: Sequence[PublishedPrediction],
    *,
    now: float,
    patience: float,
) -> CampaignProgress:
    """Return the state of all trials of a campaign now [s since 1970].

    The state of the queue has to be read before the predictions; these are sorted, newest first. A prediction
    may come until `patience` [s] after its plan.
    """
    items = _Items(
        waiting=_by_trial(state.waiting, question.campaign),
        running=_by_trial([state.running] if state.running else [], question.campaign),
        finished=_by_trial(state.finished, question.campaign),
    )
    answers = question.answers(predictions)
    trials = {}
    for trial in dict.fromkeys([*answers, *items.finished, *items.running, *items.waiting]):
        status = _trial_status(trial, items, answers.get(trial), question.descriptor)
        ended = items.finished[trial][-1].ended if status.stage is Stage.AWAITED else None
        if ended is not None and now - ended > patience:
            reason = f"no prediction came within {patience:g} s of its plan"
            status = replace(status, stage=Stage.FAILED, reason=reason)
        trials[trial] = status
    all_waiting = [item.uid for each in items.waiting.values() for item in each]
    needed = [each[0].uid for trial, each in items.waiting.items() if trials[trial].stage is Stage.WAITING]
    return CampaignProgress(
        trials=trials,
        superfluous=tuple(uid for uid in all_waiting if uid not in needed),
        waiting=tuple(needed),
        running=bool(items.running),
        began=_began(items, predictions),
    )


def _by_trial(items: Iterable[QueueItem], campaign: str) -> dict[str, list[QueueItem]]:
    found: dict[str, list[QueueItem]] = {}
    for item in items:
        if item.campaign == campaign and item.trial:
            found.setdefault(item.trial, []).append(item)
    return found


def _began(items: _Items, predictions: Sequence[PublishedPrediction]) -> float | None:
    """Return when the first measurement began; the history may have been cleared since."""
    times = [item.began for each in (*items.finished.values(), *items.running.values()) for item in each]
    times += [each.time if each.origin.time is None else each.origin.time for each in predictions]
    return min((time for time in times if time is not None), default=None)


def _trial_status(
    trial: str, items: _Items, answer: PublishedPrediction | None, descriptor: Descriptor
) -> TrialStatus:
    """Return the state of one trial; an answer counts, however its plan ended."""
    if answer is not None and not answer.failed and descriptor in answer.descriptors:
        parameters = _parameters(answer)
        return TrialStatus(id=trial, parameters=parameters, stage=Stage.ANSWERED, prediction=answer)
    if trial in items.running:
        return TrialStatus(id=trial, parameters=items.running[trial][0].parameters, stage=Stage.RUNNING)
    if trial in items.finished:
        last = items.finished[trial][-1]
        reason = _why_failed(last, answer)
        stage = Stage.FAILED if reason else Stage.AWAITED
        return TrialStatus(id=trial, parameters=last.parameters, stage=stage, reason=reason)
    if answer is not None:
        # The history was cleared.
        reason = _why_no_descriptor(answer)
        return TrialStatus(id=trial, parameters=_parameters(answer), stage=Stage.FAILED, reason=reason)
    return TrialStatus(id=trial, parameters=items.waiting[trial][0].parameters, stage=Stage.WAITING)


def _why_failed(item: QueueItem, answer: PublishedPrediction | None) -> str:
    """Return why a trial whose plan ended has failed; empty while an answer may come."""
    if item.status in UNSUCCESSFUL:
        return ": ".join(part for part in (f"the plan ended as {item.status}", item.reason.strip()) if part)
    return "" if answer is None else _why_no_descriptor(answer)


def _why_no_descriptor(answer: PublishedPrediction) -> str:
    return "; ".join(answer.quality.reasons) or f"the prediction has {', '.join(answer.descriptors)} only"


def _parameters(answer: PublishedPrediction) -> Mapping[str, Any]:
    parameters = answer.origin.trial.get("parameters")
    return dict(parameters) if isinstance(parameters, Mapping) else {}
