"""Storage of the frames of an area detector: in the events, or in files that documents refer to.

A store serves one series of frames, of one stream of one run: it describes the frames, stores them, and
returns the documents of each.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from bluesky_xpdml.demo.beamline.detector import Frame
from bluesky_xpdml.errors import BeamlineError, needs_extra

DATASET = "/entry/data/data"
"""Dataset of the frames in the HDF5 files of areaDetector."""
TEMPLATE = "%s%s_%6.6d.tiff"
"""Names of the TIFF files of areaDetector: folder, name, number."""
MAX_TRIES, RETRY_INTERVAL = 200, 0.01
"""Tries to open a file that is being read, and the pause between them [s]."""

Document = tuple[str, dict[str, Any]]


class ImageFormat(StrEnum):
    """How frames are stored."""

    EVENT = "event"
    """As arrays in the events."""
    TIFF = "tiff"
    """One TIFF file per frame, with Resource (AD_TIFF) and Datum documents."""
    HDF5 = "hdf5"
    """One HDF5 file, with Resource (AD_HDF5) and Datum documents."""
    STREAM = "stream"
    """One HDF5 file, with StreamResource and StreamDatum documents."""


class ImageStore(ABC):
    """Stores the frames of one series, with its data key, in a folder."""

    external = ""
    """In the data key of frames that are in files."""

    def __init__(self, folder: Path, key: str) -> None:
        self.key = key
        self.count = 0
        self._folder = folder
        self._uid = str(uuid4())
        self._documents: list[Document] = []

    def take(self, frame: Frame) -> object:
        """Store the next frame and return its value in the event; None if it has none."""
        value = self._put(frame)
        self.count += 1
        return value

    def documents(self) -> Iterator[Document]:
        """Yield the documents of external files since the last call."""
        while self._documents:
            yield self._documents.pop(0)

    def describe(self, shape: tuple[int, int]) -> dict[str, Any]:
        """Return the data key of the frames, of rows and columns."""
        key = {
            "source": "simulation",
            "dtype": "array",
            "shape": [1, *shape] if self.external else list(shape),
            "dtype_numpy": np.dtype(np.uint16).str,
            "units": "counts",
        }
        return key | ({"external": self.external} if self.external else {})

    @abstractmethod
    def _put(self, frame: Frame) -> object: ...


class EventStore(ImageStore):
    """Stores frames in the events."""

    def _put(self, frame: Frame) -> object:
        return frame


class ResourceStore(ImageStore):
    """Base of stores with Resource and Datum documents."""

    external = "FILESTORE:"

    def _name(self, resource: dict[str, Any]) -> str:
        """Add the documents of the next frame, and of the file for the first one, and return its name."""
        if not self.count:
            whole = {"uid": self._uid, "path_semantics": "posix", "root": str(self._folder)} | resource
            self._documents.append(("resource", whole))
        name = f"{self._uid}/{self.count}"
        datum = {"datum_id": name, "resource": self._uid, "datum_kwargs": {"point_number": self.count}}
        self._documents.append(("datum", datum))
        return name


class TiffStore(ResourceStore):
    """Writes one TIFF file per frame."""

    def _put(self, frame: Frame) -> object:
        with needs_extra("scattering"):
            import tifffile

        folder = self._folder / self._uid
        folder.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(TEMPLATE % (f"{folder}/", self.key, self.count), frame)
        kwargs = {"template": TEMPLATE, "filename": self.key, "frame_per_point": 1}
        return self._name({"spec": "AD_TIFF", "resource_path": f"{self._uid}/", "resource_kwargs": kwargs})


class Hdf5Store(ResourceStore):
    """Writes one HDF5 file per series."""

    def _put(self, frame: Frame) -> object:
        _append(self._folder / f"{self._uid}.h5", frame)
        kwargs = {"frame_per_point": 1}
        return self._name({"spec": "AD_HDF5", "resource_path": f"{self._uid}.h5", "resource_kwargs": kwargs})


class StreamStore(ImageStore):
    """Writes one HDF5 file per series and refers to its frames by index."""

    external = "STREAM:"

    def _put(self, frame: Frame) -> object:
        path = self._folder / f"{self._uid}.h5"
        _append(path, frame)
        if not self.count:
            resource = {
                "uid": self._uid,
                "data_key": self.key,
                "mimetype": "application/x-hdf5",
                "uri": path.resolve().as_uri().replace("file:///", "file://localhost/"),
                "parameters": {"dataset": DATASET, "swmr": False, "chunk_shape": (1, *frame.shape)},
            }
            self._documents.append(("stream_resource", resource))
        datum = {
            "uid": f"{self._uid}/{self.count}",
            "stream_resource": self._uid,
            "descriptor": "",
            "indices": {"start": self.count, "stop": self.count + 1},
            "seq_nums": {"start": 0, "stop": 0},
        }
        self._documents.append(("stream_datum", datum))
        return None


STORES: dict[ImageFormat, type[ImageStore]] = {
    ImageFormat.EVENT: EventStore,
    ImageFormat.TIFF: TiffStore,
    ImageFormat.HDF5: Hdf5Store,
    ImageFormat.STREAM: StreamStore,
}


def open_store(image_format: ImageFormat, folder: Path | None, key: str) -> ImageStore:
    """Return the store of a new series of frames; files need a folder that exists."""
    if image_format is not ImageFormat.EVENT and (folder is None or not folder.is_dir()):
        msg = f"frames as {image_format} files need a folder that exists, found {folder}: name one"
        raise BeamlineError(msg)
    return STORES[image_format](folder or Path(), key)


def _append(path: Path, frame: Frame) -> None:
    # Opened for each frame, so that readers see whole frames and no lock.
    with _opened(path) as file:
        if DATASET not in file:
            file.create_dataset(
                DATASET,
                (0, *frame.shape),
                frame.dtype,
                maxshape=(None, *frame.shape),
                chunks=(1, *frame.shape),
            )
        frames = file[DATASET]
        frames.resize(len(frames) + 1, axis=0)
        frames[-1] = frame


def _opened(path: Path) -> Any:
    """Open a file to append to it; readers in this process may have to close it first."""
    import h5py

    for _ in range(MAX_TRIES):
        try:
            return h5py.File(path, "a")
        except OSError:
            time.sleep(RETRY_INTERVAL)
    return h5py.File(path, "a")
