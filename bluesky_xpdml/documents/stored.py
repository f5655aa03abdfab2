"""Runs stored in Tiled, read back as the documents that they were made of; images are fetched one by one."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from bluesky_xpdml.documents.profile import Profile, look_up_text
from bluesky_xpdml.documents.start import claims_absorption, claims_scattering, is_dark, is_derived
from bluesky_xpdml.errors import DocumentError, MissingDataError, XpdmlError

MOST_CANDIDATES = 200
"""Runs of one sample that are looked at, from the newest."""


@runtime_checkable
class FindsSamples(Protocol):
    """Gives stored runs by their uid, and finds them by the name of their sample."""

    def __call__(self, uid: str, /) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the documents of a run."""

    def uid_of_sample(self, name: str, profile: Profile, *, exclude: Collection[str] = ()) -> str:
        """Return the uid of the newest total-scattering run of a sample."""


class StoredRuns:
    """Raw runs in a Tiled container, by uid or by the name of their sample; closes the connection at the end.

    Calling it is the same as `documents`, so that it can be given wherever a function of a uid is expected.

    Attributes
    ----------
    before : float
        Only runs that began earlier are found by the name of their sample [s since 1970].
    """

    def __init__(self, container: Any) -> None:
        self.before = math.inf
        self._opened = container
        self._open: Callable[[], Any] = lambda: container

    @classmethod
    def lazily(cls, connect: Callable[[], Any]) -> Self:
        """Return the stored runs of a container that is opened on first use, and again if that failed."""
        runs = cls(None)
        runs._open = connect
        return runs

    @property
    def _container(self) -> Any:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def documents(self, uid: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the documents of a run.

        A MissingDataError is raised if there is no such run; a DocumentError if it is not a Bluesky run, or
        the server does not answer.
        """
        with _as_document_errors(f"run {uid}"):
            yield from run_documents(find_run(self._container, uid), uid)

    def __call__(self, uid: str, /) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the documents of a run, as `documents` does."""
        return self.documents(uid)

    def uid_of_sample(self, name: str, profile: Profile, *, exclude: Collection[str] = ()) -> str:
        """Return the uid of the newest total-scattering run of a sample: no dark frames, nothing derived.

        The profile says where start documents hold the name; runs in `exclude` are not meant. A
        MissingDataError is raised if there is no such run; a DocumentError if the server does not answer.
        """
        with _as_document_errors(f"the runs of sample {name!r}"):
            starts = [
                start
                for path in profile.start.sample_name
                for start in self._starts(path, name)
                if _is_light(start, profile) and start.get("uid") not in exclude
            ]
        named = [start for start in starts if look_up_text(start, profile.start.sample_name) == name]
        if not named:
            raise MissingDataError(f"expected a run of sample {name!r} on the server, found none")
        return str(max(named, key=_time).get("uid"))

    def _starts(self, path: str, name: str) -> Iterator[Mapping[str, Any]]:
        """Yield the start documents that hold a name under a dotted path, the newest first."""
        from tiled.queries import Key

        found = self._container.search(Key(f"start.{path}") == name)
        if math.isfinite(self.before):
            found = found.search(Key("start.time") < self.before)
        found = found.sort(("start.time", -1))
        for run in islice(found.values(), MOST_CANDIDATES):
            start = _plain(run.metadata).get("start")
            if isinstance(start, Mapping):
                yield start

    def close(self) -> None:
        """Close the connection to the server, if there is one."""
        if self._opened is not None:
            self._opened.context.http_client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _as_document_errors(what: str) -> Iterator[None]:
    """Raise errors of the client, the connection and malformed runs as a DocumentError."""
    import httpx
    from tiled.client.utils import ClientError

    try:
        yield
    except XpdmlError:
        raise
    except (httpx.HTTPError, ClientError, RuntimeError) as error:
        raise DocumentError(f"the server did not give {what}: {str(error)[:200]}") from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        text = f"{type(error).__name__}: {str(error)[:200]}"
        raise DocumentError(
            f"expected {what} as a stored Bluesky run, found one that is malformed: {text}"
        ) from error


def _is_light(start: Mapping[str, Any], profile: Profile) -> bool:
    is_absorption = claims_absorption(start, profile) and not claims_scattering(start, profile)
    return not (is_derived(start) or is_dark(start, profile) or is_absorption)


def _time(start: Mapping[str, Any]) -> float:
    time = start.get("time")
    return float(time) if isinstance(time, int | float) else 0.0


def find_run(runs: Any, uid: str) -> Any:
    """Return a run of a Tiled container by its uid; a MissingDataError is raised if it is not there.

    A catalog of Bluesky runs takes most texts for the beginning of a uid, also where one is the whole uid.
    """
    from tiled.client.container import Container

    with suppress(KeyError):
        return Container.__getitem__(runs, uid)
    try:
        return runs[uid]
    except (KeyError, ValueError) as error:
        raise MissingDataError(f"no run {uid} in the container; check the uid and the path") from error


def run_documents(run: Any, uid: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the documents of a stored run.

    Few servers are configured to export documents, but all of them give tables and arrays. A DocumentError is
    raised if it is not a Bluesky run, or the server cannot give its documents.
    """
    if not hasattr(run, "documents"):
        raise DocumentError(f"{uid} is no Bluesky run but {type(run).__name__}; check the path")
    streams = {name: run[name] for name in run}
    parts = {name: _parts(stream) for name, stream in streams.items()}
    if all(found is not None for found in parts.values()):
        return _rebuilt(run, streams, {name: found or {} for name, found in parts.items()})
    return _exported(run, uid)


class StoredRow:
    """The part of a stored array that belongs to one event, fetched on first use.

    The spectra of a detector are most of a run, and absorption does not need them.
    """

    def __init__(self, array: Any, row: int) -> None:
        self._array = array
        self._row = row

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        """Fetch the row."""
        return np.array(self._array[self._row], dtype=dtype, copy=copy)


def _parts(stream: Any) -> dict[str, Any] | None:
    """Return tables and arrays of a stream; None if it holds anything else, or nothing."""
    if not hasattr(stream, "base"):
        return None
    parts = dict(stream.base.items())
    known = parts and all(hasattr(part, "columns") or hasattr(part, "shape") for part in parts.values())
    return parts if known else None


def _rebuilt(
    run: Any, streams: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield documents made from the metadata, the tables and the arrays of a run."""
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
    """Yield a stream as one page, or with images as one page per event: never two images at once."""
    rows = len(table) if table is not None else min(len(array) for array in arrays.values())
    page = _page(table, rows, descriptor)
    images = {key: array for key, array in arrays.items() if len(array.shape) > 2}
    page["data"] |= {key: _rows(array, rows) for key, array in arrays.items() if key not in images}
    page["timestamps"] |= {key: page["time"] for key in arrays if key not in images}
    if not images:
        yield page
        return
    for row in range(rows):
        one = {key: page[key][row : row + 1] for key in ("uid", "seq_num", "time")}
        data = {key: values[row : row + 1] for key, values in page["data"].items()}
        data |= {key: [_image(array, row, rows)] for key, array in images.items()}
        times = dict.fromkeys(data, one["time"])
        yield {**one, "descriptor": descriptor, "data": data, "timestamps": times, "filled": {}}


def _rows(array: Any, rows: int) -> list[Any]:
    """Return the values of all events of an array; rows of a wide one are fetched on first use."""
    is_wide = len(array.shape) == 2 and array.shape[1] > 1
    return [StoredRow(array, row) for row in range(rows)] if is_wide else list(array.read())


def _image(array: Any, row: int, rows: int) -> Any:
    """Return the part of one event of an array whose first axis counts the events, or all their frames."""
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
    """Yield the documents that the server exports, if it is configured to."""
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
    """Return a document as dictionaries and lists instead of the views that the client gives."""
    if isinstance(document, Mapping):
        return {key: _plain(value) for key, value in document.items()}
    if isinstance(document, Sequence) and not isinstance(document, str | bytes):
        return [_plain(value) for value in document]
    return document
