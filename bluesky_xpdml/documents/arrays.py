"""Tables in single events: a continuous scan writes a whole sweep, or a buffer of it, into one event.

Only keys that the profile names are kept, as columns of numbers up to a limit.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from bluesky_xpdml.documents.assets import (
    Asset,
    FileReferences,
    Reader,
    asset_of_datum,
    asset_of_stream_datum,
    dataset_name,
    reading,
)
from bluesky_xpdml.documents.columns import float_column
from bluesky_xpdml.documents.hdf5 import open_dataset
from bluesky_xpdml.errors import DocumentError
from bluesky_xpdml.files import LARGEST_DECODED, LARGEST_TEXT_TABLE, FileAccess, require_decoded, require_size
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import Reason, ReasonCode

TICK = 8.0051232e-9
"""Of the clock in the analog boxes [s]."""
ANALOG_FIELDS = ("timestamp", "i0", "it", "ir", "iff", "aux1", "aux2", "aux3", "aux4")
ENCODER_FIELDS = ("ts_s", "ts_ns", "encoder", "index", "state")


def read_table(asset: Asset) -> dict[str, FloatArray]:
    """Return the table that an asset refers to, as columns of numbers by name.

    A DocumentError is raised if the file does not exist, cannot be read, or is of an unknown kind.
    """
    with reading(asset, "tables", _READERS) as reader:
        table: dict[str, FloatArray] = reader(asset)
    return table


def _analog(asset: Asset) -> dict[str, FloatArray]:
    rows = _integers(asset, 10)
    time = rows[:, 8] + rows[:, 9] * TICK
    return dict(zip(ANALOG_FIELDS, (time, *rows[:, :8].T), strict=True))


def _trigger(asset: Asset) -> dict[str, FloatArray]:
    rows = _integers(asset, 3)
    return {"timestamp": rows[:, 1] + rows[:, 2] * TICK, "transition": rows[:, 0]}


def _integers(asset: Asset, n_columns: int) -> FloatArray:
    with asset.access.opened(asset.path) as file:
        # Each number takes twice the space once it is a float.
        size = require_size(file, LARGEST_DECODED // 2, asset.name)
        numbers = np.frombuffer(file.read(size - size % 4), dtype="<i4")
    # A file that is still being written ends within a row.
    whole = numbers.size - numbers.size % n_columns
    return numbers[:whole].reshape(-1, n_columns).astype(np.float64)


def _encoder(asset: Asset) -> dict[str, FloatArray]:
    with asset.access.opened(asset.path) as file:
        require_size(file, LARGEST_TEXT_TABLE, asset.name)
        rows = np.loadtxt(file, ndmin=2, usecols=range(len(ENCODER_FIELDS)))
    return dict(zip(ENCODER_FIELDS, np.asarray(rows.T, dtype=np.float64), strict=True))


def _hdf5(asset: Asset) -> dict[str, FloatArray]:
    with open_dataset(asset.path, asset.access, dataset_name(asset)) as dataset:
        n_rows = max(min(asset.last, len(dataset)) - asset.first, 0)
        # Every number becomes a float.
        require_decoded((n_rows, *dataset.shape[1:]), max(dataset.dtype.itemsize, 8), asset.name)
        rows = np.asarray(dataset[asset.first : asset.last])
    if rows.dtype.names is not None:
        return {field: float_column(rows[field].reshape(-1), field) for field in rows.dtype.names}
    if rows.ndim == 1:
        return {"": float_column(rows, asset.path.name)}
    flat = rows.reshape(-1, rows.shape[-1])
    return {str(i): float_column(flat[:, i], str(i)) for i in range(flat.shape[1])}


_READERS: Mapping[str, Reader] = {
    "APB": _analog,
    "APB_TRIGGER": _trigger,
    "PIZZABOX_ENC_FILE_TXT": _encoder,
    "PIZZABOX_ENC_FILE_TXT_PD": _encoder,
    "AD_HDF5": _hdf5,
    "application/x-hdf5": _hdf5,
}


Table: TypeAlias = Mapping[str, FloatArray]
"""Columns by name, (n,) each; by number from `0` if the data name none; one called `` for a plain list."""

MAXIMUM_VALUES = 50_000_000
"""Further numbers of a run are not kept: 400 MB."""
MAXIMUM_COLUMNS = 64
"""Wider tables are images or spectra."""
WHOLE_ARRAY = ""
"""Name of the one column of a plain list of numbers."""


def table_of(value: object) -> Table:
    """Return the columns of a structured array, rows or a list of numbers, a mapping, or a data frame.

    The columns of plain rows are named by their numbers. A DocumentError is raised for anything else.
    """
    if hasattr(value, "to_records"):
        value = value.to_records(index=False)
    if isinstance(value, Mapping):
        columns = {str(name): float_column(np.atleast_1d(each), str(name)) for name, each in value.items()}
    else:
        columns = _columns(_as_array(value))
    if len({values.size for values in columns.values()}) != 1:
        raise DocumentError("expected a table with columns of one length, found several, or none")
    return columns


def joined(tables: Iterable[Table]) -> Table:
    """Return tables one below the other, with the columns that all of them hold."""
    parts = list(tables)
    if len(parts) == 1:
        return parts[0]
    names = [name for name in (parts[0] if parts else {}) if all(name in part for part in parts)]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


class ArrayCollector:
    """Reads the tables of one run, from its events and from the files that they name."""

    def __init__(self, references: FileReferences, access: FileAccess) -> None:
        self._references = references
        self._access = access
        self._n_values = 0
        self._read: dict[str, Table] = {}
        self._stream_assets: dict[tuple[str, str], dict[tuple[int, int], Asset]] = {}
        self.faults: Counter[str] = Counter()

    def tables(self, keys: Iterable[str], data: Mapping[str, Any]) -> dict[str, Table | str]:
        """Return the tables under the keys of one event, or the identifiers of those that are in files."""
        found: dict[str, Table | str] = {}
        for key in keys:
            value = data.get(key)
            if isinstance(value, str):
                found[key] = value
            elif value is not None and not isinstance(value, bool | int | float | np.number):
                table = self._kept(value, key)
                if table is not None:
                    found[key] = table
        return found

    def take_stream_datum(self, stream: str, keys: Iterable[str], doc: Mapping[str, Any]) -> None:
        """Keep the reference of a StreamDatum to a file, if its data key is one of the keys."""
        resource = self._references.resource(doc.get("stream_resource"))
        key = resource.get("data_key") if resource is not None else None
        if resource is None or not isinstance(key, str) or key not in keys:
            return
        try:
            asset = asset_of_stream_datum(resource, doc, (), self._access)
        except DocumentError as error:
            self.faults[error.reason] += 1
        else:
            self._stream_assets.setdefault((stream, key), {})[asset.first, asset.last] = asset

    def in_files(self, stream: str) -> dict[str, Table]:
        """Return the tables that the stream data of a stream refer to, by key."""
        found: dict[str, Table] = {}
        for (name, key), assets in self._stream_assets.items():
            parts = [self._from_file(f"{name} {key} {span}", assets[span]) for span in sorted(assets)]
            tables = [table for table in parts if table]
            if name == stream and tables:
                found[key] = joined(tables)
        return found

    def resolved(self, table: Table | str) -> Table | None:
        """Return a table as given, or from the file of its identifier; None if it cannot be read."""
        if not isinstance(table, str):
            return table
        named = self._references.resource_of(table)
        if named is None:
            return None
        if table in self._read:
            return self._read[table]
        try:
            return self._from_file(table, asset_of_datum(*named, self._access))
        except DocumentError as error:
            self.faults[error.reason] += 1
            return None

    def _from_file(self, name: str, asset: Asset) -> Table | None:
        if name not in self._read:
            try:
                table = read_table(asset)
            except DocumentError as error:
                self.faults[error.reason] += 1
                return None
            if not self._fits(table):
                return None
            self._read[name] = table
        return self._read[name]

    def _kept(self, value: object, key: str) -> Table | None:
        try:
            table = table_of(value)
        except (DocumentError, ValueError, TypeError, OverflowError):
            text = f"tables without columns of numbers in {key} were left out"
            self.faults[Reason(text, ReasonCode.INVALID_DOCUMENT)] += 1
            return None
        return table if self._fits(table) else None

    def _fits(self, table: Table) -> bool:
        self._n_values += sum(values.size for values in table.values())
        if self._n_values > MAXIMUM_VALUES:
            self.faults[f"tables beyond {MAXIMUM_VALUES} numbers were left out"] += 1
            return False
        return True


def _as_array(value: object) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    if array.dtype.names is None and array.dtype.kind not in "biufO":
        raise DocumentError(f"expected numbers, found the type {array.dtype}")
    return array


def _columns(array: np.ndarray[Any, Any]) -> dict[str, FloatArray]:
    if array.dtype.names is not None:
        flat = array.reshape(-1)
        return {name: float_column(flat[name], name) for name in array.dtype.names}
    array = array[0] if array.ndim == 3 and len(array) == 1 else array
    if array.ndim == 2 and array.shape[1] <= MAXIMUM_COLUMNS:
        return {str(i): float_column(array[:, i], str(i)) for i in range(array.shape[1])}
    return {WHOLE_ARRAY: float_column(np.atleast_1d(array), "a list")}
