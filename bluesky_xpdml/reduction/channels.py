"""Which detection mode speaks: the declared one where it lives, else the best of the others."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, DetectionMode
from bluesky_xpdml.reduction.detection import (
    LOGARITHMS,
    SIGNIFICANT,
    SMALLEST_STEP,
    Signal,
    counted,
    is_present,
    signal_of,
)
from bluesky_xpdml.reduction.noise import Rise, clipped, neighbour_deviation, noise_level, rise_near

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
