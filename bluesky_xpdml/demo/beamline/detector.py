"""An area detector: where its pixels look, and what they do with photons.

The geometry follows the convention of pyFAI: a pixel at (x1, x2) metres on the detector, less the point of
normal incidence, stands at a distance L in front of the sample and is turned by rot1, rot2, rot3 about the
axes 1 (slow, vertical), 2 (fast, horizontal) and 3 (along the beam)::

    t = Rz(rot3) Ry(-rot2) Rx(-rot1) (x1 - poni1, x2 - poni2, L)        [rows: 1, 2, 3]
    tan 2theta = sqrt(t1^2 + t2^2) / t3,   tan chi = t1 / t2
    solid angle   (L / |t|)^3
    polarisation  (1 + cos^2 2theta - P cos 2chi (1 - cos^2 2theta)) / 2

Mean counts of a pixel, for a rate of photons p and an exposure t::

    offset + t (gain p + dark)          dark pixels without p, dead pixels without p and dark current

Photons and dark electrons are Poisson distributed, the electronics add Gaussian noise, and the sum is rounded
to 16 bits: larger sums saturate.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import BeamlineError
from bluesky_xpdml.records import Calibration, FloatArray

Float32Array = NDArray[np.float32]
FULL = 65535
"""Largest number of counts."""
POLARISATION = 0.99
"""Degree of horizontal polarisation of the beam."""

Frame = NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorGeometry:
    """Momentum transfer and response of the pixels. Arrays are (rows, columns)."""

    q: Float32Array
    """Momentum transfer at the centre of the pixel [1/angstrom]."""
    response: Float32Array
    """Solid angle and polarisation, one at the point nearest to the sample."""
    offset: tuple[float, float]
    """Row and column of the direct beam [pixels]."""


@lru_cache(maxsize=4)
def detector_geometry(calibration: Calibration, polarisation: float = POLARISATION) -> DetectorGeometry:
    """Compute the geometry of a detector whose calibration has a shape, for a polarisation from -1 to 1."""
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
    """Return the pixels behind a round beam stop [m] on an arm [m] to the last row, (rows, columns)."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """Properties of the pixels of a detector."""

    offset: float = 120.0
    """Of the electronics [counts]."""
    pattern: float = 6.0
    """Standard deviation of the offset from pixel to pixel [counts]."""
    dark: float = 5.0
    """Dark current [counts/s]."""
    noise: float = 3.0
    """Standard deviation of the electronics' noise [counts]."""
    gain_spread: float = 0.0
    """Relative standard deviation of the pixels' gain, without correction by a flat field."""
    dead: float = 2e-5
    """Share of pixels that detect nothing."""
    hot: float = 2e-5
    """Share of pixels with a large dark current."""
    hot_dark: float = 20000.0
    """Dark current of a hot pixel [counts/s]."""

    def pixels(self, shape: tuple[int, int], *, seed: int) -> "Pixels":
        """Return the pixels of one detector of this kind, (rows, columns); the seed decides which fail."""
        random = np.random.default_rng([seed, 1])
        fault = random.random(shape, dtype=np.float32)
        dead, hot = fault < self.dead, fault > 1.0 - self.hot
        spread = random.standard_normal(shape, dtype=np.float32)
        offset = np.maximum(self.offset + self.pattern * spread, 0.0).astype(np.float32)
        gain = np.ones(shape, dtype=np.float32)
        if self.gain_spread:
            gain += np.float32(self.gain_spread) * random.standard_normal(shape, dtype=np.float32)
        gain[dead] = 0.0
        dark = np.full(shape, self.dark, dtype=np.float32)
        dark[dead], dark[hot] = 0.0, self.hot_dark
        return Pixels(offset=offset, gain=gain, dark=dark, noise=self.noise, faulty=dead | hot)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """The pixels of one detector. Arrays are (rows, columns)."""

    offset: NDArray[np.float32]
    """[counts]"""
    gain: NDArray[np.float32]
    """Counts a photon."""
    dark: NDArray[np.float32]
    """[counts/s]"""
    noise: float
    """Standard deviation [counts]."""
    faulty: NDArray[np.bool_]
    """True where a pixel is dead or hot."""

    def expose(self, rate: NDArray[np.float32] | None, exposure: float, random: np.random.Generator) -> Frame:
        """Return one frame of counts for arriving photons [1/s per pixel]; None with the shutter closed."""
        arriving = self.dark if rate is None else self.gain * rate + self.dark
        # 32 bits of noise are sufficient and take a third of the time.
        counts = random.standard_normal(self.offset.shape, dtype=np.float32)
        counts *= np.float32(self.noise)
        counts += self.offset
        counts += random.poisson((arriving * np.float32(exposure)).astype(np.float64))
        np.rint(counts, out=counts)
        return np.clip(counts, 0.0, FULL, out=counts).astype(np.uint16)
