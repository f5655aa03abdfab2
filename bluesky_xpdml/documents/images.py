"""Images of a run: added up frame by frame as they arrive, never kept.

Memory holds one sum per stream and data key, however many frames a run has. Files that do not exist when a
document names them, because a detector is still writing, are read again when the run ends.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.documents.assets import (
    Asset,
    FileReferences,
    Frame,
    asset_of_datum,
    asset_of_stream_datum,
    read_asset,
)
from bluesky_xpdml.errors import DocumentError
from bluesky_xpdml.files import FileAccess
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import Reason, ReasonCode

MAXIMUM_PIXELS = 1 << 26
"""No area detector has more: 8192 x 8192."""
LARGEST_COUNTS = 1e30
"""No detector counts higher, and sums of larger numbers would overflow."""
MAXIMUM_POINTS = 100_000
"""Points that one StreamDatum may refer to."""
MAXIMUM_UNREADABLE = 1_000
"""Points of a run that cannot be read, until no more are tried: a document may claim any number of them."""
MINIMUM_FOR_VARIANCE = 8
"""Fewer frames do not give the variance of a pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMean:
    """The average of the frames of one data key in one stream."""

    mean: FloatArray
    """Counts per frame [detector units], (rows, columns)."""
    n_frames: int
    n_points: int = 1
    """Points of the run that the frames belong to: events or indices of a file."""
    variance: FloatArray | None = None
    """Variance of a single frame [detector units squared]; None if frames are few, or it is not needed."""
    bad: NDArray[np.bool_] | None = None
    """True if a pixel was saturated in any frame, negative as the gaps between modules are, or not finite."""


class ImageSum:
    """Sums frames in floating point, with their squares if the variance between frames is needed."""

    def __init__(self, *, with_variance: bool = False) -> None:
        self.n_frames = 0
        self.n_points = 0
        self._with_variance = with_variance
        self._sum: FloatArray | None = None
        self._squares: FloatArray | None = None
        self._bad: NDArray[np.bool_] | None = None

    def add(self, frame: Frame) -> None:
        """Add the counts of one frame, (rows, columns).

        A DocumentError is raised if it is not an image of real numbers, or differs in shape from the first.
        """
        _require_image(frame, None if self._sum is None else self._sum.shape)
        if self._sum is None:
            self._sum = np.zeros(frame.shape)
            self._squares = np.zeros(frame.shape) if self._with_variance else None
        bad = _bad_pixels(frame)
        if bad is not None:
            self._bad = bad if self._bad is None else self._bad | bad
            frame = np.where(bad, 0, frame)
        with np.errstate(over="ignore", invalid="ignore"):
            np.add(self._sum, frame, out=self._sum)
            if self._squares is not None:
                self._squares += np.square(frame, dtype=np.float64)
        self.n_frames += 1

    def mean(self) -> ImageMean:
        """Return the average so far; a DocumentError is raised if there was no frame."""
        if self._sum is None:
            raise DocumentError("expected at least one frame, found none")
        mean = self._sum / self.n_frames
        variance = None
        if self._squares is not None and self.n_frames >= MINIMUM_FOR_VARIANCE:
            spread = self._squares / self.n_frames - mean**2
            variance = np.maximum(spread, 0.0) * self.n_frames / (self.n_frames - 1)
        return ImageMean(
            mean=mean,
            n_frames=self.n_frames,
            n_points=self.n_points,
            variance=variance,
            bad=None if self._bad is None else self._bad.copy(),
        )


