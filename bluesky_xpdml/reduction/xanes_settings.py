"""How a spectrum is reduced."""

from dataclasses import dataclass
from typing import Literal

from bluesky_xpdml.records import DetectionMode
from bluesky_xpdml.reduction.rebin import DEFAULT_GRID, Grid
from bluesky_xpdml.reduction.self_absorption import SelfAbsorption


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
