"""Energy calibration: the metal foil in the reference channel puts the axis on the common scale.

mu_ref = ln(It / Ir) is smoothed, and the first maximum of its derivative that is among the largest is set
to the foil's tabulated energy. The first, because nickel has two nearly equal maxima 12 eV apart. Not
every reference channel holds a foil: oxides, filters, fluorescence and noise are refused with a reason.
Where there is no foil, the last calibration of the same monochromator stands in, with its age.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, AxisSource, DetectionMode, EnergyAxis, FloatArray, Xanes
from bluesky_xpdml.reduction.channels import SIGNIFICANT, SMALLEST_STEP, signal_of
from bluesky_xpdml.reduction.edge_position import smooth
from bluesky_xpdml.reduction.noise import noise_level

SECONDS_AN_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MonoCalibration:
    """What the foil of one scan told about a monochromator."""

    mono: str
    """Name of the monochromator."""
    element: str
    """Metal of the foil."""
    offset: float
    """Added to the raw energies [eV]."""
    uncertainty: float
    """Standard uncertainty of the axis right then [eV]."""
    time: float
    """When the scan began [s since 1970]."""
    source: str = ""
    """Uid or file name of the scan, for people."""

    def axis_at(self, time: float, drift: float) -> EnergyAxis:
        """Return the axis that this calibration gives a scan at another time.

        Parameters
        ----------
        time
            When the scan began [s since 1970].
        drift
            How fast the uncertainty grows [eV/h].

        Examples
        --------
        >>> foil = MonoCalibration(mono="Si(111)", element="Fe", offset=1.2, uncertainty=0.3, time=0.0)
        >>> foil.axis_at(7200.0, 0.05)
        EnergyAxis(source=<AxisSource.STORED: 'stored'>, offset=1.2, uncertainty=0.4)
        """
        uncertainty = self.uncertainty + drift * abs(time - self.time) / SECONDS_AN_HOUR
        return EnergyAxis(source=AxisSource.STORED, offset=self.offset, uncertainty=uncertainty)

    def age_text(self, time: float) -> str:
        """Return how long ago this was, and by what, for people.

        Parameters
        ----------
        time
            When the scan began that it is used for [s since 1970].

        Examples
        --------
        >>> foil = MonoCalibration(
        ...     mono="Si(111)", element="Fe", offset=1.2, uncertainty=0.3, time=0.0, source="a1"
        ... )
        >>> foil.age_text(11520.0)
        'calibrated 3.2 h before by the Fe foil of a1'
        """
        hours = (time - self.time) / SECONDS_AN_HOUR
        when = "before" if hours >= 0.0 else "after"
        of = f" of {self.source}" if self.source else ""
        return f"calibrated {abs(hours):.1f} h {when} by the {self.element} foil{of}"


class CalibrationMemory:
    """Keeps the last calibration of each monochromator and element.

    Examples
    --------
    >>> memory = CalibrationMemory()
    >>> memory.remember(MonoCalibration(mono="dcm", element="Fe", offset=1.2, uncertainty=0.3, time=0.0))
    >>> memory.last("dcm", "Fe").offset, memory.last("dcm", "Cu")
    (1.2, None)
    >>> CalibrationMemory.from_plain(memory.to_plain()).last("dcm", "Fe").offset
    1.2
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], MonoCalibration] = {}

    def remember(self, calibration: MonoCalibration) -> None:
        """Keep a calibration, unless a later one of the same monochromator and element is known.

        Parameters
        ----------
        calibration
            What was found.
        """
        key = (calibration.mono, calibration.element)
        known = self._last.get(key)
        if known is None or calibration.time >= known.time:
            self._last[key] = calibration

    def last(self, mono: str, element: str) -> MonoCalibration | None:
        """Return the last calibration, None where there is none.

        Parameters
        ----------
        mono
            Name of the monochromator.
        element
            Absorbing element.
        """
        return self._last.get((mono, element))

    def to_plain(self) -> list[dict[str, Any]]:
        """Return everything that is known as plain JSON values."""
        return [asdict(calibration) for calibration in self._last.values()]

    @classmethod
    def from_plain(cls, plain: Sequence[Mapping[str, Any]]) -> "CalibrationMemory":
        """Return a memory that holds what `to_plain` gave.

        Parameters
        ----------
        plain
            A list of objects with the fields of `MonoCalibration`.

        Raises
        ------
        ReductionError
            If an entry lacks a field, has others, or holds a number that is not finite.
        """
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
    """Return what a scan tells about its monochromator; None where it has no foil, or no name or time.

    Parameters
    ----------
    scan
        What was counted.
    xanes
        What it was reduced to.

    Examples
    --------
    >>> import numpy as np
    >>> from bluesky_xpdml.reduction.xanes import reduce_xanes
    >>> energy = np.arange(6950.0, 7400.0, 1.0)
    >>> scan = AbsorptionScan(energy=energy, mu=np.arctan(energy - 7120.0), element="Fe", edge="K")
    >>> calibration_of(scan, reduce_xanes(scan)) is None
    True
    """
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
"""Standard uncertainty of an axis that was put on a foil, or on a stated offset [eV]."""
UNKNOWN_UNCERTAINTY = 2.0
"""Standard uncertainty of an axis as the monochromator gave it [eV]: what measured ones are off by."""
LARGEST_WHITE_LINE = 1.4
"""Foils of 3d metals reach 1.1 edge steps, 1.2 behind a thick sample; oxides reach 1.45 and more."""

