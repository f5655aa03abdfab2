"""What optimizers share that search a space: first points that fill it, and the best of many candidates."""

from abc import abstractmethod

import numpy as np
from scipy.stats import qmc

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.space import Space
from bluesky_xpdml.planning.trials import TrialOptimizer
from bluesky_xpdml.records import FloatArray, Verdict

CANDIDATES = 2048
"""Points among which the next one is chosen."""
MOST_FIRST = 8
"""First points at most: a power of two, as the Sobol sequence wants it."""


class SearchOptimizer(TrialOptimizer):
    """An optimizer that chooses among points of a space.

    Parameters
    ----------
    space
        What may be changed.
    descriptor
        Name of the descriptor.
    first
        Points that fill the space before anything is learned, 8 at most.
    at_most
        Measurements after which the search ends in any case.
    accept
        Verdicts of predictions to learn from.
    seed
        Of the first points.

    Raises
    ------
    PlanningError
        If there are fewer measurements than first points.
    """

    def __init__(
        self,
        space: Space,
        descriptor: str,
        *,
        first: int,
        at_most: int,
        accept: tuple[Verdict, ...],
        seed: int,
    ) -> None:
        super().__init__(space, descriptor, accept=accept)
        if at_most < first:
            raise PlanningError(f"expected at least {first} measurements, found at_most = {at_most}")
        self._at_most = at_most
        dimensions = len(space.names)
        self._first = qmc.Sobol(dimensions, seed=seed).random(MOST_FIRST)[:first]
        self._candidates = qmc.Sobol(dimensions, seed=seed + 1).random(CANDIDATES)

    @abstractmethod
    def _wanted(self, underway: FloatArray) -> FloatArray | None:
        """Return how much each candidate is worth, (m,), beside points underway, (k, d); None for equally."""

    @property
    def _measured(self) -> FloatArray:
        """Points with an answer, and those that failed, (n, d)."""
        rows = [*(each.point for each in self.answered), *self._failed.values()]
        return np.array(rows).reshape(-1, len(self.space.names))

    def _propose(self, n: int) -> FloatArray:
        rows = np.empty((0, len(self.space.names)))
        for _ in range(n):
            rows = np.vstack([rows, self._next(rows)])
        return rows

    def _next(self, beside: FloatArray) -> FloatArray:
        """Return one point, given those that are being measured and those that will be with it, (d,)."""
        started = self.n_measured + len(self._pending) + len(beside)
        if started < len(self._first):
            return np.asarray(self._first[started])
        underway = np.vstack([self._pending_points, beside])
        wanted = self._wanted(underway)
        if wanted is None:
            # Nothing says where: where no measurement is near.
            wanted = nearest(self._candidates, np.vstack([self._measured, underway]))
        return np.asarray(self._candidates[np.argmax(wanted)])


def nearest(rows: FloatArray, known: FloatArray) -> FloatArray:
    """Return the distance of each row to the nearest known point, (m,); one where none is known.

    Parameters
    ----------
    rows
        Points of the unit cube, (m, d).
    known
        Points of the unit cube, (n, d).
    """
    if not known.size:
        return np.ones(len(rows))
    return np.asarray(np.min(np.linalg.norm(rows[:, None, :] - known[None, :, :], axis=2), axis=1))
