"""Runs in text files: one document a line, as `[name, document]` or `{"name": name, "doc": document}`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bluesky_xpdml.errors import FileFormatError, MissingDataError


def documents_in(path: Path | str) -> Iterator[tuple[str, dict[str, Any]]]:
    r"""Tell the documents of a file in their order.

    Parameters
    ----------
    path
        Text in UTF-8, one JSON value a line.

    Yields
    ------
    name, document

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
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _document(line, f"{path}, line {number}")
    except OSError as error:
        raise MissingDataError(f"{path}: cannot be opened ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: expected text in UTF-8, found {error.reason}") from error


def _document(line: str, where: str) -> tuple[str, dict[str, Any]]:
    try:
        said = json.loads(line)
    except json.JSONDecodeError as error:
        raise FileFormatError(f"{where}: expected JSON, found {line[:60].strip()!r} ({error.msg})") from error
    if isinstance(said, dict):
        said = [said.get("name"), said.get("doc")]
    if not isinstance(said, list) or len(said) != 2:
        raise FileFormatError(f"{where}: expected [name, document], found {line[:60].strip()!r}")
    name, document = said
    if not isinstance(name, str) or not isinstance(document, dict):
        raise FileFormatError(f"{where}: expected [name, document], found {line[:60].strip()!r}")
    return name, document
