"""Repeats of a sample until its answer is narrow enough, then the next sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf, isclose, isfinite, nan, sqrt
from typing import Any
from uuid import uuid4

import numpy as np

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.trials import ID, QUALITY
from bluesky_xpdml.records import FloatArray, Verdict

Point = Mapping[str, Any]


class Narrow(StrEnum):
    """Which width has to become narrow."""

    INTERVAL = "interval"
    """Of the 90 % interval of the last answer. It narrows with repeats where the callback merges them and the
    evaluation waits for the merged answer (`merged_within`)."""
    SCATTER = "scatter"
    """Of the 90 % interval of the mean of the answers, from their scatter. It knows of no error that all
    repeats share, such as that of the model."""


def width_of(values: Sequence[float], intervals: Sequence[float], by: Narrow) -> float:
    """Return how narrow the answers to one sample are; infinite where that cannot be told yet.

    Parameters
    ----------
    values
        Of the descriptor, in the order of measurement [its unit], (n,).
    intervals
        Widths of their 90 % intervals [its unit], (n,).
    by
        Which width.

    Examples
    --------
    >>> width_of([2.1, 2.3], [0.8, 0.6], Narrow.INTERVAL)
    0.6
    >>> round(width_of([2.1, 2.3, 2.2], [0.8, 0.6, 0.7], Narrow.SCATTER), 3)
    0.337
    """
    if by is Narrow.INTERVAL:
        return float(intervals[-1]) if intervals and isfinite(intervals[-1]) else inf
    n = len(values)
    if n < 2:
        return inf
    from scipy.stats import t

    scatter: FloatArray = np.asarray(values, dtype=float)
    return float(2.0 * t.ppf(0.95, n - 1) * np.std(scatter, ddof=1) / sqrt(n))


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What is known of one sample."""

    point: Point
    """As it was given."""
    outcomes: Sequence[Mapping[str, Any]]
    """Of the repeats with an answer, in the order in which they came."""
    n_failed: int
    width: float
    """Of the answer, as it is judged [unit of the descriptor]; infinite where that cannot be told."""
    finished: bool
    """Whether it is narrow enough, or was measured as often as allowed."""


