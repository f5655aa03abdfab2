"""Repeated scans of one sample: aligned, compared, and averaged with their variances.

If every scan has its own foil, the foils align them, and remaining differences between the edges are a
property of the sample: radiation reduces and oxidises, and an alignment by the shape would hide it. Without
foils the derivatives are aligned by their cross correlation, within 1 eV; their median does not move.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, AxisSource, FloatArray, Quality, Verdict, Xanes
from bluesky_xpdml.reduction.edge_position import smooth
from bluesky_xpdml.reduction.noise import noise_level
from bluesky_xpdml.reduction.normalisation import FitRanges, find_e0, fit_ranges, normalise
from bluesky_xpdml.reduction.xanes import find_faults
from bluesky_xpdml.vocabulary import Reason, ReasonCode

HEAVIEST = 4.0
"""Largest weight of a repeat, relative to the median one."""
SCATTER_POINTS = 11
"""The scatter between repeats is averaged over this many points: a few repeats say little about one point."""
E0_REACH = 5.0
"""Largest distance of the edge of the mean from that of the repeats [eV]."""
WINDOW = (-20.0, 60.0)
"""Range of the comparison [eV from the edge]."""
STEP = 0.1
"""Grid of the comparison [eV]."""
SMOOTHING = 0.8
"""Standard deviation of the Gaussian before the comparison [eV]."""
FEWEST = 3
"""Of two repeats that differ, either may be wrong."""
TIMES_FARTHER = 4.0
"""An outlier is this many times farther from the median than the median repeat."""
SMALLEST_DISTANCE = 0.02
"""Repeats nearer than this are no outliers [edge steps, root mean square]."""
SHORTER = 50.0
"""A repeat that ends this much earlier than the others was interrupted [eV]."""
MOVING = 0.2
"""Smallest movement of the edge from the first to the last repeat that is reported [eV]."""


def average_repeats(scans: Sequence[Xanes], *, shifts: FloatArray, noise: FloatArray) -> Xanes:
    """Average normalised repeats on the grid of the first, with shifts [eV] and noise [edge steps], (r,).

    The mean, weighted with w_i = 1 / noise_i^2, is scaled to the median edge step and normalised again. Its
    variance is the larger of sum(w_i^2 noise_i^2) and the scatter sum(w_i (y_i - mean)^2) / (r - 1), where
    sum(w_i) = 1. A ReductionError is raised if they share no range around the edge.
    """
    energy = _common_grid(scans, shifts)
    curves = np.array(
        [
            np.interp(energy, xanes.energy + shift, xanes.norm)
            for xanes, shift in zip(scans, shifts, strict=True)
        ]
    )
    weights = 1.0 / noise**2
    weights = np.minimum(weights, HEAVIEST * np.median(weights))
    weights = weights / weights.sum()
    mean = weights @ curves
    variance = np.full(energy.size, float(np.sum(weights**2 * noise**2)))
    if len(scans) > 2:
        variance = np.maximum(variance, _scatter(curves - mean, weights))
    step = float(np.median([xanes.edge_step for xanes in scans]))
    return _normalise_mean(scans, energy, step * mean, step**2 * variance)


def _common_grid(scans: Sequence[Xanes], shifts: FloatArray) -> FloatArray:
    first = scans[0].energy + shifts[0]
    low = max(xanes.energy[0] + shift for xanes, shift in zip(scans, shifts, strict=True))
    high = min(xanes.energy[-1] + shift for xanes, shift in zip(scans, shifts, strict=True))
    energy = first[(first >= low) & (first <= high)]
    if energy.size < 10 or not low < scans[0].e0 < high:
        raise ReductionError(
            f"the repeats share only {low:.0f} to {high:.0f} eV: expected a range with the edge",
            ReasonCode.EDGE_NOT_COVERED,
        )
    return np.asarray(energy)


def _scatter(deviation: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the variance of the mean from the scatter between the repeats, (n,)."""
    from scipy.ndimage import uniform_filter1d

    single = weights @ deviation**2 / (len(deviation) - 1)
    return np.asarray(uniform_filter1d(single, SCATTER_POINTS, mode="nearest"))


def _normalise_mean(
    scans: Sequence[Xanes], energy: FloatArray, mu: FloatArray, variance: FloatArray
) -> Xanes:
    middle = float(np.median([xanes.e0 for xanes in scans]))
    e0 = find_e0(energy, mu, within=(middle - E0_REACH, middle + E0_REACH))
    ranges = _ranges(scans[0], energy - e0)
    result = normalise(
        energy,
        mu,
        e0=e0,
        pre_edge=ranges.pre_edge,
        post_edge=ranges.post_edge,
        degree=ranges.degree,
        pre_edge_degree=ranges.pre_edge_degree,
    )
    completeness = min(xanes.completeness for xanes in scans)
    chosen: dict[str, float | int | tuple[float, float]] = {
        "e0": e0,
        "pre_edge": ranges.pre_edge,
        "pre_edge_degree": ranges.pre_edge_degree,
        "post_edge": ranges.post_edge,
        "degree": ranges.degree,
    }
    xanes = replace(
        scans[0],
        energy=energy,
        mu=mu,
        norm=result.norm,
        flat=result.flat,
        pre_edge=result.pre_edge,
        post_edge=result.post_edge,
        e0=e0,
        edge_step=result.edge_step,
        mu_variance=variance,
        settings={**scans[0].settings, **chosen},
        raw_uids=tuple(dict.fromkeys(uid for each in scans for uid in each.raw_uids)),
        completeness=completeness,
        quality=Quality(),
    )
    scan = AbsorptionScan(energy=energy, mu=mu, completeness=completeness)
    return replace(xanes, quality=_shared(scans).suspect(*find_faults(xanes, scan)))


