"""How the streams of a run are stored in Tiled: one table per stream, one row per point of its curves.

A curve of n points becomes n rows of numbers. That takes two requests per stream, however many curves it has,
where an array per curve takes two for each, and every Bluesky client reads the columns as arrays of floats
(lists in one row are read back as text). Curves of one stream that differ in length, as those over q and r
do, are padded with NaN at the end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from bluesky_xpdml.records import FloatArray

Document: TypeAlias = dict[str, Any]
NamedDocument: TypeAlias = tuple[str, Document]

TABLE = "internal"
"""Node of a stream that holds its rows, as Bluesky's clients expect it."""
_NOT_STORED = ("name", "object_keys", "run_start")
"""Entries of a descriptor that follow from where it is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTable:
    """One stream as it is stored."""

    name: str
    metadata: Document
    """Its descriptor."""
    table: Any
    """`pyarrow.Table` with `seq_num`, `time`, the columns, and `ts_` columns for their timestamps."""


def stream_tables(documents: Sequence[NamedDocument]) -> list[StreamTable]:
    """Return the streams of a run in the order of their descriptors."""
    descriptors = [document for name, document in documents if name == "descriptor"]
    events = [document for name, document in documents if name == "event"]
    return [
        StreamTable(
            name=each["name"],
            metadata=stored_descriptor(each),
            table=rows(each["data_keys"], [event for event in events if event["descriptor"] == each["uid"]]),
        )
        for each in descriptors
    ]


def stored_descriptor(descriptor: Mapping[str, Any]) -> Document:
    """Return a descriptor as the metadata of its stream: each column holds one number per row."""
    entries = {key: value for key, value in descriptor.items() if key not in _NOT_STORED}
    keys = {name: {**key, "dtype": "number", "shape": []} for name, key in descriptor["data_keys"].items()}
    return entries | {"data_keys": keys}


def rows(columns: Sequence[str] | Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> Any:
    """Return events as a `pyarrow.Table`, in the order of the columns; without events its schema only."""
    import pyarrow as pa

    lengths = [_length(event, columns) for event in events]
    numbers = [event["seq_num"] for event in events]
    if any(length > 1 for length in lengths):
        numbers = list(range(1, sum(lengths) + 1))
    times = [np.full(n, float(event["time"])) for event, n in zip(events, lengths, strict=True)]
    table = {"seq_num": np.array(numbers, dtype=np.int64), "time": _joined(times)}
    for name in columns:
        table[name] = _joined(
            [_padded(event["data"][name], n) for event, n in zip(events, lengths, strict=True)]
        )
    for name in columns:
        stamps = [event["timestamps"][name] for event in events]
        table[f"ts_{name}"] = _joined([np.full(n, float(at)) for at, n in zip(stamps, lengths, strict=True)])
    return pa.table(table)


def merged_rows(before: Any, more: Any) -> Any:
    """Return the rows of two tables; those of the second replace rows of the first with their `seq_num`."""
    import pyarrow as pa
    from pyarrow import compute

    again = compute.is_in(before["seq_num"], value_set=more["seq_num"])
    return pa.concat_tables([before.filter(compute.invert(again)).select(more.column_names), more])


def _length(event: Mapping[str, Any], columns: Sequence[str] | Mapping[str, Any]) -> int:
    return max((np.size(event["data"][name]) for name in columns), default=1)


def _padded(values: Any, length: int) -> FloatArray:
    column = np.atleast_1d(np.asarray(values, dtype=np.float64))
    return np.concatenate([column, np.full(length - column.size, np.nan)])


def _joined(parts: Sequence[FloatArray]) -> FloatArray:
    return np.concatenate(parts) if parts else np.empty(0)


def stored_stop(stop: Document, streams: Sequence[StreamTable]) -> Document:
    """Return a stop document with the number of rows of each stream."""
    return stop | {"num_events": {each.name: each.table.num_rows for each in streams}}
