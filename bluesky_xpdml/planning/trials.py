"""Trials of a campaign: the metadata of their raw runs, and the base class of the optimizers.

`TrialOptimizer` satisfies the protocols `Optimizer`, `TrialFaultAware`, `CanRegisterSuggestions` and
`SupportsStoppingCriteria` of bluesky-adaptive 1.x.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite, nan
from typing import Any, TypeVar
from uuid import uuid4

import numpy as np

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.space import Space
from bluesky_xpdml.records import TRIAL, Estimate, FloatArray, Verdict
from bluesky_xpdml.vocabulary import Descriptor

ID = "_id"
"""Key of suggestions and outcomes: the id of their trial."""
QUALITY = "quality"
"""Key of an outcome: the verdict of its prediction. A failed one is a failed trial."""
NOVELTY = "novelty"
"""Key of an outcome: the novelty score of its prediction, NaN if it has none."""
USABLE = (Verdict.GOOD, Verdict.SUSPECT)
"""Verdicts that optimizers learn from by default."""

Choice = TypeVar("Choice", bound=StrEnum)


def choice(kind: type[Choice], text: str) -> Choice:
    """Return the member of an enum for its text, or raise a `PlanningError` that lists the members."""
    try:
        return kind(text)
    except ValueError:
        name = kind.__name__.lower()
        raise PlanningError(f"expected a {name}, one of {', '.join(kind)}, found {str(text)!r}") from None


def new_id() -> str:
    """Return an id for a trial. It is random: a counter would repeat ids after a restart."""
    return uuid4().hex[:12]


def trial_metadata(campaign: str, suggestion: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata that identifies a trial in the start document of its raw run: `md` of its plan.

    The prediction carries the metadata on, so that a planner finds the answers to its trials, also after a
    restart. The suggestion of an optimizer holds `_id`, and a value for each parameter.
    """
    parameters = {name: value for name, value in suggestion.items() if name != ID}
    return {TRIAL: {"campaign": campaign, "id": suggestion[ID], "parameters": parameters}}


def outcome_keys(descriptor: Descriptor) -> tuple[str, str, str]:
    """Return the keys of an outcome for the value and the ends of the 90 % interval of a descriptor."""
    return str(descriptor), f"{descriptor}_low", f"{descriptor}_high"


def outcome_numbers(descriptor: Descriptor, estimate: Estimate) -> dict[str, float]:
    """Return the entries of an outcome for one descriptor."""
    return dict(zip(outcome_keys(descriptor), (estimate.value, estimate.low, estimate.high), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredTrial:
    """A trial with its answer."""

    id: str
    point: tuple[float, ...]
    """In the unit cube, (d,)."""
    value: float
    """Of the descriptor [its unit]."""
    low: float
    """Lower end of the 90 % interval."""
    high: float
    """Upper end of the 90 % interval."""
    outcome: Mapping[str, Any] = field(compare=False, repr=False)
    """The whole outcome."""


class TrialOptimizer(ABC):
    """An optimizer that learns from predictions of one descriptor.

    Predictions with a verdict that is not accepted are failed trials. A `PlanningError` is raised if the
    descriptor is unknown.
    """

    def __init__(self, space: Space, descriptor: str, *, accept: tuple[Verdict, ...] = USABLE) -> None:
        self.space = space
        self.descriptor = choice(Descriptor, descriptor)
        self._accept = accept
        self._pending: dict[str, tuple[float, ...]] = {}
        self._answered: dict[str, AnsweredTrial] = {}
        self._failed: dict[str, tuple[float, ...]] = {}

    @property
    def answered(self) -> tuple[AnsweredTrial, ...]:
        """Trials with an answer, in the order of the answers."""
        return tuple(self._answered.values())

    @property
    def n_failed(self) -> int:
        """Number of trials that failed."""
        return len(self._failed)

    @property
    def n_measured(self) -> int:
        """Number of trials that were answered or failed."""
        return len(self._answered) + len(self._failed)

    def suggest(self, num_points: int | None = None) -> Sequence[Mapping[str, Any]]:
        """Return `num_points` points to measure next (one if None): `_id`, and a value for each parameter."""
        rows = self._propose(1 if num_points is None else num_points)
        return self.register_suggestions(self.space.from_unit(rows))

    def register_suggestions(self, suggestions: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Register points chosen elsewhere, with all parameters, and return them with a new `_id` each."""
        registered: list[dict[str, Any]] = []
        for point, row in zip(suggestions, self.space.to_unit(suggestions), strict=True):
            identifier = new_id()
            self._pending[identifier] = tuple(row)
            registered.append({ID: identifier, **{name: float(point[name]) for name in self.space.names}})
        return registered

    def register_failures(self, suggestions: Sequence[Mapping[str, Any]]) -> None:
        """Register trials as failed, by their `_id` or, if suggested elsewhere, their parameters."""
        for suggestion in suggestions:
            identifier, point = self._settle(suggestion)
            self._failed[identifier] = point

    def ingest(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Learn from outcomes as `DescriptorEvaluation` returns them; the last one of a trial counts.

        Points that were suggested elsewhere need their parameters. A `PlanningError` is raised if an outcome
        lacks the descriptor, or is of an unknown trial without parameters.
        """
        for outcome in points:
            if self.descriptor not in outcome:
                found = ", ".join(str(name) for name in outcome)
                raise PlanningError(f"expected an outcome with {self.descriptor}, found {found}")
            identifier, point = self._settle(outcome)
            value, low, high = (float(outcome.get(key, nan)) for key in outcome_keys(self.descriptor))
            if outcome.get(QUALITY, Verdict.GOOD) not in self._accept or not isfinite(value):
                self._failed[identifier] = point
                continue
            self._failed.pop(identifier, None)
            self._answered[identifier] = AnsweredTrial(
                id=identifier, point=point, value=value, low=low, high=high, outcome=dict(outcome)
            )

    def get_best_points(self) -> Sequence[tuple[Any, Mapping[str, Any], Mapping[str, Any]]]:
        """Return the most informative trials: `_id`, parameters and outcome of each."""
        best = self._best()
        if not best:
            return []
        points = self.space.from_unit(np.array([trial.point for trial in best]))
        return [(trial.id, point, trial.outcome) for trial, point in zip(best, points, strict=True)]

    @abstractmethod
    def should_stop(self) -> tuple[bool, str | None]:
        """Return whether the search is finished, and why."""

    @abstractmethod
    def _propose(self, n: int) -> FloatArray:
        """Return points of the unit cube, (n, d)."""

    @abstractmethod
    def _best(self) -> Sequence[AnsweredTrial]:
        """Return the most informative trials."""

    @property
    def _pending_points(self) -> FloatArray:
        """Points that are being measured, (n, d)."""
        return np.array(list(self._pending.values())).reshape(-1, len(self.space.names))

    def _settle(self, entry: Mapping[str, Any]) -> tuple[str, tuple[float, ...]]:
        """Return id and point of the trial of a suggestion or an outcome; it is no longer pending."""
        identifier = str(entry.get(ID, new_id()))
        point = self._pending.pop(identifier, None) or self._failed.get(identifier)
        if point is None and identifier in self._answered:
            point = self._answered[identifier].point
        if point is None:
            point = tuple(self.space.to_unit([entry])[0])
        return identifier, point