class CountOptimizer:
    """Measures each sample until its answer is narrow enough, one sample after the other.

    It satisfies the same protocols of bluesky-adaptive as the other optimizers. Failed repeats count as
    repeats.

    Parameters
    ----------
    samples
        What to measure, in this order: entries that tell the actuators where to go, such as
        `{"sample": "LFP-3"}` or `{"x": 3.5, "y": 1.0}`.
    descriptor
        `oxidation_state`, `coordination_number`, `bond_length` or another.
    width
        Narrow enough [unit of the descriptor].
    at_most
        Repeats of a sample, failed ones counted too.
    by
        Which width is judged.
    accept
        Verdicts of predictions to learn from; all others are failed trials.

    Raises
    ------
    PlanningError
        If there is no sample, two are the same, the width is not positive or no repeat is allowed.

    Examples
    --------
    >>> samples = [{"sample": "A"}, {"sample": "B"}]
    >>> optimizer = CountOptimizer(samples, "oxidation_state", width=0.5, at_most=3)
    >>> measured = []
    >>> while not optimizer.should_stop()[0]:
    ...     (trial,) = optimizer.suggest()
    ...     measured.append(trial["sample"])
    ...     half = 0.2 if trial["sample"] == "A" else 0.4
    ...     ends = {"oxidation_state_low": 2.0 - half, "oxidation_state_high": 2.0 + half}
    ...     optimizer.ingest([{"_id": trial["_id"], "oxidation_state": 2.0, **ends}])
    >>> measured
    ['A', 'B', 'B', 'B']
    """

    def __init__(
        self,
        samples: Sequence[Point],
        descriptor: str,
        *,
        width: float,
        at_most: int,
        by: Narrow = Narrow.INTERVAL,
        accept: tuple[Verdict, ...] = (Verdict.GOOD, Verdict.SUSPECT),
    ) -> None:
        self.samples = tuple(dict(sample) for sample in samples)
        if not self.samples or any(each in self.samples[:n] for n, each in enumerate(self.samples)):
            raise PlanningError(f"expected samples that differ, found {list(self.samples)}")
        if not width > 0.0 or at_most < 1:
            msg = f"expected a positive width and one repeat or more, found {width:g} and {at_most}"
            raise PlanningError(msg)
        self.descriptor = descriptor
        self._width = width
        self._at_most = at_most
        self._by = by
        self._accept = accept
        self._pending: dict[str, int] = {}
        self._answered: dict[str, tuple[int, dict[str, Any]]] = {}
        self._failed: dict[str, int] = {}

    @property
    def n_measured(self) -> int:
        """Trials that were measured, with and without an answer."""
        return len(self._answered) + len(self._failed)

    @property
    def n_failed(self) -> int:
        """Trials that were measured in vain."""
        return len(self._failed)

    @property
    def counted(self) -> tuple[Counted, ...]:
        """What is known of each sample, in their order."""
        return tuple(self._counted(number) for number in range(len(self.samples)))

    def suggest(self, num_points: int | None = None) -> Sequence[dict[str, Any]]:
        """Return repeats to measure next: `_id`, and the entries of the sample.

        Fewer than asked for, where no more are allowed before those underway are answered; none at the end.

        Parameters
        ----------
        num_points
            How many; one if None.

        Raises
        ------
        PlanningError
            If all that are allowed are underway.
        """
        suggested: list[dict[str, Any]] = []
        for number, known in enumerate(self.counted):
            taken = len(known.outcomes) + known.n_failed + list(self._pending.values()).count(number)
            while not known.finished and taken < self._at_most and len(suggested) < (num_points or 1):
                suggested.append(self._register(number))
                taken += 1
        if not suggested and not self.should_stop()[0]:
            # An empty suggestion would be evaluated at once, and asked for again without end.
            lost = ", ".join(self._pending)
            msg = f"expected answers to {lost} first: ingest them, or register them as failures"
            raise PlanningError(msg)
        return suggested

    def register_suggestions(self, suggestions: Sequence[Point]) -> Sequence[dict[str, Any]]:
        """Take repeats that someone else asks for as trials and return them with an `_id` each.

        Parameters
        ----------
        suggestions
            Entries of a sample; an `_id` is replaced.

        Raises
        ------
        PlanningError
            If it is none of the samples.
        """
        return [self._register(self._number(suggestion)) for suggestion in suggestions]

    def register_failures(self, suggestions: Sequence[Point]) -> None:
        """Take note that repeats gave no answer.

        Parameters
        ----------
        suggestions
            With their `_id`, and with the entries of the sample where they were not suggested here.

        Raises
        ------
        PlanningError
            If it is not known which sample they were of.
        """
        for suggestion in suggestions:
            identifier, number = self._trial(suggestion)
            self._failed[identifier] = number

    def ingest(self, points: Sequence[Point]) -> None:
        """Learn from outcomes; one of a known trial replaces the earlier.

        Parameters
        ----------
        points
            Outcomes as `DescriptorEvaluation` gives them.

        Raises
        ------
        PlanningError
            If it is not known which sample an outcome is of.
        """
        for outcome in points:
            identifier, number = self._trial(outcome)
            value = float(outcome.get(self.descriptor, nan))
            if outcome.get(QUALITY, Verdict.GOOD) not in self._accept or not isfinite(value):
                self._failed[identifier] = number
                continue
            self._failed.pop(identifier, None)
            self._answered[identifier] = (number, dict(outcome))

    def should_stop(self) -> tuple[bool, str | None]:
        """Return whether all samples are finished, and how many are narrow."""
        counted = self.counted
        if not all(each.finished for each in counted):
            return False, None
        narrow = sum(each.width <= self._width for each in counted)
        return True, f"{narrow} of {len(counted)} samples are narrower than {self._width:g}"

    def get_best_points(self) -> Sequence[tuple[Any, Point, Point]]:
        """Return the last answer to each sample that has one: `_id`, entries of the sample, outcome."""
        last = {number: (identifier, outcome) for identifier, (number, outcome) in self._answered.items()}
        return [(last[number][0], self.samples[number], last[number][1]) for number in sorted(last)]

    def _counted(self, number: int) -> Counted:
        outcomes = [outcome for of, outcome in self._answered.values() if of == number]
        n_failed = list(self._failed.values()).count(number)
        values = [float(outcome[self.descriptor]) for outcome in outcomes]
        ends = [
            (outcome.get(f"{self.descriptor}_low", nan), outcome.get(f"{self.descriptor}_high", nan))
            for outcome in outcomes
        ]
        width = width_of(values, [float(high) - float(low) for low, high in ends], self._by)
        finished = width <= self._width or len(outcomes) + n_failed >= self._at_most
        return Counted(
            point=self.samples[number], outcomes=outcomes, n_failed=n_failed, width=width, finished=finished
        )

    def _register(self, number: int) -> dict[str, Any]:
        identifier = uuid4().hex[:12]
        self._pending[identifier] = number
        return {ID: identifier, **self.samples[number]}

    def _trial(self, said: Point) -> tuple[str, int]:
        """Return whose outcome it is and of which sample, and let it be pending no more."""
        identifier = str(said.get(ID, uuid4().hex[:12]))
        number = self._pending.pop(identifier, self._failed.get(identifier))
        if number is None and identifier in self._answered:
            number = self._answered.pop(identifier)[0]
        return identifier, self._number(said) if number is None else number

    def _number(self, said: Point) -> int:
        for number, sample in enumerate(self.samples):
            if all(_same(said.get(name), value) for name, value in sample.items()):
                return number
        raise PlanningError(f"expected one of the samples {list(self.samples)}, found {dict(said)}")


def _same(one: object, other: object) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return one == other