class ImageCollector:
    """Sums the images of one run, from events and from files.

    `access` says which files may be opened; `with_variance` whether the variance between frames is needed in
    every stream, as for dark runs.
    """

    def __init__(self, access: FileAccess, *, with_variance: bool = False) -> None:
        self._access = access
        self._with_variance = with_variance
        self._sums: dict[tuple[str, str], ImageSum] = {}
        self.references = FileReferences()
        self._pending: list[_Pending] = []
        self._seen: set[tuple[str, str, int, int]] = set()
        self.faults: Counter[str] = Counter()

    def take_event(self, stream: str, keys: Iterable[str], data: Mapping[str, Any]) -> None:
        """Add the images under the keys of one event, or in the files that it names."""
        for key in keys:
            value = data.get(key)
            if isinstance(value, str):
                self._take_named((stream, key), value)
            elif value is not None:
                self._add_array((stream, key), value)

    def take_stream_datum(
        self, stream: str, shapes: Mapping[str, tuple[int, ...]], doc: Mapping[str, Any]
    ) -> None:
        """Add the images that a StreamDatum refers to; `shapes` is the shape of one point by data key."""
        resource = self.references.resource(doc.get("stream_resource"))
        if resource is None:
            self.faults["stream data without their resource were left out"] += 1
            return
        key = _text(resource.get("data_key"))
        if key not in shapes:
            return
        try:
            asset = asset_of_stream_datum(resource, doc, shapes[key], self._access)
        except DocumentError as error:
            self.faults[error.reason] += 1
            return
        seen = (_text(doc.get("descriptor")), _text(doc.get("stream_resource")), asset.first, asset.last)
        if seen in self._seen:
            self.faults["stream data came twice"] += 1
            return
        self._seen.add(seen)
        if asset.last - asset.first > MAXIMUM_POINTS:
            text = f"stream data of more than {MAXIMUM_POINTS} points were cut"
            self.faults[Reason(text, ReasonCode.FILE_REFUSED)] += 1
        last = min(asset.last, asset.first + MAXIMUM_POINTS)
        self._read_or_postpone(_Pending((stream, key), replace(asset, last=last)))

    def retry(self) -> None:
        """Read again what could not be read before; if it still cannot, it is a fault."""
        pending, self._pending = self._pending, []
        n_unreadable = 0
        for each in pending:
            while each.has_points:
                try:
                    self._add_point(each)
                except DocumentError as error:
                    self.faults[error.reason] += 1
                    each.skip_point()
                    n_unreadable += 1
                if n_unreadable > MAXIMUM_UNREADABLE:
                    text = f"points beyond {MAXIMUM_UNREADABLE} that could not be read were left out"
                    self.faults[Reason(text, ReasonCode.UNREADABLE_FILE)] += 1
                    return

    def images(self) -> dict[str, dict[str, ImageMean]]:
        """Return the averages by stream and data key."""
        found: dict[str, dict[str, ImageMean]] = {}
        for (stream, key), total in self._sums.items():
            if total.n_frames:
                found.setdefault(stream, {})[key] = total.mean()
        return found

    def _take_named(self, target: tuple[str, str], datum_id: str) -> None:
        named = self.references.resource_of(datum_id)
        if named is None:
            self.faults["events name images whose resource or datum did not come"] += 1
            return
        try:
            asset = asset_of_datum(*named, self._access)
        except DocumentError as error:
            self.faults[error.reason] += 1
        else:
            self._read_or_postpone(_Pending(target, asset))

    def _read_or_postpone(self, pending: "_Pending") -> None:
        try:
            while pending.has_points:
                self._add_point(pending)
        except DocumentError:
            # A detector may write its file after the document; the rest is read at the end of the run.
            self._pending.append(pending)

    def _add_point(self, pending: "_Pending") -> None:
        for frame in islice(read_asset(pending.point), pending.n_done, None):
            self._sum(pending.target).add(frame)
            pending.n_done += 1
        self._sum(pending.target).n_points += 1
        pending.skip_point()

    def _add_array(self, target: tuple[str, str], value: object) -> None:
        try:
            for frame in _frames(value, target[1]):
                self._sum(target).add(frame)
            self._sum(target).n_points += 1
        except (DocumentError, ValueError, TypeError, OverflowError) as error:
            self.faults[Reason(f"images were left out: {error}", ReasonCode.INVALID_DOCUMENT)] += 1

    def _sum(self, target: tuple[str, str]) -> ImageSum:
        return self._sums.setdefault(
            target, ImageSum(with_variance=self._with_variance or target[0] == "dark")
        )


@dataclass(slots=True)
class _Pending:
    """Points whose frames, in files, are not added yet."""

    target: tuple[str, str]
    asset: Asset
    n_done: int = 0
    """Frames of the first of these points that were added before its file ended."""

    @property
    def has_points(self) -> bool:
        """Whether any are left."""
        return self.asset.first < self.asset.last

    @property
    def point(self) -> Asset:
        """The first of the points."""
        return replace(self.asset, last=self.asset.first + 1)

    def skip_point(self) -> None:
        """Go on to the next point."""
        self.asset, self.n_done = replace(self.asset, first=self.asset.first + 1), 0


def _frames(value: object, key: str) -> Frame:
    """Return an image, or several, as an array of three dimensions."""
    array = np.asarray(value)
    if array.ndim < 2 or array.dtype.kind not in "biuf":
        raise DocumentError(f"expected an image of numbers in {key}, found {str(value)[:40]!r}")
    return array.reshape(-1, *array.shape[-2:])


def _require_image(frame: Frame, shape: tuple[int, ...] | None) -> None:
    if frame.ndim != 2 or frame.dtype.kind not in "biuf" or not 0 < frame.size <= MAXIMUM_PIXELS:
        raise DocumentError(
            f"expected an image of rows and columns, found the shape {frame.shape} of {frame.dtype}"
        )
    if shape is not None and frame.shape != shape:
        raise DocumentError(f"expected images of {shape} pixels as before, found {frame.shape}")


def _bad_pixels(frame: Frame) -> NDArray[np.bool_] | None:
    """Return the pixels of a frame that are not used; None if all are."""
    bad: NDArray[np.bool_] | None = None
    if np.issubdtype(frame.dtype, np.unsignedinteger):
        full = np.iinfo(frame.dtype.name).max
        bad = np.asarray(frame == full) if frame.max() == full else None
    elif np.issubdtype(frame.dtype, np.signedinteger):
        bad = np.asarray(np.less(frame, 0)) if frame.min().item() < 0 else None
    elif np.issubdtype(frame.dtype, np.floating):
        with np.errstate(invalid="ignore"):
            good = np.less(np.abs(frame), LARGEST_COUNTS)
        bad = None if good.all() else ~good
    return bad


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
