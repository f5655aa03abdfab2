"""Counts to normalised XANES: one function, explicit settings, and a verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import (
    AbsorptionScan,
    AxisSource,
    DetectionMode,
    FloatArray,
    Quality,
    Xanes,
)
from bluesky_xpdml.reduction.channels import SIGNIFICANT, SMALLEST_STEP, Signal, absorption, noise_level
from bluesky_xpdml.reduction.edges import EDGE_ENERGIES
from bluesky_xpdml.reduction.energy import calibrate
from bluesky_xpdml.reduction.normalisation import Normalised, find_e0, normalise
from bluesky_xpdml.reduction.quality import faults
from bluesky_xpdml.reduction.ranges import FitRanges, fit_ranges

__all__ = ["XanesSettings", "find_e0", "normalise", "reduce_xanes"]

E0_WINDOW = 25.0
"""The edge is sought this far to both sides of the tabulated energy [eV]; axes were seen 19 eV off."""
NEEDED = (-10.0, 30.0)
"""What a scan must cover around the tabulated edge [eV]."""
LARGEST_ENERGY = 2e5
"""No absorption edge lies higher [eV]."""
FAINT = 0.05
"""A rise near the tabulated edge below this part of the scan's largest is no edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XanesSettings:
    """How a spectrum is reduced. `auto` is resolved from the scan, and what it became is recorded.

    Examples
    --------
    >>> XanesSettings(e0=7112.0, degree=1).degree
    1
    """

    e0: float | Literal["auto"] = "auto"
    """Edge energy on the calibrated axis [eV]."""
    pre_edge: tuple[float, float] | Literal["auto"] = "auto"
    """Range of the pre-edge fit [eV relative to e0]."""
    post_edge: tuple[float, float] | Literal["auto"] = "auto"
    """Range of the post-edge fit [eV relative to e0]."""
    degree: int | Literal["auto"] = "auto"
    """Degree of the post-edge polynomial, 0 to 3."""
    energy_offset: float | Literal["reference", "none"] = "reference"
    """Added to the raw energies [eV]; `reference` finds it from the foil, `none` leaves the axis."""
    mode: DetectionMode | Literal["auto"] = "auto"
    """Which channel to reduce."""


def reduce_xanes(scan: AbsorptionScan, settings: XanesSettings | None = None) -> Xanes:
    """Reduce an absorption scan to a normalised XANES spectrum.

    Parameters
    ----------
    scan
        What was counted.
    settings
        How to reduce it; everything `auto` if None.

    Raises
    ------
    ReductionError
        If no channel gives an absorption, the scan misses the edge, or the edge step is not positive,
        tiny, or within the noise. The message is the reason that is published.

    Examples
    --------
    >>> energy = np.arange(6950.0, 7400.0, 1.0)
    >>> scan = AbsorptionScan(energy=energy, mu=np.arctan((energy - 7120.0) / 2.0), element="Fe", edge="K")
    >>> xanes = reduce_xanes(scan, XanesSettings(energy_offset=0.5))
    >>> xanes.e0, round(xanes.edge_step, 1), xanes.quality.verdict.value
    (7120.5, 3.1, 'good')
    """
    settings = settings or XanesSettings()
    axis, uncalibrated = calibrate(scan, settings.energy_offset)
    shifted = replace(scan, energy=scan.energy + axis.offset)
    if shifted.energy[-1] > LARGEST_ENERGY:
        raise ReductionError(
            f"the energies run up to {shifted.energy[-1]:.3g} eV: check the unit of the axis"
        )
    table = EDGE_ENERGIES.get((scan.element, scan.edge))
    if table is not None:
        _require_coverage(shifted.energy, table, f"{scan.element} {scan.edge}")
    signal = absorption(shifted, mode=settings.mode, near=table)
    e0, remarks = _edge_energy(signal, settings.e0, table, scan)
    ranges = fit_ranges(signal.energy - e0, settings.pre_edge, settings.post_edge, settings.degree)
    result = _normalised(signal, e0, ranges)
    _require_step(signal, result, e0)
    xanes = Xanes(
        energy=signal.energy,
        mu=signal.mu,
        norm=result.norm,
        flat=result.flat,
        pre_edge=result.pre_edge,
        post_edge=result.post_edge,
        e0=e0,
        edge_step=result.edge_step,
        element=scan.element,
        edge=scan.edge,
        mode=signal.mode,
        axis=axis,
        settings=_resolved(e0, ranges, axis.source, axis.offset, signal.mode),
        sample=scan.sample,
        raw_uids=scan.raw_uids,
        source=scan.source,
        completeness=scan.completeness,
    )
    wrong = [*faults(xanes, scan), *filter(None, [uncalibrated])]
    quality = Quality().suspect(*wrong).merge(scan.quality)
    return replace(xanes, quality=quality.note(*signal.remarks, *remarks, *ranges.remarks))


