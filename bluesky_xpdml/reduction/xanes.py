"""Counts to normalised XANES: one function, explicit settings, and a verdict.

`_faults` are of the measurement: they make a spectrum suspect. `_limits` are of what can be read from it: the
spectrum is good, but a model may not be asked without a warning; `unfit` returns them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, DetectionMode, EnergyAxis, FloatArray, Quality, Xanes
from bluesky_xpdml.reduction.channels import (
    LOGARITHMS,
    SIGNIFICANT,
    SMALL_STEP,
    SMALLEST_STEP,
    Signal,
    saturated_channels,
    select_mode,
)
from bluesky_xpdml.reduction.cleaning import DEFAULT_GRID, Grid, average_continuous, repair_glitches
from bluesky_xpdml.reduction.edges import CONTRAST, EDGE_ENERGIES, TOLERANCE, fit_step, name_edge
from bluesky_xpdml.reduction.energy import CalibrationMemory, calibrate
from bluesky_xpdml.reduction.fluorescence import (
    SelfAbsorption,
    correct_self_absorption,
    self_absorption_ratio,
)
from bluesky_xpdml.reduction.noise import Rise, neighbour_deviation, noise_level
from bluesky_xpdml.reduction.normalisation import (
    FitRanges,
    Normalised,
    edge_energy_of,
    fit_ranges,
    normalise,
)
from bluesky_xpdml.vocabulary import Reason, ReasonCode

NEEDED = (-10.0, 30.0)
"""What a scan must cover around the tabulated edge [eV]."""
LARGEST_ENERGY = 2e5
"""No absorption edge lies higher [eV]."""
NOISY = 0.02
"""Noise above this part of the edge step blurs what models look at."""
GLITCH = 0.05
"""Smallest distance of a glitch from its neighbours, which also exceeds the noise tenfold [edge steps]."""
SPARSE = 2.0
"""Larger steps across the edge lose its shape [eV]."""
SHORT_PRE_EDGE = 15.0
"""A shorter pre-edge fixes no baseline [eV]."""
SHORT_POST_EDGE = 40.0
"""The normalisation of a scan that ends nearer to its edge depends on single oscillations [eV]."""
STEEPEST = 1.5
"""No edge rises faster than the core hole's lifetime allows: about one edge step in 1 eV [edge steps/eV]."""
JUMP = 0.3
"""Smaller differences between neighbours are noise or glitches [edge steps]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XanesSettings:
    """How a spectrum is reduced. `auto` is resolved from the scan, and the resolved values are published.

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
    """Growth of the uncertainty of a stored calibration, for scans without a foil [eV/h]."""
    mode: DetectionMode | Literal["auto"] = "auto"
    """Which channels to reduce."""
    prefer: DetectionMode | Literal["none"] = "none"
    """Which channels to reduce if they are usable: what a run declares."""
    deglitch: bool = True
    """Repair glitches of the monochromator."""
    rebin: Grid | Literal["none"] = DEFAULT_GRID
    """Steps that continuous scans are averaged on; scans with fewer points keep their own grid."""
    self_absorption: SelfAbsorption | Literal["none"] = "none"
    """Composition and geometry of a thick sample, to correct its fluorescence."""


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
        Stored calibrations of the monochromator, for scans without a foil; None if there are none.

    Returns
    -------
    Xanes
        Its quality has the reasons why it is suspect, and how ambiguous data were read.

    Raises
    ------
    ReductionError
        If the scan is no scan, no channel yields an absorption, the scan misses the edge, or the edge step is
        not positive, tiny, or within the noise. The message is the reason that is published.

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
    _require_scan(scan)
    scan, identity = name_edge(scan, e0=settings.e0)
    axis, doubts, notes = calibrate(scan, settings.energy_offset, memory=memory, drift=settings.drift)
    shifted = replace(scan, energy=scan.energy + axis.offset)
    table = EDGE_ENERGIES.get((scan.element, scan.edge))
    _require_coverage(shifted, table)
    chosen = select_mode(shifted, mode=settings.mode, prefer=settings.prefer, near=table)
    e0, remarks = edge_energy_of(chosen.signal, settings.e0, table, scan)
    clean = average_continuous(chosen.signal, e0, settings.rebin)
    clean = repair_glitches(clean, shifted, e0, wanted=settings.deglitch)
    signal = clean.signal
    if signal.mu is not chosen.signal.mu:
        e0, remarks = edge_energy_of(signal, settings.e0, table, scan)
    ranges = fit_ranges(signal.energy - e0, settings.pre_edge, settings.post_edge, settings.degree)
    result = _normalised(signal, e0, ranges)
    _require_step(signal, result, e0)
    signal, correction = _without_self_absorption(signal, result, scan, settings.self_absorption)
    result = _normalised(signal, e0, ranges) if correction else result
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
        mu_variance=clean.variance,
        axis=axis,
        settings={
            **_resolved(e0, ranges, axis, signal.mode, chosen.rises),
            **clean.settings,
            **correction,
        },
        sample=scan.sample,
        raw_uids=scan.raw_uids,
        source=scan.source,
        completeness=scan.completeness,
    )
    quality = Quality().suspect(*find_faults(xanes, scan), *clean.doubts).merge(scan.quality)
    notes = (*doubts, *_limits(signal.energy - e0), *identity, *notes)
    return replace(xanes, quality=quality.note(*notes, *signal.remarks, *remarks, *ranges.remarks))


