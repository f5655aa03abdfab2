"""Detector frames: averages, dark subtraction, and the variance of every pixel.

Dark subtraction happens in floating point and is never clipped: a pixel may well end below zero, and its
variance says how much that means.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import FloatArray, ScatteringFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """An image without dark counts, both (rows, columns).

    Single precision holds every detector's counts in its 24 bits, at half the memory.
    """

    counts: NDArray[np.float32]
    """Counts above dark [detector units]; negative where noise makes them so."""
    variance: NDArray[np.float32]
    """[detector units squared]"""


def average_frames(frames: NDArray[Any]) -> tuple[FloatArray, FloatArray | None, int]:
    """Average frames of one exposure.

    Parameters
    ----------
    frames
        Counts, (rows, columns) or (n, rows, columns), or deeper as area detectors deliver it.

    Returns
    -------
    mean, variance, n
        Mean [counts], (rows, columns); variance of a single frame where there are at least three [counts
        squared], else None; and the number of frames.

    Raises
    ------
    ReductionError
        If there is no frame, or no image in it.

    Examples
    --------
    >>> mean, variance, n = average_frames(np.array([[[1, 2]], [[3, 2]], [[5, 2]]]))
    >>> mean.tolist(), variance.tolist(), n
    ([[3.0, 2.0]], [[4.0, 0.0]], 3)
    """
    values = np.asarray(frames)
    if values.ndim < 2 or values.size == 0:
        raise ReductionError(f"expected images of rows and columns, found the shape {values.shape}")
    if not (np.issubdtype(values.dtype, np.number) and np.isrealobj(values)):
        raise ReductionError(f"expected images of real numbers, found {values.dtype}")
    stack = values.reshape(-1, *values.shape[-2:])
    n = stack.shape[0]
    mean = np.asarray(stack.mean(axis=0, dtype=float))
    variance = np.asarray(stack.var(axis=0, dtype=float, ddof=1)) if n > 2 else None
    return mean, variance, n


def subtract_dark(frame: ScatteringFrame, *, counts_per_photon: float = 1.0) -> Signal:
    """Subtract the dark frame, and say how certain every pixel is.

    Photons are counted with Poisson's statistics. Dark counts have the variance that the frame states, or
    else as much as counts would have, which overstates it where they are an offset of the electronics.

    Parameters
    ----------
    frame
        Image and dark as counted.
    counts_per_photon
        Detector units that one photon gives on average.

    Raises
    ------
    ReductionError
        If the dark frame has another shape than the image, or the image is none.

    Examples
    --------
    >>> image = np.array([[3, 9]], dtype=np.uint16)
    >>> signal = subtract_dark(ScatteringFrame(image=image, dark=np.full((1, 2), 5.0)))
    >>> signal.counts.tolist(), signal.variance.tolist()
    ([[-2.0, 4.0]], [[8.0, 14.0]])
    """
    raw, dark = _require_image(frame), frame.dark
    _require_positive(frame, counts_per_photon)
    gain, n, n_dark = float(counts_per_photon), float(frame.n_frames), float(frame.n_dark)
    counts = raw.astype(np.float32)
    if dark is None:
        return Signal(counts=counts, variance=_single(counts, gain / n))
    if dark.shape != raw.shape:
        raise ReductionError(f"the dark frame has the shape {dark.shape}, the image {raw.shape}")
    dark32 = dark.astype(np.float32, copy=False)
    if frame.dark_variance is None:
        variance = _single(counts, gain / n) + _single(dark32, gain / n_dark)
        counts -= dark32
        return Signal(counts=counts, variance=variance)
    counts -= dark32
    of_dark = frame.dark_variance.astype(np.float32, copy=False) * np.float32(1.0 / n + 1.0 / n_dark)
    return Signal(counts=counts, variance=_single(counts, gain / n) + of_dark)


def _single(counts: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Return the Poisson variance of counts in single precision; noise below zero has none."""
    return np.asarray(np.maximum(counts, np.float32(0.0)) * np.float32(factor), dtype=np.float32)


def _require_image(frame: ScatteringFrame) -> NDArray[Any]:
    image = np.asarray(frame.image)
    if image.ndim != 2 or image.size == 0:
        raise ReductionError(
            f"expected an image of rows and columns, found the shape {image.shape}; average several "
            "frames with average_frames"
        )
    if not (np.issubdtype(image.dtype, np.number) and np.isrealobj(image)):
        raise ReductionError(f"expected an image of real numbers, found {image.dtype}")
    return image


def _require_positive(frame: ScatteringFrame, counts_per_photon: float) -> None:
    if frame.n_frames < 1 or frame.n_dark < 1:
        raise ReductionError(f"expected at least one frame, found {min(frame.n_frames, frame.n_dark)}")
    if not 0.0 < counts_per_photon < np.inf:
        raise ReductionError(f"expected a positive number of counts per photon, found {counts_per_photon:g}")
