"""Several sweeps of the energy in one run, told apart at the points where the energy turns."""

import numpy as np

from bluesky_xpdml.records import FloatArray

TURN = 0.1
"""The energy turns where it comes back by more than this part of its whole range: more than jitter."""
SMALLEST_PART = 0.5
"""A sweep covers at least this part of the range; a shorter one was broken off."""
FEWEST_POINTS = 10
"""Fewer points than this are the way back to the start, no sweep."""


def sweeps(energy: FloatArray) -> tuple[slice, ...]:
    """Return where the sweeps of an energy axis begin and end; one for all points where it does not turn.

    A point where the energy turns belongs to the sweep that it ends. A way back of few points belongs to the
    sweep that follows. Sweeps that were broken off are left out.

    Parameters
    ----------
    energy
        In the order of measurement [any unit], (n,); NaN where unknown.

    Examples
    --------
    >>> up = np.linspace(7000.0, 7200.0, 41)
    >>> sweeps(np.concatenate([up, up[::-1], up]))
    (slice(0, 41, None), slice(41, 82, None), slice(82, 123, None))
    >>> sweeps(np.concatenate([up, up]))
    (slice(0, 41, None), slice(41, 82, None))
    """
    everything = (slice(0, energy.size),)
    known = np.flatnonzero(np.isfinite(energy))
    with np.errstate(over="ignore"):
        span = float(np.ptp(energy[known])) if known.size else 0.0
    if not 0.0 < span < np.inf:
        return everything
    ends = [int(known[turn]) + 1 for turn in _turns(energy[known], TURN * span)]
    parts = list(zip([0, *ends], [*ends, energy.size], strict=True))
    n_short = sum(last - first < FEWEST_POINTS for first, last in parts)
    if n_short > len(parts) - n_short:
        # Points in no order, or very few: nothing that could be called a sweep.
        return everything
    whole = [
        slice(*part) for part in _without_short(parts) if _covers(energy[slice(*part)], SMALLEST_PART * span)
    ]
    return tuple(whole) or everything


def _turns(energy: FloatArray, smallest: float) -> list[int]:
    """Return the indices at which the energy turns by more than the smallest amount."""
    turns: list[int] = []
    low = high = 0
    direction = 0
    for i, value in enumerate(energy.tolist()):
        if value > energy[high]:
            high = i
        if value < energy[low]:
            low = i
        if direction >= 0 and energy[high] - value > smallest:
            # Before the first turn both extremes are open: it was one only if the energy had risen.
            if direction > 0 or energy[high] - energy[0] > smallest:
                turns.append(high)
            direction, low, high = -1, i, i
        elif direction <= 0 and value - energy[low] > smallest:
            if direction < 0 or energy[0] - energy[low] > smallest:
                turns.append(low)
            direction, low, high = 1, i, i
    return turns


def _without_short(parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Give parts of few points to the part that follows."""
    kept: list[tuple[int, int]] = []
    begin = 0
    for _, last in parts:
        if last - begin >= FEWEST_POINTS:
            kept.append((begin, last))
            begin = last
    return kept


def _covers(energy: FloatArray, smallest: float) -> bool:
    known = energy[np.isfinite(energy)]
    return bool(known.size and np.ptp(known) >= smallest)
