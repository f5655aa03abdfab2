"""One run's documents, as they come, become one `CollectedRun`.

Nothing that a document holds makes the collector raise: what is duplicated, out of order or malformed is
tolerated where the meaning is clear, left out where it is not, and counted either way.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bluesky_xpdml.documents.arrays import ArrayCollector, Table, joined
from bluesky_xpdml.documents.images import ImageCollector
from bluesky_xpdml.documents.profile_keys import matching
from bluesky_xpdml.documents.run import CollectedRun, Stream


def fault_of_page(page: Mapping[str, Any]) -> str:
    """Return why a page cannot be split into events; an empty string where it can."""
    data, seq_nums = page.get("data"), page.get("seq_num")
    if not isinstance(data, Mapping) or not _is_list(seq_nums):
        return "malformed event pages were left out"
    columns = [seq_nums, *data.values(), *(page[key] for key in ("time", "uid") if page.get(key) is not None)]
    if not all(map(_is_list, columns)) or len({len(values) for values in columns}) != 1:
        return "event pages with rows of unequal length were left out"
    return ""


def events_of(page: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events that a page holds; `fault_of_page` must have found none."""
    one_a_row = {key: page[key] for key in ("seq_num", "uid", "time") if page.get(key) is not None}
    for i in range(len(page["seq_num"])):
        yield {
            "descriptor": page.get("descriptor"),
            "data": {key: values[i] for key, values in page["data"].items()},
            **{key: values[i] for key, values in one_a_row.items()},
        }


def fitting(patterns: tuple[str, ...], keys: Iterable[object]) -> tuple[str, ...]:
    """Return the keys that any of the patterns fits."""
    texts = [key for key in keys if isinstance(key, str)]
    return tuple(dict.fromkeys(key for pattern in patterns for key in matching((pattern,), texts, "")))


def configured(descriptor: Mapping[str, Any]) -> dict[str, object]:
    """Return the configuration of the devices, single values by key."""
    found: dict[str, object] = {}
    devices = descriptor.get("configuration")
    for device in devices.values() if isinstance(devices, Mapping) else ():
        data = device.get("data") if isinstance(device, Mapping) else None
        found |= single_values(data) if isinstance(data, Mapping) else {}
    return found


def is_table(data_keys: object) -> bool:
    """Return whether the data keys of a descriptor are a mapping of mappings."""
    return isinstance(data_keys, Mapping) and all(isinstance(value, Mapping) for value in data_keys.values())


