"""A planner that measures through the queue of an RE manager and learns from predictions in Tiled alone.

It keeps no state of its own. What was asked, runs and ended stands in the queue and its history, what was
answered in Tiled: a planner that was killed goes on where it was, measures nothing twice and has no more to
spend than before.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Event
from typing import Any

import numpy as np

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.queue.campaign import Limits, QueuedPlan
from bluesky_xpdml.planning.queue.client import AwayError, QueueState, RunQueue
from bluesky_xpdml.planning.queue.ledger import Ledger, Stage, ledger_of
from bluesky_xpdml.planning.queue.predictions import Question
from bluesky_xpdml.planning.trials import ID, TrialOptimizer
from bluesky_xpdml.publish.predictions import PredictionCatalog

Suggestion = Mapping[str, Any]

APART = 0.05
"""How far from a rejected point the next proposals keep [range of a parameter]."""
TRIES = 8
"""Suggestions that may lie beside rejected points before the campaign is called finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one turn of a planner found and did."""

    added: tuple[Suggestion, ...] = ()
    """Put into the queue."""
    answered: tuple[Mapping[str, Any], ...] = ()
    """Outcomes that the optimizer learned from, or refused for their verdict."""
    failed: tuple[tuple[str, str], ...] = ()
    """Trials that were measured in vain, and why."""
    removed: tuple[str, ...] = ()
    """Trials that a person took out of the queue."""
    waiting: int = 0
    """Items of the campaign that wait in the queue."""
    measured: int = 0
    """Trials that were measured or are being measured."""
    note: str = ""
    """Why nothing goes on: a server that is away, a queue that stands still; empty where all goes on."""
    enough: str = ""
    """Why nothing more is asked for; empty while something is."""
    finished: bool = False
    """Whether nothing more is asked for, and all that was asked is answered or has failed."""


class QueuePlanner:
    """Adds what an optimizer suggests to a queue, within limits.

    Parameters
    ----------
    optimizer
        A new one; it is told of all trials of the campaign that there are.
    catalog
        Where the predictions are.
    queue
        Where plans are added.
    plan
        That measures a trial.
    question
        Which predictions answer.
    limits
        How far it may go.
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
        """Trials that waited in the queue when it was last looked at, or were added since."""
        self._names: dict[str, str] = {}
        """Under which the optimizer knows trials, also those that an earlier process asked for."""
        self._told: dict[str, str] = {}
        """Derived run that the optimizer was told of, by trial; empty for a failure."""
        self._rejected: list[Suggestion] = []

    @property
    def proposals(self) -> tuple[Suggestion, ...]:
        """What waits for a person: `_id`, and a value for each parameter."""
        return tuple(self._proposals.values())

    def approve(self, trial: str) -> None:
        """Let a proposal be added at the next turn.

        Parameters
        ----------
        trial
            Its `_id`.

        Raises
        ------
        PlanningError
            If there is no such proposal.
        """
        self._approved[trial] = self._proposal(trial)

    def reject(self, trial: str) -> None:
        """Drop a proposal; it is no measurement, and nothing beside it is proposed again.

        Parameters
        ----------
        trial
            Its `_id`.

        Raises
        ------
        PlanningError
            If there is no such proposal.
        """
        self._rejected.append(self._proposal(trial))

    def run(self, stop: Event, *, pause: float = 1.0, tell: Callable[[Turn], None] = lambda _: None) -> Turn:
        """Take turns until it is finished or told to stop, and return the last one.

        Parameters
        ----------
        stop
            Ends it; what waits in the queue stays there.
        pause
            Between two turns [s].
        tell
            Called after each turn.

        Raises
        ------
        PlanningError
            If the plan cannot be run, or was refused.
        """
        self._queue.check(self._plan.name)
        while True:
            turn = self.step()
            tell(turn)
            if turn.finished or stop.wait(pause):
                return turn

    def step(self) -> Turn:
        """Take one turn: learn what is new, and add what is missing.

        Raises
        ------
        PlanningError
            If the RE manager refuses a plan, or trials of the campaign lack a parameter.
        """
        try:
            state = self._queue.look()
            predictions = self._question.read(self._catalog)
        except AwayError as error:
            return Turn(note=str(error))
        ledger = ledger_of(
            self._question, state, predictions, now=time.time(), patience=self._limits.patience
        )
        removed = self._compare(ledger)
        turn = self._learn(ledger)
        enough, withdraw = self._enough(ledger)
        turn = replace(turn, removed=removed, note=_still(state))
        try:
            return self._act(turn, state, ledger, enough, withdraw=withdraw)
        except AwayError as error:
            return replace(turn, note=str(error))

    def _compare(self, ledger: Ledger) -> tuple[str, ...]:
        """Take up trials of an earlier process, drop those that a person removed, and return these."""
        # What is there needs no adding, also where the answer to its adding was lost.
        self._approved = {key: each for key, each in self._approved.items() if key not in ledger.entries}
        removed = tuple(key for key in self._queued if key not in ledger.entries)
        self._rejected += [self._queued[key] for key in removed]
        self._queued = {
            entry.id: {ID: entry.id, **entry.parameters}
            for entry in ledger.entries.values()
            if entry.stage is Stage.WAITING
        }
        for entry in ledger.entries.values():
            settled = entry.stage in {Stage.ANSWERED, Stage.FAILED}
            if not settled and entry.id not in self._names:
                (pending,) = self._optimizer.register_suggestions([entry.parameters])
                self._names[entry.id] = pending[ID]
        return removed

    def _learn(self, ledger: Ledger) -> Turn:
        """Tell the optimizer what is new."""
        answered, failed = [], []
        for entry in ledger.entries.values():
            name = self._names.get(entry.id, entry.id)
            if entry.prediction is not None and self._told.get(entry.id) != entry.prediction.uid:
                outcome = self._question.outcome(entry.id, entry.parameters, entry.prediction)
                self._optimizer.ingest([{**outcome, ID: name}])
                self._told[entry.id] = entry.prediction.uid
                answered.append(outcome)
            if entry.stage is Stage.FAILED and entry.id not in self._told:
                self._optimizer.register_failures([{**entry.parameters, ID: name}])
                self._told[entry.id] = ""
                failed.append((entry.id, entry.reason))
        waiting = len(ledger.waiting)
        return Turn(
            answered=tuple(answered), failed=tuple(failed), waiting=waiting, measured=ledger.n_measured
        )

    def _enough(self, ledger: Ledger) -> tuple[str, bool]:
        """Return why nothing more is asked for, and whether what waits is of no more use."""
        limits = self._limits
        stop, why = self._optimizer.should_stop()
        if stop:
            return why or "the optimizer has seen enough", True
        if ledger.began is not None and time.time() - ledger.began > limits.seconds:
            return f"the {limits.seconds:g} s of the campaign are over", True
        if len(ledger.entries) >= limits.measurements:
            return f"the {limits.measurements} measurements of the campaign are used up", False
        return "", False

    def _act(self, turn: Turn, state: QueueState, ledger: Ledger, enough: str, *, withdraw: bool) -> Turn:
        """Take away what is of no use, and add what is missing."""
        useless = ledger.superfluous + (ledger.waiting if withdraw else ())
        kept = [uid for uid in useless if state.locked or not self._queue.remove(uid)]
        if withdraw:
            # That these go is no person's doing.
            self._queued.clear()
        if enough:
            self._proposals.clear()
            self._approved.clear()
            return replace(turn, enough=enough, finished=self._at_rest(ledger, kept, withdraw=withdraw))
        if state.environment_open and not state.locked:
            enough = self._propose(ledger)
            turn = replace(turn, added=self._add(ledger), enough=enough)
        underway = turn.added or self._approved or self._proposals
        waiting = turn.waiting + len(turn.added)
        at_rest = self._at_rest(ledger, kept, withdraw=False)
        return replace(turn, waiting=waiting, finished=bool(enough) and at_rest and not underway)

    def _at_rest(self, ledger: Ledger, kept: Sequence[str], *, withdraw: bool) -> bool:
        """Return whether all that was asked for is answered, failed or withdrawn."""
        stages = {each.stage for each in ledger.entries.values()}
        if withdraw:
            stages.discard(Stage.WAITING)
        return not kept and not ledger.running and stages <= {Stage.ANSWERED, Stage.FAILED}

    def _propose(self, ledger: Ledger) -> str:
        """Take new suggestions up to the limits; return why there are none, empty where there are."""
        underway = len(self._proposals) + len(self._approved)
        room = self._limits.at_most_queued - len(ledger.waiting) - underway
        budget = self._limits.measurements - len(ledger.entries) - underway
        for _ in range(max(0, min(room, budget))):
            suggestion = self._suggest()
            if suggestion is None:
                return f"the last {TRIES} suggestions lie beside points that were rejected"
            self._names[suggestion[ID]] = suggestion[ID]
            (self._proposals if self._ask else self._approved)[suggestion[ID]] = suggestion
        return ""

    def _suggest(self) -> Suggestion | None:
        """Return a suggestion away from what was rejected.

        What was passed over stays pending in the optimizer, which therefore looks elsewhere, and counts as
        no measurement.
        """
        for _ in range(TRIES):
            (suggestion,) = self._optimizer.suggest(1)
            if not self._rejected:
                return suggestion
            rows = self._optimizer.space.to_unit([suggestion, *self._rejected])
            if np.min(np.linalg.norm(rows[1:] - rows[0], axis=1)) > APART:
                return suggestion
        return None

    def _add(self, ledger: Ledger) -> tuple[Suggestion, ...]:
        """Put into the queue what was approved and is not there yet."""
        added = []
        room = self._limits.at_most_queued - len(ledger.waiting)
        for key, suggestion in list(self._approved.items())[: max(0, room)]:
            # It stays approved where no answer comes: the next look at the queue says whether it is there.
            self._queue.add(self._plan.item(self._question.campaign, suggestion))
            del self._approved[key]
            self._queued[key] = suggestion
            added.append(suggestion)
        return tuple(added)

    def _proposal(self, trial: str) -> Suggestion:
        if trial not in self._proposals:
            found = ", ".join(self._proposals) or "none"
            raise PlanningError(f"expected the id of a proposal, found {trial!r}; there are {found}")
        return self._proposals.pop(trial)


def _still(state: QueueState) -> str:
    """Return why the queue stands still; empty where it does not."""
    if state.locked:
        return "the queue is locked: unlock it"
    if not state.environment_open:
        return "the environment of the RE manager is closed: open it"
    if state.works:
        return ""
    return "the queue is stopped: start it, or let it start by itself (`qserver queue autostart enable`)"
