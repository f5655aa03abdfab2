"""Patterns I(Q): units of the axis, merging of detector positions, subtraction of a background.

Q = 4 pi sin(theta) / wavelength, where 2 theta is the angle between the incident and the scattered beam.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import FloatArray, Quality, ScatteringPattern
from bluesky_xpdml.vocabulary import Reason, ReasonCode

FEWEST_POINTS = 50
"""Smallest number of usable points of a pattern."""
MOST_POINTS = 1_000_000
"""Largest number of points of a merged pattern."""
LARGEST = 1e30
"""Larger intensities are no measurement; their squares overflow."""


class QUnit(StrEnum):
    """Unit of the axis of a pattern."""

    PER_ANGSTROM = "1/A"
    """Momentum transfer [1/angstrom]"""
    PER_NANOMETRE = "1/nm"
    """Momentum transfer [1/nm]"""
    TWO_THETA_DEGREES = "2th_deg"
    """Scattering angle [degrees]"""
    TWO_THETA_RADIANS = "2th_rad"
    """Scattering angle [rad]"""


_FACTORS = {QUnit.PER_ANGSTROM: 1.0, QUnit.PER_NANOMETRE: 0.1}


def momentum_transfer(axis: FloatArray, unit: QUnit | str, wavelength: float | None = None) -> FloatArray:
    """Convert an axis in `1/A`, `1/nm`, `2th_deg` or `2th_rad` to momentum transfers [1/angstrom], (n,).

    Angles need the wavelength [angstrom]. A ReductionError is raised if the unit is unknown, or angles come
    without a wavelength, or beyond 180 degrees.
    """
    unit = _unit(unit)
    if unit in _FACTORS:
        return np.asarray(axis, dtype=float) * _FACTORS[unit]
    length = _required(wavelength)
    angle = np.asarray(axis, dtype=float)
    angle = np.deg2rad(angle) if unit is QUnit.TWO_THETA_DEGREES else angle
    if angle.size and (np.nanmin(angle) < 0.0 or np.nanmax(angle) > np.pi):
        raise ReductionError(
            f"scattering angles lie between 0 and 180 degrees, found {np.rad2deg(np.nanmin(angle)):.4g} to "
            f"{np.rad2deg(np.nanmax(angle)):.4g}: check the unit of the axis",
            ReasonCode.Q_RANGE,
        )
    return np.asarray(4.0 * np.pi * np.sin(0.5 * angle) / length)


def _unit(unit: QUnit | str) -> QUnit:
    try:
        return QUnit(unit)
    except ValueError:
        known = ", ".join(QUnit)
        raise ReductionError(
            f"expected one of {known} as the unit of the axis, found {unit!r}", ReasonCode.SETTINGS_INVALID
        ) from None


def _required(wavelength: float | None) -> float:
    if wavelength is None:
        raise ReductionError(
            "an axis of scattering angles needs the wavelength; give it in angstrom with --wavelength, or "
            "convert the axis to Q",
            ReasonCode.CALIBRATION_MISSING,
        )
    if not (math.isfinite(wavelength) and wavelength > 0.0):
        raise ReductionError(
            f"expected a positive wavelength [angstrom], found {wavelength:g}", ReasonCode.CALIBRATION_MISSING
        )
    return wavelength


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtracted:
    """A pattern without its background."""

    pattern: ScatteringPattern
    scale: float
    """Scale of the background; 0 if there is none."""
    how: str
    """How the scale was found."""


def clean_pattern(pattern: ScatteringPattern) -> ScatteringPattern:
    """Return a pattern without its unusable points; its quality notes how many were dropped.

    Raises
    ------
    ReductionError
        If the arrays do not fit each other, q does not ascend, or fewer than 50 points are left.
    """
    q, intensity, variance = pattern.q, pattern.intensity, pattern.variance
    if q.ndim != 1 or intensity.shape != q.shape or (variance is not None and variance.shape != q.shape):
        raise ReductionError(f"expected arrays of one length, found {q.shape} and {intensity.shape}")
    keep = np.isfinite(q) & (np.abs(intensity) < LARGEST)
    if variance is not None:
        keep &= (variance >= 0.0) & (variance < LARGEST**2)
    unusable = int(np.count_nonzero(~keep))
    keep &= q > 0.0
    if np.count_nonzero(keep) < FEWEST_POINTS:
        raise ReductionError(
            f"expected at least {FEWEST_POINTS} points with numbers at positive Q, found "
            f"{np.count_nonzero(keep)}"
        )
    if np.any(np.diff(q[keep]) <= 0.0):
        raise ReductionError("expected Q in ascending order without repeated values")
    if keep.all():
        return pattern
    remark = Reason(f"{unusable} of {q.size} points without a number left out", ReasonCode.INTERPRETED_INPUT)
    return replace(
        pattern,
        q=q[keep],
        intensity=intensity[keep],
        variance=None if variance is None else variance[keep],
        quality=pattern.quality.note(remark) if unusable else pattern.quality,
    )


def subtract_background(
    pattern: ScatteringPattern,
    background: ScatteringPattern | None,
    scale: float | Literal["fit"] = "fit",
    *,
    q_min: float = 0.5,
) -> Subtracted:
    """Subtract a scaled background, I = I_sample - scale * I_background.

    The background is interpolated on the grid of the pattern; Q at which it was not measured is left out. A
    ReductionError is raised if the patterns do not overlap, the wavelengths differ, or the scale is no
    positive number.
    """
    pattern = clean_pattern(pattern)
    if background is None:
        return Subtracted(pattern=pattern, scale=0.0, how="no background was given")
    background = clean_pattern(background)
    pattern = _overlap(pattern, background)
    level = np.interp(pattern.q, background.q, background.intensity)
    how = "given"
    if scale == "fit":
        scale = _largest_scale(pattern, level, q_min)
        how = "the largest that leaves no negative intensity, an upper bound"
    if not 0.0 <= scale < LARGEST:
        raise ReductionError(
            f"expected a background scale that is not negative, found {scale:g}", ReasonCode.SETTINGS_INVALID
        )
    variance = pattern.variance
    if variance is not None and background.variance is not None:
        variance = variance + scale**2 * np.interp(pattern.q, background.q, background.variance)
    result = replace(
        pattern,
        intensity=pattern.intensity - scale * level,
        variance=variance,
        raw_uids=tuple(dict.fromkeys((*pattern.raw_uids, *background.raw_uids))),
        quality=pattern.quality.merge(background.quality),
    )
    return Subtracted(pattern=result, scale=float(scale), how=how)


def merge_patterns(
    patterns: Sequence[ScatteringPattern], scale: Literal["overlap", "none"] = "overlap"
) -> ScatteringPattern:
    """Merge patterns of one sample at several detector positions, or several exposures.

    All are interpolated to the finest of their grids. Overlapping parts are averaged with weights 1 /
    variance, without variances equally. With `overlap` each is scaled to the overlap with those before, with
    `none` taken as it is. A ReductionError is raised if there is none, their wavelengths differ, or one does
    not overlap the others.
    """
    if not patterns:
        raise ReductionError("expected at least one pattern to merge", ReasonCode.MISSING_DATA)
    ordered = sorted((clean_pattern(each) for each in patterns), key=lambda each: float(each.q[0]))
    merged, scales = ordered[0], [1.0]
    for each in ordered[1:]:
        _require_same_wavelength(merged, each)
        factor = _overlap_scale(merged, each) if scale == "overlap" else 1.0
        scales.append(factor)
        merged = _merged_pair(merged, each, factor)
    quality = Quality()
    for each in ordered:
        quality = quality.merge(each.quality)
    if max(scales) > 2.0 * min(scales):
        span = f"{min(scales):.3g} to {max(scales):.3g}"
        quality = quality.suspect(
            Reason(f"patterns were scaled by {span} to be merged", ReasonCode.PATTERN_SCALE)
        )
    return replace(
        merged,
        raw_uids=tuple(dict.fromkeys(uid for each in ordered for uid in each.raw_uids)),
        completeness=min(each.completeness for each in ordered),
        settings=dict(merged.settings) | {"merged": len(ordered), "merge_scales": scales},
        quality=quality,
    )


def _overlap(pattern: ScatteringPattern, background: ScatteringPattern) -> ScatteringPattern:
    """Return the part of a pattern that the background covers."""
    _require_same_wavelength(pattern, background)
    # Half a step more is no extrapolation that matters, and keeps grids whole that differ by rounding.
    margin = 0.5 * float(np.median(np.diff(background.q)))
    inside = (pattern.q >= background.q[0] - margin) & (pattern.q <= background.q[-1] + margin)
    if np.count_nonzero(inside) < FEWEST_POINTS:
        raise ReductionError(
            f"the background covers {background.q[0]:.3g} to {background.q[-1]:.3g} 1/angstrom, the pattern "
            f"{pattern.q[0]:.3g} to {pattern.q[-1]:.3g}: check the units of both axes",
            ReasonCode.Q_RANGE,
        )
    return replace(
        pattern,
        q=pattern.q[inside],
        intensity=pattern.intensity[inside],
        variance=None if pattern.variance is None else pattern.variance[inside],
    )


def _largest_scale(pattern: ScatteringPattern, level: FloatArray, q_min: float) -> float:
    """Return the smallest ratio of pattern and background, both smoothed over five points."""
    kernel = np.ones(5) / 5.0
    over = np.convolve(pattern.intensity, kernel, mode="valid")
    under = np.convolve(level, kernel, mode="valid")
    # Where the background is next to nothing the ratio is noise.
    usable = (pattern.q[2:-2] >= q_min) & (under > 1e-3 * under.max())
    if not usable.any():
        raise ReductionError(
            "the background holds no intensity to fit a scale to; give the scale",
            ReasonCode.BACKGROUND_MISSING,
        )
    return float(max(np.min(over[usable] / under[usable]), 0.0))


def _require_same_wavelength(one: ScatteringPattern, other: ScatteringPattern) -> None:
    if one.wavelength is None or other.wavelength is None:
        return
    if not np.isclose(one.wavelength, other.wavelength, rtol=0.01):
        raise ReductionError(
            f"patterns were measured at {one.wavelength:.5g} and {other.wavelength:.5g} angstrom: they "
            "cannot be combined",
            ReasonCode.CALIBRATION_CONTRADICTED,
        )


def _overlap_scale(merged: ScatteringPattern, new: ScatteringPattern) -> float:
    inside = (merged.q >= new.q[0]) & (merged.q <= new.q[-1])
    if np.count_nonzero(inside) < 5:
        raise ReductionError(
            f"a pattern from {new.q[0]:.3g} 1/angstrom on does not overlap the others, which end at "
            f"{merged.q[-1]:.3g}: without an overlap the scale is unknown",
            ReasonCode.PATTERN_SCALE,
        )
    here = np.interp(merged.q[inside], new.q, new.intensity)
    power = float(np.sum(here**2))
    factor = float(np.sum(merged.intensity[inside] * here)) / power if power > 0.0 else 0.0
    if factor <= 0.0:
        raise ReductionError(
            "overlapping patterns do not agree: no positive scale joins them", ReasonCode.PATTERN_SCALE
        )
    return factor


def _merged_pair(one: ScatteringPattern, other: ScatteringPattern, factor: float) -> ScatteringPattern:
    step = min(float(np.median(np.diff(each.q))) for each in (one, other))
    low, high = min(one.q[0], other.q[0]), max(one.q[-1], other.q[-1])
    n_points = (high - low) / step + 1.0 + 1e-9
    if n_points > MOST_POINTS:
        raise ReductionError(
            f"patterns from {low:.3g} to {high:.3g} 1/angstrom in steps of {step:.3g}: too many points to be "
            "merged",
            ReasonCode.Q_RANGE,
        )
    q = low + step * np.arange(int(n_points))
    total, weights = np.zeros_like(q), np.zeros_like(q)
    known = one.variance is not None and other.variance is not None
    for each, scale in ((one, 1.0), (other, factor)):
        inside = (q >= each.q[0]) & (q <= each.q[-1])
        weight = np.ones(np.count_nonzero(inside))
        if known and each.variance is not None:
            spread = scale**2 * np.interp(q[inside], each.q, each.variance)
            weight = 1.0 / np.maximum(spread, max(1e-12 * float(spread.max()), 1e-300))
        total[inside] += weight * scale * np.interp(q[inside], each.q, each.intensity)
        weights[inside] += weight
    filled = weights > 0.0
    return replace(
        one,
        q=q[filled],
        intensity=total[filled] / weights[filled],
        variance=1.0 / weights[filled] if known else None,
    )