def shape(data_key: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the shape that a descriptor gives for a key, as far as it is whole positive numbers."""
    shape = data_key.get("shape")
    sizes = [whole(size) for size in shape] if isinstance(shape, list | tuple) else []
    return tuple(size for size in sizes if size is not None and size > 0)


def _is_list(values: object) -> bool:
    return isinstance(values, list | tuple) or (isinstance(values, np.ndarray) and values.ndim > 0)


def whole(number: object) -> int | None:
    """Return a whole number; None where it is none."""
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        return None
    return int(number)


def text(value: object) -> str:
    """Return a text; empty where it is none."""
    return value if isinstance(value, str) else ""


def time(value: object) -> float:
    """Return a time [s]; 0 where it is none."""
    return float(value) if isinstance(value, int | float) and -1e15 < value < 1e15 else 0.0


def single_values(data: Mapping[Any, object]) -> dict[str, object]:
    """Return the values that are single numbers or strings: images and spectra would only fill the memory."""
    plain: dict[str, object] = {}
    for key, value in data.items():
        single = _unwrapped(value)
        if isinstance(key, str) and isinstance(single, int | float | np.number | str | type(None)):
            plain[key] = single
    return plain


def _unwrapped(value: object) -> object:
    """Return the one value of an array of size one, as some detectors give their counts."""
    single = value
    while isinstance(single, list | tuple) and len(single) == 1:
        single = single[0]
    if isinstance(single, np.ndarray) and single.size == 1:
        return single.item()
    return single


def hinted_fields(descriptor: Mapping[str, Any]) -> Iterator[str]:
    """Yield the data keys that the devices of a descriptor hint at."""
    hints = descriptor.get("hints")
    for device in hints.values() if isinstance(hints, Mapping) else ():
        fields = device.get("fields") if isinstance(device, Mapping) else None
        for field in fields if isinstance(fields, list | tuple) else ():
            if isinstance(field, str):
                yield field


MAXIMUM_EVENTS = 200_000
"""More events than this in one run are not kept; no step-scanned spectrum comes near it."""


@dataclass(frozen=True, slots=True)
class _Row:
    uid: str
    time: float
    data: Mapping[str, object]
    tables: Mapping[str, Table | str]


class RunCollector:
    """Collects the documents of one run.

    Parameters
    ----------
    start
        The start document.
    image_keys
        Patterns of data keys whose images are added up; all others are passed over.
    images
        What adds them up; None for what an ordinary run needs.
    array_keys
        Patterns of data keys whose arrays are kept as tables; all others are passed over.
    root_map
        Folder here by folder there, for the files of those arrays.

    Examples
    --------
    >>> collector = RunCollector({"uid": "a", "time": 0.0})
    >>> collector.feed("descriptor", {"uid": "d", "name": "primary", "data_keys": {"i0": {}}})
    >>> event = {"uid": "e", "descriptor": "d", "seq_num": 1, "time": 0.0, "data": {"i0": 3.0}}
    >>> collector.feed("event", event)
    >>> collector.feed("event", event)
    >>> run = collector.finish()
    >>> run.streams["primary"].column("i0"), dict(run.anomalies)
    (array([3.]), {'events came twice': 1, 'no stop document came': 1})
    """

    def __init__(
        self,
        start: Mapping[str, object],
        *,
        image_keys: tuple[str, ...] = (),
        images: ImageCollector | None = None,
        array_keys: tuple[str, ...] = (),
        root_map: Mapping[str, str] | None = None,
    ) -> None:
        self.start = start
        self._array_patterns = array_keys
        self._array_keys: dict[str, tuple[str, ...]] = {}
        self._image_patterns = image_keys
        self._images = images or ImageCollector()
        self._arrays = ArrayCollector(self._images.references, root_map)
        self._image_keys: dict[str, tuple[str, ...]] = {}
        self.uid = str(start.get("uid", ""))
        self.n_events = 0
        self._stop: Mapping[str, object] | None = None
        self._descriptors: dict[str, Mapping[str, Any]] = {}
        self._rows: dict[str, dict[int, _Row]] = {}
        self._last_seq_num: dict[str, int] = {}
        self._anomalies: Counter[str] = Counter()

    def feed(self, name: str, doc: object) -> None:
        """Take one document of the run; documents that a table of numbers does not need are passed over.

        Parameters
        ----------
        name
            `descriptor`, `event`, `event_page`, `stop` or any other document name.
        doc
            The document.
        """
        if not isinstance(doc, Mapping):
            self._anomalies[f"{name} documents were not mappings"] += 1
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

    def finish(self, given_up: str = "") -> CollectedRun:
        """Return what was collected; the collector can go on and be asked again.

        Parameters
        ----------
        given_up
            Why the run is given up before its stop; empty where it came to its end.
        """
        self._images.retry()
        return self._collected(given_up, with_files=True)

    def snapshot(self) -> CollectedRun:
        """Return what was collected up to now of a run that goes on."""
        return self._collected("the run goes on", with_files=False)

    def _collected(self, given_up: str, *, with_files: bool) -> CollectedRun:
        anomalies = Counter(self._anomalies)
        by_stream: dict[str, list[str]] = {}
        for uid, rows in self._rows.items():
            descriptor = self._descriptors.get(uid)
            if descriptor is None:
                anomalies["events without their descriptor were left out"] += len(rows)
        for uid, descriptor in self._descriptors.items():
            by_stream.setdefault(descriptor["name"], []).append(uid)
        if self._stop is None and not given_up:
            anomalies["no stop document came"] += 1
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
        )

    def _take_descriptor(self, doc: Mapping[str, Any]) -> None:
        uid, name, data_keys = doc.get("uid"), doc.get("name", "primary"), doc.get("data_keys")
        if not isinstance(uid, str) or not isinstance(name, str) or not is_table(data_keys):
            self._anomalies["malformed descriptors were left out"] += 1
        elif uid in self._descriptors:
            self._anomalies["descriptors came twice"] += 1
        else:
            self._descriptors[uid] = {**doc, "name": name}
            keys = [key for key in doc["data_keys"] if isinstance(key, str)]
            self._image_keys[uid] = fitting(self._image_patterns, keys)
            self._array_keys[uid] = fitting(self._array_patterns, keys)

    def _take_stop(self, doc: Mapping[str, Any]) -> None:
        if self._stop is not None:
            self._anomalies["stop documents came twice"] += 1
        else:
            self._stop = doc

    def _take_page(self, page: Mapping[str, Any]) -> None:
        reason = fault_of_page(page)
        if reason:
            self._anomalies[reason] += 1
            return
        for event in events_of(page):
            self._take_event(event)

    def _take_event(self, doc: Mapping[str, Any]) -> None:
        descriptor, seq_num, data = doc.get("descriptor"), whole(doc.get("seq_num")), doc.get("data")
        if not isinstance(descriptor, str) or seq_num is None or not isinstance(data, Mapping):
            self._anomalies["malformed events were left out"] += 1
        elif self.n_events >= MAXIMUM_EVENTS:
            self._anomalies[f"events beyond {MAXIMUM_EVENTS} were left out"] += 1
        else:
            known = self._descriptors.get(descriptor)
            wanted = self._array_keys.get(descriptor) or fitting(self._array_patterns, data)
            tables = self._arrays.tables(wanted, data)
            row = _Row(text(doc.get("uid")), time(doc.get("time")), single_values(data), tables)
            if self._keep(descriptor, seq_num, row) and known is not None:
                self._images.take_event(known["name"], self._image_keys[descriptor], data)

    def _take_files(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take a document of external files; any other is passed over."""
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
        shapes = {key: shape(known["data_keys"][key]) for key in self._image_keys[known["uid"]]}
        if shapes:
            self._images.take_stream_datum(known["name"], shapes, doc)

    def _wants_files(self) -> bool:
        return bool(self._image_patterns or self._array_patterns)

    def _keep(self, descriptor: str, seq_num: int, row: _Row) -> bool:
        """Keep a row, and return whether it is a measurement that was not there before."""
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
        # A plan that is resumed after a pause measures again from its last checkpoint, under the same
        # sequence numbers: the later measurement counts. Images of both are good frames, and are averaged.
        self._anomalies["points were measured again, the later measurement was taken"] += 1
        if row.time >= earlier.time:
            rows[seq_num] = row
        return True

    def _stream(self, name: str, uids: list[str], *, with_files: bool) -> Stream:
        """Merge the descriptors of one stream, of which there are several where a configuration changed."""
        rows: dict[int, _Row] = {}
        data_keys: dict[str, Mapping[str, object]] = {}
        hints: dict[str, None] = {}
        configuration: dict[str, object] = {}
        for uid in uids:
            rows |= self._rows.get(uid, {})
            data_keys |= self._descriptors[uid]["data_keys"]
            hints |= dict.fromkeys(hinted_fields(self._descriptors[uid]))
            configuration |= configured(self._descriptors[uid])
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
        """Return the tables of a stream, one below the other; of a run that goes on, none in files."""
        tables = self._arrays.in_files(stream) if with_files else {}
        for key in sorted({key for row in rows for key in row.tables}):
            said = [row.tables[key] for row in rows if key in row.tables]
            found = [
                self._arrays.resolved(table) for table in said if with_files or not isinstance(table, str)
            ]
            parts = [table for table in found if table is not None]
            if parts:
                tables[key] = joined(parts)
        return tables

    def _missing_events(self, streams: Mapping[str, Stream]) -> dict[str, int]:
        promised = self._stop.get("num_events") if self._stop is not None else None
        missing = 0
        if isinstance(promised, Mapping):
            for name, number in promised.items():
                have = streams[name].n_events if name in streams else 0
                missing += max((whole(number) or 0) - have, 0)
        return {"events that the stop document counts did not come": missing} if missing else {}
