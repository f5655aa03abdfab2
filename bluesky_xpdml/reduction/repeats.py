"""Repeated scans of one sample: aligned, compared, and averaged with their variances.

Where every scan has its own foil, the foils align them, and what the edges still differ by is a property of
the sample: radiation reduces and oxidises, and an alignment by the shape would hide it. Without foils
the derivatives are aligned by their cross correlation, within 1 eV; their median stays where it was.
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
from bluesky_xpdml.reduction.xanes import faults

HEAVIEST = 4.0
"""No repeat weighs more than so many times the median one."""
SCATTER_POINTS = 11
"""The scatter between repeats is averaged over so many points: a few repeats tell little of a single one."""
E0_REACH = 5.0
"""The edge of the mean is sought this far from that of the repeats [eV]."""


def averaged_spectrum(scans: Sequence[Xanes], *, shifts: FloatArray, noise: FloatArray) -> Xanes:
    """Average repeats on the grid of the first.

    The repeats are normalised spectra, weighted by their inverse variance; the mean is scaled to their
    median edge step and normalised anew. Its variance is the larger of what the noise of the repeats lets
    expect and of what they scatter.

    Parameters
    ----------
    scans
        Reduced spectra, (r,).
    shifts
        Added to their energies [eV], (r,).
    noise
        Standard deviation of a point of each [edge steps], positive, (r,).

    Raises
    ------
    ReductionError
        If they share no range around the edge, or their mean cannot be normalised.

    Examples
    --------
    >>> from bluesky_xpdml.reduction.xanes import reduce_xanes
    >>> energy = np.arange(6950.0, 7400.0, 1.0)
    >>> scan = AbsorptionScan(energy=energy, mu=np.arctan((energy - 7120.0) / 2.0), element="Fe", edge="K")
    >>> one = reduce_xanes(scan)
    >>> mean = averaged_spectrum([one, one], shifts=np.zeros(2), noise=np.full(2, 0.01))
    >>> bool(np.allclose(mean.norm, one.norm))
    True
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
    return _renormalised(scans, energy, step * mean, step**2 * variance)


def _common_grid(scans: Sequence[Xanes], shifts: FloatArray) -> FloatArray:
    first = scans[0].energy + shifts[0]
    low = max(xanes.energy[0] + shift for xanes, shift in zip(scans, shifts, strict=True))
    high = min(xanes.energy[-1] + shift for xanes, shift in zip(scans, shifts, strict=True))
    energy = first[(first >= low) & (first <= high)]
    if energy.size < 10 or not low < scans[0].e0 < high:
        raise ReductionError(
            f"the repeats share only {low:.0f} to {high:.0f} eV: expected a range with the edge"
        )
    return np.asarray(energy)


