"""Detectors at the end of their range: counts that stay at their maximum as if they were clipped."""

import numpy as np

from bluesky_xpdml.records import FloatArray

FLAT_POINTS = 6
"""So many equal counts in a row at a channel's maximum are a detector at its end."""


def clipped(values: FloatArray) -> str:
    """Say that a channel is clipped, or nothing where it is not.

    Parameters
    ----------
    values
        Counts or currents of either sign, (n,); points that are not finite are skipped. A channel that
        never moves is dead or ideal, not clipped.

    Examples
    --------
    >>> clipped(np.minimum(np.arange(20.0), 12.0))
    'stays at its maximum for 8 points: the detector is saturated'
    >>> clipped(np.ones(20))
    ''
    """
    size = np.abs(values[np.isfinite(values)])
    if size.size == 0 or size.min() == size.max():
        return ""
    run = _longest_run(size >= size.max())
    return f"stays at its maximum for {run} points: the detector is saturated" if run >= FLAT_POINTS else ""


def _longest_run(flags: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(int)))
    return int((edges[1::2] - edges[::2]).max(initial=0))
