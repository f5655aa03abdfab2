"""Where each trial of a campaign stands, from the queue and from the predictions in Tiled alone.

A planner that was killed reads the same here as one that went on: nothing is kept anywhere else.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from bluesky_xpdml.planning.queue.client import QueueItem, QueueState
from bluesky_xpdml.planning.queue.predictions import Question
from bluesky_xpdml.publish.published import PublishedPrediction

UNSUCCESSFUL = frozenset({"failed", "aborted", "halted"})
"""How plans end that gave no measurement; a stopped one may have given one."""


class Stage(StrEnum):
    """How far a trial is."""

    WAITING = "waiting"
    """In the queue."""
    RUNNING = "running"
    AWAITED = "awaited"
    """Measured; its prediction may still come."""
    ANSWERED = "answered"
    FAILED = "failed"
    """Measured in vain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One trial."""

    id: str
    parameters: Mapping[str, Any]
    stage: Stage
    reason: str = ""
    """Why it failed; empty where it did not."""
    prediction: PublishedPrediction | None = None
    """What was answered; None where nothing was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """All trials of a campaign."""

    entries: Mapping[str, Entry]
    """By the id of the trial."""
    superfluous: tuple[str, ...]
    """Items that wait and would measure a trial again: the RE manager puts back what failed."""
    waiting: tuple[str, ...]
    """Items that wait, each for a trial of its own."""
    running: bool
    """Whether a plan of the campaign runs."""
    began: float | None
    """When the first measurement began [s since 1970]; None where there is none."""

    @property
    def n_measured(self) -> int:
        """Trials that were measured or are being measured."""
        return sum(each.stage is not Stage.WAITING for each in self.entries.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Items:
    """Items of a campaign, by the id of their trial."""

    waiting: Mapping[str, Sequence[QueueItem]]
    running: Mapping[str, Sequence[QueueItem]]
    finished: Mapping[str, Sequence[QueueItem]]


def ledger_of(
    question: Question,
    state: QueueState,
    predictions: Sequence[PublishedPrediction],
    *,
    now: float,
    patience: float,
) -> Ledger:
    """Return where each trial stands.

    Parameters
    ----------
    question
        Names the campaign, and says what an answer is.
    state
        The queue, looked at before the predictions were read.
    predictions
        Of the campaign, newest first.
    now
        [s since 1970]
    patience
        How long after its plan a prediction is waited for [s].
    """
    items = _Items(
        waiting=_by_trial(state.waiting, question.campaign),
        running=_by_trial([state.running] if state.running else [], question.campaign),
        finished=_by_trial(state.finished, question.campaign),
    )
    answers = question.answers(predictions)
    entries = {}
    for trial in dict.fromkeys([*answers, *items.finished, *items.running, *items.waiting]):
        entries[trial] = _entry(trial, items, answers.get(trial), question.descriptor)
        if entries[trial].stage is Stage.AWAITED and _is_late(items.finished[trial][-1], now, patience):
            reason = f"no prediction came within {patience:g} s of its plan"
            entries[trial] = replace(entries[trial], stage=Stage.FAILED, reason=reason)
    all_waiting = [item.uid for each in items.waiting.values() for item in each]
    needed = [each[0].uid for key, each in items.waiting.items() if entries[key].stage is Stage.WAITING]
    return Ledger(
        entries=entries,
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


def _entry(trial: str, items: _Items, answer: PublishedPrediction | None, descriptor: str) -> Entry:
    """Return where one trial stands; an answer counts, whatever became of its plan."""
    if answer is not None and not answer.failed and descriptor in answer.descriptors:
        said = _parameters(answer)
        return Entry(id=trial, parameters=said, stage=Stage.ANSWERED, prediction=answer)
    if trial in items.running:
        return Entry(id=trial, parameters=items.running[trial][0].parameters, stage=Stage.RUNNING)
    if trial in items.finished:
        last = items.finished[trial][-1]
        reason = _why_failed(last, answer)
        stage = Stage.FAILED if reason else Stage.AWAITED
        return Entry(id=trial, parameters=last.parameters, stage=stage, reason=reason)
    if answer is not None:
        # The history was cleared.
        reason = _why_unanswered(answer)
        return Entry(id=trial, parameters=_parameters(answer), stage=Stage.FAILED, reason=reason)
    return Entry(id=trial, parameters=items.waiting[trial][0].parameters, stage=Stage.WAITING)


def _why_failed(item: QueueItem, answer: PublishedPrediction | None) -> str:
    """Return why a trial failed whose plan ended; empty while there is hope."""
    if item.status in UNSUCCESSFUL:
        return ": ".join(part for part in (f"the plan ended as {item.status}", item.reason.strip()) if part)
    return "" if answer is None else _why_unanswered(answer)


def _why_unanswered(answer: PublishedPrediction) -> str:
    return "; ".join(answer.quality.reasons) or f"the prediction has {', '.join(answer.descriptors)} only"


def _is_late(item: QueueItem, now: float, patience: float) -> bool:
    return item.ended is not None and now - item.ended > patience


def _parameters(answer: PublishedPrediction) -> Mapping[str, Any]:
    said = answer.origin.trial.get("parameters")
    return dict(said) if isinstance(said, Mapping) else {}
