"""What optimizers that search a space share: initial points, candidates, and a Gaussian process.

The process is scikit-learn's, with a Matern 5/2 kernel that has a length for each parameter (Rasmussen and
Williams, Gaussian Processes for Machine Learning, 2006).
"""

import warnings
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from bluesky_xpdml.errors import PlanningError, needs_extra
from bluesky_xpdml.planning.space import Space
from bluesky_xpdml.planning.trials import TrialOptimizer
from bluesky_xpdml.records import FloatArray, Verdict

N_CANDIDATES = 2048
"""Points among which the next one is chosen."""
MAX_INITIAL = 8
"""Most initial points: a power of two, as the Sobol sequence needs."""
LENGTHS = (0.08, 3.0)
"""Bounds of the correlation lengths [range of a parameter]."""
NOISE = (1e-3, 0.03)
"""Bounds of the variance of one answer [variance of the answers' scale]."""
AMPLITUDE = (0.25, 10.0)
"""Bounds of the variance of the process [variance of the answers' scale]."""
SMALLEST_VARIANCE = 1e-9


class SearchOptimizer(TrialOptimizer):
    """An optimizer that chooses the next point among candidates that fill the space.

    At most 8 `initial` points fill the space before anything is fitted, and `at_most` measurements end the
    search; the seed is that of the points. A `PlanningError` is raised if there are fewer measurements than
    initial points.
    """

    def __init__(
        self,
        space: Space,
        descriptor: str,
        *,
        initial: int,
        at_most: int,
        accept: tuple[Verdict, ...],
        seed: int,
    ) -> None:
        from scipy.stats import qmc

        super().__init__(space, descriptor, accept=accept)
        if at_most < initial:
            raise PlanningError(f"expected at least {initial} measurements, found at_most = {at_most}")
        self._at_most = at_most
        dimensions = len(space.names)
        self._initial = qmc.Sobol(dimensions, seed=seed).random(MAX_INITIAL)[:initial]
        self._candidates = qmc.Sobol(dimensions, seed=seed + 1).random(N_CANDIDATES)

    @abstractmethod
    def _utility(self, underway: FloatArray) -> FloatArray | None:
        """Return the utility of each candidate, (m,), given points underway, (k, d); None if unknown."""

    @property
    def _measured(self) -> FloatArray:
        """Points that were answered or failed, (n, d)."""
        rows = [*(trial.point for trial in self.answered), *self._failed.values()]
        return np.array(rows).reshape(-1, len(self.space.names))

    def _propose(self, n: int) -> FloatArray:
        rows = np.empty((0, len(self.space.names)))
        for _ in range(n):
            rows = np.vstack([rows, self._next(rows)])
        return rows

    def _next(self, batch: FloatArray) -> FloatArray:
        """Return one more point, (d,), beside the pending ones and those of the same batch."""
        started = self.n_measured + len(self._pending) + len(batch)
        if started < len(self._initial):
            return np.asarray(self._initial[started])
        underway = np.vstack([self._pending_points, batch])
        utility = self._utility(underway)
        if utility is None:
            # Explore: as far as possible from all measurements.
            utility = nearest_distance(self._candidates, np.vstack([self._measured, underway]))
        return np.asarray(self._candidates[np.argmax(utility)])

    def _budget_spent(self) -> str:
        """Return the reason to stop if all measurements were made, else an empty text."""
        if self.n_measured < self._at_most:
            return ""
        return f"{self.n_measured} measurements were made, at most {self._at_most} were allowed"


def nearest_distance(rows: FloatArray, known: FloatArray) -> FloatArray:
    """Return the distance of each row, (m, d), to the nearest known point, (n, d); one if there is none."""
    if not known.size:
        return np.ones(len(rows))
    return np.asarray(np.min(np.linalg.norm(rows[:, None, :] - known[None, :, :], axis=2), axis=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Surrogate:
    """A fitted Gaussian process."""

    points: FloatArray
    """In the unit cube, (n, d)."""
    values: FloatArray
    """(n,)"""
    process: Any

    def predict(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the expected values and their standard deviations without noise, (m,) each, at (m, d)."""
        mean, deviation = self.process.predict(rows, return_std=True)
        noise = self.process.kernel_.k2.noise_level
        return np.asarray(mean), np.sqrt(np.maximum(deviation**2 - noise, SMALLEST_VARIANCE))

    def with_expected(self, rows: FloatArray) -> "Surrogate":
        """Return the process as it will be if pending points, (m, d), turn out as expected."""
        if not rows.size:
            return self
        mean, _ = self.predict(rows)
        points, values = np.vstack([self.points, rows]), np.concatenate([self.values, mean])
        process = _fit(self.process.kernel_, points, values, optimizer=None)
        return Surrogate(points=points, values=values, process=process)


def fit_surrogate(points: FloatArray, values: FloatArray) -> Surrogate:
    """Fit a process to values around zero, of the order of one, (n,), at points of the unit cube, (n, d)."""
    with needs_extra("plan"):
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    lengths = np.full(points.shape[1], 0.4)
    smooth = Matern(lengths, LENGTHS, nu=2.5)
    kernel = ConstantKernel(1.0, AMPLITUDE) * smooth + WhiteKernel(0.02, NOISE)
    return Surrogate(
        points=points, values=values, process=_fit(kernel, points, values, optimizer="fmin_l_bfgs_b")
    )


def _fit(kernel: Any, points: FloatArray, values: FloatArray, *, optimizer: str | None) -> Any:
    with needs_extra("plan"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor

    process = GaussianProcessRegressor(kernel, optimizer=optimizer, random_state=0)
    with warnings.catch_warnings():
        # An optimum at a bound is expected: that is what the bounds are for.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return process.fit(points, values)
