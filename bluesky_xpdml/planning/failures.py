"""Failed trials, and ids that outlive a restart, for optimizers that know numbers only."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any
from uuid import uuid4

from bluesky_xpdml.planning.trials import ID, NOVELTY, QUALITY
from bluesky_xpdml.records import Verdict

Point = Mapping[str, Any]


class FailedTrials:
    """Any `Optimizer` of bluesky-adaptive, kept from learning of failed trials.

    Outcomes of failed trials, and those with a number that is not finite, go to `register_failures` where the
    wrapped optimizer has it, and never to `ingest`. Suggestions get ids of their own, which no restart gives
    twice. The wrapper can be asked whether to stop, can write checkpoints and can register suggestions where
    the wrapped one can, and only there, as `isinstance` with the protocols says.

    Parameters
    ----------
    optimizer
        What is wrapped.
    learn
        Descriptors that it learns from, such as `("oxidation_state",)`. Other descriptors, intervals, the
        novelty and the quality are kept from it; parameters are handed on.
    accept
        Verdicts of predictions to learn from.
    """

    def __new__(cls, optimizer: Any, **_: Any) -> "FailedTrials":  # noqa: PYI034, what comes is a subclass
        """Return an object of a class that has what the wrapped optimizer has."""
        able = tuple(part for name, part in _ABILITIES.items() if callable(getattr(optimizer, name, None)))
        made: FailedTrials = object.__new__(type(cls.__name__, (cls, *able), {"__doc__": cls.__doc__}))
        return made

    def __init__(
        self,
        optimizer: Any,
        *,
        learn: tuple[str, ...],
        accept: tuple[Verdict, ...] = (Verdict.GOOD, Verdict.SUSPECT),
    ) -> None:
        self.optimizer = optimizer
        self._learn = learn
        self._accept = accept
        self._suggested: dict[str, dict[str, Any]] = {}
        self._answered: set[str] = set()
        self._failed: set[str] = set()

    @property
    def n_failed(self) -> int:
        """Trials that were measured in vain."""
        return len(self._failed)

    @property
    def n_measured(self) -> int:
        """Trials that were measured, with and without an answer."""
        return len(self._failed | self._answered)

    def suggest(self, num_points: int | None = None) -> Sequence[Point]:
        """Return what the wrapped optimizer suggests, each with an `_id` of its own.

        Parameters
        ----------
        num_points
            How many; one if None.
        """
        return self._renamed(self.optimizer.suggest(num_points))

    def ingest(self, points: Sequence[Point]) -> None:
        """Hand on outcomes of trials that succeeded; each trial once.

        Parameters
        ----------
        points
            Outcomes as `DescriptorEvaluation` gives them; with the parameters too where the point was not
            suggested here.
        """
        for outcome in points:
            identifier = str(outcome.get(ID, uuid4().hex[:12]))
            if identifier in self._answered:
                continue
            usable = self._usable(outcome)
            if usable is None:
                self.register_failures([{**outcome, ID: identifier}])
                continue
            self._answered.add(identifier)
            self._failed.discard(identifier)
            self.optimizer.ingest([self._inner(identifier) | usable])

    def register_failures(self, suggestions: Sequence[Point]) -> None:
        """Take note of failed trials; the wrapped optimizer is told of its own, where it listens.

        Parameters
        ----------
        suggestions
            With their `_id`.
        """
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

    def _renamed(self, suggestions: Sequence[Point]) -> list[dict[str, Any]]:
        renamed = []
        for suggestion in suggestions:
            # Optimizers count from zero again after a restart, and trials are found by their ids.
            identifier = uuid4().hex[:12]
            self._suggested[identifier] = dict(suggestion)
            renamed.append({**suggestion, ID: identifier})
        return renamed

    def _inner(self, identifier: str) -> dict[str, Any]:
        """Return the id that the wrapped optimizer knows, if it does."""
        point = self._suggested.get(identifier, {})
        return {ID: point[ID]} if ID in point else {}

    def _usable(self, outcome: Point) -> dict[str, Any] | None:
        """Return the entries to hand on; None of a failed trial."""
        if outcome.get(QUALITY, Verdict.GOOD) not in self._accept:
            return None
        helpers = {ID, QUALITY, NOVELTY}
        for name in outcome:
            if f"{name}_low" in outcome and f"{name}_high" in outcome:
                helpers |= {name, f"{name}_low", f"{name}_high"}
        handed = {
            name: value for name, value in outcome.items() if name in self._learn or name not in helpers
        }
        numbers = [handed.get(name) for name in self._learn]
        usable = all(isinstance(value, int | float) and isfinite(value) for value in numbers)
        return handed if usable else None


class _Stops:
    """Of optimizers that say when it is enough."""

    optimizer: Any

    def should_stop(self) -> tuple[bool, str | None]:
        """Return whether the wrapped optimizer wants to stop, and why."""
        stop, reason = self.optimizer.should_stop()
        return bool(stop), reason


class _Checkpoints:
    """Of optimizers that write down what they know."""

    optimizer: Any

    def checkpoint(self) -> None:
        """Let the wrapped optimizer write down what it knows."""
        self.optimizer.checkpoint()


class _Registers:
    """Of optimizers that take the points of others as trials."""

    optimizer: Any

    def register_suggestions(self, suggestions: Sequence[Point]) -> Sequence[Point]:
        """Let the wrapped optimizer take points as trials, and return them with an `_id` each.

        Parameters
        ----------
        suggestions
            A value for each parameter.
        """
        renamed: Sequence[Point] = self._renamed(self.optimizer.register_suggestions(suggestions))
        return renamed

    @abstractmethod
    def _renamed(self, suggestions: Sequence[Point]) -> list[dict[str, Any]]:
        """Return suggestions under the ids of the wrapper."""


_ABILITIES: Mapping[str, type] = {
    "should_stop": _Stops,
    "checkpoint": _Checkpoints,
    "register_suggestions": _Registers,
}
