"""Runs stored in Tiled, told again as the documents they were made of."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from bluesky_xpdml.errors import DocumentError, MissingDataError
from bluesky_xpdml.publish.tiled import connect


@contextmanager
def open_runs(uri: str, *, api_key: str | None = None, path: str = "") -> Iterator[Any]:
    """Connect to the Tiled container that holds the runs, for the length of a `with` block.

    Parameters
    ----------
    uri
        Address of the server, such as `http://localhost:8000`.
    api_key
        Key; None where the server or the address needs none.
    path
        Container of the runs, `raw` or `raw/2026`; the root if empty.

    Yields
    ------
    container
        Whose keys are uids of runs.

    Raises
    ------
    PublishError
        If the server does not answer or refuses.
    MissingDataError
        If it has no such container.
    """
    root: Any = connect(uri, api_key=api_key)
    try:
        yield _container(root, path)
    finally:
        root.context.http_client.close()


def stored_documents(runs: Any, uids: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Tell stored runs as documents, one run after the other.

    Parameters
    ----------
    runs
        Tiled container whose keys are uids of runs, as `open_runs` gives it.
    uids
        Start uids, in the order in which they are to be told.

    Yields
    ------
    name, document

    Raises
    ------
    MissingDataError
        If a run is not there.
    DocumentError
        If the server cannot give its documents.
    """
    for uid in uids:
        yield from _run_documents(_find(runs, uid), uid)


def _container(root: Any, path: str) -> Any:
    parts = [part for part in path.split("/") if part]
    try:
        return root["/".join(parts)] if parts else root
    except KeyError as error:
        raise MissingDataError(f"expected a container {path!r}, found none; check the path") from error


def _find(runs: Any, uid: str) -> Any:
    try:
        return runs[uid]
    except KeyError as error:
        raise MissingDataError(f"no run {uid} in the container; check the uid and the path") from error


def _run_documents(run: Any, uid: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if not hasattr(run, "documents"):
        raise DocumentError(f"{uid} is no Bluesky run but {type(run).__name__}; check the path")
    streams = {name: run[name] for name in run}
    if all(_is_table(stream) for stream in streams.values()):
        # Few servers are configured to export documents, but every one gives its tables.
        return _rebuilt(run, streams)
    return _exported(run, uid)


def _is_table(stream: Any) -> bool:
    return hasattr(stream, "base") and set(stream.base) == {"internal"}


def _rebuilt(run: Any, streams: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Make the documents anew from the metadata and the tables of a run."""
    metadata = _plain(run.metadata)
    yield "start", metadata["start"]
    for stream in streams.values():
        descriptors = [_plain(descriptor) for descriptor in stream.descriptors]
        for descriptor in descriptors:
            yield "descriptor", descriptor
        yield "event_page", _page(stream.base["internal"].read(), descriptors[-1]["uid"])
    if metadata.get("stop"):
        yield "stop", metadata["stop"]


def _page(table: Any, descriptor: str) -> dict[str, Any]:
    keys = [key for key in table.columns if key not in {"seq_num", "time"} and not key.startswith("ts_")]
    times = table["time"].tolist()
    return {
        "uid": [f"{descriptor}-{number}" for number in table["seq_num"].tolist()],
        "descriptor": descriptor,
        "seq_num": table["seq_num"].tolist(),
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
