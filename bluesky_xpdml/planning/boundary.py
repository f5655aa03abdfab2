"""Where a descriptor changes: the boundary of a phase, or a reaction front, with few measurements.

The boundary is the level set of the descriptor y at a level L, half way between its plateaus by default, with
h half the difference of the plateaus. A Gaussian process is fitted to the squeezed answers::

    s = tanh(1.2 (y - L) / h)

and the next point is where the sign of s is least certain: the largest ``sigma - |mean|`` ("straddle",
Bryan et al., NIPS 18, 163, 2005). The search ends when further answers no longer move the boundary. (The
error that the process itself expects is no guide: it was too small with few points on a smooth step, and too
large with a sharp step.)
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.search import SearchOptimizer, Surrogate, fit_surrogate, nearest_distance
from bluesky_xpdml.planning.space import Space
from bluesky_xpdml.planning.trials import USABLE, AnsweredTrial
from bluesky_xpdml.records import FloatArray, Verdict

STRADDLE = 1.0
"""Weight of sigma against ``|mean|``; 1.96 explores more and ends later."""
STEEPNESS = 1.2
"""Half the difference of the plateaus is squeezed to tanh of this."""
N_INITIAL = 8
"""Points that fill the space before the first fit."""
MAX_FAILURES, FAILURE_RADIUS = 2, 0.03
"""After so many failures within so far [range of a parameter], the search avoids a place."""
MIN_DISTANCE = 0.005
"""Smallest distance of a new point to one that is being measured [range of a parameter]."""
SETTLED = 0.75
"""The search ends when the boundary moved by less than this part of the tolerance ..."""
LATEST = 6
"""... with the last so many answers for each parameter ..."""
AGREEING = 2
"""... so many times in a row."""


class BoundaryOptimizer(SearchOptimizer):
    """Finds where a descriptor changes.

    Parameters
    ----------
    space
        Parameters that may be changed; distances count in ranges of the parameters.
    descriptor
        `oxidation_state`, `coordination_number`, `bond_length` or another member of `Descriptor`.
    level
        Value at the boundary [unit of the descriptor], or `midway` between the plateaus that were found.
    tolerance
        Share of the space that may lie on the wrong side of the boundary; for a boundary that crosses the
        whole space this is its mean distance from the true one, in ranges. It decides when the search ends.
    at_most
        Number of measurements after which the search always ends.
    accept
        Verdicts of predictions to learn from; predictions with another verdict are failed trials.
    seed
        Of the initial points.

    Raises
    ------
    PlanningError
        If the descriptor is unknown, the tolerance is not between 0 and 0.5, or there are fewer measurements
        than initial points.

    Examples
    --------
    >>> from bluesky_xpdml.planning.space import Parameter
    >>> space = Space(parameters=(Parameter(name="temperature", low=300.0, high=700.0, unit="K"),))
    >>> optimizer = BoundaryOptimizer(space, "oxidation_state", at_most=20)
    >>> while not optimizer.should_stop()[0]:
    ...     (trial,) = optimizer.suggest()
    ...     state = 2.0 if trial["temperature"] < 462.0 else 3.0
    ...     optimizer.ingest([{"_id": trial["_id"], "oxidation_state": state}])
    >>> bool(np.all(optimizer.is_above([{"temperature": 450.0}, {"temperature": 474.0}]) == [False, True]))
    True
    """

    def __init__(
        self,
        space: Space,
        descriptor: str,
        *,
        level: float | Literal["midway"] = "midway",
        tolerance: float = 0.02,
        at_most: int = 100,
        accept: tuple[Verdict, ...] = USABLE,
        seed: int = 0,
    ) -> None:
        super().__init__(space, descriptor, initial=N_INITIAL, at_most=at_most, accept=accept, seed=seed)
        if not 0.0 < tolerance < 0.5:
            raise PlanningError(f"expected a tolerance between 0 and 0.5 of the space, found {tolerance:g}")
        self._level = level
        self._tolerance = tolerance
        self._fitted: tuple[tuple[AnsweredTrial, ...], Surrogate | None] = ((), None)
        self._sides: dict[tuple[AnsweredTrial, ...], NDArray[np.bool_]] = {}

    @property
    def level(self) -> float:
        """Value at the boundary [unit of the descriptor]; NaN before the first answer."""
        values = np.array([trial.value for trial in self.answered])
        return self._scale(values)[0] if values.size else float("nan")

    def moved(self) -> float:
        """Return the share of the space that changed sides with the last answers; 1 if there are few."""
        return self._moved(len(self.answered))

    def is_above(self, points: Sequence[Mapping[str, float]]) -> NDArray[np.bool_]:
        """Return whether the descriptor is above the level, (n,); a `PlanningError` without a boundary."""
        return np.asarray(self.signed(self.space.to_unit(points)) > 0.0)

    def signed(self, rows: FloatArray) -> FloatArray:
        """Return the squeezed descriptor, zero on the boundary, (n,), at points of the unit cube, (n, d)."""
        fit = self._fit(self.answered)
        if fit is None:
            raise PlanningError(
                f"expected answers on both sides of a boundary, found {len(self.answered)} of "
                f"{self.descriptor} on one side only: measure on"
            )
        return fit.predict(rows)[0]

    def should_stop(self) -> tuple[bool, str | None]:
        """Return whether the boundary is known well enough or the measurements are used up, and which."""
        if spent := self._budget_spent():
            return True, spent
        n = len(self.answered)
        moved = max(self._moved(n - back) for back in range(AGREEING))
        if moved <= SETTLED * self._tolerance:
            return True, f"the last answers moved the boundary by {moved:.3f} of the space"
        return False, None

    def _moved(self, n: int) -> float:
        """Return the share of the space that changed sides with the last of the first n answers."""
        latest = LATEST * len(self.space.names)
        if n < 2 * latest:
            return 1.0
        now, before = self._side(self.answered[:n]), self._side(self.answered[: n - latest])
        return float(np.mean(now != before)) if now.size and before.size else 1.0

    def _side(self, answered: tuple[AnsweredTrial, ...]) -> NDArray[np.bool_]:
        """Return the side of each candidate, (m,), according to some answers; (0,) without a boundary.

        It depends on the answers alone, so that a restarted optimizer gets the same result.
        """
        if answered not in self._sides:
            fit = self._fit(answered)
            signed = np.empty(0) if fit is None else fit.predict(self._candidates)[0]
            cached = list(self._sides.items())[-2 * LATEST * len(self.space.names) :]
            self._sides = dict(cached) | {answered: signed > 0.0}
        return self._sides[answered]

    def _scale(self, values: FloatArray) -> tuple[float, float]:
        """Return the level and half the difference of the plateaus [unit of the descriptor]."""
        low, high = values.min(), values.max()
        quarter = 0.25 * (high - low)
        # Medians of the ends: one outlier does not move a plateau.
        low = np.median(values[values <= low + quarter])
        high = np.median(values[values >= high - quarter])
        level = 0.5 * (low + high) if self._level == "midway" else self._level
        return float(level), float(max(high - level, level - low))

    def _fit(self, answered: tuple[AnsweredTrial, ...]) -> Surrogate | None:
        """Return the fitted process, cached; None if all answers lie on one side."""
        if answered != self._fitted[0]:
            self._fitted = answered, self._new_fit(answered)
        return self._fitted[1]

    def _new_fit(self, answered: tuple[AnsweredTrial, ...]) -> Surrogate | None:
        values = np.array([trial.value for trial in answered])
        if values.size < 2:
            return None
        level, half = self._scale(values)
        if not values.min() < level < values.max():
            return None
        points = np.array([trial.point for trial in answered])
        return fit_surrogate(points, np.tanh(STEEPNESS * (values - level) / half))

    def _utility(self, underway: FloatArray) -> FloatArray | None:
        fit = self._fit(self.answered)
        if fit is None:
            return None
        mean, deviation = fit.with_expected(underway).predict(self._candidates)
        utility = STRADDLE * deviation - np.abs(mean)
        utility[self._avoided()] = -np.inf
        utility[nearest_distance(self._candidates, underway) < MIN_DISTANCE] = -np.inf
        return np.asarray(utility)

    def _avoided(self) -> NDArray[np.bool_]:
        """Return which candidates lie near repeated failures, (m,)."""
        failed = np.array(list(self._failed.values())).reshape(-1, len(self.space.names))
        distances = np.linalg.norm(self._candidates[:, None, :] - failed[None, :, :], axis=2)
        return np.asarray(np.sum(distances < FAILURE_RADIUS, axis=1) >= MAX_FAILURES)

    def _best(self) -> Sequence[AnsweredTrial]:
        """Return the answer nearest to the level."""
        if not self.answered:
            return ()
        return (min(self.answered, key=lambda trial: abs(trial.value - self.level)),)
