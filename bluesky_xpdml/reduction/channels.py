"""From counted channels to absorption: which detection mode is used, and what it shows.

==============  ==================
transmission    mu = ln(I0 / It)
fluorescence    mu = If / I0
electron yield  mu = Iy / I0
reference       mu = ln(It / Ir)
mu              as given
==============  ==================
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, DetectionMode, FloatArray
from bluesky_xpdml.reduction.noise import Rise, rise_near, saturation
from bluesky_xpdml.vocabulary import Reason, ReasonCode

FAINTEST = 0.05
"""A detector element that counts less than this part of the median of the others is dead or covered."""
MOST_LOST = 0.2
"""A detector element with a larger part of points that are not finite is dead."""
STEP_FACTOR = 2.5
"""Largest factor between the edge steps of detector elements, in counts before the edge: an element beside
the scattering maximum shows a larger step."""
LARGEST = 1e30
"""No detector counts more, and no absorption is larger in any unit; squares of larger numbers overflow."""
FEWEST_TO_COMPARE = 3
"""Of two elements that differ, either may be wrong."""
MOST_DROPPED = 0.2
"""A channel with a larger part of unusable points is dead."""
SMALLEST_STEP = 0.02
"""Smallest edge step in the modes with absolute units."""
SIGNIFICANT = 5.0
"""An edge step must exceed the noise of the pre-edge by this factor."""
LOGARITHMS = frozenset({DetectionMode.TRANSMISSION, DetectionMode.REFERENCE})
"""Modes whose absorption has absolute units."""
PREFERENCE = (
    DetectionMode.TRANSMISSION,
    DetectionMode.FLUORESCENCE,
    DetectionMode.ELECTRON_YIELD,
    DetectionMode.MU,
)
"""Transmission first: it is not distorted by self-absorption."""
CLEAN = 0.02
"""A mode with less noise is used without looking for a better one [edge steps]."""
SMALL_STEP = 0.05
"""Transmission with a smaller edge step gives way to a cleaner mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Absorption at the usable points of a scan. Arrays have the shape (n,)."""

    energy: FloatArray
    """Energy as in the scan [eV]."""
    mu: FloatArray
    """Absorption [1 for logarithms, any unit otherwise]."""
    mode: DetectionMode
    remarks: tuple[Reason, ...] = ()
    """Why other channels were not used, how many points were dropped, which signs were changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The chosen detection mode, and the edge steps of the others."""

    signal: Signal
    rises: Mapping[DetectionMode, Rise] = field(default_factory=dict)
    """Edge step and noise of every working mode, if they can be measured."""


def select_mode(
    scan: AbsorptionScan,
    *,
    mode: DetectionMode | Literal["auto"] = "auto",
    prefer: DetectionMode | Literal["none"] = "none",
    near: float | None = None,
) -> Selection:
    """Choose the detection mode of a scan, and compute its absorption.

    A mode is usable if its channels work, none of them is saturated, and there is a step near the edge
    energy. The preferred mode is chosen if it is usable; else the first in the order transmission,
    fluorescence, electron yield, mu whose noise is below 2 % of its edge step, where transmission also needs
    a step of 0.05; else the one with the least noise in edge steps.

    `prefer` is what the run declares, `near` the expected edge energy [eV]. A ReductionError with the reason
    of each mode is raised if none, or not the given one, yields an absorption.
    """
    if mode != "auto":
        signal = read_mode(scan, DetectionMode(mode), near=near)
        return Selection(signal=signal, rises=_rises([signal], near))
    working, unused = _working_modes(scan, prefer, near)
    if not working:
        message = "; ".join(unused.values()) or "the scan holds no channel that gives an absorption"
        raise ReductionError(message, ReasonCode.DETECTOR)
    rises = _rises(working, near)
    usable = []
    for signal in working:
        reason = _why_unusable(scan, signal, rises.get(signal.mode), near)
        if reason:
            unused[signal.mode] = f"{signal.mode} not used: {reason}"
        else:
            usable.append(signal)
    chosen = _best(usable, rises, prefer) if usable else working[-1]
    remarks = [reason for mode, reason in unused.items() if mode is not chosen.mode]
    remarks += _passed_over(usable, chosen, rises, prefer)
    reasons = (Reason(remark, ReasonCode.DETECTOR) for remark in remarks)
    return Selection(signal=replace(chosen, remarks=(*reasons, *chosen.remarks)), rises=rises)


def read_mode(scan: AbsorptionScan, mode: DetectionMode, *, near: float | None = None) -> Signal:
    """Compute the absorption of one detection mode; a ReductionError says which channels are missing or dead.

    With an expected edge energy `near` [eV], elements of a fluorescence detector are compared at their edges.
    """
    wanted = _channels(scan, mode)
    remarks: tuple[Reason, ...] = ()
    if mode is DetectionMode.FLUORESCENCE and scan.fluorescence_elements:
        wanted["If"], remarks = sum_elements(scan, near)
    channels = {name: values for name, values in wanted.items() if values is not None}
    if len(channels) < len(wanted):
        missing = ", ".join(name for name in wanted if name not in channels)
        raise ReductionError(
            f"{mode} needs {' and '.join(wanted)}; the scan has no {missing}", ReasonCode.DETECTOR
        )
    if mode is DetectionMode.MU:
        return _finite_points(scan.energy, channels["mu"], mode, ())
    (name_in, intensity), (name_out, response) = channels.items()
    _require_variation(name_out, response)
    intensity, response, changed = _positive(intensity, response, f"{name_in} and {name_out}")
    return _finite_points(scan.energy, _absorption(intensity, response, mode), mode, (*remarks, *changed))


def has_mode(scan: AbsorptionScan, mode: DetectionMode) -> bool:
    """Return whether a scan holds the channels of a mode, working or not."""
    elements = mode is DetectionMode.FLUORESCENCE and bool(scan.fluorescence_elements)
    return all(
        values is not None or (elements and name == "If") for name, values in _channels(scan, mode).items()
    )


def saturated_channels(scan: AbsorptionScan, mode: DetectionMode) -> Iterator[str]:
    """Describe the saturated channels of a mode; sums and single elements of a detector are not examined."""
    channels = _channels(scan, mode)
    if mode is DetectionMode.FLUORESCENCE and scan.fluorescence_elements:
        del channels["If"]
    for name, values in channels.items():
        if values is not None and (reason := saturation(values)):
            yield f"{name} {reason}"


def sum_elements(scan: AbsorptionScan, near: float | None = None) -> tuple[FloatArray, tuple[Reason, ...]]:
    """Sum the working elements of a fluorescence detector.

    Returns the sum (n,) and a remark that names the elements left out. With an expected edge energy `near`
    [eV], elements whose edge step differs from that of the others are left out too.
    """
    elements = {name: _countable(values) for name, values in scan.fluorescence_elements.items()}
    dead = {name: reason for name, values in elements.items() if (reason := _why_dead(values))}
    dead |= _faint({name: values for name, values in elements.items() if name not in dead})
    working = {name: values for name, values in elements.items() if name not in dead}
    if near is not None:
        dead |= _inconsistent(scan, working, near)
        working = {name: values for name, values in elements.items() if name not in dead}
    left_out = ", ".join(f"{name} ({dead[name]})" for name in elements if name in dead)
    if not working:
        raise ReductionError(
            f"none of {len(elements)} detector elements works: {left_out}", ReasonCode.DETECTOR
        )
    total = np.sum(list(working.values()), axis=0)
    remark = f"{len(working)} of {len(elements)} detector elements summed; left out: {left_out}"
    return total, (Reason(remark, ReasonCode.DETECTOR),) if dead else ()


def _working_modes(
    scan: AbsorptionScan, prefer: DetectionMode | Literal["none"], near: float | None
) -> tuple[list[Signal], dict[DetectionMode, str]]:
    """Return the signals of the modes that work, by preference, and why the others do not."""
    order = (
        [*PREFERENCE] if prefer == "none" else [prefer, *(each for each in PREFERENCE if each is not prefer)]
    )
    working, unused = [], {}
    for mode in order:
        if has_mode(scan, mode):
            try:
                working.append(read_mode(scan, mode, near=near))
            except ReductionError as error:
                unused[mode] = f"{mode} not used: {error}"
    return working, unused


def _rises(signals: list[Signal], near: float | None) -> dict[DetectionMode, Rise]:
    if near is None:
        return {}
    measured = {signal.mode: rise_near(signal.energy, signal.mu, near) for signal in signals}
    return {mode: rise for mode, rise in measured.items() if rise is not None}


def _why_unusable(scan: AbsorptionScan, signal: Signal, rise: Rise | None, near: float | None) -> str:
    """Return why a working mode should give way to another; empty if it need not."""
    if rise is not None and near is not None:
        floor = SMALLEST_STEP if signal.mode in LOGARITHMS else 0.0
        if not rise.step > max(floor, SIGNIFICANT * rise.noise):
            return f"no edge near {near:.0f} eV (rise {rise.step:.3g}, noise {rise.noise:.2g})"
    return "" if signal.mode is DetectionMode.MU else "; ".join(saturated_channels(scan, signal.mode))


def _best(
    usable: list[Signal], rises: Mapping[DetectionMode, Rise], prefer: DetectionMode | Literal["none"]
) -> Signal:
    if usable[0].mode == prefer:
        return usable[0]
    for signal in usable:
        rise = rises.get(signal.mode)
        if rise is None:
            return signal
        small = signal.mode in LOGARITHMS and rise.step < SMALL_STEP
        if rise.relative_noise <= CLEAN and not small:
            return signal
    return min(usable, key=lambda signal: rises[signal.mode].relative_noise)


def _passed_over(
    usable: list[Signal],
    chosen: Signal,
    rises: Mapping[DetectionMode, Rise],
    prefer: DetectionMode | Literal["none"],
) -> Iterator[str]:
    """Describe the usable modes that come before the chosen one in the order of preference."""
    modes = [signal.mode for signal in usable]
    if chosen.mode == prefer or chosen.mode not in modes:
        return
    best = rises.get(chosen.mode)
    for mode in modes[: modes.index(chosen.mode)]:
        rise = rises[mode]
        yield f"{mode} not used: step {rise.step:.3g} with {rise.relative_noise:.1%} noise" + (
            f", {chosen.mode} has {best.relative_noise:.1%}" if best is not None else ""
        )


def _channels(scan: AbsorptionScan, mode: DetectionMode) -> dict[str, FloatArray | None]:
    """Return the incident and the detected intensity of a mode, by the names that people use."""
    return {
        DetectionMode.TRANSMISSION: {"I0": scan.i0, "It": scan.it},
        DetectionMode.FLUORESCENCE: {"I0": scan.i0, "If": scan.fluorescence},
        DetectionMode.ELECTRON_YIELD: {"I0": scan.i0, "Iy": scan.electron_yield},
        DetectionMode.REFERENCE: {"It": scan.it, "Ir": scan.ir},
        DetectionMode.MU: {"mu": scan.mu},
    }[mode]


def _absorption(intensity: FloatArray, response: FloatArray, mode: DetectionMode) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        intensity = np.where(intensity > 0.0, intensity, np.nan)
        if mode not in LOGARITHMS:
            return np.asarray(response / intensity)
        response = np.where(response > 0.0, response, np.nan)
        return np.asarray(np.log(intensity / response))


def _positive(
    intensity: FloatArray, response: FloatArray, names: str
) -> tuple[FloatArray, FloatArray, tuple[Reason, ...]]:
    """Change the sign of both channels if amplifiers count downwards."""
    with np.errstate(invalid="ignore"):
        negative = np.mean(intensity < 0.0) > 0.5 and np.mean(response < 0.0) > 0.5
    if not negative:
        return intensity, response, ()
    remark = Reason(f"{names} are negative currents; both signs were turned", ReasonCode.DETECTOR)
    return -intensity, -response, (remark,)


def _require_variation(name: str, response: FloatArray) -> None:
    """Refuse a constant response; the incident intensity may well be constant."""
    finite = response[np.isfinite(response)]
    if finite.size == 0:
        raise ReductionError(f"{name} holds no finite number", ReasonCode.DETECTOR)
    if finite.size > 1 and finite.min() == finite.max():
        raise ReductionError(
            f"{name} is constant ({finite[0]:.4g}): the detector is dead", ReasonCode.DETECTOR
        )


def _finite_points(
    energy: FloatArray, mu: FloatArray, mode: DetectionMode, remarks: tuple[Reason, ...]
) -> Signal:
    # Comparing with NaN gives False, so that the bound drops it as well.
    keep = np.abs(mu) < LARGEST
    dropped = int(keep.size - np.count_nonzero(keep))
    if dropped > MOST_DROPPED * keep.size:
        raise ReductionError(
            f"{dropped} of {keep.size} points hold NaN or intensities that are not positive, more than "
            f"{MOST_DROPPED:.0%}: the detector is dead, or the columns are exchanged",
            ReasonCode.DETECTOR,
        )
    if dropped:
        text = f"{dropped} of {keep.size} points with NaN or non-positive intensity left out"
        remarks = (*remarks, Reason(text, ReasonCode.DETECTOR))
        energy, mu = energy[keep], mu[keep]
    return Signal(energy=energy, mu=mu, mode=mode, remarks=remarks)


def _countable(values: FloatArray) -> FloatArray:
    """Return counts with NaN instead of numbers that no detector counts."""
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(values) < LARGEST, values, np.nan)


def _why_dead(values: FloatArray) -> str:
    finite = values[np.isfinite(values)]
    if finite.size < (1.0 - MOST_LOST) * values.size or finite.size == 0:
        return f"{values.size - finite.size} of {values.size} points are not finite"
    if finite.size > 1 and finite.min() == finite.max():
        return f"constant at {finite[0]:.4g}"
    return saturation(values)


def _faint(elements: Mapping[str, FloatArray]) -> dict[str, str]:
    """Return the elements that count orders of magnitude less than the others."""
    with np.errstate(over="ignore"):
        levels = {name: float(np.nanmean(values)) for name, values in elements.items()}
    if len(levels) < 2:
        return {}
    middle = float(np.median(list(levels.values()))) if len(levels) > 2 else max(levels.values())
    return {
        name: f"{level:.3g} counts a point, the others {middle:.3g}"
        for name, level in levels.items()
        if level < FAINTEST * middle
    }


def _inconsistent(scan: AbsorptionScan, elements: Mapping[str, FloatArray], near: float) -> dict[str, str]:
    """Return the elements whose edge step differs from that of the others."""
    intensity = scan.i0 if scan.i0 is not None else np.ones_like(scan.energy)
    steps: dict[str, float] = {}
    for name, values in elements.items():
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            mu = _countable(values / intensity)
            finite = np.isfinite(mu)
            level = float(np.mean(mu[finite])) if finite.any() else 0.0
        rise = rise_near(scan.energy[finite], mu[finite], near)
        if rise is not None and level != 0.0:
            steps[name] = rise.step / level
    if len(steps) < FEWEST_TO_COMPARE:
        return {}
    middle = float(np.median(list(steps.values())))
    return {
        name: f"edge step {step:.2f} of its mean, the others {middle:.2f}"
        for name, step in steps.items()
        if not middle / STEP_FACTOR <= step <= middle * STEP_FACTOR and middle > 0.0
    }
