"""Which classes belong to a conformal set, and what interval they span."""

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.records import FloatArray


def prediction_set(probabilities: FloatArray, thresholds: FloatArray) -> NDArray[np.bool_]:
    """Return which classes belong to the set of each row.

    A set that would be empty holds the likeliest class. Other sets may lack it: where a common class,
    usually told with certainty, is only just likelier than a rare one, the row looks more like the rare
    one's members.

    Parameters
    ----------
    probabilities
        Of each class, (..., k).
    thresholds
        Largest value of one minus the probability with which each class belongs to a set, (k,).

    Returns
    -------
    array of bool
        True for the classes of the set, (..., k).

    Examples
    --------
    >>> prediction_set(np.array([0.7, 0.25, 0.05]), np.array([0.5, 0.8, 0.9]))
    array([ True,  True, False])
    """
    found = 1.0 - probabilities <= thresholds + 1e-12
    likeliest = probabilities == probabilities.max(axis=-1, keepdims=True)
    return np.asarray(found | (likeliest & ~found.any(axis=-1, keepdims=True)))
