"""Images in TIFF and NPY files, their sizes known from the headers before a number is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import FileFormatError, needs_extra
from bluesky_xpdml.files import read_npy, require_decoded, size_of

TIFF_SUFFIXES = (".tif", ".tiff")


@contextmanager
def _tiff(file: BinaryIO, path: Path) -> Iterator[Any]:
    with needs_extra("scattering"):
        import tifffile

    # The metadata of microscopes (OME) may name further files, which would be opened too.
    with tifffile.TiffFile(file, name=path.name, is_ome=False) as tiff:
        yield tiff


def tiff_pages(file: BinaryIO, path: Path, name: str) -> Iterator[NDArray[Any]]:
    """Yield the images of a TIFF file one by one."""
    with _tiff(file, path) as tiff:
        for page in tiff.pages:
            yield np.asarray(_checked(page, name).asarray())


def read_tiff(file: BinaryIO, path: Path, name: str) -> NDArray[Any]:
    """Return the first series of images of a TIFF file."""
    with _tiff(file, path) as tiff:
        return np.asarray(_checked(tiff.series[0], name).asarray())


def _checked(images: Any, name: str) -> Any:
    if images.dtype is None:
        raise FileFormatError(f"expected an image of numbers in {name}, found another type")
    require_decoded(images.shape, images.dtype.itemsize, name)
    return images


def read_plain_image(file: BinaryIO, path: Path, name: str) -> NDArray[Any] | None:
    """Return the images of a TIFF or NPY file, told by its suffix; None if it is another kind of file.

    `name` stands for the file in messages.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return read_npy(file, size_of(file), name)
    return read_tiff(file, path, name) if suffix in TIFF_SUFFIXES else None
