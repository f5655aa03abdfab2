"""Which parts of a scan the pre-edge and the post-edge are fitted to, where nobody says."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import FloatArray

QUADRATIC_RANGE = 200.0
"""From this length on a post-edge range is fitted by a parabola [eV]."""
LINEAR_RANGE = 60.0
"""From this length on by a straight line, below by a constant [eV]."""
SLOPE_RANGE = 20.0
"""A shorter pre-edge range is fitted by a constant [eV]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRanges:
    """Resolved ranges [eV relative to e0] and degrees of the two fits."""

    pre_edge: tuple[float, float]
    pre_edge_degree: int
    post_edge: tuple[float, float]
    degree: int
    remarks: tuple[str, ...] = ()


def fit_ranges(
    x: FloatArray,
    pre_edge: tuple[float, float] | Literal["auto"],
    post_edge: tuple[float, float] | Literal["auto"],
    degree: int | Literal["auto"],
) -> FitRanges:
    """Choose what was left open.

    Parameters
    ----------
    x
        Energies relative to e0 [eV], ascending, (n,).
    pre_edge, post_edge
        Ranges [eV relative to e0], or `auto`.
    degree
        Degree of the post-edge polynomial, or `auto`: 2 from 200 eV of range on, 1 from 60 eV, else 0.

    Raises
    ------
    ReductionError
        If the scan has nothing before or after the edge, or a range or degree makes no sense.

    Examples
    --------
    >>> ranges = fit_ranges(np.arange(-200.0, 100.0), "auto", "auto", "auto")
    >>> ranges.pre_edge, ranges.post_edge, ranges.degree
    ((-150.0, -30.0), (33.0, 99.0), 1)
    """
    before, line, short = _pre_edge(x) if pre_edge == "auto" else (_sound(pre_edge, "pre-edge"), 1, [])
    after = _post_edge(x) if post_edge == "auto" else _sound(post_edge, "post-edge")
    length = min(after[1], float(x[-1])) - after[0]
    if degree == "auto":
        degree = 2 if length >= QUADRATIC_RANGE else 1 if length >= LINEAR_RANGE else 0
        if degree < 2:
            name = "straight line" if degree else "constant"
            short = [*short, f"{length:.0f} eV of post-edge: fitted by a {name}"]
    elif not 0 <= degree <= 3:
        raise ReductionError(f"expected a post-edge polynomial of degree 0 to 3, found {degree}")
    return FitRanges(
        pre_edge=before, pre_edge_degree=line, post_edge=after, degree=degree, remarks=tuple(short)
    )


def _sound(given: tuple[float, float], what: str) -> tuple[float, float]:
    low, high = float(given[0]), float(given[1])
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ReductionError(f"expected a {what} range of two ascending numbers, found {low:g} to {high:g}")
    return low, high


def _pre_edge(x: FloatArray) -> tuple[tuple[float, float], int, list[str]]:
    """Return range and degree of the pre-edge: up to 30 eV below e0, or half of a short one."""
    if x[0] > -2.0:
        raise ReductionError(
            f"the scan begins {x[0]:+.0f} eV from the edge: without a pre-edge there is no edge step"
        )
    low = max(float(np.floor(x[0])), -150.0)
    high = -30.0 if low <= -60.0 else round(0.5 * low, 1)
    inside = x[(x >= low) & (x <= high)]
    if inside.size < 3:
        high = float(np.round(x[min(3, x.size - 1)], 2))
    if inside.size >= 3 and np.ptp(inside) >= SLOPE_RANGE:
        return (low, high), 1, []
    return (low, high), 0, [f"{max(high - low, 0.0):.0f} eV of pre-edge: fitted by a constant"]


def _post_edge(x: FloatArray) -> tuple[float, float]:
    high = min(float(np.floor(x[-1])), 800.0)
    low = float(np.clip(round(high / 3.0), 15.0, 100.0))
    if high - low < 5.0:
        raise ReductionError(
            f"the scan ends {x[-1]:+.0f} eV from the edge: at least 20 eV above it are needed to normalise"
        )
    return low, high
