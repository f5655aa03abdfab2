"""Numeric tables in text files: header, comments and numbers."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bluesky_xpdml.errors import DocumentError, FileFormatError, MissingDataError
from bluesky_xpdml.files import open_regular, shown
from bluesky_xpdml.records import FloatArray

COMMENT_CHARACTERS = "#%;*!"
"""First characters of comment lines."""
LARGEST_FILE = 64 * 1024 * 1024
"""Larger than any file of one spectrum [bytes]."""

_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_FORTRAN_EXPONENT = re.compile(r"(?<=[\d.])[dD](?=[+-]?\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """The lines of a text file: header, comments and numbers."""

    header: tuple[tuple[int, str], ...]
    """Line number from 1 and text of each line above the numbers."""
    remarks: tuple[tuple[int, str], ...]
    """Comment lines between or below the numbers, likewise."""
    rows: tuple[int, ...]
    """Line number of each row of the data."""
    data: FloatArray
    """The numbers, (n_rows, n_columns)."""


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8 or Latin-1.

    A `MissingDataError` if it cannot be opened, or is a pipe or a device, a `FileFormatError` if it is empty,
    binary or too large.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "scan.dat"
    ...     _ = path.write_text("7000 1.0", encoding="latin-1")
    ...     read_text(path)
    '7000 1.0'
    """
    try:
        with open_regular(path) as file:
            raw = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        code = error.code if isinstance(error, DocumentError) else None
        raise MissingDataError(f"{shown(path)}: cannot be opened ({error})", code) from error
    if len(raw) > LARGEST_FILE:
        raise FileFormatError(f"{path.name}: expected at most {LARGEST_FILE} bytes in the file of one scan")
    if b"\0" in raw:
        raise FileFormatError(f"{path.name}: expected a text file, found binary data")
    if not raw.strip():
        raise FileFormatError(f"{path.name}: the file is empty")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def parse_table(text: str, *, strict: bool = False) -> TextTable:
    r"""Divide a text into its header and its table of numbers.

    The table begins with the first line of two numbers or more; if `strict`, with the first line that is no
    comment. From there on every line is a row, a comment, or a `FileFormatError` that names it.

    Examples
    --------
    >>> table = parse_table("# energy mu\n7000 0.1\n7001 0.2\n")
    >>> table.header, table.data.shape
    (((1, '# energy mu'),), (2, 2))
    """
    lines = [(number, raw.strip()) for number, raw in enumerate(text.splitlines(), start=1)]
    begins = (index for index, (_, line) in enumerate(lines) if _begins_table(line, strict))
    first = next(begins, len(lines))
    remarks: list[tuple[int, str]] = []
    rows: list[int] = []
    values: list[list[float]] = []
    for number, line in lines[first:]:
        if not line or line[0] in COMMENT_CHARACTERS:
            remarks.append((number, line))
            continue
        rows.append(number)
        values.append(_numbers(line, number, len(values[0]) if values else None))
    if not values:
        raise FileFormatError("expected a table of numbers (two columns or more), found no line of numbers")
    _refuse_faulty_first_row(lines[:first], len(values[0]))
    return TextTable(
        header=tuple(lines[:first]), remarks=tuple(remarks), rows=tuple(rows), data=np.array(values)
    )


def words(line: str) -> list[str]:
    """Return the words of a line, separated by blanks, commas or semicolons.

    Examples
    --------
    >>> words("energy, i0;it")
    ['energy', 'i0', 'it']
    """
    return line.replace(",", " ").replace(";", " ").split()


def _begins_table(line: str, strict: bool) -> bool:
    if not line or line[0] in COMMENT_CHARACTERS:
        return False
    parts = words(line)
    return strict or (len(parts) > 1 and all(_is_number(part) for part in parts))


def _refuse_faulty_first_row(header: list[tuple[int, str]], n_columns: int) -> None:
    """Refuse a table with one fault in its first row, which looks like a line of the header."""
    number, line = header[-1] if header else (0, "")
    parts = words(line)
    wrong = [part for part in parts if not _is_number(part)]
    if n_columns > 2 and len(parts) == n_columns and len(wrong) == 1:
        raise FileFormatError(f"line {number}: expected a number, found {wrong[0][:40]!r}")


def _is_number(word: str) -> bool:
    try:
        _number(word)
    except ValueError:
        return False
    return True


def _numbers(line: str, number: int, expected: int | None) -> list[float]:
    if expected is None:
        _refuse_decimal_commas(line, number)
    values = []
    for part in words(line):
        try:
            values.append(_number(part))
        except ValueError:
            raise FileFormatError(f"line {number}: expected a number, found {part[:40]!r}") from None
    if expected is None and len(values) < 2:
        raise FileFormatError(f"line {number}: expected two columns or more, found {len(values)}")
    if expected is not None and len(values) != expected:
        raise FileFormatError(
            f"line {number}: expected {expected} columns as in the first row, found {len(values)}"
        )
    return values


def _number(word: str) -> float:
    if "_" in word:
        raise ValueError(word)
    try:
        return float(word)
    except ValueError:
        return float(_FORTRAN_EXPONENT.sub("e", word))


def _refuse_decimal_commas(line: str, number: int) -> None:
    parts = line.replace(";", " ").split()
    if len(parts) > 1 and sum(bool(_DECIMAL_COMMA.fullmatch(part)) for part in parts) > 1:
        raise FileFormatError(
            f"line {number}: numbers are written with decimal commas; write them with decimal points"
        )