_STEP = 0.1
_SMOOTHING = 0.8
_AMONG_LARGEST = 0.6


class Calibrated(NamedTuple):
    """An energy axis, and what should be said of it."""

    axis: EnergyAxis
    doubts: tuple[str, ...] = ()
    """Why the axis is not calibrated; empty where it is."""
    notes: tuple[str, ...] = ()
    """How it was calibrated, where not by the scan's own foil."""


def calibrate(
    scan: AbsorptionScan,
    energy_offset: float | Literal["reference", "none"] = "reference",
    *,
    memory: CalibrationMemory | None = None,
    drift: float = 0.05,
) -> Calibrated:
    """Find how the energy axis of a scan is to be shifted.

    Parameters
    ----------
    scan
        What was counted; its `it` and `ir` hold the reference.
    energy_offset
        An offset to be taken as it is [eV], `reference` to find it, `none` to leave the axis.
    memory
        Earlier calibrations, for scans without a foil; None where none are kept.
    drift
        How fast the uncertainty of an earlier calibration grows [eV/h].

    Raises
    ------
    ReductionError
        If a given offset is not a finite number.

    Examples
    --------
    >>> scan = AbsorptionScan(energy=np.arange(7000.0, 7200.0), mu=np.ones(200), element="Fe", edge="K")
    >>> calibrate(scan, 1.5).axis.offset
    1.5
    >>> calibrate(scan).doubts
    ('energy axis not calibrated: the scan has no reference channel (It and Ir)',)
    """
    if energy_offset == "none":
        return _uncalibrated("switched off by the settings")
    if energy_offset != "reference":
        if not np.isfinite(energy_offset):
            raise ReductionError(f"expected an energy offset in eV, found {energy_offset}")
        given = EnergyAxis(source=AxisSource.GIVEN, offset=float(energy_offset), uncertainty=FOIL_UNCERTAINTY)
        return Calibrated(given)
    try:
        offset = reference_offset(scan)
    except ReductionError as error:
        return _from_memory(scan, memory, drift, str(error))
    return Calibrated(EnergyAxis(source=AxisSource.REFERENCE, offset=offset, uncertainty=FOIL_UNCERTAINTY))


def _uncalibrated(reason: str) -> Calibrated:
    axis = EnergyAxis(source=AxisSource.NONE, offset=0.0, uncertainty=UNKNOWN_UNCERTAINTY)
    return Calibrated(axis, doubts=(f"energy axis not calibrated: {reason}",))


def _from_memory(
    scan: AbsorptionScan, memory: CalibrationMemory | None, drift: float, reason: str
) -> Calibrated:
    """Return the last calibration of the same monochromator, where its age is known and not too great."""
    last = memory.last(scan.mono, scan.element) if memory is not None and scan.mono else None
    if last is None:
        return _uncalibrated(reason)
    if scan.time is None:
        return _uncalibrated(f"{reason}; when the scan was taken is unknown, so that no earlier one is used")
    axis, age = last.axis_at(scan.time, drift), last.age_text(scan.time)
    if axis.uncertainty >= UNKNOWN_UNCERTAINTY:
        return _uncalibrated(f"{reason}; {last.mono} was {age}, too long to say anything")
    note = (
        f"{reason}; {last.mono} was {age}: {axis.offset:+.2f} eV, +-{axis.uncertainty:.2f} eV "
        f"if it drifts by {drift:g} eV/h"
    )
    return Calibrated(axis, notes=(note,))


