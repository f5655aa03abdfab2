"""A run stored in Tiled, told again as the documents it was made of; the server gives images one by one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bluesky_xpdml.errors import DocumentError, MissingDataError


def fetch_from(runs: Any) -> Callable[[str], Iterator[tuple[str, dict[str, Any]]]]:
    """Return a function that gives the documents of a stored run by its uid.

    What it gives raises a DocumentError where the run is not there or the server is away.

    Parameters
    ----------
    runs
        Tiled container whose keys are uids of runs.
    """

    def fetch(uid: str) -> Iterator[tuple[str, dict[str, Any]]]:
        import httpx
        from tiled.client.utils import ClientError

        try:
            yield from run_documents(find_run(runs, uid), uid)
        except (httpx.HTTPError, ClientError, RuntimeError) as error:
            raise DocumentError(f"the server did not give run {uid}: {str(error)[:200]}") from error

    return fetch


def find_run(runs: Any, uid: str) -> Any:
    """Return a stored run.

    Parameters
    ----------
    runs
        Tiled container whose keys are uids of runs.
    uid
        Start uid.

    Raises
    ------
    MissingDataError
        If it is not there.
    """
    try:
        return runs[uid]
    except (KeyError, ValueError) as error:
        raise MissingDataError(f"no run {uid} in the container; check the uid and the path") from error


def run_documents(run: Any, uid: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Tell a stored run as documents.

    Few servers are configured to export documents, but every one gives its tables and arrays.

    Parameters
    ----------
    run
        The run in Tiled.
    uid
        Start uid, for messages.

    Raises
    ------
    DocumentError
        If it is no Bluesky run, or the server cannot give its documents.
    """
    if not hasattr(run, "documents"):
        raise DocumentError(f"{uid} is no Bluesky run but {type(run).__name__}; check the path")
    streams = {name: run[name] for name in run}
    parts = {name: _parts(stream) for name, stream in streams.items()}
    if all(found is not None for found in parts.values()):
        return _rebuilt(run, streams, {name: found or {} for name, found in parts.items()})
    return _exported(run, uid)


class StoredRow:
    """What one event holds of a stored array, fetched when somebody looks at it.

    Spectra of a detector are the most of a run, and nobody who reads absorption asks for them.

    Parameters
    ----------
    array
        In Tiled; its first axis is the events.
    row
        Which event.

    Examples
    --------
    >>> np.asarray(StoredRow(np.arange(6).reshape(2, 3), 1))
    array([3, 4, 5])
    """

    def __init__(self, array: Any, row: int) -> None:
        self._array = array
        self._row = row

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        """Fetch the row."""
        return np.array(self._array[self._row], dtype=dtype, copy=copy)


def _parts(stream: Any) -> dict[str, Any] | None:
    """Return tables and arrays of a stream; None where it holds anything else, or nothing."""
    if not hasattr(stream, "base"):
        return None
    parts = dict(stream.base.items())
    known = parts and all(hasattr(part, "columns") or hasattr(part, "shape") for part in parts.values())
    return parts if known else None


def _rebuilt(
    run: Any, streams: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Make the documents anew from the metadata, the tables and the arrays of a run."""
    metadata = _plain(run.metadata)
    yield "start", metadata["start"]
    for name, stream in streams.items():
        descriptors = [_plain(descriptor) for descriptor in stream.descriptors]
        for descriptor in descriptors:
            yield "descriptor", descriptor
        uid = descriptors[-1]["uid"]
        arrays = {key: part for key, part in parts[name].items() if key != "internal"}
        table = parts[name]["internal"].read() if "internal" in parts[name] else None
        for page in _pages(table, arrays, uid):
            yield "event_page", page
    if metadata.get("stop"):
        yield "stop", metadata["stop"]


def _pages(table: Any, arrays: Mapping[str, Any], descriptor: str) -> Iterator[dict[str, Any]]:
    """Yield the whole stream as one page, or with images one page an event: never two images at once."""
    rows = len(table) if table is not None else min(len(array) for array in arrays.values())
    page = _page(table, rows, descriptor)
    images = {key: array for key, array in arrays.items() if len(array.shape) > 2}
    for key, array in arrays.items():
        if key not in images:
            wide = len(array.shape) == 2 and array.shape[1] > 1
            page["data"][key] = [StoredRow(array, row) for row in range(rows)] if wide else list(array.read())
            page["timestamps"][key] = page["time"]
    if not images:
        yield page
    for row in range(rows if images else 0):
        one = {key: page[key][row : row + 1] for key in ("uid", "seq_num", "time")}
        data = {key: values[row : row + 1] for key, values in page["data"].items()}
        data |= {key: [_image(array, row, rows)] for key, array in images.items()}
        times = dict.fromkeys(data, one["time"])
        yield {**one, "descriptor": descriptor, "data": data, "timestamps": times, "filled": {}}


def _image(array: Any, row: int, rows: int) -> Any:
    """Return what one event holds of an array whose first axis is the events, or the frames of them all."""
    per_event = max(len(array) // max(rows, 1), 1)
    return array[row] if per_event == 1 else array[row * per_event : (row + 1) * per_event]


def _page(table: Any, rows: int, descriptor: str) -> dict[str, Any]:
    if table is None:
        numbers, times, keys = list(range(1, rows + 1)), [0.0] * rows, []
    else:
        numbers, times = table["seq_num"].tolist(), table["time"].tolist()
        keys = [key for key in table.columns if key not in {"seq_num", "time"} and not key.startswith("ts_")]
    return {
        "uid": [f"{descriptor}-{number}" for number in numbers],
        "descriptor": descriptor,
        "seq_num": numbers,
        "time": times,
        "data": {key: table[key].tolist() for key in keys},
        "timestamps": {
            key: table[f"ts_{key}"].tolist() if f"ts_{key}" in table.columns else times for key in keys
        },
        "filled": {},
    }


def _exported(run: Any, uid: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Let the server tell the documents, which it can where it is configured to."""
    from tiled.client.utils import ClientError

    try:
        documents = list(run.documents())
    except (ClientError, ValueError) as error:
        raise DocumentError(
            f"the server cannot give the documents of run {uid} ({error}); its configuration needs the "
            "exporter bluesky_tiled_plugins.exporters:json_seq_exporter (BlueskyRun, application/json-seq)"
        ) from error
    for name, document in documents:
        # A run that has not stopped is exported with an empty stop document.
        if document:
            yield name, _plain(document)


def _plain(document: Any) -> Any:
    """Return a document as dictionaries and lists; the client gives views of them."""
    if isinstance(document, Mapping):
        return {key: _plain(value) for key, value in document.items()}
    if isinstance(document, Sequence) and not isinstance(document, str | bytes):
        return [_plain(value) for value in document]
    return document
