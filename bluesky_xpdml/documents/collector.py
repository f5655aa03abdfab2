"""Collects the documents of one run into a `CollectedRun`.

Nothing that a document holds makes the collector raise. Duplicates, documents out of order and malformed
documents are tolerated if their meaning is clear, else left out, and counted either way.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bluesky_xpdml.documents.arrays import ArrayCollector, Table, joined
from bluesky_xpdml.documents.images import ImageCollector
from bluesky_xpdml.documents.profile import Profile, matching, resolve_profile
from bluesky_xpdml.documents.run import CollectedRun, Stream
from bluesky_xpdml.documents.start import claims_absorption, claims_scattering, is_dark
from bluesky_xpdml.errors import MissingDataError
from bluesky_xpdml.files import FileAccess
from bluesky_xpdml.vocabulary import Reason, ReasonCode

RUNNING = Reason("the run is still running", ReasonCode.INCOMPLETE)
"""Why a snapshot of a run has no stop document."""
MAXIMUM_EVENTS = 200_000
"""Further events of a run are left out; no step-scanned spectrum comes near it."""


def collector_for(
    start: Mapping[str, object],
    *,
    profile: Profile | str = "auto",
    root_map: Mapping[str, str] | None = None,
    anywhere: bool = True,
    dark_frames: bool = False,
) -> "RunCollector":
    """Return a collector that keeps what the analysis of a run needs: images, tables, single values.

    Images of absorption runs, and images under other names than the profile's, are not read.

    Parameters
    ----------
    start
        The start document.
    profile
        Convention that the run follows, its name, the path of its file, or `auto` to detect it.
    root_map
        Local folder by remote folder. If there are any, only files in these local folders are opened.
    anywhere
        Whether the documents may name any file of this computer if there is no `root_map`; False for those
        that came over a network.
    dark_frames
        Whether the run holds dark frames, even if it does not state so.

    Raises
    ------
    MissingDataError, FileFormatError
        As for `load_profile`.

    Examples
    --------
    >>> collector_for({"uid": "a", "plan_name": "count"}).uid
    'a'
    """
    profile = resolve_profile(profile, start)
    arrays = _array_keys(profile)
    access = FileAccess(root_map=root_map or {}, anywhere=anywhere)
    is_image = dark_frames or claims_scattering(start, profile) or not claims_absorption(start, profile)
    if not is_image:
        return RunCollector(start, array_keys=arrays, access=access, profile=profile)
    images = ImageCollector(access, with_variance=dark_frames or is_dark(start, profile))
    return RunCollector(
        start,
        image_keys=(*profile.scattering.image, profile.scattering.mask_key),
        images=images,
        array_keys=arrays,
        access=access,
        profile=profile,
    )


def _array_keys(profile: Profile) -> tuple[str, ...]:
    """Return patterns of the data keys whose arrays a profile needs."""
    fly = profile.fly
    triggered = (*fly.triggers.values(), *fly.triggers, *fly.elements)
    return (*fly.analog, *fly.encoder, *triggered) if fly.analog else ()


def collect_run(
    documents: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    profile: Profile | str = "auto",
    root_map: Mapping[str, str] | None = None,
    anywhere: bool = True,
    dark_frames: bool = False,
) -> CollectedRun:
    """Return the run of a sequence of documents, such as `StoredRuns.documents` gives them.

    The options are those of `collector_for`. A MissingDataError is raised if there is no start document.
    """
    collector = None
    for name, document in documents:
        if collector is not None:
            collector.feed(name, document)
        elif name == "start":
            collector = collector_for(
                document, profile=profile, root_map=root_map, anywhere=anywhere, dark_frames=dark_frames
            )
    if collector is None:
        raise MissingDataError("expected a run, found no start document")
    return collector.finish()


@dataclass(frozen=True, slots=True)
class _Row:
    uid: str
    time: float
    data: Mapping[str, object]
    tables: Mapping[str, Table | str]


class RunCollector:
    """Collects the documents of one run.

    Images of data keys that match `image_keys` are averaged by `images`, arrays of `array_keys` are kept as
    tables; all others are ignored. `access` says which files the documents may name; it is handed on with the
    collected run, as the profile is.
    """

    def __init__(
        self,
        start: Mapping[str, object],
        *,
        image_keys: tuple[str, ...] = (),
        images: ImageCollector | None = None,
        array_keys: tuple[str, ...] = (),
        access: FileAccess | None = None,
        profile: Profile | None = None,
    ) -> None:
        self.start = start
        self._profile = profile
        self._access = access or FileAccess()
        self._array_patterns = array_keys
        self._array_keys: dict[str, tuple[str, ...]] = {}
        self._image_patterns = image_keys
        self._images = images or ImageCollector(self._access)
        self._arrays = ArrayCollector(self._images.references, self._access)
        self._image_keys: dict[str, tuple[str, ...]] = {}
        self.uid = str(start.get("uid", ""))
        self.n_events = 0
        self._stop: Mapping[str, object] | None = None
        self._descriptors: dict[str, Mapping[str, Any]] = {}
        self._rows: dict[str, dict[int, _Row]] = {}
        self._last_seq_num: dict[str, int] = {}
        self._anomalies: Counter[str] = Counter()

    def feed(self, name: str, doc: object) -> None:
        """Take one document of the run; documents of other kinds are ignored."""
        if not isinstance(doc, Mapping):
            self._anomalies[_malformed(f"{name} documents were not mappings")] += 1
            return
        match name:
            case "descriptor":
                self._take_descriptor(doc)
            case "event":
                self._take_event(doc)
            case "event_page":
                self._take_page(doc)
            case "stop":
                self._take_stop(doc)
            case "start":
                self._anomalies["start documents came twice"] += 1
            case _:
                self._take_files(name, doc)

    def feed_events(self, documents: deque[Any]) -> None:
        """Take an event of this run, and those that follow it, from the front of a queue."""
        follows = True
        while follows:
            self.feed(*documents.popleft())
            follows = bool(documents) and self._is_own_event(documents[0])

    def _is_own_event(self, item: object) -> bool:
        match item:
            case ("event", {"descriptor": str(descriptor)}):
                return descriptor in self._descriptors
        return False

    def finish(self, given_up: Reason | None = None) -> CollectedRun:
        """Return the run as collected so far; the collector can go on.

        Parameters
        ----------
        given_up
            Why the run is closed before its stop document; empty if it is not.
        """
        self._images.retry()
        return self._collected(given_up, with_files=True)

    def snapshot(self) -> CollectedRun:
        """Return the run so far while it goes on; files are not read."""
        return self._collected(RUNNING, with_files=False)

    def _collected(self, given_up: Reason | None, *, with_files: bool) -> CollectedRun:
        anomalies = Counter(self._anomalies)
        by_stream: dict[str, list[str]] = {}
        for uid, rows in self._rows.items():
            descriptor = self._descriptors.get(uid)
            if descriptor is None:
                anomalies["events without their descriptor were left out"] += len(rows)
        for uid, descriptor in self._descriptors.items():
            by_stream.setdefault(descriptor["name"], []).append(uid)
        if self._stop is None and not given_up:
            anomalies[Reason("no stop document came", ReasonCode.NO_STOP)] += 1
        images = self._images.images()
        streams = {name: self._stream(name, uids, with_files=with_files) for name, uids in by_stream.items()}
        streams = {name: replace(stream, images=images.get(name, {})) for name, stream in streams.items()}
        anomalies.update(self._missing_events(streams))
        anomalies += self._images.faults + self._images.references.faults + self._arrays.faults
        return CollectedRun(
            uid=self.uid,
            start=self.start,
            streams=streams,
            stop=self._stop,
            anomalies=dict(sorted(anomalies.items())),
            given_up=given_up,
            profile=self._profile,
            access=self._access,
        )

    def _take_descriptor(self, doc: Mapping[str, Any]) -> None:
        uid, name, data_keys = doc.get("uid"), doc.get("name", "primary"), doc.get("data_keys")
        if not isinstance(uid, str) or not isinstance(name, str) or not _is_table(data_keys):
            self._anomalies[_malformed("malformed descriptors were left out")] += 1
        elif uid in self._descriptors:
            self._anomalies["descriptors came twice"] += 1
        else:
            self._descriptors[uid] = {**doc, "name": name}
            keys = [key for key in doc["data_keys"] if isinstance(key, str)]
            self._image_keys[uid] = _fitting(self._image_patterns, keys)
            self._array_keys[uid] = _fitting(self._array_patterns, keys)

    def _take_stop(self, doc: Mapping[str, Any]) -> None:
        if self._stop is not None:
            self._anomalies["stop documents came twice"] += 1
        else:
            self._stop = doc

    def _take_page(self, page: Mapping[str, Any]) -> None:
        error = _fault_of_page(page)
        if error:
            self._anomalies[_malformed(error)] += 1
            return
        for event in _events_of(page):
            self._take_event(event)

    def _take_event(self, doc: Mapping[str, Any]) -> None:
        descriptor, seq_num, data = doc.get("descriptor"), _whole(doc.get("seq_num")), doc.get("data")
        if not isinstance(descriptor, str) or seq_num is None or not isinstance(data, Mapping):
            self._anomalies[_malformed("malformed events were left out")] += 1
        elif self.n_events >= MAXIMUM_EVENTS:
            self._anomalies[f"events beyond {MAXIMUM_EVENTS} were left out"] += 1
        else:
            tables: Mapping[str, Table | str] = {}
            if self._array_patterns:
                keys = self._array_keys.get(descriptor) or _fitting(self._array_patterns, data)
                tables = self._arrays.tables(keys, data)
            row = _Row(_text(doc.get("uid")), _time(doc.get("time")), _single_values(data), tables)
            # An event before its descriptor has no image keys yet.
            image_keys = self._image_keys.get(descriptor, ())
            if self._keep(descriptor, seq_num, row) and image_keys:
                self._images.take_event(self._descriptors[descriptor]["name"], image_keys, data)

    def _take_files(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take a document of external files; any other is ignored."""
        if name == "stream_datum":
            self._take_stream_datum(doc)
        elif name in {"resource", "datum", "datum_page", "stream_resource"} and self._wants_files():
            self._images.references.take(name, doc)

    def _take_stream_datum(self, doc: Mapping[str, Any]) -> None:
        uid = doc.get("descriptor")
        known = self._descriptors.get(uid) if isinstance(uid, str) else None
        if known is None:
            self._anomalies["stream data without their descriptor were left out"] += 1
            return
        self._arrays.take_stream_datum(known["name"], self._array_keys[known["uid"]], doc)
        shapes = {key: _shape(known["data_keys"][key]) for key in self._image_keys[known["uid"]]}
        if shapes:
            self._images.take_stream_datum(known["name"], shapes, doc)

    def _wants_files(self) -> bool:
        return bool(self._image_patterns or self._array_patterns)

    def _keep(self, descriptor: str, seq_num: int, row: _Row) -> bool:
        """Keep a row, and return whether it is a new measurement."""
        rows = self._rows.setdefault(descriptor, {})
        if seq_num < self._last_seq_num.get(descriptor, seq_num):
            self._anomalies["events came out of order"] += 1
        self._last_seq_num[descriptor] = seq_num
        earlier = rows.get(seq_num)
        if earlier is None:
            self.n_events += 1
            rows[seq_num] = row
            return True
        if earlier.uid == row.uid:
            self._anomalies["events came twice"] += 1
            return False
        # A plan that is resumed after a pause repeats the points since its last checkpoint under the same
        # sequence numbers: the later measurement counts. Images of both are good frames and are averaged.
        again = "points were measured again, the later measurement was taken"
        self._anomalies[Reason(again, ReasonCode.INTERPRETED_INPUT)] += 1
        if row.time >= earlier.time:
            rows[seq_num] = row
        return True

    def _stream(self, name: str, uids: list[str], *, with_files: bool) -> Stream:
        """Merge the descriptors of one stream; there are several if a configuration changed."""
        rows: dict[int, _Row] = {}
        data_keys: dict[str, Mapping[str, object]] = {}
        hints: dict[str, None] = {}
        configuration: dict[str, object] = {}
        for uid in uids:
            rows |= self._rows.get(uid, {})
            data_keys |= self._descriptors[uid]["data_keys"]
            hints |= dict.fromkeys(_hinted_fields(self._descriptors[uid]))
            configuration |= _configured(self._descriptors[uid])
        ordered = [rows[seq_num] for seq_num in sorted(rows)]
        held = sorted({key for row in ordered for key in row.data})
        return Stream(
            name=name,
            data_keys=data_keys,
            hints=tuple(hints),
            columns={key: tuple(row.data.get(key) for row in ordered) for key in held},
            arrays=self._tables(name, ordered, with_files=with_files),
            configuration=configuration,
            n_events=len(ordered),
        )

    def _tables(self, stream: str, rows: list[_Row], *, with_files: bool) -> dict[str, Table]:
        """Return the tables of a stream, one below the other; those in files only if asked for."""
        tables = self._arrays.in_files(stream) if with_files else {}
        for key in sorted({key for row in rows for key in row.tables}):
            held = [row.tables[key] for row in rows if key in row.tables]
            held = [table for table in held if with_files or not isinstance(table, str)]
            parts = [table for table in map(self._arrays.resolved, held) if table is not None]
            if parts:
                tables[key] = joined(parts)
        return tables

    def _missing_events(self, streams: Mapping[str, Stream]) -> dict[str, int]:
        promised = self._stop.get("num_events") if self._stop is not None else None
        missing = 0
        if isinstance(promised, Mapping):
            for name, number in promised.items():
                have = streams[name].n_events if name in streams else 0
                missing += max((_whole(number) or 0) - have, 0)
        return {"events that the stop document counts did not come": missing} if missing else {}


