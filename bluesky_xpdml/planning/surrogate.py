"""What a few measurements say of all other points: a Gaussian process over the unit cube.

The process is scikit-learn's, with a Matern 5/2 kernel that has a length for each parameter (Rasmussen and
Williams, Gaussian Processes for Machine Learning, 2006).
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from bluesky_xpdml.records import FloatArray

LENGTHS = (0.08, 3.0)
"""Shortest and longest correlation length [range of a parameter]."""
NOISE = (1e-3, 0.03)
"""Least and largest variance of one answer [variance of the answers' scale]."""
AMPLITUDE = (0.25, 10.0)
"""Least and largest variance of the process [variance of the answers' scale]."""
SMALLEST_VARIANCE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Surrogate:
    """A fitted process."""

    points: FloatArray
    """Where it was told something, in the unit cube, (n, d)."""
    values: FloatArray
    """What it was told, (n,)."""
    process: Any

    def predict(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the expected values and their standard deviations without the noise of an answer, (m,) each.

        Parameters
        ----------
        rows
            Points of the unit cube, (m, d).
        """
        mean, deviation = self.process.predict(rows, return_std=True)
        noise = self.process.kernel_.k2.noise_level
        return np.asarray(mean), np.sqrt(np.maximum(deviation**2 - noise, SMALLEST_VARIANCE))

    def believing(self, rows: FloatArray) -> "Surrogate":
        """Return the process as it will be if points turn out as expected: what is on its way is known there.

        Parameters
        ----------
        rows
            Points that are being measured, (m, d).
        """
        if not rows.size:
            return self
        mean, _ = self.predict(rows)
        points, values = np.vstack([self.points, rows]), np.concatenate([self.values, mean])
        process = _process(self.process.kernel_, optimizer=None)
        return Surrogate(points=points, values=values, process=_fitted(process, points, values))


def fit_surrogate(points: FloatArray, values: FloatArray) -> Surrogate:
    """Return the process that a few measurements speak for most.

    Parameters
    ----------
    points
        In the unit cube, (n, d).
    values
        Around zero and of the order of one, (n,).

    Examples
    --------
    >>> points = np.linspace(0.0, 1.0, 9)[:, None]
    >>> mean, deviation = fit_surrogate(points, np.sin(3.0 * points[:, 0])).predict(np.array([[0.55]]))
    >>> bool(abs(mean[0] - np.sin(1.65)) < 0.02), bool(deviation[0] < 0.1)
    (True, True)
    """
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    lengths = np.full(points.shape[1], 0.4)
    smooth = Matern(lengths, LENGTHS, nu=2.5)
    kernel = ConstantKernel(1.0, AMPLITUDE) * smooth + WhiteKernel(0.02, NOISE)
    process = _fitted(_process(kernel, optimizer="fmin_l_bfgs_b"), points, values)
    return Surrogate(points=points, values=values, process=process)


def _process(kernel: Any, *, optimizer: str | None) -> Any:
    from sklearn.gaussian_process import GaussianProcessRegressor

    return GaussianProcessRegressor(kernel, optimizer=optimizer, random_state=0)


def _fitted(process: Any, points: FloatArray, values: FloatArray) -> Any:
    """Fit a process; that the likeliest one lies at a bound is what the bounds are for."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return process.fit(points, values)
