"""A wrapper for optimizers of other packages: failed trials, and ids that are unique across restarts."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from bluesky_xpdml.planning.trials import ID, NOVELTY, QUALITY, USABLE, new_id
from bluesky_xpdml.records import Verdict

Point = Mapping[str, Any]


class FailedTrials:
    """Wraps any `Optimizer` of bluesky-adaptive, so that it never learns from failed trials.

    Outcomes of failed trials, and those with a number that is not finite, go to `register_failures` if the
    wrapped optimizer has it, and never to `ingest`. Suggestions get new ids, which are unique across
    restarts. The wrapper has `should_stop`, `checkpoint` and `register_suggestions` if and only if the
    wrapped optimizer has them, as `isinstance` with the protocols shows.

    Parameters
    ----------
    optimizer
        The wrapped optimizer.
    learn
        Descriptors that it learns from, such as `("oxidation_state",)`. Other descriptors, intervals, the
        novelty and the quality are not passed on; parameters are.
    accept
        Verdicts of predictions to learn from.
    """

    def __new__(cls, optimizer: Any, **_: Any) -> "FailedTrials":  # noqa: PYI034, the result is of a subclass
        """Return an instance of a subclass with the abilities of the wrapped optimizer."""
        able = tuple(part for name, part in _ABILITIES.items() if callable(getattr(optimizer, name, None)))
        made: FailedTrials = object.__new__(type(cls.__name__, (cls, *able), {"__doc__": cls.__doc__}))
        return made

    def __init__(
        self, optimizer: Any, *, learn: tuple[str, ...], accept: tuple[Verdict, ...] = USABLE
    ) -> None:
        self.optimizer = optimizer
        self._learn = learn
        self._accept = accept
        self._suggested: dict[str, dict[str, Any]] = {}
        self._answered: set[str] = set()
        self._failed: set[str] = set()

    @property
    def n_failed(self) -> int:
        """Number of trials that failed."""
        return len(self._failed)

    @property
    def n_measured(self) -> int:
        """Number of trials that were answered or failed."""
        return len(self._failed | self._answered)

    def suggest(self, num_points: int | None = None) -> Sequence[Point]:
        """Return `num_points` suggestions of the wrapped optimizer (one if None), each with a new `_id`."""
        return self._with_new_ids(self.optimizer.suggest(num_points))

    def ingest(self, points: Sequence[Point]) -> None:
        """Pass on outcomes, with parameters if suggested elsewhere, of successful trials; each trial once."""
        for outcome in points:
            identifier = str(outcome.get(ID, new_id()))
            if identifier in self._answered:
                continue
            usable = self._usable_entries(outcome)
            if usable is None:
                self.register_failures([{**outcome, ID: identifier}])
                continue
            self._answered.add(identifier)
            self._failed.discard(identifier)
            self.optimizer.ingest([self._wrapped_id(identifier) | usable])

    def register_failures(self, suggestions: Sequence[Point]) -> None:
        """Register failed trials by their `_id`, also with the wrapped optimizer if it suggested them."""
        for suggestion in suggestions:
            identifier = str(suggestion[ID])
            if identifier in self._failed | self._answered:
                continue
            self._failed.add(identifier)
            if identifier in self._suggested and hasattr(self.optimizer, "register_failures"):
                self.optimizer.register_failures([self._suggested[identifier]])

    def get_best_points(self) -> Sequence[tuple[Any, Point, Point]]:
        """Return the best points of the wrapped optimizer, by the ids that were given here."""
        names = {str(point[ID]): name for name, point in self._suggested.items() if ID in point}
        return [
            (names.get(str(identifier), identifier), parameters, outcome)
            for identifier, parameters, outcome in self.optimizer.get_best_points()
        ]

    def _with_new_ids(self, suggestions: Sequence[Point]) -> list[dict[str, Any]]:
        renamed = []
        for suggestion in suggestions:
            # Optimizers of others count from zero again after a restart.
            identifier = new_id()
            self._suggested[identifier] = dict(suggestion)
            renamed.append({**suggestion, ID: identifier})
        return renamed

    def _wrapped_id(self, identifier: str) -> dict[str, Any]:
        """Return the id that the wrapped optimizer gave the trial; empty if it gave none."""
        point = self._suggested.get(identifier, {})
        return {ID: point[ID]} if ID in point else {}

    def _usable_entries(self, outcome: Point) -> dict[str, Any] | None:
        """Return the entries to pass on; None for a failed trial."""
        if outcome.get(QUALITY, Verdict.GOOD) not in self._accept:
            return None
        helpers = {ID, QUALITY, NOVELTY}
        for name in outcome:
            if f"{name}_low" in outcome and f"{name}_high" in outcome:
                helpers |= {name, f"{name}_low", f"{name}_high"}
        usable = {
            name: value for name, value in outcome.items() if name in self._learn or name not in helpers
        }
        numbers = [usable.get(name) for name in self._learn]
        finite = all(isinstance(value, int | float) and isfinite(value) for value in numbers)
        return usable if finite else None


class _Stops:
    optimizer: Any

    def should_stop(self) -> tuple[bool, str | None]:
        """Return whether the wrapped optimizer wants to stop, and why."""
        stop, reason = self.optimizer.should_stop()
        return bool(stop), reason


class _Checkpoints:
    optimizer: Any

    def checkpoint(self) -> None:
        """Let the wrapped optimizer write a checkpoint."""
        self.optimizer.checkpoint()


class _Registers:
    optimizer: Any

    def register_suggestions(self, suggestions: Sequence[Point]) -> Sequence[Point]:
        """Let the wrapped optimizer register points as trials, and return them with a new `_id` each."""
        renamed: Sequence[Point] = self._with_new_ids(self.optimizer.register_suggestions(suggestions))
        return renamed

    @abstractmethod
    def _with_new_ids(self, suggestions: Sequence[Point]) -> list[dict[str, Any]]:
        """Return suggestions with the ids of the wrapper."""


_ABILITIES: Mapping[str, type] = {
    "should_stop": _Stops,
    "checkpoint": _Checkpoints,
    "register_suggestions": _Registers,
}
