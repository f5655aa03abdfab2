"""Where the edge of a scan is, and whether it is the one that is claimed."""

from typing import Literal

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, FloatArray
from bluesky_xpdml.reduction.detection import Signal
from bluesky_xpdml.reduction.normalisation import find_e0

E0_WINDOW = 25.0
"""The edge is sought this far to both sides of the tabulated energy [eV]; axes were seen 19 eV off."""
FAINT = 0.05
"""A rise near the tabulated edge below this part of the scan's largest is no edge."""


def edge_energy_of(
    signal: Signal, e0: float | Literal["auto"], table: float | None, scan: AbsorptionScan
) -> tuple[float, list[str]]:
    """Find e0 where the element's edge should be.

    Parameters
    ----------
    signal
        Absorption on the calibrated axis.
    e0
        Edge energy [eV], or `auto`.
    table
        Tabulated energy of the edge [eV]; None where none is known, then the whole scan is searched.
    scan
        Names element and edge, for messages.

    Returns
    -------
    e0, remarks
        [eV], and what should be said about how it was found.

    Raises
    ------
    ReductionError
        If a given e0 lies outside the scan, or nothing rises where the edge should be.

    Examples
    --------
    >>> from bluesky_xpdml.records import DetectionMode
    >>> energy = np.arange(7000.0, 7200.0)
    >>> signal = Signal(energy=energy, mu=np.arctan(energy - 7112.0), mode=DetectionMode.MU)
    >>> edge_energy_of(signal, "auto", 7112.0, AbsorptionScan(energy=energy))
    (7112.0, [])
    """
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
