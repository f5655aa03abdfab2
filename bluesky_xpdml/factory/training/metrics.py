"""Metrics of the simulated benchmark, each beside that of a trivial answer."""

from collections.abc import Mapping

import numpy as np

from bluesky_xpdml.factory.training.benchmark import target_metrics
from bluesky_xpdml.records import FloatArray


def class_metrics(train: FloatArray, truth: FloatArray, answer: FloatArray) -> dict[str, tuple[float, float]]:
    """Return accuracy, weighted and macro F1, each with that of the commonest class.

    Parameters
    ----------
    train
        Labels of the training rows, (k,).
    truth, answer
        Labels and answers of the test rows, (n,).

    Examples
    --------
    >>> class_metrics(np.array([2.0, 2.0, 3.0]), np.array([2.0, 3.0]), np.array([2.0, 3.0]))["accuracy"]
    (1.0, 0.5)
    """
    found = target_metrics("oxidation_state", train, truth, answer)
    return {name: (value, trivial) for name, value, trivial in found}


def number_metrics(
    train: FloatArray, truth: FloatArray, answer: FloatArray
) -> dict[str, tuple[float, float]]:
    """Return root mean square error, mean absolute error and R2, each with that of the training mean.

    Parameters
    ----------
    train
        Labels of the training rows, (k,).
    truth, answer
        Labels and answers of the test rows, (n,).

    Examples
    --------
    >>> number_metrics(np.array([2.0]), np.array([1.0, 3.0]), np.array([1.0, 2.0]))["mae"]
    (0.5, 1.0)
    """
    variance = max(float(np.var(truth)), 1e-300)

    def errors(values: FloatArray) -> Mapping[str, float]:
        squared = float(np.mean((values - truth) ** 2))
        return {
            "rmse": squared**0.5,
            "mae": float(np.mean(np.abs(values - truth))),
            "r2": 1.0 - squared / variance,
        }

    ours, trivial = errors(answer), errors(np.full_like(truth, train.mean()))
    return {name: (ours[name], trivial[name]) for name in ours}
