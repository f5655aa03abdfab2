"""Energy calibration: the metal foil in the reference channel puts the axis on the common scale.

mu_ref = ln(It / Ir) is smoothed, and the first maximum of its derivative that is among the largest is set
to the foil's tabulated energy. The first, because nickel has two nearly equal maxima 12 eV apart. Not
every reference channel holds a foil: oxides, filters, fluorescence and noise are refused with a reason.

A scan without a foil uses the last calibration of the same monochromator and element (an error of the
angle is another energy at another edge). Its standard uncertainty at a time t later is taken as ::

    uncertainty(t) = uncertainty of the calibration + drift * t

where `drift` is a setting of the reduction. That it grows in proportion to the time is an assumption: real
axes jump if a crystal is touched or the ring is refilled. A calibration whose uncertainty has grown to that
of an uncalibrated axis is not used.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, AxisSource, DetectionMode, EnergyAxis, FloatArray, Xanes
from bluesky_xpdml.reduction.channels import SIGNIFICANT, SMALLEST_STEP, read_mode
from bluesky_xpdml.reduction.edge_position import smooth
from bluesky_xpdml.reduction.noise import fit_line, noise_level
from bluesky_xpdml.vocabulary import Reason, ReasonCode

FOIL_ENERGIES = {
    "Ti": 4964.88,
    "V": 5463.76,
    "Cr": 5989.02,
    "Mn": 6537.67,
    "Fe": 7110.75,
    "Co": 7708.78,
    "Ni": 8331.49,
    "Cu": 8980.48,
}
"""First derivative maximum of each metal's K edge [eV]: Kraft et al., Rev. Sci. Instrum. 67 (1996) 681."""

METAL_EDGE = 1.5
"""A spectrum whose first inflection is nearer to the foil's than this is the metal's [eV]."""
LARGEST_OFFSET = 6.0
"""Larger apparent offsets are an oxide's edge, not a foil's [eV]; monochromators were seen 5 eV off."""
FOIL_UNCERTAINTY = 0.3
"""Standard uncertainty of an axis that was put on a foil, or on a given offset [eV]."""
UNKNOWN_UNCERTAINTY = 2.0
"""Standard uncertainty of an axis as the monochromator gave it [eV]: what measured ones are off by."""
LARGEST_WHITE_LINE = 1.4
"""Foils of 3d metals reach 1.1 edge steps, 1.2 behind a thick sample; oxides reach 1.45 and more."""
SECONDS_PER_HOUR = 3600.0

_STEP = 0.1
_SMOOTHING = 0.8
_AMONG_LARGEST = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class MonoCalibration:
    """Calibration of a monochromator by the foil of one scan."""

    mono: str
    """Name of the monochromator."""
    element: str
    """Metal of the foil."""
    offset: float
    """Added to the raw energies [eV]."""
    uncertainty: float
    """Standard uncertainty of the axis at that time [eV]."""
    time: float
    """When the scan began [s since 1970]."""
    source: str = ""
    """Uid or file name of the scan, for people."""

    def axis_at(self, time: float, drift: float) -> EnergyAxis:
        """Return the axis of a scan at another time [s since 1970], for a drift of the uncertainty [eV/h]."""
        uncertainty = self.uncertainty + drift * abs(time - self.time) / SECONDS_PER_HOUR
        return EnergyAxis(source=AxisSource.STORED, offset=self.offset, uncertainty=uncertainty)

    def describe_age(self, time: float) -> str:
        """Return how long before or after another scan [s since 1970] this was, and by which scan."""
        hours = (time - self.time) / SECONDS_PER_HOUR
        when = "before" if hours >= 0.0 else "after"
        of = f" of {self.source}" if self.source else ""
        return f"calibrated {abs(hours):.1f} h {when} by the {self.element} foil{of}"


class CalibrationMemory:
    """The last calibration of each monochromator and element."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], MonoCalibration] = {}

    def remember(self, calibration: MonoCalibration) -> None:
        """Store a calibration, unless a later one of the same monochromator and element is stored."""
        key = (calibration.mono, calibration.element)
        known = self._last.get(key)
        if known is None or calibration.time >= known.time:
            self._last[key] = calibration

    def last(self, mono: str, element: str) -> MonoCalibration | None:
        """Return the last calibration of a monochromator at an element's edge; None if there is none."""
        return self._last.get((mono, element))

    def to_plain(self) -> list[dict[str, Any]]:
        """Return all calibrations as plain JSON values."""
        return [asdict(calibration) for calibration in self._last.values()]

    @classmethod
    def from_plain(cls, plain: Sequence[Mapping[str, Any]]) -> "CalibrationMemory":
        """Return a memory of what `to_plain` returned."""
        memory = cls()
        for entry in plain:
            try:
                calibration = MonoCalibration(**entry)
                numbers = (calibration.offset, calibration.uncertainty, calibration.time)
                finite = all(math.isfinite(number) for number in numbers)
            except TypeError as error:
                raise ReductionError(f"expected the fields of a stored calibration, found {error}") from error
            if not finite:
                raise ReductionError(
                    f"expected finite numbers in the stored calibration of {calibration.mono}"
                )
            memory.remember(calibration)
        return memory


