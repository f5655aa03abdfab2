"""What is done to an absorption curve before it is normalised: averaging and the repair of glitches."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from bluesky_xpdml.records import AbsorptionScan, FloatArray
from bluesky_xpdml.reduction.deglitch import deglitch
from bluesky_xpdml.reduction.detection import Signal
from bluesky_xpdml.reduction.rebin import Grid, is_continuous, rebin
from bluesky_xpdml.reduction.rise import rise_near

MOST_REPAIRED = 0.03
"""Where more than this part of the points were glitches, the spectrum is doubtful."""
MOST_NAMED = 8
"""So many energies are named; the rest are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refined:
    """An absorption curve, and what was done to it."""

    signal: Signal
    variance: FloatArray | None = None
    """Variance of mu where points were averaged [its unit squared], (n,)."""
    settings: Mapping[str, float | int | str | tuple[float, float]] = field(default_factory=dict)
    """What is recorded among the settings of the reduction."""
    doubts: tuple[str, ...] = ()


def averaged(signal: Signal, e0: float, grid: Grid | Literal["none"]) -> Refined:
    """Average a continuous scan on the grid of a step scan; return others as they are.

    Parameters
    ----------
    signal
        Absorption.
    e0
        Edge energy [eV].
    grid
        The steps, or `none`.

    Examples
    --------
    >>> from bluesky_xpdml.records import DetectionMode
    >>> energy = np.linspace(7000.0, 7300.0, 60_000)
    >>> signal = Signal(energy=energy, mu=np.arctan(energy - 7112.0), mode=DetectionMode.MU)
    >>> refined = averaged(signal, 7112.0, Grid())
    >>> refined.signal.energy.size, refined.signal.remarks
    (304, ('60000 points were averaged in 304 bins',))
    """
    if grid == "none" or not is_continuous(signal.energy, e0=e0, grid=grid):
        return Refined(signal=signal)
    binned = rebin(signal.energy, signal.mu, e0=e0, grid=grid)
    remark = f"{signal.energy.size} points were averaged in {binned.energy.size} bins"
    return Refined(
        signal=replace(signal, energy=binned.energy, mu=binned.mu, remarks=(*signal.remarks, remark)),
        variance=binned.variance,
        settings={"points_averaged": signal.energy.size, "smallest_bin": int(binned.counts.min())},
    )


def repaired(refined: Refined, scan: AbsorptionScan, e0: float, *, wanted: bool) -> Refined:
    """Repair the glitches of a curve, where that is wanted, and name them.

    Parameters
    ----------
    refined
        Absorption.
    scan
        What it was computed from, on the same axis: a glitch near the edge must show in its I0.
    e0
        Edge energy [eV].
    wanted
        Whether glitches are repaired.

    Examples
    --------
    >>> from bluesky_xpdml.records import DetectionMode
    >>> energy = np.arange(7000.0, 7300.0)
    >>> mu = np.arctan(energy - 7112.0) + 1.0 * (energy == 7200.0)
    >>> refined = Refined(signal=Signal(energy=energy, mu=mu, mode=DetectionMode.MU))
    >>> repaired(refined, AbsorptionScan(energy=energy), 7112.0, wanted=True).signal.remarks
    ("1 point standing out like a monochromator's spike repaired: 7200.0 eV",)
    """
    signal = refined.signal
    rise = rise_near(signal.energy, signal.mu, e0) if wanted else None
    if rise is None or rise.step <= 0.0:
        return refined
    i0 = scan.i0 if scan.i0 is not None and np.array_equal(scan.energy, signal.energy) else None
    clean = deglitch(signal.energy, signal.mu, e0=e0, edge_step=rise.step, i0=i0)
    n = clean.repaired.size
    if n == 0:
        return refined
    named = ", ".join(f"{energy:.1f}" for energy in clean.repaired[:MOST_NAMED])
    more = f" and {n - MOST_NAMED} more" if n > MOST_NAMED else ""
    points = "point" if n == 1 else "points"
    said = f"{n} {points} standing out like a monochromator's spike repaired: {named} eV{more}"
    doubtful = n > MOST_REPAIRED * signal.energy.size
    return replace(
        refined,
        signal=replace(signal, mu=clean.mu, remarks=(*signal.remarks, *(() if doubtful else (said,)))),
        settings={**refined.settings, "points_repaired": n},
        doubts=(said,) if doubtful else (),
    )
