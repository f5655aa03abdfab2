"""Stored runs, as the documents that they were made of: from Tiled, or from text files.

A text file holds one document per line, as `[name, document]` or `{"name": name, "doc": document}`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from bluesky_xpdml.documents.stored import find_run, run_documents
from bluesky_xpdml.errors import FileFormatError, MissingDataError
from bluesky_xpdml.files import open_regular, refused
from bluesky_xpdml.publish.tiled import connect

LONGEST_LINE = 1 << 29
"""No document is longer, one with many images among them [bytes]."""


@contextmanager
def open_runs(uri: str, *, api_key: str | None = None, path: str = "") -> Iterator[Any]:
    """Connect to the Tiled container that holds the runs, for the length of a `with` block.

    Parameters
    ----------
    uri
        Address of the server, such as `http://localhost:8000`.
    api_key
        Key; None if the server or the address needs none.
    path
        Container of the runs, `raw` or `raw/2026`; the root if empty.

    Yields
    ------
    container
        Its keys are uids of runs.

    Raises
    ------
    PublishError
        If the server does not respond or refuses.
    MissingDataError
        If it has no such container.
    """
    root: Any = connect(uri, api_key=api_key)
    try:
        yield _container(root, path)
    finally:
        root.context.http_client.close()


def _container(root: Any, path: str) -> Any:
    parts = [part for part in path.split("/") if part]
    try:
        return root["/".join(parts)] if parts else root
    except KeyError as error:
        raise MissingDataError(f"expected a container {path!r}, found none; check the path") from error


def stored_documents(runs: Any, uid: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the documents of a stored run.

    Parameters
    ----------
    runs
        Tiled container with uids of runs as keys, as `open_runs` gives it.
    uid
        Start uid of the run.

    Raises
    ------
    MissingDataError
        If there is no such run.
    DocumentError
        If the server cannot give its documents.
    """
    yield from run_documents(find_run(runs, uid), uid)


def documents_in(path: Path | str) -> Iterator[tuple[str, dict[str, Any]]]:
    r"""Yield the documents of a text file in their order.

    Parameters
    ----------
    path
        Text in UTF-8, one JSON value per line.

    Raises
    ------
    MissingDataError
        If the file cannot be opened.
    FileFormatError
        If a line is no document; the message names the line.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "run.jsonl"
    ...     _ = path.write_text('["start", {"uid": "a"}]\n')
    ...     list(documents_in(path))
    [('start', {'uid': 'a'})]
    """
    try:
        with open_regular(path) as file:
            for number in count(1):
                line = file.readline(LONGEST_LINE + 1)
                if not line:
                    return
                if len(line) > LONGEST_LINE:
                    raise refused(
                        f"{path}, line {number}: expected at most {LONGEST_LINE} bytes in a document"
                    )
                if line.strip():
                    yield _document(line.decode(), f"{path}, line {number}")
    except OSError as error:
        raise MissingDataError(f"{path}: cannot be opened ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: expected text in UTF-8, found {error.reason}") from error


def _document(line: str, where: str) -> tuple[str, dict[str, Any]]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        said = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise FileFormatError(f"{where}: expected JSON, found {line[:60].strip()!r} ({said})") from error
    if isinstance(value, dict):
        value = [value.get("name"), value.get("doc")]
    match value:
        case [str(name), dict(document)]:
            return name, document
    raise FileFormatError(f"{where}: expected [name, document], found {line[:60].strip()!r}")
