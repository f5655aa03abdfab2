"""From counted channels to absorption, one detection mode at a time.

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
from bluesky_xpdml.reduction.noise import Rise, clipped, neighbour_deviation, noise_level, rise_near

FAINTEST = 0.05
"""An element that counts less than this part of the median of the others is dead or covered."""
MOST_LOST = 0.2
"""An element of which more than this part is not finite is dead."""
STEP_FACTOR = 2.5
"""Edge steps in counts before the edge differ by less than this factor between elements that see one sample:
an element beside the scattering maximum shows a larger one."""
LARGEST = 1e30
"""No detector counts more; squares of larger numbers overflow."""
FEWEST_TO_COMPARE = 3
"""Of two elements that differ, nobody can say which is wrong."""


def living_sum(scan: AbsorptionScan, near: float | None = None) -> tuple[FloatArray, tuple[str, ...]]:
    """Sum the detector elements that live.

    Parameters
    ----------
    scan
        What was counted, with `fluorescence_elements`.
    near
        Where the edge should be [eV]; its step in every element is compared there.

    Returns
    -------
    counts, remarks
        The sum, (n,), and which elements were left out, with the reason.

    Raises
    ------
    ReductionError
        If no element lives; the message says why for each.

    Examples
    --------
    >>> elements = {"Fe1": np.arange(1.0, 6.0), "Fe2": np.zeros(5)}
    >>> scan = AbsorptionScan(energy=np.arange(5.0), fluorescence_elements=elements)
    >>> living_sum(scan)
    (array([1., 2., 3., 4., 5.]), ('1 of 2 detector elements summed; left out: Fe2 (constant at 0)',))
    """
    elements = {name: _counted(values) for name, values in scan.fluorescence_elements.items()}
    dead = {name: reason for name, values in elements.items() if (reason := _dead(values))}
    dead |= _faint({name: values for name, values in elements.items() if name not in dead})
    alive = {name: values for name, values in elements.items() if name not in dead}
    if near is not None:
        dead |= _inconsistent(scan, alive, near)
        alive = {name: values for name, values in elements.items() if name not in dead}
    left_out = ", ".join(f"{name} ({dead[name]})" for name in elements if name in dead)
    if not alive:
        raise ReductionError(f"none of {len(elements)} detector elements lives: {left_out}")
    total = np.sum(list(alive.values()), axis=0)
    remark = f"{len(alive)} of {len(elements)} detector elements summed; left out: {left_out}"
    return total, (remark,) if dead else ()


def _counted(values: FloatArray) -> FloatArray:
    """Return counts with NaN where a number is none that a detector counts."""
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(values) < LARGEST, values, np.nan)


def _dead(values: FloatArray) -> str:
    finite = values[np.isfinite(values)]
    if finite.size < (1.0 - MOST_LOST) * values.size or finite.size == 0:
        return f"{values.size - finite.size} of {values.size} points are not finite"
    if finite.size > 1 and finite.min() == finite.max():
        return f"constant at {finite[0]:.4g}"
    return clipped(values)


def _faint(elements: Mapping[str, FloatArray]) -> dict[str, str]:
    """Return the elements that count orders less than the others."""
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
    """Return the elements whose edge differs from that of the others."""
    intensity = scan.i0 if scan.i0 is not None else np.ones_like(scan.energy)
    steps: dict[str, float] = {}
    for name, values in elements.items():
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            mu = _counted(values / intensity)
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


MOST_DROPPED = 0.2
"""A channel of which more than this part is unusable is dead."""
SMALLEST_STEP = 0.02
"""Smallest edge step that counts, where mu has absolute units."""
LARGEST_MU = 1e30
"""Numbers beyond are no absorption in any unit; their squares overflow."""
SIGNIFICANT = 5.0
"""An edge step must exceed the noise of the pre-edge by this factor."""
LOGARITHMS = frozenset({DetectionMode.TRANSMISSION, DetectionMode.REFERENCE})
"""Modes whose absorption has absolute units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Absorption at the points that could be used. Arrays have the shape (n,)."""

    energy: FloatArray
    """Energy as in the scan [eV]."""
    mu: FloatArray
    """Absorption [1 for logarithms, any unit otherwise]."""
    mode: DetectionMode
    remarks: tuple[str, ...] = ()
    """Why other channels were not used, how many points were left out, which signs were turned."""


def is_present(scan: AbsorptionScan, mode: DetectionMode) -> bool:
    """Return whether a scan holds the channels of a mode, dead or alive.

    Parameters
    ----------
    scan
        What was counted.
    mode
        Which channels.

    Examples
    --------
    >>> is_present(AbsorptionScan(energy=np.arange(9.0), mu=np.ones(9)), DetectionMode.TRANSMISSION)
    False
    """
    elements = mode is DetectionMode.FLUORESCENCE and bool(scan.fluorescence_elements)
    return all(
        values is not None or (elements and name == "If") for name, values in _channels(scan, mode).items()
    )


def signal_of(scan: AbsorptionScan, mode: DetectionMode, *, near: float | None = None) -> Signal:
    """Compute the absorption that one detection mode shows.

    Parameters
    ----------
    scan
        What was counted.
    mode
        Which channels to read.
    near
        Where the edge should be [eV]; elements of a fluorescence detector are compared there.

    Raises
    ------
    ReductionError
        If the channels are missing or dead; the message says which and why.

    Examples
    --------
    >>> i0, it = np.array([2.0, 2.0, 2.0, 4.0]), np.array([2.0, 1.0, 1.0, 4.0])
    >>> scan = AbsorptionScan(energy=np.arange(4.0), i0=i0, it=it)
    >>> signal_of(scan, DetectionMode.TRANSMISSION).mu.round(3)
    array([0.   , 0.693, 0.693, 0.   ])
    """
    wanted = _channels(scan, mode)
    remarks: tuple[str, ...] = ()
    if mode is DetectionMode.FLUORESCENCE and scan.fluorescence_elements:
        wanted["If"], remarks = living_sum(scan, near)
    channels = {name: values for name, values in wanted.items() if values is not None}
    if len(channels) < len(wanted):
        missing = ", ".join(name for name in wanted if name not in channels)
        raise ReductionError(f"{mode} needs {' and '.join(wanted)}; the scan has no {missing}")
    if mode is DetectionMode.MU:
        return _kept(scan.energy, channels["mu"], mode, ())
    (name_in, intensity), (name_out, response) = channels.items()
    _require_life(name_out, response)
    intensity, response, turned = _positive(intensity, response, f"{name_in} and {name_out}")
    return _kept(scan.energy, _mu(intensity, response, mode), mode, (*remarks, *turned))


def counted(scan: AbsorptionScan, mode: DetectionMode) -> dict[str, FloatArray]:
    """Return the channels that a mode reads, by the names that people give them.

    Single elements of a fluorescence detector, and their sum where they are given, are left out.

    Parameters
    ----------
    scan
        What was counted.
    mode
        Which channels.

    Examples
    --------
    >>> list(counted(AbsorptionScan(energy=np.arange(9.0), i0=np.ones(9)), DetectionMode.TRANSMISSION))
    ['I0']
    """
    channels = _channels(scan, mode)
    if mode is DetectionMode.FLUORESCENCE and scan.fluorescence_elements:
        del channels["If"]
    return {name: values for name, values in channels.items() if values is not None}


def _channels(scan: AbsorptionScan, mode: DetectionMode) -> dict[str, FloatArray | None]:
    """Return what goes in and what comes out in a mode."""
    return {
        DetectionMode.TRANSMISSION: {"I0": scan.i0, "It": scan.it},
        DetectionMode.FLUORESCENCE: {"I0": scan.i0, "If": scan.fluorescence},
        DetectionMode.ELECTRON_YIELD: {"I0": scan.i0, "Iy": scan.electron_yield},
        DetectionMode.REFERENCE: {"It": scan.it, "Ir": scan.ir},
        DetectionMode.MU: {"mu": scan.mu},
    }[mode]


def _mu(intensity: FloatArray, response: FloatArray, mode: DetectionMode) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        intensity = np.where(intensity > 0.0, intensity, np.nan)
        if mode not in LOGARITHMS:
            return np.asarray(response / intensity)
        response = np.where(response > 0.0, response, np.nan)
        return np.asarray(np.log(intensity / response))


def _positive(
    intensity: FloatArray, response: FloatArray, names: str
) -> tuple[FloatArray, FloatArray, tuple[str, ...]]:
    """Turn the signs of both channels where amplifiers count downwards."""
    with np.errstate(invalid="ignore"):
        negative = np.mean(intensity < 0.0) > 0.5 and np.mean(response < 0.0) > 0.5
    if negative:
        return -intensity, -response, (f"{names} are negative currents; both signs were turned",)
    return intensity, response, ()


def _require_life(name: str, response: FloatArray) -> None:
    """Refuse a response without a spectrum in it; what goes in may well be constant."""
    finite = response[np.isfinite(response)]
    if finite.size == 0:
        raise ReductionError(f"{name} holds no finite number")
    if finite.size > 1 and finite.min() == finite.max():
        raise ReductionError(f"{name} is constant ({finite[0]:.4g}): the detector is dead")


def _kept(energy: FloatArray, mu: FloatArray, mode: DetectionMode, remarks: tuple[str, ...]) -> Signal:
    # Comparing with NaN gives False, so that the bound leaves it out as well.
    keep = np.abs(mu) < LARGEST_MU
    dropped = int(keep.size - np.count_nonzero(keep))
    if dropped > MOST_DROPPED * keep.size:
        raise ReductionError(
            f"{dropped} of {keep.size} points hold NaN or intensities that are not positive, more than "
            f"{MOST_DROPPED:.0%}: the detector is dead, or the columns are exchanged"
        )
    if dropped:
        remarks = (*remarks, f"{dropped} of {keep.size} points with NaN or non-positive intensity left out")
        energy, mu = energy[keep], mu[keep]
    return Signal(energy=energy, mu=mu, mode=mode, remarks=remarks)


__all__ = [
    "SIGNIFICANT",
    "SMALLEST_STEP",
    "Selection",
    "Signal",
    "absorption",
    "neighbour_deviation",
    "noise_level",
    "select",
    "signal_of",
]

ORDER = (
    DetectionMode.TRANSMISSION,
    DetectionMode.FLUORESCENCE,
    DetectionMode.ELECTRON_YIELD,
    DetectionMode.MU,
)
"""Transmission first: it is not distorted by what the sample reabsorbs."""
CLEAN = 0.02
"""A mode whose noise is below this part of its edge step needs no better one."""
SMALL_STEP = 0.05
"""A transmission with a smaller edge step gives way to a cleaner fluorescence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The mode that was chosen, and what the others show."""

    signal: Signal
    rises: Mapping[DetectionMode, Rise] = field(default_factory=dict)
    """Edge step and noise of every mode that lives, where they can be measured."""


def absorption(
    scan: AbsorptionScan,
    *,
    mode: DetectionMode | Literal["auto"] = "auto",
    prefer: DetectionMode | Literal["none"] = "none",
    near: float | None = None,
) -> Signal:
    """Compute the absorption of a scan from the channels that show it best.

    Parameters
    ----------
    scan
        What was counted.
    mode
        Which mode to use, or `auto`.
    prefer
        The mode to use if it lives: what the run declares.
    near
        Where the edge should be [eV].

    Raises
    ------
    ReductionError
        If no mode, or not the one asked for, gives an absorption; the message says why for each.

    Examples
    --------
    >>> import numpy as np
    >>> scan = AbsorptionScan(energy=np.arange(4.0), i0=np.ones(4), it=np.zeros(4), mu=np.arange(4.0))
    >>> signal = absorption(scan)
    >>> signal.mode.value, signal.remarks
    ('mu', ('transmission not used: It is constant (0): the detector is dead',))
    """
    return select(scan, mode=mode, prefer=prefer, near=near).signal


def select(
    scan: AbsorptionScan,
    *,
    mode: DetectionMode | Literal["auto"] = "auto",
    prefer: DetectionMode | Literal["none"] = "none",
    near: float | None = None,
) -> Selection:
    """Choose a detection mode, and say what every other one shows.

    A mode is usable if its channels live, none of them is saturated, and there is a rise where the edge
    should be. The preferred one wins if it is usable; else the first in the order transmission,
    fluorescence, electron yield, mu whose noise is below 2 % of its edge step, where transmission also
    needs a step of 0.05; else the one with the least noise in edge steps.

    Parameters
    ----------
    scan, mode, prefer, near
        As for `absorption`.

    Raises
    ------
    ReductionError
        As for `absorption`.

    Examples
    --------
    >>> import numpy as np
    >>> energy = np.arange(7000.0, 7200.0)
    >>> edge = np.arctan(energy - 7112.0)
    >>> scan = AbsorptionScan(energy=energy, i0=np.ones(200), it=np.exp(-edge), fluorescence=edge + 2.0)
    >>> chosen = select(scan, near=7112.0)
    >>> chosen.signal.mode.value, [mode.value for mode in chosen.rises]
    ('transmission', ['transmission', 'fluorescence'])
    """
    if mode != "auto":
        signal = signal_of(scan, DetectionMode(mode), near=near)
        return Selection(signal=signal, rises=_rises([signal], near))
    alive, dead = _alive(scan, _candidates(scan, prefer), near)
    if not alive:
        raise ReductionError("; ".join(dead.values()) or "the scan holds no channel that gives an absorption")
    rises = _rises(alive, near)
    usable = []
    for signal in alive:
        reason = _unusable(scan, signal, rises.get(signal.mode), near)
        if reason:
            dead[signal.mode] = f"{signal.mode} not used: {reason}"
        else:
            usable.append(signal)
    chosen = _best(usable, rises, prefer) if usable else alive[-1]
    remarks = [reason for mode, reason in dead.items() if mode is not chosen.mode]
    remarks += _others(usable, chosen, rises, prefer)
    return Selection(signal=replace(chosen, remarks=(*remarks, *chosen.remarks)), rises=rises)


def _candidates(scan: AbsorptionScan, prefer: DetectionMode | Literal["none"]) -> list[DetectionMode]:
    modes = [*ORDER] if prefer == "none" else [prefer, *(mode for mode in ORDER if mode is not prefer)]
    return [mode for mode in modes if is_present(scan, mode)]


def _alive(
    scan: AbsorptionScan, modes: list[DetectionMode], near: float | None
) -> tuple[list[Signal], dict[DetectionMode, str]]:
    alive, dead = [], {}
    for mode in modes:
        try:
            alive.append(signal_of(scan, mode, near=near))
        except ReductionError as error:
            dead[mode] = f"{mode} not used: {error}"
    return alive, dead


def _rises(signals: list[Signal], near: float | None) -> dict[DetectionMode, Rise]:
    if near is None:
        return {}
    measured = {signal.mode: rise_near(signal.energy, signal.mu, near) for signal in signals}
    return {mode: rise for mode, rise in measured.items() if rise is not None}


def _unusable(scan: AbsorptionScan, signal: Signal, rise: Rise | None, near: float | None) -> str:
    """Return why a mode that lives should give way to another, or nothing."""
    if rise is not None and near is not None:
        floor = SMALLEST_STEP if signal.mode in LOGARITHMS else 0.0
        if not rise.step > max(floor, SIGNIFICANT * rise.noise):
            return f"no edge near {near:.0f} eV (rise {rise.step:.3g}, noise {rise.noise:.2g})"
    if signal.mode is DetectionMode.MU:
        return ""
    said = {name: clipped(values) for name, values in counted(scan, signal.mode).items()}
    return "; ".join(f"{name} {reason}" for name, reason in said.items() if reason)


def _best(
    usable: list[Signal], rises: Mapping[DetectionMode, Rise], prefer: DetectionMode | Literal["none"]
) -> Signal:
    if usable[0].mode == prefer:
        return usable[0]
    for signal in usable:
        rise = rises.get(signal.mode)
        if rise is None or (rise.relative_noise <= CLEAN and not _is_small(signal.mode, rise)):
            return signal
    return min(usable, key=lambda signal: rises[signal.mode].relative_noise)


def _is_small(mode: DetectionMode, rise: Rise) -> bool:
    return mode in LOGARITHMS and rise.step < SMALL_STEP


def _others(
    usable: list[Signal],
    chosen: Signal,
    rises: Mapping[DetectionMode, Rise],
    prefer: DetectionMode | Literal["none"],
) -> Iterator[str]:
    """Say why a usable mode that comes earlier in the order was not taken."""
    modes = [signal.mode for signal in usable]
    if chosen.mode == prefer or chosen.mode not in modes:
        return
    ours = rises.get(chosen.mode)
    for signal in usable[: modes.index(chosen.mode)]:
        theirs = rises[signal.mode]
        yield (
            f"{signal.mode} not used: step {theirs.step:.3g} with {theirs.relative_noise:.1%} noise"
            + (f", {chosen.mode} has {ours.relative_noise:.1%}" if ours is not None else "")
        )
