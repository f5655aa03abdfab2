"""Where the pixels of a flat area detector look, and what that does to their counts.

The convention is that of pyFAI: a pixel at (x1, x2) metres on the detector, less the point of normal
incidence, stands at a distance L in front of the sample and is turned by rot1, rot2, rot3 about the axes
1 (slow, vertical), 2 (fast, horizontal) and 3 (along the beam)::

    t = Rz(rot3) Ry(-rot2) Rx(-rot1) (x1 - poni1, x2 - poni2, L)        [rows: 1, 2, 3]
    tan 2theta = sqrt(t1^2 + t2^2) / t3,   tan chi = t1 / t2
    solid angle   (L / |t|)^3
    polarisation  (1 + cos^2 2theta - P cos 2chi (1 - cos^2 2theta)) / 2
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import BeamlineError
from bluesky_xpdml.records import Calibration, FloatArray

Float32Array = NDArray[np.float32]

POLARISATION = 0.99
"""Degree of horizontal polarisation of the beam."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorGeometry:
    """What depends on where a pixel is. Arrays are (rows, columns)."""

    q: Float32Array
    """Momentum transfer at the centre of the pixel [1/angstrom]."""
    response: Float32Array
    """Solid angle and polarisation, one where the detector is nearest."""
    offset: tuple[float, float]
    """Row and column of the direct beam [pixels]."""


@lru_cache(maxsize=4)
def detector_geometry(calibration: Calibration, polarisation: float = POLARISATION) -> DetectorGeometry:
    """Compute the geometry of a detector, once for each calibration.

    Parameters
    ----------
    calibration
        Where the detector stands; its shape is needed.
    polarisation
        Degree of horizontal polarisation, -1 to 1.

    Raises
    ------
    BeamlineError
        If the shape is missing, or rows and columns are not counted from the usual corner.

    Examples
    --------
    >>> calibration = Calibration(distance=0.2, poni1=0.1, poni2=0.1, rot1=0.0, rot2=0.0, rot3=0.0,
    ...     wavelength=1.8e-11, pixel1=2e-3, pixel2=2e-3, shape=(100, 100))
    >>> geometry = detector_geometry(calibration)
    >>> geometry.q.shape, geometry.offset
    ((100, 100), (49.5, 49.5))
    """
    if calibration.shape is None or calibration.orientation != 3:
        msg = f"shape {calibration.shape}, orientation {calibration.orientation}: expected a shape and 3"
        raise BeamlineError(msg)
    rows, columns = calibration.shape
    x1 = (np.arange(rows) + 0.5) * calibration.pixel1 - calibration.poni1
    x2 = (np.arange(columns) + 0.5) * calibration.pixel2 - calibration.poni2
    turned = _rotation(calibration)
    plane = [
        (row[0] * x1)[:, None] + (row[1] * x2)[None, :] + row[2] * calibration.distance for row in turned
    ]
    t1, t2, t3 = plane
    across = t1**2 + t2**2
    length = np.sqrt(across + t3**2)
    cosine = t3 / length
    twice_chi = np.divide(t2**2 - t1**2, across, out=np.ones_like(across), where=across > 0.0)
    squared = cosine**2
    polarised = 0.5 * (1.0 + squared - polarisation * twice_chi * (1.0 - squared))
    q = 4.0 * np.pi / (calibration.wavelength * 1e10) * np.sqrt(np.maximum(0.5 * (1.0 - cosine), 0.0))
    response = (calibration.distance / length) ** 3 * polarised
    return DetectorGeometry(
        q=q.astype(np.float32), response=response.astype(np.float32), offset=_direct_beam(calibration, turned)
    )


def beam_stop_shadow(
    geometry: DetectorGeometry, calibration: Calibration, *, radius: float, arm: float
) -> NDArray[np.bool_]:
    """Return which pixels stand behind a round beam stop on an arm to the last row.

    Parameters
    ----------
    geometry
        Says where the direct beam is.
    calibration
        Size of the pixels.
    radius
        Of the beam stop [m].
    arm
        Width of its arm [m]; 0 for none.

    Returns
    -------
    NDArray[np.bool_]
        True in the shadow, (rows, columns).
    """
    rows, columns = geometry.q.shape
    row = (np.arange(rows) - geometry.offset[0])[:, None] * calibration.pixel1
    column = (np.arange(columns) - geometry.offset[1])[None, :] * calibration.pixel2
    disc = row**2 + column**2 < radius**2
    return np.asarray(disc | ((row > 0.0) & (np.abs(column) < 0.5 * arm)))


def _rotation(calibration: Calibration) -> FloatArray:
    """Return the matrix that turns a point of the untilted detector, axes 1, 2, 3."""
    cos1, sin1 = np.cos(calibration.rot1), np.sin(calibration.rot1)
    cos2, sin2 = np.cos(calibration.rot2), np.sin(calibration.rot2)
    cos3, sin3 = np.cos(calibration.rot3), np.sin(calibration.rot3)
    about1 = np.array([[1.0, 0.0, 0.0], [0.0, cos1, sin1], [0.0, -sin1, cos1]])
    about2 = np.array([[cos2, 0.0, -sin2], [0.0, 1.0, 0.0], [sin2, 0.0, cos2]])
    about3 = np.array([[cos3, -sin3, 0.0], [sin3, cos3, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(about3 @ about2 @ about1)


def _direct_beam(calibration: Calibration, turned: FloatArray) -> tuple[float, float]:
    """Return where the beam meets the detector [pixels]: there t1 = t2 = 0."""
    side = turned[:2, :2]
    x1, x2 = np.linalg.solve(side, -turned[:2, 2] * calibration.distance)
    return (
        float((x1 + calibration.poni1) / calibration.pixel1 - 0.5),
        float((x2 + calibration.poni2) / calibration.pixel2 - 0.5),
    )
