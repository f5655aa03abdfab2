"""The weighted mean of aligned repeats, normalised anew, with the variance of every point."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, FloatArray, Quality, Verdict, Xanes
from bluesky_xpdml.reduction.normalisation import find_e0, normalise
from bluesky_xpdml.reduction.quality import faults
from bluesky_xpdml.reduction.ranges import FitRanges, fit_ranges

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
