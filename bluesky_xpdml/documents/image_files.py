"""Images in TIFF and NPY files, their sizes known from the headers before a number is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import FileFormatError, needs_extra
from bluesky_xpdml.files import read_npy, require_decoded, shown, size_of

TIFF_SUFFIXES = (".tif", ".tiff")


@contextmanager
def _tiff(file: BinaryIO, path: Path) -> Iterator[Any]:
    with needs_extra("scattering"):
        import tifffile

    # The metadata of microscopes (OME) may name further files, which would be opened too.
    with tifffile.TiffFile(file, name=path.name, is_ome=False) as tiff:
        yield tiff


def tiff_pages(file: BinaryIO, path: Path) -> Iterator[NDArray[Any]]:
    """Yield the images of a TIFF file one by one."""
    with _tiff(file, path) as tiff:
        for page in tiff.pages:
            yield np.asarray(_checked(page, path).asarray())


def read_tiff(file: BinaryIO, path: Path) -> NDArray[Any]:
    """Return the first series of images of a TIFF file."""
    with _tiff(file, path) as tiff:
        return np.asarray(_checked(tiff.series[0], path).asarray())


def _checked(images: Any, path: Path) -> Any:
    if images.dtype is None:
        raise FileFormatError(f"expected an image of numbers in {shown(path)}, found another type")
    require_decoded(images.shape, images.dtype.itemsize, path)
    return images


def read_plain_image(file: BinaryIO, path: Path) -> NDArray[Any] | None:
    """Return the images of a TIFF or NPY file, told by its suffix; None if it is another kind of file."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return read_npy(file, size_of(file), path)
    return read_tiff(file, path) if suffix in TIFF_SUFFIXES else None