def _scatter(deviation: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the variance of the mean from the scatter between the repeats, (n,)."""
    from scipy.ndimage import uniform_filter1d

    single = weights @ deviation**2 / (len(deviation) - 1)
    return np.asarray(uniform_filter1d(single, SCATTER_POINTS, mode="nearest"))


def _renormalised(scans: Sequence[Xanes], energy: FloatArray, mu: FloatArray, variance: FloatArray) -> Xanes:
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
    return replace(xanes, quality=_shared(scans).suspect(*faults(xanes, scan)))


def _ranges(first: Xanes, x: FloatArray) -> FitRanges:
    """Return the ranges of the first repeat where the common range holds them, else new ones."""
    said = first.settings
    before, after = said["pre_edge"], said["post_edge"]
    if (
        isinstance(before, tuple)
        and isinstance(after, tuple)
        and x[0] <= before[0] + 5.0
        and x[-1] >= after[1] - 5.0
    ):
        return FitRanges(
            pre_edge=before,
            pre_edge_degree=int(str(said["pre_edge_degree"])),
            post_edge=after,
            degree=int(str(said["degree"])),
        )
    return fit_ranges(x, "auto", "auto", "auto")


def _shared(scans: Sequence[Xanes]) -> Quality:
    """Return the remarks that all repeats share; what is said of single ones is theirs."""
    first, *others = scans
    shared = [reason for reason in first.quality.reasons if all(reason in x.quality.reasons for x in others)]
    doubtful = all(xanes.quality.verdict is not Verdict.GOOD for xanes in scans)
    return Quality().suspect(*shared) if doubtful else Quality().note(*shared)


WINDOW = (-20.0, 60.0)
"""Where repeats are compared [eV from the edge]."""
STEP = 0.1
"""Grid of the comparison [eV]."""
SMOOTHING = 0.8
"""Standard deviation of the Gaussian before they are compared [eV]."""
FEWEST = 3
"""Of two repeats that differ nobody can say which is wrong."""
TIMES_FARTHER = 4.0
"""An outlier is so many times farther from the median than the median repeat."""
SMALLEST_DISTANCE = 0.02
"""Repeats that are nearer than this belong together [edge steps, root mean square]."""
SHORTER = 50.0
"""A repeat that ends so much earlier than the others was interrupted [eV]."""
MOVING = 0.2
"""Edges that move by more than this from the first to the last repeat tell of a change [eV]."""


class Alignment(StrEnum):
    """What repeats are aligned by."""

    AUTO = "auto"
    """The foils where every repeat has one, else the shape."""
    SHAPE = "shape"
    """The cross correlation of the derivatives."""
    NONE = "none"
    """Nothing: the axes are taken as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatSettings:
    """How repeats are merged.

    Examples
    --------
    >>> RepeatSettings().largest_shift
    1.0
    """

    alignment: Alignment = Alignment.AUTO
    largest_shift: float = 1.0
    """A repeat whose edge lies farther from the others is an outlier [eV]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """What was found of one repeat."""

    source: str
    """File name or scan id."""
    offset: float
    """What its own calibration added to the energies [eV]."""
    apparent_shift: float
    """What would have to be added for its edge to lie on that of the others [eV]."""
    applied_shift: float
    """What was added to align it [eV]."""
    distance: float
    """Root mean square distance from the median of all [edge steps]."""
    noise: float
    """Of a point [edge steps]."""
    rejected: str = ""
    """Why it was left out; empty where it was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedRepeats:
    """The average of some repeats, and what became of each."""

    xanes: Xanes
    """The average, with the variance of its mu."""
    repeats: tuple[Repeat, ...]

    @property
    def n_kept(self) -> int:
        """Return how many repeats were averaged."""
        return sum(not repeat.rejected for repeat in self.repeats)


def merge_repeats(scans: Sequence[Xanes], settings: RepeatSettings | None = None) -> MergedRepeats:
    """Align repeats of one sample, leave outliers out, and average the others.

    Parameters
    ----------
    scans
        Reduced spectra of one element and edge, in the order in which they were measured.
    settings
        How to merge; the defaults if None.

    Raises
    ------
    ReductionError
        If there is no spectrum, they are of several elements or edges, or share no range.

    Examples
    --------
    >>> from bluesky_xpdml.records import AbsorptionScan
    >>> from bluesky_xpdml.reduction.xanes import reduce_xanes
    >>> energy = np.arange(6950.0, 7400.0, 1.0)
    >>> scan = AbsorptionScan(energy=energy, mu=np.arctan((energy - 7120.0) / 2.0), element="Fe", edge="K")
    >>> merged = merge_repeats([reduce_xanes(scan)] * 3)
    >>> merged.n_kept, merged.xanes.settings["repeats"]
    (3, 3)
    """
    settings = settings or RepeatSettings()
    _require_same(scans)
    found = _compared(scans, settings)
    kept = [i for i, repeat in enumerate(found) if not repeat.rejected]
    average = averaged_spectrum(
        [scans[i] for i in kept],
        shifts=np.array([found[i].applied_shift for i in kept]),
        noise=np.array([found[i].noise for i in kept]),
    )
    said = [f"repeat {repeat.source} left out: {repeat.rejected}" for repeat in found if repeat.rejected]
    quality = average.quality.note(*said).suspect(*_moving(scans, found))
    counts = {"repeats": len(kept), "repeats_rejected": len(found) - len(kept)}
    xanes = replace(average, quality=quality, settings={**average.settings, **counts})
    return MergedRepeats(xanes=xanes, repeats=tuple(found))


def _require_same(scans: Sequence[Xanes]) -> None:
    what = {(xanes.element, xanes.edge) for xanes in scans}
    if len(what) != 1:
        names = ", ".join(sorted(" ".join(each) for each in what)) or "no spectrum"
        raise ReductionError(f"expected repeats of one element and edge, found {names}")


def _compared(scans: Sequence[Xanes], settings: RepeatSettings) -> list[Repeat]:
    """Return what is to be known of each repeat."""
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
    """Return the shift that lays each derivative best on the median one, their own median taken off [eV]."""
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


def _moving(scans: Sequence[Xanes], repeats: Sequence[Repeat]) -> list[str]:
    """Say that the edge moves steadily although the foils stand still."""
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
    return [f"{what}: the sample may change in the beam"]
