"""Measure where the answer is least certain, until it is certain enough everywhere.

What would be said of a point without measuring it is uncertain for two reasons: the descriptor there is
guessed from other points, and a measurement there would itself have an interval. Two Gaussian processes say
how much each is: one of the descriptor, whose standard deviation sigma counts with 2 x 1.645 sigma, and one
of the widths w of the answers' 90 % intervals. The expected width is::

    W(x) = sqrt((3.29 sigma(x))^2 + w(x)^2)

Measuring again where something was measured says nothing new of the models, so places are measured once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.searching import SearchOptimizer, nearest
from bluesky_xpdml.planning.space import Space
from bluesky_xpdml.planning.surrogate import Surrogate, fit_surrogate
from bluesky_xpdml.planning.trials import Answered
from bluesky_xpdml.records import FloatArray, Verdict

NINETY = 3.29
"""Width of a 90 % interval [standard deviations]."""
FIRST = 6
"""Points that fill the space before anything is fitted."""
SMALLEST = 1e-6
"""Scale of answers that do not differ at all [unit of the descriptor]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """The two processes, each with the scale that its values were divided by."""

    values: Surrogate
    scale: float
    widths: Surrogate | None
    """None where no answer has an interval."""
    mean_width: float
    width_scale: float

    def expected(self, rows: FloatArray, underway: FloatArray) -> FloatArray:
        """Return the expected widths [unit of the descriptor], (m,)."""
        _, deviation = self.values.believing(underway).predict(rows)
        guessed = NINETY * self.scale * deviation
        own = np.zeros(len(rows))
        if self.widths is not None:
            own = self.mean_width + self.width_scale * self.widths.predict(rows)[0]
        return np.asarray(np.hypot(guessed, np.maximum(own, 0.0)))


class UncertaintyOptimizer(SearchOptimizer):
    """Measures where the answer is least certain.

    Parameters
    ----------
    space
        What may be changed; the range of each parameter counts as one.
    descriptor
        `oxidation_state`, `coordination_number`, `bond_length` or another.
    width
        The search ends once the 90 % interval is expected to be narrower than this everywhere [unit of the
        descriptor].
    at_most
        Measurements after which the search ends in any case.
    apart
        Nearer than this to a point that was measured, nothing is measured again [ranges].
    accept
        Verdicts of predictions to learn from; all others are failed trials.
    seed
        Of the first points.

    Raises
    ------
    PlanningError
        If the width or the distance is not positive, or there are fewer measurements than first points.

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
        accept: tuple[Verdict, ...] = (Verdict.GOOD, Verdict.SUSPECT),
        seed: int = 0,
    ) -> None:
        super().__init__(space, descriptor, first=FIRST, at_most=at_most, accept=accept, seed=seed)
        if not (width > 0.0 and apart > 0.0):
            msg = f"expected a positive width and distance, found {width:g} and {apart:g}"
            raise PlanningError(msg)
        self._width = width
        self._apart = apart
        self._fitted: tuple[tuple[Answered, ...], _Fit | None] = ((), None)

    def expected_widths(self, points: Sequence[Mapping[str, float]]) -> FloatArray:
        """Return the width of the 90 % interval that is expected at points [unit of the descriptor], (n,).

        Parameters
        ----------
        points
            A value for each parameter.

        Raises
        ------
        PlanningError
            If fewer than two answers are known.
        """
        fit = self._fit()
        if fit is None:
            raise PlanningError(f"expected two answers or more, found {len(self.answered)}: measure on")
        return fit.expected(self.space.to_unit(points), self._pending_points[:0])

    def should_stop(self) -> tuple[bool, str | None]:
        """Return whether everything is certain enough, or cannot become so, and which."""
        if self.n_measured >= self._at_most:
            return True, f"{self.n_measured} measurements were made, at most {self._at_most} were allowed"
        fit = self._fit()
        if fit is None or len(self.answered) < FIRST:
            return False, None
        widths = fit.expected(self._candidates, self._pending_points[:0])
        wide = widths > self._width
        if not wide.any():
            return True, f"the interval is expected to be narrower than {widths.max():.3g} everywhere"
        if not np.any(wide & self._open(self._measured)):
            share = float(np.mean(wide))
            return True, f"{share:.3f} of the space is less certain than asked, and was measured already"
        return False, None

    def _fit(self) -> _Fit | None:
        answered = self.answered
        if answered != self._fitted[0]:
            self._fitted = answered, _new_fit(answered)
        return self._fitted[1]

    def _wanted(self, underway: FloatArray) -> FloatArray | None:
        fit = self._fit()
        if fit is None:
            return None
        is_open = self._open(np.vstack([self._measured, underway]))
        if not is_open.any():
            return None
        return np.where(is_open, fit.expected(self._candidates, underway), -np.inf)

    def _open(self, known: FloatArray) -> NDArray[np.bool_]:
        """Return which candidates lie apart from known points, (m,)."""
        return np.asarray(nearest(self._candidates, known) > self._apart)

    def _best(self) -> Sequence[Answered]:
        """Return the answer that is least certain."""
        return (
            (max(self.answered, key=lambda each: np.nan_to_num(each.high - each.low)),)
            if self.answered
            else ()
        )


def _new_fit(answered: tuple[Answered, ...]) -> _Fit | None:
    if len(answered) < 2:
        return None
    points = np.array([each.point for each in answered])
    values = np.array([each.value for each in answered])
    widths = np.array([each.high - each.low for each in answered])
    told = np.isfinite(widths)
    mean_width = float(widths[told].mean()) if told.any() else 0.0
    # Where answers agree, they may still be wrong by as much as they say.
    scale = max(float(values.std()), mean_width / NINETY, SMALLEST)
    width_scale = max(float(widths[told].std()) if told.any() else 0.0, SMALLEST)
    return _Fit(
        values=fit_surrogate(points, (values - values.mean()) / scale),
        scale=scale,
        widths=fit_surrogate(points[told], (widths[told] - mean_width) / width_scale)
        if told.sum() > 1
        else None,
        mean_width=mean_width,
        width_scale=width_scale,
    )
