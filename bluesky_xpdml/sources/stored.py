"""Runs stored in Tiled, told again as the documents they were made of."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bluesky_xpdml.documents.stored import find_run, run_documents
from bluesky_xpdml.errors import MissingDataError
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
        yield from run_documents(find_run(runs, uid), uid)


def _container(root: Any, path: str) -> Any:
    parts = [part for part in path.split("/") if part]
    try:
        return root["/".join(parts)] if parts else root
    except KeyError as error:
        raise MissingDataError(f"expected a container {path!r}, found none; check the path") from error