def reference_offset(scan: AbsorptionScan) -> float:
    """Return what must be added to the energies so that the reference foil is where it belongs [eV].

    Parameters
    ----------
    scan
        A K-edge scan with `it`, `ir` and an element of `FOIL_ENERGIES`.

    Raises
    ------
    ReductionError
        If there is no reference channel, or it does not show the metal; the message says what it shows.

    Examples
    --------
    >>> x = np.arange(-50.0, 80.0, 0.5)
    >>> ir = np.exp(-np.arctan((x - 1.5) / 2.0))
    >>> energy = FOIL_ENERGIES["Fe"] + x
    >>> scan = AbsorptionScan(energy=energy, it=np.ones_like(x), ir=ir, element="Fe", edge="K")
    >>> round(reference_offset(scan), 1)
    -1.5
    """
    if scan.it is None or scan.ir is None:
        raise ReductionError("the scan has no reference channel (It and Ir)")
    if scan.edge not in {"K", ""} or scan.element not in FOIL_ENERGIES:
        what = f"the {scan.edge} edge of {scan.element}" if scan.element else "an element that is not stated"
        raise ReductionError(f"no foil energy is known for {what} (known: K of {', '.join(FOIL_ENERGIES)})")
    try:
        signal = signal_of(scan, DetectionMode.REFERENCE)
    except ReductionError as error:
        raise ReductionError(f"the reference channel is dead: {error}") from error
    foil = FOIL_ENERGIES[scan.element]
    inside = (signal.energy > foil - 200.0) & (signal.energy < foil + 100.0)
    x, mu = signal.energy[inside] - foil, signal.mu[inside]
    if x.size < 20 or x[0] > -LARGEST_OFFSET - 4.0 or x[-1] < 40.0:
        raise ReductionError(
            "the reference channel does not cover the foil's edge (-10 to +40 eV, 20 points)"
        )
    inflection = _first_inflection(x, mu)
    _require_metal(x, mu, inflection, scan.element)
    return -inflection


def shows_metal(x: FloatArray, mu: FloatArray, element: str) -> bool:
    """Return whether a spectrum on the foil's scale is that of the metal itself.

    Parameters
    ----------
    x
        Energy above the metal foil [eV], ascending, (n,).
    mu
        Absorption [any unit], (n,).
    element
        Chemical symbol.

    Examples
    --------
    >>> x = np.arange(-50.0, 80.0, 0.5)
    >>> [shows_metal(x, np.arctan((x - edge) / 2.0), "Fe") for edge in (0.5, 12.0)]
    [True, False]
    """
    inside = (x > -200.0) & (x < 100.0)
    try:
        inflection = _first_inflection(x[inside], mu[inside])
        _require_metal(x[inside], mu[inside], inflection, element)
    except ReductionError:
        return False
    return abs(inflection) < METAL_EDGE


def _first_inflection(x: FloatArray, mu: FloatArray) -> float:
    """Return the first large maximum of the derivative, refined by a parabola [eV above the foil]."""
    grid = np.arange(max(x[0], -40.0), 60.0, _STEP)
    derivative = np.gradient(smooth(np.interp(grid, x, mu), _SMOOTHING / _STEP))
    near = np.flatnonzero((grid > -15.0) & (grid < 20.0))
    peaks = near[
        (derivative[near] > derivative[near - 1])
        & (derivative[near] >= derivative[near + 1])
        & (derivative[near] >= _AMONG_LARGEST * derivative[near].max())
    ]
    if peaks.size == 0 or derivative[peaks[0]] <= 0.0:
        raise ReductionError("the reference channel shows no edge near the foil's energy")
    left, top, right = derivative[peaks[0] - 1 : peaks[0] + 2]
    bend = left - 2.0 * top + right
    return float(grid[peaks[0]] + (0.5 * _STEP * (left - right) / bend if bend < 0.0 else 0.0))


def _require_metal(x: FloatArray, mu: FloatArray, inflection: float, element: str) -> None:
    """Refuse a reference that is not the metal: no step, too far away, or with an oxide's white line."""
    x = x - inflection
    before, after, top = x < -12.0, (x > 20.0) & (x < 60.0), (x > 0.0) & (x < 35.0)
    if not (after.any() and top.any()):
        raise ReductionError("the reference channel has no points within 35 eV above the foil's edge")
    if np.count_nonzero(before) < 3:
        before = np.arange(x.size) < 3
    slope = np.polyfit(x[before], mu[before], 1) if np.ptp(x[before]) > 20.0 else (0.0, mu[before].mean())
    above = mu - np.polyval(slope, x)
    step, noise = float(above[after].mean()), noise_level(x[before], mu[before])
    if step < max(SMALLEST_STEP, SIGNIFICANT * noise):
        raise ReductionError(f"the reference channel shows no edge (step {step:.3g}, noise {noise:.2g})")
    if abs(inflection) > LARGEST_OFFSET:
        raise ReductionError(
            f"the reference channel rises {inflection:+.1f} eV from the {element} foil, more "
            f"than {LARGEST_OFFSET:.0f} eV: it is no {element} metal, or the axis is far off; "
            "state --energy-offset"
        )
    white_line = float(above[top].max() / step)
    if white_line > LARGEST_WHITE_LINE:
        raise ReductionError(
            f"the reference channel has a white line of {white_line:.2f} edge steps, a {element} metal has "
            f"less than {LARGEST_WHITE_LINE}: it is no foil"
        )
