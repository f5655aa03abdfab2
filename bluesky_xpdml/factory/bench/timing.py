"""Timing one thing beside another."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np


def median_ms(action: Callable[[], object], repeats: int) -> float:
    """Return the median duration of an action [ms], after one run that does not count.

    Parameters
    ----------
    action
        What to time.
    repeats
        How often.
    """
    action()
    durations = []
    for _ in range(repeats):
        begin = time.perf_counter()
        action()
        durations.append(time.perf_counter() - begin)
    return float(np.median(durations)) * 1e3


def timing_row(what: str, ours_ms: float, peer: str | None, peer_ms: float | None) -> dict[str, Any]:
    """Return one row of the table: ours, the peer's, and how many times the peer takes.

    Examples
    --------
    >>> timing_row("sum", 2.0, "other", 3.0)["ratio"]
    1.5
    """
    ratio = None if peer_ms is None else peer_ms / ours_ms
    return {"what": what, "ours_ms": ours_ms, "peer": peer, "peer_ms": peer_ms, "ratio": ratio}
