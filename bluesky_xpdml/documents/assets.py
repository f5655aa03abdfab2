"""Images in files, to which Resource, Datum, StreamResource and StreamDatum documents refer.

There is one small reader per format, found by the `spec` of a Resource or the `mimetype` of a StreamResource.
It yields frames one by one, so that a file of any length takes the memory of one frame.
"""

import re
import string
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.documents.hdf5 import open_dataset
from bluesky_xpdml.documents.image_files import tiff_pages
from bluesky_xpdml.errors import DocumentError, FileFormatError, MissingDataError
from bluesky_xpdml.files import FileAccess, read_npy, refused, require_decoded, shown, size_of
from bluesky_xpdml.vocabulary import Reason, ReasonCode

MAXIMUM_DOCUMENTS = 100_000
"""Documents of external files that are kept for one run."""


class FileReferences:
    """Keeps the documents of external files of one run."""

    def __init__(self) -> None:
        self._resources: dict[str, Mapping[str, Any]] = {}
        self._data: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self.faults: Counter[str] = Counter()

    def take(self, name: str, doc: Mapping[str, Any]) -> None:
        """Keep a `resource`, `datum`, `datum_page` or `stream_resource` document."""
        if len(self._resources) + len(self._data) >= MAXIMUM_DOCUMENTS:
            self.faults[f"documents of files beyond {MAXIMUM_DOCUMENTS} were left out"] += 1
        elif name in {"resource", "stream_resource"} and isinstance(doc.get("uid"), str):
            self._resources[doc["uid"]] = doc
        elif name == "datum" and all(isinstance(doc.get(key), str) for key in ("datum_id", "resource")):
            self._data[doc["datum_id"]] = (doc["resource"], doc)
        elif name == "datum_page":
            self._take_datum_page(doc)
        else:
            self.faults[_malformed(name)] += 1

    def resource(self, uid: object) -> Mapping[str, Any] | None:
        """Return a resource by its uid; None if it was not received."""
        return self._resources.get(uid) if isinstance(uid, str) else None

    def resource_of(self, datum_id: str) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        """Return the resource and the datum of an identifier in an event; None if one was not received."""
        uid, datum = self._data.get(datum_id, ("", {}))
        resource = self._resources.get(uid)
        return None if resource is None else (resource, datum)

    def _take_datum_page(self, page: Mapping[str, Any]) -> None:
        resource, names, columns = page.get("resource"), page.get("datum_id"), page.get("datum_kwargs") or {}
        if not isinstance(resource, str) or not isinstance(names, list) or not isinstance(columns, Mapping):
            self.faults[_malformed("datum_page")] += 1
            return
        lists = {key: values for key, values in columns.items() if isinstance(values, list)}
        for i, name in enumerate(names):
            kwargs = {key: values[i] for key, values in lists.items() if i < len(values)}
            self.take("datum", {"datum_id": name, "resource": resource, "datum_kwargs": kwargs})


def _malformed(name: str) -> Reason:
    return Reason(f"malformed {name} documents were left out", ReasonCode.INVALID_DOCUMENT)


Frame: TypeAlias = NDArray[np.generic]

MAXIMUM_FRAMES = 10_000
"""Frames that one point may refer to: minutes of a fast detector."""
AREA_DETECTOR_DATASET = "/entry/data/data"
"""Where the HDF5 files of areaDetector hold their frames."""

UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    RuntimeError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""Errors of readers of files that are not what they should be."""

LONGEST_TEMPLATE = 1_000
"""No template of names of files is longer [characters]."""
_OLD_STYLE_NUMBER = re.compile(r"%([-+#0 ]*)(\d+)?(?:\.(\d+))?d")
# Widths of two digits: a name of a file is not longer.
_OLD_STYLE = re.compile(r"(?:[^%]|%[-+#0 ]*\d{0,2}(?:\.\d{0,2})?[sd]|%%)*", re.DOTALL)
_NEW_STYLE_NUMBER = re.compile(r"0?\d{0,2}d?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """Frames in one file or one series of files."""

    kind: str
    """`spec` of a Resource, or `mimetype` of a StreamResource."""
    path: Path
    """The file, or the beginning of the names of a series, here."""
    access: FileAccess = field(default_factory=FileAccess)
    """Whether it may be opened."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    first: int = 0
    """First point of the run."""
    last: int = 1
    """The point after the last one."""
    frames_per_point: int = 1

    @property
    def name(self) -> str:
        """The path as the documents name it, for messages."""
        return self.access.named(self.path)


Reader: TypeAlias = Callable[[Asset], Any]