def calibration_of(scan: AbsorptionScan, xanes: Xanes) -> MonoCalibration | None:
    """Return the calibration of the monochromator by a scan; None if it has no foil, no name or no time."""
    if xanes.axis.source is not AxisSource.REFERENCE or not scan.mono or scan.time is None:
        return None
    return MonoCalibration(
        mono=scan.mono,
        element=scan.element,
        offset=xanes.axis.offset,
        uncertainty=xanes.axis.uncertainty,
        time=scan.time,
        source=scan.source or (f"run {scan.raw_uids[0][:8]}" if scan.raw_uids else ""),
    )


class CalibratedAxis(NamedTuple):
    """An energy axis, and what is known about its calibration."""

    axis: EnergyAxis
    doubts: tuple[Reason, ...] = ()
    """Why the axis is not calibrated; empty if it is."""
    notes: tuple[Reason, ...] = ()
    """Which stored calibration was used."""


def calibrate(
    scan: AbsorptionScan,
    energy_offset: float | Literal["reference", "none"] = "reference",
    *,
    memory: CalibrationMemory | None = None,
    drift: float = 0.05,
) -> CalibratedAxis:
    """Find the shift of the energy axis of a scan."""
    if energy_offset == "none":
        return _uncalibrated("switched off by the settings")
    if energy_offset != "reference":
        if not np.isfinite(energy_offset):
            raise ReductionError(
                f"expected an energy offset in eV, found {energy_offset}", ReasonCode.SETTINGS_INVALID
            )
        given = EnergyAxis(source=AxisSource.GIVEN, offset=float(energy_offset), uncertainty=FOIL_UNCERTAINTY)
        return CalibratedAxis(given)
    try:
        offset = reference_offset(scan)
    except ReductionError as error:
        return _stored_axis(scan, memory, drift, str(error))
    axis = EnergyAxis(source=AxisSource.REFERENCE, offset=offset, uncertainty=FOIL_UNCERTAINTY)
    return CalibratedAxis(axis)


def _uncalibrated(why: str) -> CalibratedAxis:
    axis = EnergyAxis(source=AxisSource.NONE, offset=0.0, uncertainty=UNKNOWN_UNCERTAINTY)
    return CalibratedAxis(
        axis, doubts=(Reason(f"energy axis not calibrated: {why}", ReasonCode.AXIS_UNCALIBRATED),)
    )


def _stored_axis(
    scan: AbsorptionScan, memory: CalibrationMemory | None, drift: float, why: str
) -> CalibratedAxis:
    """Return the last calibration of the same monochromator, if its age is known and not too great."""
    last = memory.last(scan.mono, scan.element) if memory is not None and scan.mono else None
    if last is None:
        return _uncalibrated(why)
    if scan.time is None:
        return _uncalibrated(f"{why}; the time of the scan is unknown, so that no stored calibration is used")
    axis, age = last.axis_at(scan.time, drift), last.describe_age(scan.time)
    if axis.uncertainty >= UNKNOWN_UNCERTAINTY:
        return _uncalibrated(f"{why}; {last.mono} was {age}, too long to be used")
    note = (
        f"{why}; {last.mono} was {age}: {axis.offset:+.2f} eV, +-{axis.uncertainty:.2f} eV "
        f"if it drifts by {drift:g} eV/h"
    )
    return CalibratedAxis(axis, notes=(Reason(note, ReasonCode.CALIBRATION_STORED),))


