"""Where a descriptor changes: the boundary of a phase, or a reaction front, with few measurements.

The sought line is the level set of the descriptor half way between its plateaus, or at a given level. The
answers are squeezed to -1 ... 1 around that level and a Gaussian process is fitted to them; measured next is
where it is least certain on which side a point lies ("straddle", Bryan et al., NIPS 18, 163, 2005). The
search ends when further answers no longer move the line. (What the process itself expects to be wrong is no
guide: it was too small where few points fitted a smooth step, and too large where the step was sharp.)
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.searching import SearchOptimizer, nearest
from bluesky_xpdml.planning.space import Space
from bluesky_xpdml.planning.surrogate import Surrogate, fit_surrogate
from bluesky_xpdml.planning.trials import Answered
from bluesky_xpdml.records import FloatArray, Verdict

STRADDLE = 1.0
"""Weight of uncertainty against nearness to the level; 1.96 explores more and ends later."""
STEEPNESS = 1.2
"""Half the difference of the plateaus is squeezed to tanh of this."""
FIRST = 8
"""Points that fill the space before the first line is drawn."""
REFUSED, NEARBY = 2, 0.03
"""So many failures within so far [range of a parameter] keep the search away from there."""
APART = 0.005
"""No point is chosen nearer than this to one that is being measured [range of a parameter]."""
SETTLED = 0.75
"""The search ends when the line moved by less than this part of the tolerance ..."""
LATEST = 6
"""... with the last so many answers for each parameter ..."""
AGREEING = 2
"""... so many times in a row."""


class BoundaryOptimizer(SearchOptimizer):
    """Finds where a descriptor changes.

    Parameters
    ----------
    space
        What may be changed; the range of each parameter counts as one.
    descriptor
        `oxidation_state`, `coordination_number`, `bond_length` or another.
    level
        Value at the boundary [unit of the descriptor], or `midway` between the plateaus that were found.
    tolerance
        Share of the space that may lie on the wrong side of the found line; where the line crosses the whole
        space this is its mean distance from the true one, in ranges. It says when the search ends.
    at_most
        Measurements after which the search ends in any case.
    accept
        Verdicts of predictions to learn from; all others are failed trials.
    seed
        Of the first points.

    Raises
    ------
    PlanningError
        If the tolerance is not between 0 and 0.5, or there are fewer measurements than first points.

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
        accept: tuple[Verdict, ...] = (Verdict.GOOD, Verdict.SUSPECT),
        seed: int = 0,
    ) -> None:
        super().__init__(space, descriptor, first=FIRST, at_most=at_most, accept=accept, seed=seed)
        if not 0.0 < tolerance < 0.5:
            raise PlanningError(f"expected a tolerance between 0 and 0.5 of the space, found {tolerance:g}")
        self._level = level
        self._tolerance = tolerance
        self._fitted: tuple[tuple[Answered, ...], Surrogate | None] = ((), None)
        self._sides: dict[tuple[Answered, ...], NDArray[np.bool_]] = {}

    @property
    def level(self) -> float:
        """The sought value [unit of the descriptor]; NaN while nothing was measured."""
        values = np.array([each.value for each in self.answered])
        return self._scale(values)[0] if values.size else float("nan")

    def moved(self) -> float:
        """Return the share of the space that changed sides with the last answers; 1 while there are few."""
        return self._moved(len(self.answered))

    def is_above(self, points: Sequence[Mapping[str, float]]) -> NDArray[np.bool_]:
        """Return on which side of the found line points lie: whether the descriptor is above the level, (n,).

        Parameters
        ----------
        points
            A value for each parameter.

        Raises
        ------
        PlanningError
            If no line was found yet.
        """
        return np.asarray(self.signed(self.space.to_unit(points)) > 0.0)

    def signed(self, rows: FloatArray) -> FloatArray:
        """Return the squeezed descriptor, zero on the found line, (n,).

        Parameters
        ----------
        rows
            Points of the unit cube, (n, d).

        Raises
        ------
        PlanningError
            If no line was found yet.
        """
        fit = self._fit(self.answered)
        if fit is None:
            raise PlanningError(
                f"expected answers on both sides of a boundary, found {len(self.answered)} of "
                f"{self.descriptor} on one side only: measure on"
            )
        return fit.predict(rows)[0]

    def should_stop(self) -> tuple[bool, str | None]:
        """Return whether the line is known well enough or the measurements are used up, and which."""
        if self.n_measured >= self._at_most:
            return True, f"{self.n_measured} measurements were made, at most {self._at_most} were allowed"
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

    def _side(self, answered: tuple[Answered, ...]) -> NDArray[np.bool_]:
        """Return on which side the candidates lie, (m,), as far as some answers tell; (0,) without a line.

        A restarted optimizer finds what it had found before: this depends on the answers alone.
        """
        if answered not in self._sides:
            fit = self._fit(answered)
            side = np.empty(0) if fit is None else fit.predict(self._candidates)[0]
            kept = list(self._sides.items())[-2 * LATEST * len(self.space.names) :]
            self._sides = dict(kept) | {answered: side > 0.0}
        return self._sides[answered]

    def _scale(self, values: FloatArray) -> tuple[float, float]:
        """Return the level and half the difference of the plateaus [unit of the descriptor]."""
        low, high = values.min(), values.max()
        quarter = 0.25 * (high - low)
        # Medians of the ends: one odd answer does not move a plateau.
        low = np.median(values[values <= low + quarter])
        high = np.median(values[values >= high - quarter])
        level = 0.5 * (low + high) if self._level == "midway" else self._level
        return float(level), float(max(high - level, level - low))

    def _fit(self, answered: tuple[Answered, ...]) -> Surrogate | None:
        """Return the process of what is known; None while all answers lie on one side."""
        if answered != self._fitted[0]:
            self._fitted = answered, self._new_fit(answered)
        return self._fitted[1]

    def _new_fit(self, answered: tuple[Answered, ...]) -> Surrogate | None:
        values = np.array([each.value for each in answered])
        if values.size < 2:
            return None
        level, half = self._scale(values)
        if not values.min() < level < values.max():
            return None
        points = np.array([each.point for each in answered])
        return fit_surrogate(points, np.tanh(STEEPNESS * (values - level) / half))

    def _wanted(self, underway: FloatArray) -> FloatArray | None:
        fit = self._fit(self.answered)
        if fit is None:
            return None
        mean, deviation = fit.believing(underway).predict(self._candidates)
        wanted = STRADDLE * deviation - np.abs(mean)
        wanted[self._refused()] = -np.inf
        wanted[nearest(self._candidates, underway) < APART] = -np.inf
        return np.asarray(wanted)

    def _refused(self) -> NDArray[np.bool_]:
        """Return which candidates lie where measurements failed again and again, (m,)."""
        failed = np.array(list(self._failed.values())).reshape(-1, len(self.space.names))
        apart = np.linalg.norm(self._candidates[:, None, :] - failed[None, :, :], axis=2)
        return np.asarray(np.sum(apart < NEARBY, axis=1) >= REFUSED)

    def _best(self) -> Sequence[Answered]:
        """Return the answer nearest to the level."""
        if not self.answered:
            return ()
        return (min(self.answered, key=lambda each: abs(each.value - self.level)),)
