"""Counts to normalised XANES: one function, explicit settings, and a verdict."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, DetectionMode, EnergyAxis, FloatArray, Quality, Xanes
from bluesky_xpdml.reduction.channels import LOGARITHMS, SIGNIFICANT, SMALLEST_STEP, Signal, counted, select
from bluesky_xpdml.reduction.cleaning import DEFAULT_GRID, Grid, averaged, repaired
from bluesky_xpdml.reduction.edges import AMBIGUOUS, CONTRAST, EDGE_ENERGIES, TOLERANCE, name_edge, step_at
from bluesky_xpdml.reduction.energy import CalibrationMemory, calibrate
from bluesky_xpdml.reduction.fluorescence import SelfAbsorption, corrected, self_absorption_ratio
from bluesky_xpdml.reduction.noise import Rise, clipped, neighbour_deviation, noise_level
from bluesky_xpdml.reduction.normalisation import FitRanges, Normalised, edge_energy_of, fit_ranges, normalise


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


NOISY = 0.02
"""Noise above this part of the edge step blurs what models look at."""
GLITCH = 0.05
"""A point this far from its neighbours is a glitch where it also exceeds the noise tenfold [edge steps]."""
SPARSE = 2.0
"""Larger steps across the edge lose its shape [eV]."""
SHORT_PRE_EDGE = 15.0
"""A pre-edge shorter than this fixes no baseline [eV]."""
SHORT_POST_EDGE = 40.0
"""A scan that ends nearer to its edge rides on single oscillations [eV]."""
SMALL_STEP = 0.05
"""A smaller edge step in transmission is mostly background."""
STEEPEST = 1.5
"""No edge rises faster than the core hole's life allows: about one edge step in 1 eV [edge steps/eV]."""
JUMP = 0.3
"""Smaller differences between neighbours are left to noise and glitches [edge steps]."""
LIMITS = ("energy axis not calibrated", "steps of up to", "the scan ends", AMBIGUOUS)
"""How the reasons begin that speak against asking a model, not against the measurement."""


def faults(xanes: Xanes, scan: AbsorptionScan) -> tuple[str, ...]:
    """Say in words, with numbers, what makes a reduced spectrum suspect; nothing where nothing does.

    Parameters
    ----------
    xanes
        Reduced spectrum.
    scan
        What it was reduced from.

    Examples
    --------
    >>> from bluesky_xpdml.reduction.xanes import reduce_xanes
    >>> energy = np.arange(6950.0, 7400.0, 1.0)
    >>> mu = np.arctan((energy - 7120.0) / 2.0)
    >>> scan = AbsorptionScan(energy=energy, mu=mu, element="Fe", edge="K", completeness=0.5)
    >>> faults(reduce_xanes(scan), scan)
    ('only 50 % of the planned points were measured',)
    """
    return tuple(_faults(xanes, scan))


def limits(xanes: Xanes) -> tuple[str, ...]:
    """Say what a spectrum is too coarse or too short for, good as it may be.

    Parameters
    ----------
    xanes
        Reduced spectrum.

    Examples
    --------
    >>> from bluesky_xpdml.reduction.xanes import reduce_xanes
    >>> energy = np.arange(6950.0, 7400.0, 3.0)
    >>> mu = np.arctan((energy - 7120.0) / 2.0)
    >>> limits(reduce_xanes(AbsorptionScan(energy=energy, mu=mu, element="Fe", edge="K")))
    ('steps of up to 3.0 eV across the edge: expected 2 eV or less',)
    """
    return tuple(_limits(xanes.energy - xanes.e0))


def unfit(quality: Quality) -> tuple[str, ...]:
    """Return the reasons that speak against asking a model, though the measurement may be good.

    Parameters
    ----------
    quality
        Of a reduced spectrum.

    Examples
    --------
    >>> unfit(Quality().note("steps of up to 3.0 eV across the edge", "taken as energy and mu"))
    ('steps of up to 3.0 eV across the edge',)
    """
    return tuple(reason for reason in quality.reasons if reason.startswith(LIMITS))


