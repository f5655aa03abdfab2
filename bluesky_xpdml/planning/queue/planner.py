"""A planner that measures through the queue of an RE manager and learns from predictions in Tiled alone.

It keeps no state of its own: requests are in the queue and its history, answers in Tiled. A planner that was
killed continues where it was, measures nothing twice, and has the same budget left.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Event
from typing import Any

import numpy as np

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.queue.campaign import Limits, QueuedPlan
from bluesky_xpdml.planning.queue.client import QueueState, RunQueue, UnreachableError
from bluesky_xpdml.planning.queue.progress import CampaignProgress, Question, Stage, campaign_progress
from bluesky_xpdml.planning.trials import ID, TrialOptimizer
from bluesky_xpdml.publish.predictions import PredictionCatalog

Suggestion = Mapping[str, Any]

MIN_DISTANCE = 0.05
"""Smallest distance of new proposals to a rejected point [range of a parameter]."""
MAX_TRIES = 8
"""Suggestions near rejected points, after which the campaign is finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What one step of a planner found and did."""

    added: tuple[Suggestion, ...] = ()
    """Suggestions that were added to the queue."""
    answered: tuple[Mapping[str, Any], ...] = ()
    """Outcomes that the optimizer ingested."""
    failed: tuple[tuple[str, str], ...] = ()
    """Trials that failed, and why."""
    removed: tuple[str, ...] = ()
    """Trials that a person removed from the queue."""
    waiting: int = 0
    """Items of the campaign that wait in the queue."""
    measured: int = 0
    """Trials that were measured or are being measured."""
    note: str = ""
    """Why nothing proceeds: an unreachable server, a stopped queue; empty if all proceeds."""
    enough: str = ""
    """Why no more trials are requested; empty while some are."""
    finished: bool = False
    """Whether no more trials are requested and all are answered or failed."""


class QueuePlanner:
    """Adds the suggestions of an optimizer to a queue, within limits.

    Parameters
    ----------
    optimizer
        A new one; it ingests all trials of the campaign.
    catalog
        Where the predictions are.
    queue
        Where plans are added.
    plan
        Measures a trial.
    question
        Which predictions answer.
    limits
        Budget of the campaign.
    ask
        Whether a person approves each item before it is added: see `proposals`.

    Raises
    ------
    PlanningError
        If the plan cannot take the parameters, or the descriptor is not the optimizer's.
    """

    def __init__(
        self,
        optimizer: TrialOptimizer,
        catalog: PredictionCatalog,
        queue: RunQueue,
        *,
        plan: QueuedPlan,
        question: Question,
        limits: Limits,
        ask: bool = False,
    ) -> None:
        plan.check(optimizer.space)
        if question.descriptor != optimizer.descriptor or not question.campaign:
            raise PlanningError(
                f"expected a named campaign for {optimizer.descriptor}, found "
                f"{question.campaign!r} for {question.descriptor}"
            )
        self._optimizer, self._catalog, self._queue = optimizer, catalog, queue
        self._plan, self._question, self._limits, self._ask = plan, question, limits, ask
        self._proposals: dict[str, Suggestion] = {}
        self._approved: dict[str, Suggestion] = {}
        self._queued: dict[str, Suggestion] = {}
        """Trials that waited in the queue at the last step, or were added since."""
        self._optimizer_ids: dict[str, str] = {}
        """Ids of the trials in the optimizer, also of those that an earlier process requested."""
        self._ingested: dict[str, str] = {}
        """Uid of the ingested derived run, by trial; empty for a failure."""
        self._rejected: list[Suggestion] = []

    @property
    def proposals(self) -> tuple[Suggestion, ...]:
        """Suggestions that wait for a person: `_id`, and a value for each parameter."""
        return tuple(self._proposals.values())

    def approve(self, trial: str) -> None:
        """Let the proposal with this `_id` be added at the next step; a `PlanningError` if there is none."""
        self._approved[trial] = self._pop_proposal(trial)

    def reject(self, trial: str) -> None:
        """Drop the proposal with this `_id`. It is no measurement, and nothing near it is proposed again."""
        self._rejected.append(self._pop_proposal(trial))

    def run(
        self, stop: Event, *, pause: float = 1.0, report: Callable[[StepReport], None] = lambda _: None
    ) -> StepReport:
        """Repeat steps, with pauses [s], until the campaign is finished or `stop` is set.

        It returns the last report. Items that wait in the queue stay there. `report` is called after each
        step. A `PlanningError` is raised if the plan cannot be run, or was refused.
        """
        self._queue.check_plan(self._plan.name)
        while True:
            last = self.step()
            report(last)
            if last.finished or stop.wait(pause):
                return last

    def step(self) -> StepReport:
        """Ingest new answers, and add missing items.

        It raises a `PlanningError` if the RE manager refuses a plan, or trials of the campaign lack a
        parameter.
        """
        try:
            state = self._queue.state()
            predictions = self._question.read(self._catalog)
        except UnreachableError as error:
            return StepReport(note=str(error))
        progress = campaign_progress(
            self._question, state, predictions, now=time.time(), patience=self._limits.patience
        )
        removed = self._synchronise(progress)
        report = replace(self._ingest(progress), removed=removed, note=_why_stopped(state))
        enough, withdraw = self._enough(progress)
        try:
            if enough:
                return self._finish(report, state, progress, enough, withdraw=withdraw)
            return self._continue(report, state, progress)
        except UnreachableError as error:
            return replace(report, note=str(error))

    def _synchronise(self, progress: CampaignProgress) -> tuple[str, ...]:
        """Register trials of an earlier process, and return those that a person removed."""
        # An item in the queue needs no adding, even if the response to its adding was lost.
        self._approved = {key: each for key, each in self._approved.items() if key not in progress.trials}
        removed = tuple(key for key in self._queued if key not in progress.trials)
        self._rejected += [self._queued[key] for key in removed]
        self._queued = {
            trial.id: {ID: trial.id, **trial.parameters}
            for trial in progress.trials.values()
            if trial.stage is Stage.WAITING
        }
        for trial in progress.trials.values():
            if not trial.stage.is_final and trial.id not in self._optimizer_ids:
                (pending,) = self._optimizer.register_suggestions([trial.parameters])
                self._optimizer_ids[trial.id] = pending[ID]
        return removed

    def _ingest(self, progress: CampaignProgress) -> StepReport:
        """Let the optimizer learn new answers and failures."""
        answered, failed = [], []
        for trial in progress.trials.values():
            identifier = self._optimizer_ids.get(trial.id, trial.id)
            answer = trial.prediction
            if answer is not None and self._ingested.get(trial.id) != answer.uid:
                outcome = self._question.outcome(trial, answer)
                self._optimizer.ingest([{**outcome, ID: identifier}])
                self._ingested[trial.id] = answer.uid
                answered.append(outcome)
            if trial.stage is Stage.FAILED and trial.id not in self._ingested:
                self._optimizer.register_failures([{**trial.parameters, ID: identifier}])
                self._ingested[trial.id] = ""
                failed.append((trial.id, trial.reason))
        return StepReport(
            answered=tuple(answered),
            failed=tuple(failed),
            waiting=len(progress.waiting),
            measured=progress.n_measured,
        )

    def _enough(self, progress: CampaignProgress) -> tuple[str, bool]:
        """Return why no more trials are requested, and whether the waiting ones are useless too."""
        limits = self._limits
        stop, why = self._optimizer.should_stop()
        if stop:
            return why or "the optimizer has seen enough", True
        if progress.began is not None and time.time() - progress.began > limits.seconds:
            return f"the {limits.seconds:g} s of the campaign are over", True
        if len(progress.trials) >= limits.measurements:
            return f"the {limits.measurements} measurements of the campaign are used up", False
        return "", False

    def _finish(
        self,
        report: StepReport,
        state: QueueState,
        progress: CampaignProgress,
        enough: str,
        *,
        withdraw: bool,
    ) -> StepReport:
        """Remove useless items, and withdraw the waiting ones if they are useless too."""
        useless = progress.superfluous + (progress.waiting if withdraw else ())
        left = self._remove(useless, state)
        if withdraw:
            # Otherwise the next step would take them for removed by a person.
            self._queued.clear()
        self._proposals.clear()
        self._approved.clear()
        final = progress.all_started_final if withdraw else progress.all_final
        return replace(report, enough=enough, finished=final and not left)

    def _continue(self, report: StepReport, state: QueueState, progress: CampaignProgress) -> StepReport:
        """Remove superfluous items, and add missing ones."""
        left = self._remove(progress.superfluous, state)
        enough = ""
        added: tuple[Suggestion, ...] = ()
        if state.environment_open and not state.locked:
            enough = self._propose(progress)
            added = self._add(progress)
        underway = added or self._approved or self._proposals
        finished = bool(enough) and progress.all_final and not left and not underway
        return replace(
            report, added=added, enough=enough, waiting=report.waiting + len(added), finished=finished
        )

    def _remove(self, uids: Sequence[str], state: QueueState) -> list[str]:
        """Remove items, and return those that could not be removed."""
        return [uid for uid in uids if state.locked or not self._queue.remove(uid)]

    def _propose(self, progress: CampaignProgress) -> str:
        """Take new suggestions up to the limits; return why there are no more, empty if there are."""
        underway = len(self._proposals) + len(self._approved)
        room = self._limits.at_most_queued - len(progress.waiting) - underway
        budget = self._limits.measurements - len(progress.trials) - underway
        for _ in range(max(0, min(room, budget))):
            suggestion = self._suggest()
            if suggestion is None:
                return f"the last {MAX_TRIES} suggestions lie beside points that were rejected"
            self._optimizer_ids[suggestion[ID]] = suggestion[ID]
            (self._proposals if self._ask else self._approved)[suggestion[ID]] = suggestion
        return ""

    def _suggest(self) -> Suggestion | None:
        """Return a suggestion away from rejected points; others stay pending, so that it looks elsewhere."""
        for _ in range(MAX_TRIES):
            (suggestion,) = self._optimizer.suggest(1)
            if not self._rejected:
                return suggestion
            rows = self._optimizer.space.to_unit([suggestion, *self._rejected])
            if np.min(np.linalg.norm(rows[1:] - rows[0], axis=1)) > MIN_DISTANCE:
                return suggestion
        return None

    def _add(self, progress: CampaignProgress) -> tuple[Suggestion, ...]:
        """Add approved suggestions to the queue."""
        added = []
        room = self._limits.at_most_queued - len(progress.waiting)
        for key, suggestion in list(self._approved.items())[: max(0, room)]:
            # Without a response it stays approved: the next state of the queue shows whether it was added.
            self._queue.add(self._plan.item(self._question.campaign, suggestion))
            del self._approved[key]
            self._queued[key] = suggestion
            added.append(suggestion)
        return tuple(added)

    def _pop_proposal(self, trial: str) -> Suggestion:
        if trial not in self._proposals:
            found = ", ".join(self._proposals) or "none"
            raise PlanningError(f"expected the id of a proposal, found {trial!r}; there are {found}")
        return self._proposals.pop(trial)


def _why_stopped(state: QueueState) -> str:
    """Return why the queue does not proceed; empty if it does."""
    if state.locked:
        return "the queue is locked: unlock it"
    if not state.environment_open:
        return "the environment of the RE manager is closed: open it"
    if state.works:
        return ""
    return "the queue is stopped: start it, or let it start by itself (`qserver queue autostart enable`)"
