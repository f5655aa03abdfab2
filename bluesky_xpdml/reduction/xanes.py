"""Counts to normalised XANES: one function, explicit settings, and a verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, DetectionMode, EnergyAxis, FloatArray, Quality, Xanes
from bluesky_xpdml.reduction.calibration_memory import CalibrationMemory
from bluesky_xpdml.reduction.channels import select
from bluesky_xpdml.reduction.detection import LOGARITHMS, SIGNIFICANT, SMALLEST_STEP, Signal
from bluesky_xpdml.reduction.edge_position import edge_energy_of
from bluesky_xpdml.reduction.edges import EDGE_ENERGIES
from bluesky_xpdml.reduction.energy import calibrate
from bluesky_xpdml.reduction.identify import name_edge
from bluesky_xpdml.reduction.noise import Rise, noise_level
from bluesky_xpdml.reduction.normalisation import FitRanges, Normalised, find_e0, fit_ranges, normalise
from bluesky_xpdml.reduction.quality import faults, limits
from bluesky_xpdml.reduction.rebin import DEFAULT_GRID, Grid
from bluesky_xpdml.reduction.refinement import averaged, repaired
from bluesky_xpdml.reduction.self_absorption import SelfAbsorption, corrected, self_absorption_ratio


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
    drift: float = 0.05
    """How fast the uncertainty of an earlier calibration grows, where a scan has no foil [eV/h]."""
    mode: DetectionMode | Literal["auto"] = "auto"
    """Which channels to reduce."""
    prefer: DetectionMode | Literal["none"] = "none"
    """Which channels to reduce where they are usable: what a run declares."""
    deglitch: bool = True
    """Repair glitches of the monochromator."""
    rebin: Grid | Literal["none"] = DEFAULT_GRID
    """Steps that continuous scans are averaged on; scans with fewer points keep their own."""
    self_absorption: SelfAbsorption | Literal["none"] = "none"
    """Composition and geometry of a thick sample, to correct its fluorescence."""


__all__ = ["XanesSettings", "find_e0", "normalise", "reduce_xanes"]

NEEDED = (-10.0, 30.0)
"""What a scan must cover around the tabulated edge [eV]."""
LARGEST_ENERGY = 2e5
"""No absorption edge lies higher [eV]."""


def reduce_xanes(
    scan: AbsorptionScan,
    settings: XanesSettings | None = None,
    *,
    memory: CalibrationMemory | None = None,
) -> Xanes:
    """Reduce an absorption scan to a normalised XANES spectrum.

    Parameters
    ----------
    scan
        What was counted.
    settings
        How to reduce it; everything `auto` if None.
    memory
        Earlier calibrations of the monochromator, for scans without a foil; None where none are kept.

    Raises
    ------
    ReductionError
        If no channel gives an absorption, the scan misses the edge, or the edge step is not positive,
        tiny, or within the noise. The message is the reason that is published.

    Examples
    --------
    >>> import numpy as np
    >>> energy = np.arange(6950.0, 7400.0, 1.0)
    >>> scan = AbsorptionScan(energy=energy, mu=np.arctan((energy - 7120.0) / 2.0), element="Fe", edge="K")
    >>> xanes = reduce_xanes(scan, XanesSettings(energy_offset=0.5))
    >>> xanes.e0, round(xanes.edge_step, 1), xanes.quality.verdict.value
    (7120.5, 3.1, 'good')
    """
    settings = settings or XanesSettings()
    scan, identity = name_edge(scan, e0=settings.e0)
    axis, doubts, told = calibrate(scan, settings.energy_offset, memory=memory, drift=settings.drift)
    shifted = _shifted(scan, axis.offset)
    table = EDGE_ENERGIES.get((scan.element, scan.edge))
    if table is not None:
        _require_coverage(shifted.energy, table, f"{scan.element} {scan.edge}")
    chosen = select(shifted, mode=settings.mode, prefer=settings.prefer, near=table)
    e0, remarks = edge_energy_of(chosen.signal, settings.e0, table, scan)
    smooth = repaired(averaged(chosen.signal, e0, settings.rebin), shifted, e0, wanted=settings.deglitch)
    signal = smooth.signal
    if signal.mu is not chosen.signal.mu:
        e0, remarks = edge_energy_of(signal, settings.e0, table, scan)
    ranges = fit_ranges(signal.energy - e0, settings.pre_edge, settings.post_edge, settings.degree)
    result = _normalised(signal, e0, ranges)
    _require_step(signal, result, e0)
    signal, said = _without_self_absorption(signal, result, scan, settings.self_absorption)
    result = _normalised(signal, e0, ranges) if said else result
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
        mu_variance=smooth.variance,
        axis=axis,
        settings={**_resolved(e0, ranges, axis, signal.mode, chosen.rises), **smooth.settings, **said},
        sample=scan.sample,
        raw_uids=scan.raw_uids,
        source=scan.source,
        completeness=scan.completeness,
    )
    quality = Quality().suspect(*faults(xanes, scan), *smooth.doubts).merge(scan.quality)
    told = (*doubts, *limits(xanes), *identity, *told)
    return replace(xanes, quality=quality.note(*told, *signal.remarks, *remarks, *ranges.remarks))


def _shifted(scan: AbsorptionScan, offset: float) -> AbsorptionScan:
    shifted = replace(scan, energy=scan.energy + offset)
    if shifted.energy[-1] > LARGEST_ENERGY:
        raise ReductionError(
            f"the energies run up to {shifted.energy[-1]:.3g} eV: check the unit of the axis"
        )
    return shifted


def _require_coverage(energy: FloatArray, table: float, name: str) -> None:
    low, high = table + NEEDED[0], table + NEEDED[1]
    if energy[0] > low or energy[-1] < high:
        raise ReductionError(
            f"the scan runs from {energy[0]:.0f} to {energy[-1]:.0f} eV and misses the {name} edge "
            f"at {table:.0f} eV: at least {low:.0f} to {high:.0f} eV is needed; "
            "check the element and the energy unit"
        )


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
    if signal.mode in LOGARITHMS and result.edge_step < SMALLEST_STEP:
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


def _without_self_absorption(
    signal: Signal,
    result: Normalised,
    scan: AbsorptionScan,
    wanted: SelfAbsorption | Literal["none"],
) -> tuple[Signal, dict[str, float | str]]:
    """Correct fluorescence for what the sample reabsorbs, where its composition and geometry were given."""
    if wanted == "none":
        return signal, {}
    if signal.mode is not DetectionMode.FLUORESCENCE:
        remark = f"self-absorption not corrected: mu was measured in {signal.mode}"
        return replace(signal, remarks=(*signal.remarks, remark)), {}
    beta = self_absorption_ratio(wanted, scan.element, scan.edge)
    mu = result.pre_edge + result.edge_step * corrected(result.norm, beta)
    remark = f"self-absorption of thick {wanted.composition} corrected (beta {beta:.2f})"
    signal = replace(signal, mu=mu, remarks=(*signal.remarks, remark))
    said: dict[str, float | str] = {
        "self_absorption_beta": beta,
        "self_absorption_composition": wanted.composition,
        "self_absorption_incidence": wanted.incidence,
        "self_absorption_exit": wanted.exit,
    }
    return signal, said


def _resolved(
    e0: float, ranges: FitRanges, axis: EnergyAxis, mode: DetectionMode, rises: Mapping[DetectionMode, Rise]
) -> dict[str, float | int | str | tuple[float, float]]:
    """Return what was chosen, and what every usable mode shows."""
    resolved: dict[str, float | int | str | tuple[float, float]] = {
        "e0": e0,
        "pre_edge": ranges.pre_edge,
        "pre_edge_degree": ranges.pre_edge_degree,
        "post_edge": ranges.post_edge,
        "degree": ranges.degree,
        "energy_offset": axis.offset,
        "axis_source": axis.source.value,
        "axis_uncertainty": axis.uncertainty,
        "mode": mode.value,
    }
    for each, rise in rises.items():
        name = each.value.replace(" ", "_")
        resolved[f"{name}_edge_step"] = rise.step
        resolved[f"{name}_noise"] = rise.noise
    return resolved
