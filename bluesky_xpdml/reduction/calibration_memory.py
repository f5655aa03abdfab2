"""The last energy calibration of each monochromator: what stands in where a scan has no foil of its own.

A monochromator keeps its zero for hours, not for ever. The standard uncertainty of an axis that was
calibrated a time t ago is taken as ::

    uncertainty(t) = uncertainty of the calibration + drift * t

where `drift` is a setting of the reduction. That it grows in proportion to the time is an assumption: real
axes jump when a crystal is touched or the ring is refilled, which no clock knows. A calibration whose
uncertainty has grown to that of an axis nobody calibrated is not used any more. An offset holds for the
element it was found on: an error of the angle is another energy at another edge.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, AxisSource, EnergyAxis, Xanes

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
