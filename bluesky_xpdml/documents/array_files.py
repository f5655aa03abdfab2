"""Tables in files: what continuous scans leave beside their documents, found by the kind that these name.

==========================  =====================================================================
APB                         rows of ten int32: eight currents [uV], seconds, ticks of 8.0051232 ns
APB_TRIGGER                 rows of three int32: transition, seconds, ticks
PIZZABOX_ENC_FILE_TXT_PD    text: seconds, nanoseconds, encoder [counts], index, state
application/x-hdf5          a data set of rows, of numbers or structured
==========================  =====================================================================
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bluesky_xpdml.documents.assets import AREA_DETECTOR_DATASET, UNREADABLE, Asset
from bluesky_xpdml.documents.columns import float_column
from bluesky_xpdml.errors import DocumentError, FileFormatError, MissingDataError
from bluesky_xpdml.records import FloatArray

TICK = 8.0051232e-9
"""Of the clock in the analog boxes [s]."""
ANALOG_FIELDS = ("timestamp", "i0", "it", "ir", "iff", "aux1", "aux2", "aux3", "aux4")
ENCODER_FIELDS = ("ts_s", "ts_ns", "encoder", "index", "state")


def read_table(asset: Asset) -> dict[str, FloatArray]:
    """Return the table that an asset points at, as columns of numbers by name.

    Parameters
    ----------
    asset
        Which rows of which file.

    Raises
    ------
    MissingDataError
        If the file is not there.
    FileFormatError
        If it cannot be read as what it claims to be.
    DocumentError
        If there is no reader for this kind of file.
    """
    reader = _READERS.get(asset.kind)
    if reader is None:
        raise DocumentError(
            f"expected tables in files of the kinds {', '.join(sorted(_READERS))}, found {asset.kind!r}: "
            "send the arrays in the events, or fetch the run from Tiled"
        )
    try:
        return reader(asset)
    except FileNotFoundError as error:
        raise MissingDataError(
            f"expected the file {error.filename or asset.path}, found none: mount its folder on this "
            "machine, or name where it is in root_map"
        ) from error
    except DocumentError:
        raise
    except UNREADABLE as error:
        raise FileFormatError(
            f"expected a table in {asset.path} ({asset.kind}), found what cannot be read: "
            f"{type(error).__name__}: {str(error)[:120]}"
        ) from error


def _analog(asset: Asset) -> dict[str, FloatArray]:
    rows = _integers(asset, 10)
    time = rows[:, 8] + rows[:, 9] * TICK
    return dict(zip(ANALOG_FIELDS, (time, *rows[:, :8].T), strict=True))


def _trigger(asset: Asset) -> dict[str, FloatArray]:
    rows = _integers(asset, 3)
    return {"timestamp": rows[:, 1] + rows[:, 2] * TICK, "transition": rows[:, 0]}


def _integers(asset: Asset, n_columns: int) -> FloatArray:
    numbers = np.fromfile(asset.path, dtype="<i4")
    # A file that is still being written ends within a row.
    whole = numbers.size - numbers.size % n_columns
    return numbers[:whole].reshape(-1, n_columns).astype(np.float64)


def _encoder(asset: Asset) -> dict[str, FloatArray]:
    rows = np.loadtxt(asset.path, ndmin=2, usecols=range(len(ENCODER_FIELDS)))
    return dict(zip(ENCODER_FIELDS, np.asarray(rows.T, dtype=np.float64), strict=True))


def _hdf5(asset: Asset) -> dict[str, FloatArray]:
    import h5py

    if not asset.path.is_file():
        raise FileNotFoundError(2, "no such file", str(asset.path))
    name = asset.parameters.get("dataset", asset.parameters.get("path", AREA_DETECTOR_DATASET))
    with h5py.File(asset.path, "r", locking=False) as file:
        rows = np.asarray(file[name if isinstance(name, str) else "/".join(name)][asset.first : asset.last])
    if rows.dtype.names is not None:
        return {field: float_column(rows[field].reshape(-1), field) for field in rows.dtype.names}
    if rows.ndim == 1:
        return {"": float_column(rows, asset.path.name)}
    flat = rows.reshape(-1, rows.shape[-1])
    return {str(i): float_column(flat[:, i], str(i)) for i in range(flat.shape[1])}


_READERS: Mapping[str, Callable[[Asset], dict[str, Any]]] = {
    "APB": _analog,
    "APB_TRIGGER": _trigger,
    "PIZZABOX_ENC_FILE_TXT": _encoder,
    "PIZZABOX_ENC_FILE_TXT_PD": _encoder,
    "AD_HDF5": _hdf5,
    "application/x-hdf5": _hdf5,
}
