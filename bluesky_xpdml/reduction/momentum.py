"""Axes of scattering patterns: scattering angles and momentum transfers, in one unit.

Q = 4 pi sin(theta) / wavelength, where 2 theta is the angle between the incident and the scattered beam.
"""

import math
from enum import StrEnum

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import FloatArray


class QUnit(StrEnum):
    """What the axis of a pattern is counted in."""

    PER_ANGSTROM = "1/A"
    """Momentum transfer [1/angstrom]"""
    PER_NANOMETRE = "1/nm"
    """Momentum transfer [1/nm]"""
    TWO_THETA_DEGREES = "2th_deg"
    """Scattering angle [degrees]"""
    TWO_THETA_RADIANS = "2th_rad"
    """Scattering angle [rad]"""


_FACTORS = {QUnit.PER_ANGSTROM: 1.0, QUnit.PER_NANOMETRE: 0.1}


def momentum_transfer(axis: FloatArray, unit: QUnit | str, wavelength: float | None = None) -> FloatArray:
    """Convert an axis to momentum transfers [1/angstrom], (n,).

    Parameters
    ----------
    axis
        Momentum transfers or scattering angles [unit], (n,).
    unit
        One of `1/A`, `1/nm`, `2th_deg`, `2th_rad`.
    wavelength
        Of the X-rays [angstrom]; needed for angles.

    Raises
    ------
    ReductionError
        If the unit is unknown, or angles come without a wavelength, or beyond 180 degrees.

    Examples
    --------
    >>> momentum_transfer(np.array([10.0, 20.0]), "1/nm")
    array([1., 2.])
    >>> momentum_transfer(np.array([60.0]), "2th_deg", wavelength=1.0).round(4)
    array([6.2832])
    """
    unit = _unit(unit)
    if unit in _FACTORS:
        return np.asarray(axis, dtype=float) * _FACTORS[unit]
    length = _required(wavelength)
    angle = np.asarray(axis, dtype=float)
    angle = np.deg2rad(angle) if unit is QUnit.TWO_THETA_DEGREES else angle
    if angle.size and (np.nanmin(angle) < 0.0 or np.nanmax(angle) > np.pi):
        raise ReductionError(
            f"scattering angles lie between 0 and 180 degrees, found {np.rad2deg(np.nanmin(angle)):.4g} to "
            f"{np.rad2deg(np.nanmax(angle)):.4g}: check the unit of the axis"
        )
    return np.asarray(4.0 * np.pi * np.sin(0.5 * angle) / length)


def axis_of(q: FloatArray, unit: QUnit | str, wavelength: float | None = None) -> FloatArray:
    """Convert momentum transfers [1/angstrom] to another axis, the inverse of `momentum_transfer`.

    Parameters
    ----------
    q
        Momentum transfers [1/angstrom], (n,).
    unit
        One of `1/A`, `1/nm`, `2th_deg`, `2th_rad`.
    wavelength
        Of the X-rays [angstrom]; needed for angles.

    Raises
    ------
    ReductionError
        If the unit is unknown, angles are asked for without a wavelength, or q cannot be reached with it.

    Examples
    --------
    >>> axis_of(np.array([6.2832]), "2th_deg", wavelength=1.0).round(2)
    array([60.])
    """
    unit = _unit(unit)
    if unit in _FACTORS:
        return np.asarray(q, dtype=float) / _FACTORS[unit]
    sine = np.asarray(q, dtype=float) * _required(wavelength) / (4.0 * np.pi)
    if sine.size and (np.nanmin(sine) < 0.0 or np.nanmax(sine) > 1.0):
        raise ReductionError(
            f"Q lies between 0 and {4.0 * np.pi / _required(wavelength):.4g} 1/angstrom at a wavelength of "
            f"{wavelength:g} angstrom, found {np.nanmin(q):.4g} to {np.nanmax(q):.4g}"
        )
    angle = 2.0 * np.arcsin(sine)
    return np.asarray(np.rad2deg(angle) if unit is QUnit.TWO_THETA_DEGREES else angle)


def _unit(unit: QUnit | str) -> QUnit:
    try:
        return QUnit(unit)
    except ValueError:
        known = ", ".join(QUnit)
        raise ReductionError(f"expected one of {known} as the unit of the axis, found {unit!r}") from None


def _required(wavelength: float | None) -> float:
    if wavelength is None:
        raise ReductionError(
            "an axis of scattering angles needs the wavelength; give it in angstrom with --wavelength, or "
            "convert the axis to Q"
        )
    if not (math.isfinite(wavelength) and wavelength > 0.0):
        raise ReductionError(f"expected a positive wavelength [angstrom], found {wavelength:g}")
    return wavelength
