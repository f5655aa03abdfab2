"""Measure where the answer is least certain, until it is certain enough everywhere.

An answer at an unmeasured point is uncertain for two reasons: the descriptor there is interpolated, and a
measurement there would itself have an interval. Two Gaussian processes describe them: one of the descriptor,
with standard deviation sigma (a 90 % interval is 2 x 1.645 sigma wide), and one of the widths w of the
answers' 90 % intervals. The expected width is::

    W(x) = sqrt((3.29 sigma(x))^2 + w(x)^2)

Measuring a point again does not change what the models answer there, so each place is measured once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.search import SearchOptimizer, Surrogate, fit_surrogate, nearest_distance
from bluesky_xpdml.planning.space import Space
from bluesky_xpdml.planning.trials import USABLE, AnsweredTrial
from bluesky_xpdml.records import FloatArray, Verdict

WIDTH_90 = 3.29
"""Width of a 90 % interval [standard deviations]."""
N_INITIAL = 6
"""Points that fill the space before the first fit."""
SMALLEST = 1e-6
"""Scale of answers that are all equal [unit of the descriptor]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """The two processes, each with the scale that its values were divided by."""

    values: Surrogate
    scale: float
    widths: Surrogate | None
    """None if no answer has an interval."""
    mean_width: float
    width_scale: float

    def expected_widths(self, rows: FloatArray, underway: FloatArray) -> FloatArray:
        """Return the expected widths [unit of the descriptor], (m,)."""
        _, deviation = self.values.with_expected(underway).predict(rows)
        interpolated = WIDTH_90 * self.scale * deviation
        measured = np.zeros(len(rows))
        if self.widths is not None:
            measured = self.mean_width + self.width_scale * self.widths.predict(rows)[0]
        return np.asarray(np.hypot(interpolated, np.maximum(measured, 0.0)))


class UncertaintyOptimizer(SearchOptimizer):
    """Measures where the answer is least certain.

    Parameters
    ----------
    space
        Parameters that may be changed; distances count in ranges of the parameters.
    descriptor
        `oxidation_state`, `coordination_number`, `bond_length` or another member of `Descriptor`.
    width
        The search ends when the 90 % interval is expected to be narrower than this everywhere [unit of the
        descriptor].
    at_most
        Number of measurements after which the search always ends.
    apart
        Smallest distance between measured points [ranges].
    accept
        Verdicts of predictions to learn from; predictions with another verdict are failed trials.
    seed
        Of the initial points.

    Raises
    ------
    PlanningError
        If the descriptor is unknown, the width or the distance is not positive, or there are fewer
        measurements than initial points.

    Examples
    --------
    >>> from bluesky_xpdml.planning.space import Parameter
    >>> space = Space(parameters=(Parameter(name="temperature", low=300.0, high=700.0, unit="K"),))
    >>> optimizer = UncertaintyOptimizer(space, "oxidation_state", width=0.4, at_most=30)
    >>> while not optimizer.should_stop()[0]:
    ...     (trial,) = optimizer.suggest()
    ...     state = 2.5 + 0.5 * np.tanh((trial["temperature"] - 460.0) / 40.0)
    ...     ends = {"oxidation_state_low": state - 0.1, "oxidation_state_high": state + 0.1}
    ...     optimizer.ingest([{"_id": trial["_id"], "oxidation_state": state, **ends}])
    >>> optimizer.n_measured < 30, bool(optimizer.expected_widths([{"temperature": 460.0}])[0] < 0.4)
    (True, True)
    """

    def __init__(
        self,
        space: Space,
        descriptor: str,
        *,
        width: float,
        at_most: int = 100,
        apart: float = 0.03,
        accept: tuple[Verdict, ...] = USABLE,
        seed: int = 0,
    ) -> None:
        super().__init__(space, descriptor, initial=N_INITIAL, at_most=at_most, accept=accept, seed=seed)
        if not (width > 0.0 and apart > 0.0):
            msg = f"expected a positive width and distance, found {width:g} and {apart:g}"
            raise PlanningError(msg)
        self._width = width
        self._apart = apart
        self._fitted: tuple[tuple[AnsweredTrial, ...], _Fit | None] = ((), None)

    def expected_widths(self, points: Sequence[Mapping[str, float]]) -> FloatArray:
        """Return the expected width of the 90 % interval [unit of the descriptor], (n,).

        It raises a `PlanningError` if there are fewer than two answers.
        """
        fit = self._fit()
        if fit is None:
            raise PlanningError(f"expected two answers or more, found {len(self.answered)}: measure on")
        return fit.expected_widths(self.space.to_unit(points), self._pending_points[:0])

    def should_stop(self) -> tuple[bool, str | None]:
        """Return whether everything is certain enough or cannot become so, and which."""
        if spent := self._budget_spent():
            return True, spent
        fit = self._fit()
        if fit is None or len(self.answered) < N_INITIAL:
            return False, None
        widths = fit.expected_widths(self._candidates, self._pending_points[:0])
        wide = widths > self._width
        if not wide.any():
            return True, f"the interval is expected to be narrower than {widths.max():.3g} everywhere"
        if not np.any(wide & self._is_open(self._measured)):
            share = float(np.mean(wide))
            return True, f"{share:.3f} of the space is less certain than asked, and was measured already"
        return False, None

    def _fit(self) -> _Fit | None:
        answered = self.answered
        if answered != self._fitted[0]:
            self._fitted = answered, _new_fit(answered)
        return self._fitted[1]

    def _utility(self, underway: FloatArray) -> FloatArray | None:
        fit = self._fit()
        if fit is None:
            return None
        is_open = self._is_open(np.vstack([self._measured, underway]))
        if not is_open.any():
            return None
        return np.where(is_open, fit.expected_widths(self._candidates, underway), -np.inf)

    def _is_open(self, known: FloatArray) -> NDArray[np.bool_]:
        """Return which candidates are far enough from known points, (m,)."""
        return np.asarray(nearest_distance(self._candidates, known) > self._apart)

    def _best(self) -> Sequence[AnsweredTrial]:
        """Return the least certain answer."""
        if not self.answered:
            return ()
        return (max(self.answered, key=lambda trial: np.nan_to_num(trial.high - trial.low)),)


def _new_fit(answered: tuple[AnsweredTrial, ...]) -> _Fit | None:
    if len(answered) < 2:
        return None
    points = np.array([trial.point for trial in answered])
    values = np.array([trial.value for trial in answered])
    widths = np.array([trial.high - trial.low for trial in answered])
    known = np.isfinite(widths)
    mean_width = float(widths[known].mean()) if known.any() else 0.0
    # Even if all answers agree, they may be wrong by as much as their intervals.
    scale = max(float(values.std()), mean_width / WIDTH_90, SMALLEST)
    width_scale = max(float(widths[known].std()) if known.any() else 0.0, SMALLEST)
    return _Fit(
        values=fit_surrogate(points, (values - values.mean()) / scale),
        scale=scale,
        widths=fit_surrogate(points[known], (widths[known] - mean_width) / width_scale)
        if known.sum() > 1
        else None,
        mean_width=mean_width,
        width_scale=width_scale,
    )
