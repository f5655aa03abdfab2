"""Trials of a campaign: what was asked, answered and failed, and how a raw run says that it is one.

`TrialOptimizer` is what the optimizers of this room share. It satisfies the protocols `Optimizer`,
`TrialFaultAware`, `CanRegisterSuggestions` and `SupportsStoppingCriteria` of bluesky-adaptive 1.x.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import Any
from uuid import uuid4

import numpy as np

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.space import Space
from bluesky_xpdml.records import TRIAL, FloatArray, Verdict

ID = "_id"
"""Entry of suggestions and outcomes that says which trial they belong to."""
QUALITY = "quality"
"""Entry of an outcome: the verdict of its prediction. A failed one is a failed trial."""
NOVELTY = "novelty"
"""Entry of an outcome: the novelty score of its prediction, NaN where it has none."""


def trial_metadata(campaign: str, suggestion: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the start document of a trial's raw run has to say, for the `md` of its plan.

    The prediction carries it on, so that a planner finds its trials, and a restarted one what it had learned.

    Parameters
    ----------
    campaign
        Name of the campaign; one name is one campaign, also after a restart.
    suggestion
        What an optimizer suggested: `_id`, and a value for each parameter.

    Examples
    --------
    >>> trial_metadata("front-7", {"_id": "a1", "temperature": 512.0})
    {'xpdml_trial': {'campaign': 'front-7', 'id': 'a1', 'parameters': {'temperature': 512.0}}}
    """
    parameters = {name: value for name, value in suggestion.items() if name != ID}
    return {TRIAL: {"campaign": campaign, "id": suggestion[ID], "parameters": parameters}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What is known at one point."""

    id: str
    point: tuple[float, ...]
    """In the unit cube, (d,)."""
    value: float
    """Of the descriptor [its unit]."""
    low: float
    """Lower end of its 90 % interval."""
    high: float
    """Upper end of its 90 % interval."""
    outcome: Mapping[str, Any] = field(compare=False, repr=False)
    """All that was said."""


class TrialOptimizer(ABC):
    """An optimizer that learns from predictions of one descriptor.

    Parameters
    ----------
    space
        What may be changed.
    descriptor
        `oxidation_state`, `coordination_number`, `bond_length` or another.
    accept
        Verdicts of predictions to learn from; all others are failed trials.
    """

    def __init__(
        self,
        space: Space,
        descriptor: str,
        *,
        accept: tuple[Verdict, ...] = (Verdict.GOOD, Verdict.SUSPECT),
    ) -> None:
        self.space = space
        self.descriptor = descriptor
        self._accept = accept
        self._pending: dict[str, tuple[float, ...]] = {}
        self._answered: dict[str, Answered] = {}
        self._failed: dict[str, tuple[float, ...]] = {}

    @property
    def answered(self) -> tuple[Answered, ...]:
        """Trials with an answer, in the order in which they came."""
        return tuple(self._answered.values())

    @property
    def n_failed(self) -> int:
        """Trials that were measured in vain."""
        return len(self._failed)

    @property
    def n_measured(self) -> int:
        """Trials that were measured, with and without an answer."""
        return len(self._answered) + len(self._failed)

    def suggest(self, num_points: int | None = None) -> Sequence[Mapping[str, Any]]:
        """Return points to measure next: `_id`, and a value for each parameter.

        Parameters
        ----------
        num_points
            How many; one if None.
        """
        rows = self._propose(1 if num_points is None else num_points)
        return self.register_suggestions(self.space.from_unit(rows))

    def register_suggestions(self, suggestions: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Take points of someone else as trials and return them with an `_id` each.

        Parameters
        ----------
        suggestions
            A value for each parameter; an `_id` is replaced.

        Raises
        ------
        PlanningError
            If a parameter is missing.
        """
        registered: list[dict[str, Any]] = []
        for point, row in zip(suggestions, self.space.to_unit(suggestions), strict=True):
            # Not a counter: one that was started anew would give a number twice.
            identifier = uuid4().hex[:12]
            self._pending[identifier] = tuple(row)
            registered.append({ID: identifier, **{name: float(point[name]) for name in self.space.names}})
        return registered

    def register_failures(self, suggestions: Sequence[Mapping[str, Any]]) -> None:
        """Take note that trials gave no answer.

        Parameters
        ----------
        suggestions
            With their `_id`, and with their parameters where they were suggested by someone else.

        Raises
        ------
        PlanningError
            If it is not known which points they were.
        """
        for suggestion in suggestions:
            identifier, point = self._point(suggestion)
            self._failed[identifier] = point

    def ingest(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Learn from outcomes, of suggested points or of others; one of a known trial replaces the earlier.

        Parameters
        ----------
        points
            Outcomes as `DescriptorEvaluation` gives them, with `_id`; with the parameters too where the
            point was not suggested by this optimizer.

        Raises
        ------
        PlanningError
            If it is not known which point an outcome is of, or it lacks the descriptor.
        """
        for outcome in points:
            if self.descriptor not in outcome:
                found = ", ".join(str(name) for name in outcome)
                raise PlanningError(f"expected an outcome with {self.descriptor}, found {found}")
            identifier, point = self._point(outcome)
            value = float(outcome[self.descriptor])
            if outcome.get(QUALITY, Verdict.GOOD) not in self._accept or not isfinite(value):
                self._failed[identifier] = point
                continue
            self._failed.pop(identifier, None)
            self._answered[identifier] = Answered(
                id=identifier,
                point=point,
                value=value,
                low=float(outcome.get(f"{self.descriptor}_low", nan)),
                high=float(outcome.get(f"{self.descriptor}_high", nan)),
                outcome=dict(outcome),
            )

    def get_best_points(self) -> Sequence[tuple[Any, Mapping[str, Any], Mapping[str, Any]]]:
        """Return the trials that say most of what is sought: `_id`, parameters, outcome of each."""
        rows = self._best()
        if not rows:
            return []
        points = self.space.from_unit(np.array([each.point for each in rows]))
        return [(each.id, point, each.outcome) for each, point in zip(rows, points, strict=True)]

    @abstractmethod
    def should_stop(self) -> tuple[bool, str | None]:
        """Return whether enough is known, and why."""

    @abstractmethod
    def _propose(self, n: int) -> FloatArray:
        """Return points of the unit cube, (n, d)."""

    @abstractmethod
    def _best(self) -> Sequence[Answered]:
        """Return the trials that say most of what is sought."""

    @property
    def _pending_points(self) -> FloatArray:
        """Points that are being measured, (n, d)."""
        return np.array(list(self._pending.values())).reshape(-1, len(self.space.names))

    def _point(self, said: Mapping[str, Any]) -> tuple[str, tuple[float, ...]]:
        """Return whose outcome it is and where that was, and let it be pending no more."""
        identifier = str(said.get(ID, uuid4().hex[:12]))
        known = self._pending.pop(identifier, None) or self._failed.get(identifier)
        if known is None and identifier in self._answered:
            known = self._answered[identifier].point
        if known is None:
            known = tuple(self.space.to_unit([said])[0])
        return identifier, known
