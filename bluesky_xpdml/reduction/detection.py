"""From counted channels to absorption, one detection mode at a time.

==============  ==================
transmission    mu = ln(I0 / It)
fluorescence    mu = If / I0
electron yield  mu = Iy / I0
reference       mu = ln(It / Ir)
mu              as given
==============  ==================
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, DetectionMode, FloatArray
from bluesky_xpdml.reduction.noise import clipped, rise_near

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
