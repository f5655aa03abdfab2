"""An integrating area detector: dark current, offset, noise, and the pixels that fail.

Mean counts of a pixel, for a rate of photons p and an exposure t:

    offset + t (gain p + dark)          dark pixels without p, dead pixels without p and dark current

Photons and dark electrons are Poisson distributed, the electronics add Gaussian noise, and the sum is rounded
to 16 bits: what exceeds them is lost.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.records import FloatArray

FULL = 65535
"""Largest number of counts."""

Frame = NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """What the pixels of a detector do.

    Examples
    --------
    >>> pixels = Sensor().pixels((64, 64), seed=1)
    >>> frame = pixels.expose(None, 1.0, np.random.default_rng(1))
    >>> frame.dtype, frame.shape
    (dtype('uint16'), (64, 64))
    """

    offset: float = 120.0
    """Of the electronics [counts]."""
    pattern: float = 6.0
    """Standard deviation of the offset from pixel to pixel [counts]."""
    dark: float = 5.0
    """Dark current [counts/s]."""
    noise: float = 3.0
    """Standard deviation of the electronics' noise [counts]."""
    gain_spread: float = 0.0
    """Relative standard deviation of the pixels' gain, which no flat field takes out."""
    dead: float = 2e-5
    """Share of pixels that see nothing."""
    hot: float = 2e-5
    """Share of pixels with a large dark current."""
    hot_dark: float = 20000.0
    """Dark current of a hot pixel [counts/s]."""

    def pixels(self, shape: tuple[int, int], *, seed: int) -> "Pixels":
        """Return the pixels of one detector of this kind.

        Parameters
        ----------
        shape
            Rows and columns.
        seed
            Decides which pixels fail.
        """
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
        """Take one frame.

        Parameters
        ----------
        rate
            Photons that arrive [1/s a pixel], (rows, columns); None with the shutter closed.
        exposure
            [s]
        random
            Source of randomness; the same state gives the same frame.

        Returns
        -------
        Frame
            Counts, (rows, columns).
        """
        arriving = self.dark if rate is None else self.gain * rate + self.dark
        # 32 bits of noise are enough and take a third of the time.
        counts = random.standard_normal(self.offset.shape, dtype=np.float32)
        counts *= np.float32(self.noise)
        counts += self.offset
        counts += random.poisson(_mean(arriving, exposure))
        np.rint(counts, out=counts)
        return np.clip(counts, 0.0, FULL, out=counts).astype(np.uint16)


def _mean(arriving: NDArray[np.float32], exposure: float) -> FloatArray:
    return np.asarray(arriving * np.float32(exposure), dtype=np.float64)
