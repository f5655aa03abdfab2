"""Fitting of scikit-learn forests in threads."""

import warnings
from typing import Any

from bluesky_xpdml.records import FloatArray


def fitted(forest: Any, rows: FloatArray, labels: FloatArray) -> Any:
    """Fit a forest and leave the filters of warnings as they were.

    Each thread of scikit-learn replaces the filters of the whole process and puts back those that it found.
    Where threads end in another order than they began in, the filters of a thread stay, which are none.

    Parameters
    ----------
    forest
        Not yet fitted.
    rows
        Features, (n, n_features).
    labels
        Of the target, (n,) or (n, m).
    """
    with warnings.catch_warnings():
        return forest.fit(rows, labels)