def read_asset(asset: Asset) -> Iterator[Frame]:
    """Yield the frames that an asset refers to, one by one, (rows, columns) each.

    A DocumentError is raised if the file or a frame does not exist (yet), it cannot be read, or it is of an
    unknown kind.
    """
    with reading(asset, "images", _READERS) as reader:
        yield from reader(asset)


@contextmanager
def reading(asset: Asset, what: str, readers: Mapping[str, Reader]) -> Iterator[Reader]:
    """Give the reader for the kind of an asset, and raise what it raises as a DocumentError."""
    if asset.kind not in readers:
        raise DocumentError(
            f"expected {what} in files of the kinds {', '.join(sorted(readers))}, found {asset.kind!r}: "
            "send the arrays in the events, or fetch the run from Tiled"
        )
    try:
        yield readers[asset.kind]
    except DocumentError:
        raise
    except FileNotFoundError as error:
        raise MissingDataError(
            f"expected the file {shown(error.filename or asset.name)} with {what}, found none: mount its "
            "folder on this machine, or name where it is in root_map"
        ) from None
    except UNREADABLE as error:
        # Messages of readers repeat what is in the file.
        raise FileFormatError(
            f"expected {what} in {asset.name} ({shown(asset.kind)}), found what cannot be read "
            f"({type(error).__name__}); check that it was written to its end"
        ) from None


def asset_of_datum(resource: Mapping[str, Any], datum: Mapping[str, Any], access: FileAccess) -> Asset:
    """Return the asset that a Datum refers to.

    A DocumentError is raised if the documents do not give the path of the file.
    """
    parameters, which = resource.get("resource_kwargs") or {}, datum.get("datum_kwargs") or {}
    spec, name = resource.get("spec"), resource.get("resource_path")
    if not isinstance(spec, str) or not isinstance(name, str) or not isinstance(parameters, Mapping):
        raise DocumentError("expected spec, resource_path and resource_kwargs in a resource, found not all")
    point = which.get("point_number", which.get("index", 0)) if isinstance(which, Mapping) else None
    per_point = parameters.get("frame_per_point", 1)
    if not _is_count(point) or not _is_count(per_point):
        raise DocumentError(f"expected the number of a point in a datum, found {point!r}")
    root = resource.get("root")
    path = PurePosixPath(root if isinstance(root, str) else "") / name
    return Asset(
        kind=spec,
        path=access.local(str(path)),
        access=access,
        parameters=parameters,
        first=point,
        last=point + 1,
        frames_per_point=_checked_frames(per_point),
    )


def asset_of_stream_datum(
    resource: Mapping[str, Any],
    datum: Mapping[str, Any],
    shape: tuple[int, ...],
    access: FileAccess,
) -> Asset:
    """Return the asset that a StreamDatum refers to.

    `shape` is that of one point in the descriptor; the first of three numbers counts the frames per point. A
    DocumentError is raised if the documents do not give the path of a file.
    """
    mimetype, uri, indices = resource.get("mimetype"), resource.get("uri"), datum.get("indices")
    parameters = resource.get("parameters") or {}
    if not isinstance(mimetype, str) or not isinstance(uri, str) or not isinstance(parameters, Mapping):
        raise DocumentError("expected mimetype, uri and parameters in a stream resource, found not all")
    if not isinstance(indices, Mapping):
        raise DocumentError("expected indices in a stream datum, found none")
    first, last = indices.get("start"), indices.get("stop")
    if not _is_count(first) or not _is_count(last) or last < first:
        raise DocumentError(
            f"expected indices from start to stop in a stream datum, found {first!r}, {last!r}"
        )
    return Asset(
        kind=mimetype,
        path=access.local_of_address(uri),
        access=access,
        parameters=parameters,
        first=first,
        last=last,
        frames_per_point=_checked_frames(shape[0] if len(shape) == 3 else 1),
    )


def _checked_frames(count: int) -> int:
    if count > MAXIMUM_FRAMES:
        raise refused(f"expected at most {MAXIMUM_FRAMES} frames per point, found {count}")
    return max(count, 1)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def dataset_name(asset: Asset) -> str:
    """Return the name of the dataset in the HDF5 file of an asset."""
    name = asset.parameters.get("dataset", asset.parameters.get("path", AREA_DETECTOR_DATASET))
    return name if isinstance(name, str) else "/".join(name)


def _hdf5(asset: Asset) -> Iterator[Frame]:
    swmr = bool(asset.parameters.get("swmr", False))
    with open_dataset(asset.path, asset.access, dataset_name(asset), swmr=swmr) as frames:
        first, last = asset.first * asset.frames_per_point, asset.last * asset.frames_per_point
        if frames.ndim == 4:
            # One row per point, with its frames inside.
            first, last = asset.first, asset.last
        if frames.ndim not in (2, 3, 4) or (frames.ndim > 2 and len(frames) < last):
            raise MissingDataError(
                f"expected {last} frames in {asset.name}, found the shape {frames.shape}: "
                "the file was not written to its end"
            )
        require_decoded(frames.shape[frames.ndim > 2 :], frames.dtype.itemsize, asset.name)
        for index in range(first, last) if frames.ndim > 2 else (...,):
            yield from _frames_of(frames[index])