def _faults(xanes: Xanes, scan: AbsorptionScan) -> Iterator[str]:
    if scan.completeness < 1.0:
        yield f"only {100.0 * scan.completeness:.0f} % of the planned points were measured"
    x = xanes.energy - xanes.e0
    yield from _presence(xanes)
    if -x[0] < SHORT_PRE_EDGE:
        yield f"only {-x[0]:.0f} eV of pre-edge: the baseline is uncertain"
    yield from _noise(x, xanes.norm)
    yield from _jumps(xanes.energy, xanes.norm)
    if xanes.mode is DetectionMode.TRANSMISSION and xanes.edge_step < SMALL_STEP:
        yield f"edge step of {xanes.edge_step:.3f} is small: expected {SMALL_STEP} or more in transmission"
    yield from _saturation(scan, xanes.mode)


def _limits(x: FloatArray) -> Iterator[str]:
    if x[-1] < SHORT_POST_EDGE:
        yield f"the scan ends {x[-1]:.0f} eV above the edge: the normalisation is uncertain"
    across = np.diff(x)[(x[1:] > -5.0) & (x[:-1] < 15.0)]
    if across.size and across.max() > 1.05 * SPARSE:
        yield f"steps of up to {across.max():.1f} eV across the edge: expected {SPARSE:.0f} eV or less"


def _presence(xanes: Xanes) -> Iterator[str]:
    """Doubt an edge that does not stand out, or that no element is known to have."""
    rise = step_at(xanes.energy, xanes.mu, xanes.e0)
    if rise is not None and rise.contrast < CONTRAST:
        yield (
            f"the rise at e0 is {max(rise.contrast, 0.0):.1f} times the scatter around it, expected "
            f"{CONTRAST:.0f} or more: there may be no edge"
        )
    if not xanes.element:
        yield (
            f"no tabulated K or L edge lies within {-TOLERANCE[1]:.0f} to {-TOLERANCE[0]:+.0f} eV of the "
            f"edge at {xanes.e0:.0f} eV: name the element, or check the energy axis"
        )


def _noise(x: FloatArray, norm: FloatArray) -> Iterator[str]:
    before, after = x < -12.0, x > 30.0
    for name, chosen in (("pre-edge", before), ("post-edge", after)):
        level = noise_level(x[chosen], norm[chosen])
        if level > NOISY:
            yield f"noise of {100.0 * level:.1f} % of the edge step in the {name}"
        spikes = _spikes(x[chosen], norm[chosen])
        glitches = int(np.count_nonzero(spikes > max(GLITCH, 10.0 * level)))
        if glitches:
            yield f"glitches in the {name} at {glitches} points, up to {spikes.max():.2f} edge steps"


def _jumps(energy: FloatArray, norm: FloatArray) -> Iterator[str]:
    """Find differences between neighbours that no absorption edge has; spikes come back, jumps stay."""
    if norm.size < 5:
        return
    difference, steps = np.diff(norm)[1:-1], np.diff(energy)[1:-1]
    stays = norm[3:] - norm[:-3]
    jumped = (np.minimum(np.abs(difference), np.abs(stays)) > np.maximum(JUMP, STEEPEST * steps)) & (
        difference * stays > 0.0
    )
    if jumped.any():
        index = int(np.argmax(np.where(jumped, np.abs(difference), 0.0)))
        yield (
            f"the absorption jumps by {difference[index]:+.2f} edge steps within {steps[index]:.2g} eV at "
            f"{energy[index + 1]:.1f} eV, sharper than any edge: check the beam, the shutter and the gains"
        )


def _spikes(x: FloatArray, norm: FloatArray) -> FloatArray:
    """Return how far single points stand out to the other side than both their neighbours.

    Fine structure on a coarse grid bends the curve to the same side at several points, a glitch does not.
    """
    if x.size < 5:
        return np.zeros(1)
    deviation = neighbour_deviation(x, norm)
    alone = (deviation[1:-1] * deviation[:-2] < 0.0) & (deviation[1:-1] * deviation[2:] < 0.0)
    return np.where(alone, np.abs(deviation[1:-1]), 0.0)


def _saturation(scan: AbsorptionScan, mode: DetectionMode) -> Iterator[str]:
    for name, values in counted(scan, mode).items():
        if reason := clipped(values):
            yield f"{name} {reason}"