def unfit(quality: Quality) -> tuple[Reason, ...]:
    """Return the reasons that speak against asking a model, though the measurement may be good."""
    return quality.of(
        ReasonCode.AXIS_UNCALIBRATED,
        ReasonCode.COARSE_STEPS,
        ReasonCode.SHORT_POST_EDGE,
        ReasonCode.ELEMENT_AMBIGUOUS,
    )


def find_faults(xanes: Xanes, scan: AbsorptionScan) -> tuple[Reason, ...]:
    """Return what makes a spectrum suspect, with numbers; empty if nothing does."""
    return tuple(_faults(xanes, scan))


def _require_scan(scan: AbsorptionScan) -> None:
    channels = (scan.i0, scan.it, scan.ir, scan.fluorescence, scan.electron_yield, scan.mu)
    given = (*(each for each in channels if each is not None), *scan.fluorescence_elements.values())
    if any(each.shape != (scan.energy.size,) for each in given) or scan.energy.ndim != 1:
        raise ReductionError(
            f"expected channels with one number per energy, found {scan.energy.shape} energies and channels "
            f"of {', '.join(sorted({str(each.shape) for each in given}))}",
            ReasonCode.INVALID_DOCUMENT,
        )
    if not np.isfinite(scan.energy).all() or not np.all(np.diff(scan.energy) > 0.0):
        raise ReductionError(
            "expected finite, strictly ascending energies: sort the scan by energy and merge repeated points",
            ReasonCode.INVALID_DOCUMENT,
        )