def reference_offset(scan: AbsorptionScan) -> float:
    """Return what must be added to the energies to put the reference foil on its tabulated energy [eV].

    Raises
    ------
    ReductionError
        If there is no reference channel, or it does not show the metal; the message says what it shows.
    """
    if scan.it is None or scan.ir is None:
        raise _no_foil("the scan has no reference channel (It and Ir)")
    if scan.edge not in {"K", ""} or scan.element not in FOIL_ENERGIES:
        what = f"the {scan.edge} edge of {scan.element}" if scan.element else "an element that is not stated"
        raise _no_foil(f"no foil energy is known for {what} (known: K of {', '.join(FOIL_ENERGIES)})")
    try:
        signal = read_mode(scan, DetectionMode.REFERENCE)
    except ReductionError as error:
        raise _no_foil(f"the reference channel is dead: {error}") from error
    foil = FOIL_ENERGIES[scan.element]
    inside = (signal.energy > foil - 200.0) & (signal.energy < foil + 100.0)
    x, mu = signal.energy[inside] - foil, signal.mu[inside]
    if x.size < 20 or x[0] > -LARGEST_OFFSET - 4.0 or x[-1] < 40.0:
        raise _no_foil("the reference channel does not cover the foil's edge (-10 to +40 eV, 20 points)")
    inflection = _first_inflection(x, mu)
    _require_metal(x, mu, inflection, scan.element)
    return -inflection


def shows_metal(x: FloatArray, mu: FloatArray, element: str) -> bool:
    """Return whether a spectrum over the energy above the foil [eV] is that of the metal itself."""
    inside = (x > -200.0) & (x < 100.0)
    try:
        inflection = _first_inflection(x[inside], mu[inside])
        _require_metal(x[inside], mu[inside], inflection, element)
    except ReductionError:
        return False
    return abs(inflection) < METAL_EDGE


def _no_foil(why: str) -> ReductionError:
    return ReductionError(why, ReasonCode.AXIS_UNCALIBRATED)


def _first_inflection(x: FloatArray, mu: FloatArray) -> float:
    """Return the first large maximum of the derivative, refined by a parabola [eV above the foil]."""
    if x.size < 2 or x[0] > 0.0:
        raise _no_foil("the reference channel does not cover the foil's edge")
    grid = np.arange(max(x[0], -40.0), 60.0, _STEP)
    derivative = np.gradient(smooth(np.interp(grid, x, mu), _SMOOTHING / _STEP))
    near = np.flatnonzero((grid > -15.0) & (grid < 20.0))
    peaks = near[
        (derivative[near] > derivative[near - 1])
        & (derivative[near] >= derivative[near + 1])
        & (derivative[near] >= _AMONG_LARGEST * derivative[near].max())
    ]
    if peaks.size == 0 or derivative[peaks[0]] <= 0.0:
        raise _no_foil("the reference channel shows no edge near the foil's energy")
    if peaks[0] == 0:
        raise _no_foil(
            f"the reference channel is as steep at its first point, {x[0]:+.1f} eV from the foil, as at the "
            "edge: the scan starts too late, or the channel is too noisy"
        )
    left, top, right = derivative[peaks[0] - 1 : peaks[0] + 2]
    bend = left - 2.0 * top + right
    return float(grid[peaks[0]] + (0.5 * _STEP * (left - right) / bend if bend < 0.0 else 0.0))


def _require_metal(x: FloatArray, mu: FloatArray, inflection: float, element: str) -> None:
    """Refuse a reference that is not the metal: no step, too far away, or with an oxide's white line."""
    x = x - inflection
    before, after, top = x < -12.0, (x > 20.0) & (x < 60.0), (x > 0.0) & (x < 35.0)
    if not (after.any() and top.any()):
        raise _no_foil("the reference channel has no points within 35 eV above the foil's edge")
    if np.count_nonzero(before) < 3:
        before = np.arange(x.size) < 3
    slope, offset = 0.0, float(mu[before].mean())
    if np.ptp(x[before]) > 20.0:
        slope, offset = fit_line(x[before], mu[before])
    above = mu - (slope * x + offset)
    step, noise = float(above[after].mean()), noise_level(x[before], mu[before])
    if step < max(SMALLEST_STEP, SIGNIFICANT * noise):
        raise _no_foil(f"the reference channel shows no edge (step {step:.3g}, noise {noise:.2g})")
    if abs(inflection) > LARGEST_OFFSET:
        raise _no_foil(
            f"the reference channel rises {inflection:+.1f} eV from the {element} foil, more "
            f"than {LARGEST_OFFSET:.0f} eV: it is no {element} metal, or the axis is far off; "
            "state --energy-offset"
        )
    white_line = float(above[top].max() / step)
    if white_line > LARGEST_WHITE_LINE:
        raise _no_foil(
            f"the reference channel has a white line of {white_line:.2f} edge steps, a {element} metal has "
            f"less than {LARGEST_WHITE_LINE}: it is no foil"
        )
