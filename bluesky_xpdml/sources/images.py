"""Detector images and calibrations from files."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.documents.assets import UNREADABLE
from bluesky_xpdml.documents.image_files import read_plain_image
from bluesky_xpdml.errors import (
    DocumentError,
    FileFormatError,
    MissingDataError,
    ReductionError,
    needs_extra,
)
from bluesky_xpdml.files import open_regular, require_decoded, shown
from bluesky_xpdml.records import Calibration, Sample, ScatteringFrame
from bluesky_xpdml.reduction.calibration import calibration_from_poni
from bluesky_xpdml.reduction.image import BoolArray, as_mask, average_frames
from bluesky_xpdml.sources.table import read_text

IMAGE_SUFFIXES = (".tif", ".tiff", ".edf", ".cbf", ".npy")
"""Formats that `read_image` reads; others that fabio knows are tried as well."""


def read_image(path: Path | str) -> NDArray[Any]:
    """Read an image, or a stack of them, as it is stored.

    Parameters
    ----------
    path
        TIFF, EDF, CBF, NPY, or any other format of fabio.

    Returns
    -------
    image
        (rows, columns), or (n, rows, columns) if the file holds several frames.

    Raises
    ------
    MissingDataError
        If there is no such file or it cannot be opened.
    FileFormatError
        If it cannot be read as an image.
    DocumentError
        If it is a pipe, a device or a folder, or its images take more than 1 GB.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.npy"
    ...     np.save(path, np.zeros((4, 5), dtype=np.uint16))
    ...     read_image(path).shape
    (4, 5)
    """
    path = Path(path)
    try:
        image = _load(path)
    except FileFormatError as error:
        raise FileFormatError(f"{path.name}: expected an image, the file is damaged ({error})") from error
    except DocumentError:
        raise
    except FileNotFoundError as error:
        raise MissingDataError(f"{shown(path)}: there is no such file") from error
    except OSError as error:
        raise FileFormatError(f"{path.name}: expected an image, cannot be read ({error})") from error
    except UNREADABLE as error:
        raise FileFormatError(f"{path.name}: expected an image, the file is damaged ({error})") from error
    if image.ndim not in {2, 3} or image.size == 0 or image.dtype.kind not in "uifb":
        raise FileFormatError(
            f"{path.name}: expected an image of numbers, found the shape {image.shape} of {image.dtype}"
        )
    return image


def read_mask(path: Path | str, shape: tuple[int, int], *, bad: bool = True) -> BoolArray:
    """Read a mask, True where a pixel is bad.

    Parameters
    ----------
    path
        Image file of zeros and one other number.
    shape
        Shape of the images that it belongs to.
    bad
        Value that marks a bad pixel: True (pyFAI, Fit2D), or False if 1 marks good pixels.

    Raises
    ------
    DocumentError
        If it cannot be read as an image.
    ReductionError
        If it is no mask of that shape.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "mask.npy"
    ...     np.save(path, np.eye(2, dtype=np.uint8))
    ...     read_mask(path, (2, 2)).sum()
    np.int64(2)
    """
    return as_mask(read_image(path), shape, bad=bad)


def read_calibration(path: Path | str, *, shape: tuple[int, int] | None = None) -> Calibration:
    """Read a `.poni` file.

    Parameters
    ----------
    path
        As pyFAI writes it, any version.
    shape
        Rows and columns of the detector, if the file does not state them.

    Raises
    ------
    MissingDataError
        If there is no such file.
    ReductionError
        If a value that a calibration needs is missing.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.poni"
    ...     _ = path.write_text("Distance: 0.2")
    ...     read_calibration(path)
    Traceback (most recent call last):
    ...
    bluesky_xpdml.errors.ReductionError: a.poni: the calibration lacks poni1, poni2, rot1, ...
    """
    path = Path(path)
    try:
        return calibration_from_poni(read_text(path), shape=shape)
    except ReductionError as error:
        raise ReductionError(f"{path.name}: {error}") from error


def read_frame(
    path: Path | str,
    *,
    calibration: Calibration | None = None,
    dark: Path | str | None = None,
    mask: BoolArray | None = None,
    composition: str = "",
) -> ScatteringFrame:
    """Read an image file and its dark file as a frame for the reduction; stacks are averaged.

    Parameters
    ----------
    path
        Image, or stack of them.
    calibration
        Geometry of the detector.
    dark
        Dark image, or stack of them.
    mask
        True where a pixel is bad, (rows, columns).
    composition
        Of the sample, a formula.

    Raises
    ------
    DocumentError
        If a file is missing, or cannot be read as an image.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.npy"
    ...     np.save(path, np.ones((3, 4, 5)))
    ...     frame = read_frame(path)
    >>> frame.image.shape, frame.n_frames
    ((4, 5), 3)
    """
    path = Path(path)
    image = read_image(path)
    mean, n_frames = image, 1
    if image.ndim == 3:
        mean, _, n_frames = average_frames(image)
    dark_mean, dark_variance, n_dark = (None, None, 1) if dark is None else average_frames(read_image(dark))
    return ScatteringFrame(
        image=mean,
        n_frames=n_frames,
        dark=dark_mean,
        dark_variance=dark_variance,
        n_dark=n_dark,
        mask=mask,
        calibration=calibration,
        sample=Sample(composition=composition),
        source=path.name,
    )


def _load(path: Path) -> NDArray[Any]:
    with open_regular(path) as file:
        image = read_plain_image(file, path, path.name)
    if image is not None:
        return image
    with needs_extra("scattering"):
        import fabio

    with fabio.open(path) as opened:
        require_decoded((opened.nframes, *opened.shape), opened.dtype.itemsize, path)
        if opened.nframes > 1:
            return np.stack([opened.get_frame(number).data for number in range(opened.nframes)])
        return np.asarray(opened.data)
