"""Repeat each sample until its answer is narrow enough, then go on to the next sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf, isclose, isfinite, nan, sqrt
from typing import Any

import numpy as np

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.trials import ID, QUALITY, USABLE, choice, new_id, outcome_keys
from bluesky_xpdml.records import FloatArray, Verdict
from bluesky_xpdml.vocabulary import Descriptor

Point = Mapping[str, Any]


class WidthKind(StrEnum):
    """Which width has to become narrow."""

    INTERVAL = "interval"
    """The 90 % interval of the last answer. It narrows with repeats if the callback merges them and the
    evaluation waits for the merged answer (`merged_within`)."""
    SCATTER = "scatter"
    """The 90 % interval of the mean of the answers, from their scatter. Errors that all repeats share, such
    as that of the model, are not in it."""


def answer_width(values: Sequence[float], intervals: Sequence[float], kind: WidthKind) -> float:
    """Return the width of the answer to one sample [unit of the descriptor]; infinite if it is not known yet.

    The values and the widths of their 90 % intervals are in the order of measurement, (n,). The interval of
    the mean of n answers with standard deviation s is 2 t(0.95, n - 1) s / sqrt(n) wide.
    """
    if kind is WidthKind.INTERVAL:
        return float(intervals[-1]) if intervals and isfinite(intervals[-1]) else inf
    n = len(values)
    if n < 2:
        return inf
    from scipy.stats import t

    scatter: FloatArray = np.asarray(values, dtype=float)
    return float(2.0 * t.ppf(0.95, n - 1) * np.std(scatter, ddof=1) / sqrt(n))


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleProgress:
    """Answers and failures of one sample."""

    point: Point
    """The sample, as given to the optimizer."""
    outcomes: Sequence[Mapping[str, Any]]
    """Of the repeats with an answer, in the order of the answers."""
    n_failed: int
    width: float
    """Of the answer [unit of the descriptor]; infinite if it is not known yet."""
    finished: bool
    """Whether the answer is narrow enough, or was measured as often as allowed."""


class CountOptimizer:
    """Measures each sample until its answer is narrow enough, one sample after the other.

    It satisfies the same protocols of bluesky-adaptive as the other optimizers. Failed repeats count as
    repeats.

    Parameters
    ----------
    samples
        What to measure, in this order: values for the actuators, such as `{"sample": "LFP-3"}` or
        `{"x": 3.5, "y": 1.0}`.
    descriptor
        `oxidation_state`, `coordination_number`, `bond_length` or another member of `Descriptor`.
    width
        Narrow enough [unit of the descriptor].
    at_most
        Largest number of repeats of a sample, failed ones included.
    by
        Which width has to become narrow.
    accept
        Verdicts of predictions to learn from; predictions with another verdict are failed trials.

    Raises
    ------
    PlanningError
        If there is no sample, two are equal, the descriptor is unknown, the width is not positive or no
        repeat is allowed.

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
        by: WidthKind = WidthKind.INTERVAL,
        accept: tuple[Verdict, ...] = USABLE,
    ) -> None:
        self.samples = tuple(dict(sample) for sample in samples)
        if not self.samples or any(sample in self.samples[:n] for n, sample in enumerate(self.samples)):
            raise PlanningError(f"expected samples that differ, found {list(self.samples)}")
        if not width > 0.0 or at_most < 1:
            msg = f"expected a positive width and one repeat or more, found {width:g} and {at_most}"
            raise PlanningError(msg)
        self.descriptor = choice(Descriptor, descriptor)
        self._width = width
        self._at_most = at_most
        self._by = by
        self._accept = accept
        self._pending: dict[str, int] = {}
        self._answered: dict[str, tuple[int, dict[str, Any]]] = {}
        self._failed: dict[str, int] = {}

    @property
    def n_measured(self) -> int:
        """Number of trials that were answered or failed."""
        return len(self._answered) + len(self._failed)

    @property
    def n_failed(self) -> int:
        """Number of trials that failed."""
        return len(self._failed)

    @property
    def progress(self) -> tuple[SampleProgress, ...]:
        """Answers and failures of each sample, in their order."""
        return tuple(self._progress(number) for number in range(len(self.samples)))

    def suggest(self, num_points: int | None = None) -> Sequence[dict[str, Any]]:
        """Return repeats to measure next: `_id`, and the entries of the sample.

        There are fewer than `num_points` (one if None) if no more are allowed before pending ones are
        answered, and none at the end. If all allowed repeats are pending, a `PlanningError` is raised.
        """
        suggested: list[dict[str, Any]] = []
        for number, sample in enumerate(self.progress):
            started = len(sample.outcomes) + sample.n_failed + list(self._pending.values()).count(number)
            while not sample.finished and started < self._at_most and len(suggested) < (num_points or 1):
                suggested.append(self._register(number))
                started += 1
        if not suggested and not self.should_stop()[0]:
            # An empty suggestion would be evaluated at once and requested again, endlessly.
            pending = ", ".join(self._pending)
            msg = f"expected answers to {pending} first: ingest them, or register them as failures"
            raise PlanningError(msg)
        return suggested

    def register_suggestions(self, suggestions: Sequence[Point]) -> Sequence[dict[str, Any]]:
        """Register repeats of the samples, chosen elsewhere, and return them with a new `_id` each."""
        return [self._register(self._sample_number(suggestion)) for suggestion in suggestions]

    def register_failures(self, suggestions: Sequence[Point]) -> None:
        """Register repeats as failed, by their `_id` or, if suggested elsewhere, by the sample's entries."""
        for suggestion in suggestions:
            identifier, number = self._settle(suggestion)
            self._failed[identifier] = number

    def ingest(self, points: Sequence[Point]) -> None:
        """Learn from outcomes as `DescriptorEvaluation` returns them. A second outcome replaces the first."""
        for outcome in points:
            identifier, number = self._settle(outcome)
            value = float(outcome.get(self.descriptor, nan))
            if outcome.get(QUALITY, Verdict.GOOD) not in self._accept or not isfinite(value):
                self._failed[identifier] = number
                continue
            self._failed.pop(identifier, None)
            self._answered[identifier] = (number, dict(outcome))

    def should_stop(self) -> tuple[bool, str | None]:
        """Return whether all samples are finished, and how many are narrow enough."""
        progress = self.progress
        if not all(sample.finished for sample in progress):
            return False, None
        narrow = sum(sample.width <= self._width for sample in progress)
        return True, f"{narrow} of {len(progress)} samples are narrower than {self._width:g}"

    def get_best_points(self) -> Sequence[tuple[Any, Point, Point]]:
        """Return the last answer to each sample that has one: `_id`, entries of the sample, outcome."""
        last = {number: (identifier, outcome) for identifier, (number, outcome) in self._answered.items()}
        return [(last[number][0], self.samples[number], last[number][1]) for number in sorted(last)]

    def _progress(self, number: int) -> SampleProgress:
        outcomes = [outcome for of, outcome in self._answered.values() if of == number]
        n_failed = list(self._failed.values()).count(number)
        keys = outcome_keys(self.descriptor)
        numbers = [[float(outcome.get(key, nan)) for key in keys] for outcome in outcomes]
        values, intervals = [row[0] for row in numbers], [row[2] - row[1] for row in numbers]
        width = answer_width(values, intervals, self._by)
        finished = width <= self._width or len(outcomes) + n_failed >= self._at_most
        return SampleProgress(
            point=self.samples[number], outcomes=outcomes, n_failed=n_failed, width=width, finished=finished
        )

    def _register(self, number: int) -> dict[str, Any]:
        identifier = new_id()
        self._pending[identifier] = number
        return {ID: identifier, **self.samples[number]}

    def _settle(self, entry: Point) -> tuple[str, int]:
        """Return id and sample of the trial of a suggestion or an outcome; it is no longer pending."""
        identifier = str(entry.get(ID, new_id()))
        number = self._pending.pop(identifier, self._failed.get(identifier))
        if number is None and identifier in self._answered:
            number = self._answered.pop(identifier)[0]
        return identifier, self._sample_number(entry) if number is None else number

    def _sample_number(self, entry: Point) -> int:
        for number, sample in enumerate(self.samples):
            if all(_equal(entry.get(name), value) for name, value in sample.items()):
                return number
        raise PlanningError(f"expected one of the samples {list(self.samples)}, found {dict(entry)}")


def _equal(one: object, other: object) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return one == other