def _require_coverage(scan: AbsorptionScan, table: float | None) -> None:
    """Refuse a scan that misses the tabulated energy of its edge [eV]."""
    if scan.energy.size == 0:
        raise ReductionError("the scan holds no point", ReasonCode.EDGE_NOT_COVERED)
    first, last = scan.energy[[0, -1]]
    if last > LARGEST_ENERGY:
        raise ReductionError(
            f"the energies run up to {last:.3g} eV: check the unit of the axis", ReasonCode.AXIS_DOUBTFUL
        )
    if table is None:
        return
    low, high = table + NEEDED[0], table + NEEDED[1]
    if first > low or last < high:
        raise ReductionError(
            f"the scan runs from {first:.0f} to {last:.0f} eV and misses the {scan.element} {scan.edge} edge "
            f"at {table:.0f} eV: at least {low:.0f} to {high:.0f} eV is needed; "
            "check the element and the energy unit",
            ReasonCode.EDGE_NOT_COVERED,
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
    """Refuse an edge step that is tiny or within the noise."""
    if signal.mode in LOGARITHMS and result.edge_step < SMALLEST_STEP:
        raise ReductionError(
            f"the edge step is {result.edge_step:.3g}, below {SMALLEST_STEP}: there is no "
            "edge, or the sample is too thin",
            ReasonCode.EDGE_STEP,
        )
    before = signal.energy < e0 - 12.0
    noise = noise_level(signal.energy[before], signal.mu[before])
    if result.edge_step < SIGNIFICANT * noise:
        raise ReductionError(
            f"the edge step of {result.edge_step:.3g} is within the noise of the pre-edge ({noise:.2g}): "
            f"expected {SIGNIFICANT:.0f} times as much; count longer",
            ReasonCode.NOISE,
        )


def _without_self_absorption(
    signal: Signal,
    result: Normalised,
    scan: AbsorptionScan,
    wanted: SelfAbsorption | Literal["none"],
) -> tuple[Signal, dict[str, float | str]]:
    """Correct self-absorption of fluorescence if composition and geometry were given."""
    if wanted == "none":
        return signal, {}
    if signal.mode is not DetectionMode.FLUORESCENCE:
        text = f"self-absorption not corrected: mu was measured in {signal.mode}"
        remark = Reason(text, ReasonCode.SELF_ABSORPTION)
        return replace(signal, remarks=(*signal.remarks, remark)), {}
    beta = self_absorption_ratio(wanted, scan.element, scan.edge)
    mu = result.pre_edge + result.edge_step * correct_self_absorption(result.norm, beta)
    text = f"self-absorption of thick {wanted.composition} corrected (beta {beta:.2f})"
    remark = Reason(text, ReasonCode.SELF_ABSORPTION)
    resolved: dict[str, float | str] = {
        "self_absorption_beta": beta,
        "self_absorption_composition": wanted.composition,
        "self_absorption_incidence": wanted.incidence,
        "self_absorption_exit": wanted.exit,
    }
    return replace(signal, mu=mu, remarks=(*signal.remarks, remark)), resolved


def _resolved(
    e0: float, ranges: FitRanges, axis: EnergyAxis, mode: DetectionMode, rises: Mapping[DetectionMode, Rise]
) -> dict[str, float | int | str | tuple[float, float]]:
    """Return the resolved settings, with edge step and noise of every working mode."""
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


def _faults(xanes: Xanes, scan: AbsorptionScan) -> Iterator[Reason]:
    if scan.completeness < 1.0:
        yield Reason(
            f"only {100.0 * scan.completeness:.0f} % of the planned points were measured",
            ReasonCode.INCOMPLETE,
        )
    x = xanes.energy - xanes.e0
    yield from _doubts_about_edge(xanes)
    if -x[0] < SHORT_PRE_EDGE:
        yield Reason(
            f"only {-x[0]:.0f} eV of pre-edge: the baseline is uncertain", ReasonCode.NORMALISATION_RANGE
        )
    yield from _noise(x, xanes.norm)
    yield from _jumps(xanes.energy, xanes.norm)
    if xanes.mode is DetectionMode.TRANSMISSION and xanes.edge_step < SMALL_STEP:
        yield Reason(
            f"edge step of {xanes.edge_step:.3f} is small: expected {SMALL_STEP} or more in transmission",
            ReasonCode.THICKNESS,
        )
    for text in saturated_channels(scan, xanes.mode):
        yield Reason(text, ReasonCode.DETECTOR)


def _limits(x: FloatArray) -> Iterator[Reason]:
    if x[-1] < SHORT_POST_EDGE:
        yield Reason(
            f"the scan ends {x[-1]:.0f} eV above the edge: the normalisation is uncertain",
            ReasonCode.SHORT_POST_EDGE,
        )
    across = np.diff(x)[(x[1:] > -5.0) & (x[:-1] < 15.0)]
    if across.size and across.max() > 1.05 * SPARSE:
        yield Reason(
            f"steps of up to {across.max():.1f} eV across the edge: expected {SPARSE:.0f} eV or less",
            ReasonCode.COARSE_STEPS,
        )


def _doubts_about_edge(xanes: Xanes) -> Iterator[Reason]:
    """Doubt an edge with too little contrast, or at an energy where no element has one."""
    rise = fit_step(xanes.energy, xanes.mu, xanes.e0)
    if rise is not None and rise.contrast < CONTRAST:
        yield Reason(
            f"the rise at e0 is {max(rise.contrast, 0.0):.1f} times the scatter around it, expected "
            f"{CONTRAST:.0f} or more: there may be no edge",
            ReasonCode.EDGE_STEP,
        )
    if not xanes.element:
        yield Reason(
            f"no tabulated K or L edge lies within {-TOLERANCE[1]:.0f} to {-TOLERANCE[0]:+.0f} eV of the "
            f"edge at {xanes.e0:.0f} eV: name the element, or check the energy axis",
            ReasonCode.ELEMENT_MISSING,
        )


def _noise(x: FloatArray, norm: FloatArray) -> Iterator[Reason]:
    before, after = x < -12.0, x > 30.0
    for name, chosen in (("pre-edge", before), ("post-edge", after)):
        level = noise_level(x[chosen], norm[chosen])
        if level > NOISY:
            yield Reason(f"noise of {100.0 * level:.1f} % of the edge step in the {name}", ReasonCode.NOISE)
        spikes = _spikes(x[chosen], norm[chosen])
        glitches = int(np.count_nonzero(spikes > max(GLITCH, 10.0 * level)))
        if glitches:
            yield Reason(
                f"glitches in the {name} at {glitches} points, up to {spikes.max():.2f} edge steps",
                ReasonCode.GLITCH,
            )


def _jumps(energy: FloatArray, norm: FloatArray) -> Iterator[Reason]:
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
        yield Reason(
            f"the absorption jumps by {difference[index]:+.2f} edge steps within {steps[index]:.2g} eV at "
            f"{energy[index + 1]:.1f} eV, sharper than any edge: check the beam, the shutter and the gains",
            ReasonCode.DETECTOR,
        )


def _spikes(x: FloatArray, norm: FloatArray) -> FloatArray:
    """Return how far single points deviate to the other side than both their neighbours.

    Fine structure on a coarse grid bends the curve to the same side at several points, a glitch does not.
    """
    if x.size < 5:
        return np.zeros(1)
    deviation = neighbour_deviation(x, norm)
    alone = (deviation[1:-1] * deviation[:-2] < 0.0) & (deviation[1:-1] * deviation[2:] < 0.0)
    return np.where(alone, np.abs(deviation[1:-1]), 0.0)
