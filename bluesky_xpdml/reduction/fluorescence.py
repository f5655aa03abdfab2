"""Fluorescence of a detector with several elements: those that live are summed, the others are named."""

from collections.abc import Mapping

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, FloatArray
from bluesky_xpdml.reduction.rise import rise_near
from bluesky_xpdml.reduction.saturation import clipped

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