def _ranges(first: Xanes, x: FloatArray) -> FitRanges:
    """Return the ranges of the first repeat if the common range holds them, else new ones."""
    resolved = first.settings
    before, after = resolved["pre_edge"], resolved["post_edge"]
    if (
        isinstance(before, tuple)
        and isinstance(after, tuple)
        and x[0] <= before[0] + 5.0
        and x[-1] >= after[1] - 5.0
    ):
        return FitRanges(
            pre_edge=before,
            pre_edge_degree=int(str(resolved["pre_edge_degree"])),
            post_edge=after,
            degree=int(str(resolved["degree"])),
        )
    return fit_ranges(x, "auto", "auto", "auto")


def _shared(scans: Sequence[Xanes]) -> Quality:
    """Return the reasons that all repeats share."""
    first, *others = scans
    shared = [reason for reason in first.quality.reasons if all(reason in x.quality.reasons for x in others)]
    doubtful = all(xanes.quality.verdict is not Verdict.GOOD for xanes in scans)
    return Quality().suspect(*shared) if doubtful else Quality().note(*shared)


class Alignment(StrEnum):
    """How repeats are aligned."""

    AUTO = "auto"
    """By the foils if every repeat has one, else by the shape."""
    SHAPE = "shape"
    """By the cross correlation of the derivatives."""
    NONE = "none"
    """Not at all: the axes are taken as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatSettings:
    """How repeats are merged.

    Examples
    --------
    >>> RepeatSettings().largest_shift
    1.0
    """

    alignment: Alignment = Alignment.AUTO
    """How the energy axes are aligned: by the foils, else by the shape; only by the shape; or not at all."""
    largest_shift: float = 1.0
    """A repeat whose edge lies farther from the others is an outlier [eV]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """One repeat, compared with the others."""

    source: str
    """File name or scan id."""
    offset: float
    """Offset of its own calibration [eV]."""
    apparent_shift: float
    """Shift that would put its edge on that of the others [eV]."""
    applied_shift: float
    """Shift that was applied to align it [eV]."""
    distance: float
    """Root mean square distance from the median of all [edge steps]."""
    noise: float
    """Noise of a point [edge steps]."""
    rejected: str = ""
    """Why it was left out; empty if it was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedRepeats:
    """The average of repeats, and each of them compared with the others."""

    xanes: Xanes
    """The average, with the variance of its mu."""
    repeats: tuple[Repeat, ...]

    @property
    def n_kept(self) -> int:
        """Number of repeats that were averaged."""
        return sum(not repeat.rejected for repeat in self.repeats)


def merge_repeats(scans: Sequence[Xanes], settings: RepeatSettings | None = None) -> MergedRepeats:
    """Align reduced repeats of one sample, leave outliers out, and average the others.

    The repeats are given in the order in which they were measured. A ReductionError is raised if there is no
    spectrum, they are of several elements or edges, or share no range.
    """
    settings = settings or RepeatSettings()
    _require_same(scans)
    found = _compared(scans, settings)
    kept = [i for i, repeat in enumerate(found) if not repeat.rejected]
    average = average_repeats(
        [scans[i] for i in kept],
        shifts=np.array([found[i].applied_shift for i in kept]),
        noise=np.array([found[i].noise for i in kept]),
    )
    left_out = (
        Reason(f"repeat {repeat.source} left out: {repeat.rejected}", ReasonCode.REPEATS_MERGED)
        for repeat in found
        if repeat.rejected
    )
    quality = average.quality.note(*left_out).suspect(*_moving_edge(scans, found))
    counts = {"repeats": len(kept), "repeats_rejected": len(found) - len(kept)}
    xanes = replace(average, quality=quality, settings={**average.settings, **counts})
    return MergedRepeats(xanes=xanes, repeats=tuple(found))


def _require_same(scans: Sequence[Xanes]) -> None:
    what = {(xanes.element, xanes.edge) for xanes in scans}
    if len(what) != 1:
        names = ", ".join(sorted(" ".join(each) for each in what)) or "no spectrum"
        raise ReductionError(
            f"expected repeats of one element and edge, found {names}", ReasonCode.REPEATS_DISAGREE
        )


def _compared(scans: Sequence[Xanes], settings: RepeatSettings) -> list[Repeat]:
    """Compare each repeat with the median of all."""
    e0 = float(np.median([xanes.e0 for xanes in scans]))
    grid = np.arange(e0 + WINDOW[0], e0 + WINDOW[1], STEP)
    curves = np.array([_smoothed(xanes, grid) for xanes in scans])
    reach = settings.largest_shift + 0.5
    apparent = _apparent_shifts(curves, reach)
    by_foil = all(xanes.axis.source is AxisSource.REFERENCE for xanes in scans)
    shape = settings.alignment is Alignment.SHAPE or (settings.alignment is Alignment.AUTO and not by_foil)
    applied = np.clip(apparent, -reach, reach) if shape else np.zeros(len(scans))
    aligned = np.array([np.interp(grid, grid + s, curve) for s, curve in zip(applied, curves, strict=True)])
    inner = slice(round(reach / STEP), -round(reach / STEP))
    distance = np.sqrt(np.mean((aligned - np.median(aligned, axis=0))[:, inner] ** 2, axis=1))
    repeats = [
        Repeat(
            source=xanes.source or (xanes.raw_uids[0][:8] if xanes.raw_uids else f"number {number + 1}"),
            offset=xanes.axis.offset,
            apparent_shift=round(float(apparent[number]), 6),
            applied_shift=round(float(applied[number]), 6),
            distance=float(distance[number]),
            noise=_noise(xanes),
        )
        for number, xanes in enumerate(scans)
    ]
    ends = np.array([xanes.energy[-1] for xanes in scans])
    return [
        replace(repeat, rejected=_rejected(repeat, repeats, float(ends[i] - np.median(ends)), settings))
        for i, repeat in enumerate(repeats)
    ]


def _smoothed(xanes: Xanes, grid: FloatArray) -> FloatArray:
    return smooth(np.interp(grid, xanes.energy, xanes.norm), SMOOTHING / STEP)


def _noise(xanes: Xanes) -> float:
    x = xanes.energy - xanes.e0
    away = (x < -12.0) | (x > 30.0)
    return max(noise_level(x[away], xanes.norm[away]), 1e-6)


def _apparent_shifts(curves: FloatArray, reach: float) -> FloatArray:
    """Return the shift that fits each derivative best to the median one, less the median shift [eV]."""
    if len(curves) == 1:
        return np.zeros(1)
    slopes = np.gradient(curves, axis=1)
    shifts = np.zeros(len(curves))
    place = np.arange(curves.shape[1], dtype=float)
    for _ in range(2):
        target = np.median(
            [np.interp(place, place + s / STEP, y) for s, y in zip(shifts, slopes, strict=True)], axis=0
        )
        shifts = np.array([_best_shift(np.asarray(slope), target, reach) for slope in slopes])
        shifts -= np.median(shifts)
    return shifts


def _best_shift(slope: FloatArray, target: FloatArray, reach: float) -> float:
    """Return the shift of the largest cross correlation, refined by a parabola [eV]."""
    lags = np.arange(-round(reach / STEP), round(reach / STEP) + 1)
    inner = slice(lags[-1], slope.size - lags[-1])
    wanted = target[inner]
    pieces = [slope[inner.start - lag : inner.stop - lag] for lag in lags]
    score = np.array([np.sum((piece - wanted) ** 2) for piece in pieces])
    best = int(np.clip(np.argmin(score), 1, lags.size - 2))
    left, top, right = score[best - 1 : best + 2]
    bend = left - 2.0 * top + right
    return float(STEP * (lags[best] + (0.5 * (left - right) / bend if bend > 0.0 else 0.0)))


def _rejected(repeat: Repeat, all_repeats: Sequence[Repeat], end: float, settings: RepeatSettings) -> str:
    if len(all_repeats) < FEWEST:
        return ""
    if end < -SHORTER:
        return f"it ends {-end:.0f} eV earlier than the others"
    if abs(repeat.apparent_shift) > settings.largest_shift:
        return (
            f"its edge lies {-repeat.apparent_shift:+.2f} eV from that of the others, more than "
            f"{settings.largest_shift:g} eV"
        )
    usual = float(np.median([each.distance for each in all_repeats]))
    if repeat.distance > max(TIMES_FARTHER * usual, SMALLEST_DISTANCE):
        return f"it differs from the median by {repeat.distance:.3f} edge steps, the others by {usual:.3f}"
    return ""


def _moving_edge(scans: Sequence[Xanes], repeats: Sequence[Repeat]) -> list[Reason]:
    """Report an edge that moves steadily although the foils do not."""
    if len(scans) <= FEWEST or any(xanes.axis.source is not AxisSource.REFERENCE for xanes in scans):
        return []
    edge = -np.array([repeat.apparent_shift for repeat in repeats if not repeat.rejected])
    number = np.arange(edge.size)
    if edge.size <= FEWEST or np.ptp(edge) < 1e-9:
        return []
    moved = float(np.polyfit(number, edge, 1)[0]) * (edge.size - 1)
    steady = abs(float(np.corrcoef(number, edge)[0, 1]))
    if abs(moved) < MOVING or steady < 0.8:
        return []
    what = f"the edge moves by {moved:+.2f} eV over {edge.size} repeats although the foil stands still"
    return [Reason(f"{what}: the sample may change in the beam", ReasonCode.REPEATS_DISAGREE)]