def _malformed(text: str) -> Reason:
    return Reason(text, ReasonCode.INVALID_DOCUMENT)


def _fault_of_page(page: Mapping[str, Any]) -> str:
    """Return why a page cannot be split into events; empty if it can."""
    data, seq_nums = page.get("data"), page.get("seq_num")
    if not isinstance(data, Mapping) or not _is_list(seq_nums):
        return "malformed event pages were left out"
    columns = [seq_nums, *data.values(), *(page[key] for key in ("time", "uid") if page.get(key) is not None)]
    if not all(map(_is_list, columns)) or len({len(values) for values in columns}) != 1:
        return "event pages with rows of unequal length were left out"
    return ""


def _events_of(page: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events of a page without fault."""
    one_a_row = {key: page[key] for key in ("seq_num", "uid", "time") if page.get(key) is not None}
    for i in range(len(page["seq_num"])):
        yield {
            "descriptor": page.get("descriptor"),
            "data": {key: values[i] for key, values in page["data"].items()},
            **{key: values[i] for key, values in one_a_row.items()},
        }


def _fitting(patterns: tuple[str, ...], keys: Iterable[object]) -> tuple[str, ...]:
    """Return the keys that match any of the patterns."""
    texts = [key for key in keys if isinstance(key, str)]
    return tuple(dict.fromkeys(key for pattern in patterns for key in matching((pattern,), texts)))


def _configured(descriptor: Mapping[str, Any]) -> dict[str, object]:
    """Return the configuration of the devices, single values by key."""
    found: dict[str, object] = {}
    devices = descriptor.get("configuration")
    for device in devices.values() if isinstance(devices, Mapping) else ():
        data = device.get("data") if isinstance(device, Mapping) else None
        found |= _single_values(data) if isinstance(data, Mapping) else {}
    return found


def _is_table(data_keys: object) -> bool:
    """Return whether the data keys of a descriptor are a mapping of mappings."""
    return isinstance(data_keys, Mapping) and all(isinstance(value, Mapping) for value in data_keys.values())


def _shape(data_key: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the shape that a descriptor gives for a key, without sizes that are not positive numbers."""
    sizes = data_key.get("shape")
    whole = [_whole(size) for size in sizes] if isinstance(sizes, list | tuple) else []
    return tuple(size for size in whole if size is not None and size > 0)


def _is_list(values: object) -> bool:
    return isinstance(values, list | tuple) or (isinstance(values, np.ndarray) and values.ndim > 0)


def _whole(number: object) -> int | None:
    """Return a whole number; None for anything else."""
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        return None
    return int(number)


def _text(value: object) -> str:
    """Return a text; empty for anything else."""
    return value if isinstance(value, str) else ""


def _time(value: object) -> float:
    """Return a time [s]; 0 for anything else."""
    return float(value) if isinstance(value, int | float) and -1e15 < value < 1e15 else 0.0


def _single_values(data: Mapping[Any, object]) -> dict[str, object]:
    """Return the values that are single numbers or texts; images and spectra would fill the memory."""
    plain: dict[str, object] = {}
    for key, value in data.items():
        single = _unwrapped(value)
        if isinstance(key, str) and isinstance(single, int | float | np.number | str | type(None)):
            plain[key] = single
    return plain


def _unwrapped(value: object) -> object:
    """Return the value of an array of size one, which some detectors give for a count."""
    single = value
    while isinstance(single, list | tuple) and len(single) == 1:
        single = single[0]
    if isinstance(single, np.ndarray) and single.size == 1:
        return single.item()
    return single


def _hinted_fields(descriptor: Mapping[str, Any]) -> Iterator[str]:
    """Yield the data keys that the hints of a descriptor name."""
    hints = descriptor.get("hints")
    for device in hints.values() if isinstance(hints, Mapping) else ():
        fields = device.get("fields") if isinstance(device, Mapping) else None
        for field in fields if isinstance(fields, list | tuple) else ():
            if isinstance(field, str):
                yield field