def _require_coverage(energy: FloatArray, table: float, name: str) -> None:
    low, high = table + NEEDED[0], table + NEEDED[1]
    if energy[0] > low or energy[-1] < high:
        raise ReductionError(
            f"the scan runs from {energy[0]:.0f} to {energy[-1]:.0f} eV and misses the {name} edge "
            f"at {table:.0f} eV: at least {low:.0f} to {high:.0f} eV is needed; "
            "check the element and the energy unit"
        )


def _edge_energy(
    signal: Signal, e0: float | Literal["auto"], table: float | None, scan: AbsorptionScan
) -> tuple[float, list[str]]:
    """Return e0, and what should be said about how it was found."""
    if e0 != "auto":
        if not signal.energy[0] < e0 < signal.energy[-1]:
            raise ReductionError(
                f"e0 = {e0:g} eV lies outside the scan ({signal.energy[0]:.0f} to {signal.energy[-1]:.0f} eV)"
            )
        return float(e0), []
    if table is None:
        name = f"{scan.element or 'unknown element'} {scan.edge or 'unknown edge'}"
        remark = f"no tabulated energy for {name}: e0 is the largest derivative of the whole scan"
        return find_e0(signal.energy, signal.mu), [remark]
    window = (table - E0_WINDOW, table + E0_WINDOW)
    elsewhere = _require_rise(signal, window, f"{scan.element} {scan.edge}")
    found = find_e0(signal.energy, signal.mu, within=window)
    remark = (
        f"e0 was sought within {E0_WINDOW:.0f} eV of the tabulated {table:.0f} eV; a steeper rise lies at"
    )
    return found, [f"{remark} {elsewhere:.0f} eV"] if elsewhere else []


def _require_rise(signal: Signal, window: tuple[float, float], name: str) -> float | None:
    """Refuse a scan whose edge is elsewhere; return where the steepest rise is, if outside the window."""
    centres, slope = _coarse_slope(signal)
    inside = (centres > window[0]) & (centres < window[1])
    largest, here = slope.max(), slope[inside].max() if inside.any() else 0.0
    where = float(centres[np.argmax(slope)])
    if here < FAINT * largest or here <= 0.0:
        raise ReductionError(
            f"no rise within {window[0]:.0f} to {window[1]:.0f} eV, where the {name} edge should be; the "
            f"scan's steepest rise is at {where:.0f} eV: check the element and the energy axis"
        )
    return where if here < largest else None


def _coarse_slope(signal: Signal, width: float = 3.0) -> tuple[FloatArray, FloatArray]:
    """Return the slope over bins a few eV wide, which single noisy points do not carry."""
    n_bins = max(int(np.ptp(signal.energy) / width), 2)
    edges = np.linspace(signal.energy[0], signal.energy[-1], n_bins + 1)
    index = np.clip(np.searchsorted(edges, signal.energy, side="right") - 1, 0, n_bins - 1)
    counts = np.bincount(index, minlength=n_bins)
    filled = counts > 0
    means = np.bincount(index, weights=signal.mu, minlength=n_bins)[filled] / counts[filled]
    energies = np.bincount(index, weights=signal.energy, minlength=n_bins)[filled] / counts[filled]
    return 0.5 * (energies[1:] + energies[:-1]), np.diff(means) / np.diff(energies)


def _normalised(signal: Signal, e0: float, ranges: FitRanges) -> Normalised:
    return normalise(
        signal.energy,
        signal.mu,
        e0=e0,
        pre_edge=ranges.pre_edge,
        post_edge=ranges.post_edge,
        degree=ranges.degree,
        pre_edge_degree=ranges.pre_edge_degree,
    )


def _require_step(signal: Signal, result: Normalised, e0: float) -> None:
    """Refuse an edge step that is tiny or drowned in noise."""
    absolute = signal.mode in {DetectionMode.TRANSMISSION, DetectionMode.REFERENCE}
    if absolute and result.edge_step < SMALLEST_STEP:
        raise ReductionError(
            f"the edge step is {result.edge_step:.3g}, below {SMALLEST_STEP}: there is no "
            "edge, or the sample is too thin"
        )
    before = signal.energy < e0 - 12.0
    noise = noise_level(signal.energy[before], signal.mu[before])
    if result.edge_step < SIGNIFICANT * noise:
        raise ReductionError(
            f"the edge step of {result.edge_step:.3g} is within the noise of the pre-edge ({noise:.2g}): "
            f"expected {SIGNIFICANT:.0f} times as much; count longer"
        )


def _resolved(
    e0: float, ranges: FitRanges, source: AxisSource, offset: float, mode: DetectionMode
) -> Mapping[str, float | int | str | tuple[float, float]]:
    return {
        "e0": e0,
        "pre_edge": ranges.pre_edge,
        "pre_edge_degree": ranges.pre_edge_degree,
        "post_edge": ranges.post_edge,
        "degree": ranges.degree,
        "energy_offset": offset,
        "axis_source": source.value,
        "mode": mode.value,
    }