def _frames_of(array: Any) -> Iterator[Frame]:
    """Yield the frames of an array of one frame, or of several along leading axes."""
    image = np.asarray(array)
    if image.ndim < 2:
        raise FileFormatError(f"expected an image of rows and columns, found the shape {image.shape}")
    yield from image.reshape(-1, *image.shape[-2:])


def _tiff_of_points(asset: Asset) -> Iterator[Frame]:
    """Read TIFF files of areaDetector: a folder, a template of three parts, and one file per frame."""
    template, name = asset.parameters.get("template", "%s%s_%6.6d.tiff"), asset.parameters.get("filename", "")
    if not isinstance(template, str) or not isinstance(name, str):
        raise FileFormatError(f"expected a template and a filename as texts for {asset.name}, found others")
    _require_template(template, name, _OLD_STYLE.fullmatch(template[:LONGEST_TEMPLATE]) is not None)
    for number in _numbers(asset, asset.frames_per_point):
        yield from _tiff(asset, Path(template % (f"{asset.path}/", name, number)))


def _tiff_of_stream(asset: Asset) -> Iterator[Frame]:
    chunk = asset.parameters.get("chunk_shape") or (1,)
    template, name = str(asset.parameters["template"]), str(asset.parameters.get("filename", ""))
    _require_template(template, name, _OLD_STYLE.fullmatch(template[:LONGEST_TEMPLATE]) is not None)
    template = _new_style(template, name)
    _require_template(template, name, _is_new_style(template))
    stacked = asset.parameters.get("join_method") == "stack"
    files_per_point = 1 if stacked else max(asset.frames_per_point // max(int(chunk[0]), 1), 1)
    for number in _numbers(asset, files_per_point):
        yield from _tiff(asset, asset.path / template.format(number).lstrip("/"))


def _numbers(asset: Asset, files_per_point: int) -> range:
    return range(asset.first * files_per_point, asset.last * files_per_point)


def _require_template(template: str, filename: str, is_known: bool) -> None:
    """Refuse a template that could make a name of any length, or leave the folder."""
    parts = {*PurePosixPath(template).parts, *PurePosixPath(filename).parts}
    if not is_known or ".." in parts or len(template) + len(filename) > LONGEST_TEMPLATE:
        raise refused(
            f"expected a template of names of files such as '%s%s_%6.6d.tiff' or '{{:06d}}.tiff', of at most "
            f"{LONGEST_TEMPLATE} characters and without '..', found {shown(template)!r}, {shown(filename)!r}"
        )


def _new_style(template: str, filename: str) -> str:
    """Return a template of either style of Python with the name filled in and the number in braces."""
    named = template.replace("%s", "", 1) if template.count("%s") > 1 else template
    named = named.replace("%s", filename, 1).replace("%s", "")
    return _OLD_STYLE_NUMBER.sub(lambda m: f"{{:0{max(int(m[2] or 0), int(m[3] or 0)) or 1}d}}", named)


def _is_new_style(template: str) -> bool:
    """Return whether every field of a template is the number, in a width of two digits."""
    try:
        fields = list(string.Formatter().parse(template))
    except ValueError:
        return False
    return all(
        name is None
        or (name in {"", "0"} and not conversion and _NEW_STYLE_NUMBER.fullmatch(form or "") is not None)
        for _, name, form, conversion in fields
    )


def _tiff(asset: Asset, path: Path) -> Iterator[Frame]:
    with asset.access.opened(path) as file:
        for page in tiff_pages(file, path, asset.access.named(path)):
            yield from _frames_of(page)


def _npy_of_points(asset: Asset) -> Iterator[Frame]:
    """Read the files of simulated detectors: one array per point."""
    for number in range(asset.first, asset.last):
        path = Path(f"{asset.path}_{number}.npy")
        with asset.access.opened(path) as file:
            yield from _frames_of(read_npy(file, size_of(file), asset.access.named(path)))


_READERS: Mapping[str, Reader] = {
    "AD_TIFF": _tiff_of_points,
    "AD_HDF5": _hdf5,
    "AD_HDF5_SWMR": _hdf5,
    "NPY_SEQ": _npy_of_points,
    "application/x-hdf5": _hdf5,
    "multipart/related;type=image/tiff": _tiff_of_stream,
}
