"""Small files that runs name: masks and calibrations."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import FileFormatError, MissingDataError

LARGEST_TEXT = 1_000_000
"""No calibration is longer [bytes]."""


def read_text_file(path: str) -> str:
    """Return the text of a file that a run names, such as a `.poni` file.

    Parameters
    ----------
    path
        Of the file on this machine.

    Raises
    ------
    MissingDataError
        If it is not there.
    FileFormatError
        If it is no text.
    """
    try:
        with Path(path).open("rb") as file:
            return file.read(LARGEST_TEXT).decode("utf-8")
    except (OSError, ValueError) as error:
        raise _fault(path, error) from error


def read_mask_file(path: str) -> NDArray[Any]:
    """Return the numbers of a mask in a file: `.npy`, `.tif`, `.txt`, or what fabio reads (`.edf`, `.msk`).

    Parameters
    ----------
    path
        Of the file on this machine.

    Raises
    ------
    MissingDataError
        If it is not there.
    FileFormatError
        If it holds no image.
    """
    try:
        mask = _read(Path(path))
    except (OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError, EOFError) as error:
        raise _fault(path, error) from error
    if mask.ndim < 2 or mask.dtype.kind not in "biuf":
        raise FileFormatError(f"expected a mask of rows and columns in {path}, found the shape {mask.shape}")
    return mask


def _read(path: Path) -> NDArray[Any]:
    suffix = path.suffix.lower()
    if not path.is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    if suffix == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    if suffix in {".tif", ".tiff"}:
        import tifffile

        return np.asarray(tifffile.imread(path))
    if suffix in {".txt", ".dat"}:
        return np.loadtxt(path, ndmin=2)
    import fabio

    with fabio.open(str(path)) as image:
        return np.asarray(image.data)


def _fault(path: str, error: Exception) -> MissingDataError | FileFormatError:
    if isinstance(error, FileNotFoundError):
        return MissingDataError(
            f"expected the file {path}, which the run names, found none: mount its folder here"
        )
    return FileFormatError(
        f"expected {path} to be readable, found {type(error).__name__}: {str(error)[:120]}"
    )
