"""Where the numbers of a text file begin, and which line is not one of them."""

import numpy as np
import pytest

from bluesky_xpdml.errors import FileFormatError, MissingDataError
from bluesky_xpdml.sources.table import parse_table, read_text


def test_header_rows_and_remarks_are_told_apart():
    table = parse_table("Scan of 2026\n# energy mu\n7000 0.1\n\n# paused\n7001 0.2\n")
    assert [line for _, line in table.header] == ["Scan of 2026", "# energy mu"]
    assert table.remarks == ((4, ""), (5, "# paused"))
    assert table.rows == (3, 6)
    assert table.data.tolist() == [[7000.0, 0.1], [7001.0, 0.2]]


@pytest.mark.parametrize(
    "rows",
    ["7000,0.1\n7001,0.2", "7000;0.1\n7001;0.2", "7000\t.1D+00\n7.001d3\t2e-1", "7000, 0.1\r\n7001, 0.2"],
)
def test_separators_and_exponents_of_other_programs_are_understood(rows):
    assert parse_table(rows).data == pytest.approx(np.array([[7000.0, 0.1], [7001.0, 0.2]]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# energy mu\n7000 0.1\n7001 x\n", "line 3: expected a number, found 'x'"),
        ("7000 0.1\n7001 0.2 0.3\n", "line 2: expected 2 columns as in the first row, found 3"),
        ("7000 0.1\n7001\n", "line 2: expected 2 columns as in the first row, found 1"),
        ("# a b c\n7000 1 1.2.3\n7001 1 2\n", "line 2: expected a number, found '1.2.3'"),
        ("7000,5 0,3\n7001,5 0,4\n", "decimal commas"),
        ("7000 1_0\n7001 1_1\n", "no line of numbers"),
        ("only words\n", "no line of numbers"),
        ("7000\n7001\n", "no line of numbers"),
    ],
)
def test_faults_are_named_with_their_line(text, message):
    with pytest.raises(FileFormatError, match=message):
        parse_table(text)


def test_files_that_are_no_text_are_refused(tmp_path):
    binary, empty = tmp_path / "scan.tif", tmp_path / "empty.dat"
    binary.write_bytes(b"II*\0\0\0\0")
    empty.write_text(" \n")
    with pytest.raises(FileFormatError, match=r"scan\.tif: expected a text file, found binary data"):
        read_text(binary)
    with pytest.raises(FileFormatError, match=r"empty\.dat: the file is empty"):
        read_text(empty)
    with pytest.raises(MissingDataError, match="cannot be opened"):
        read_text(tmp_path / "absent.dat")
    with pytest.raises(MissingDataError, match="cannot be opened"):
        read_text(tmp_path)


def test_old_encodings_are_read(tmp_path):
    path = tmp_path / "scan.dat"
    path.write_bytes("# 3.1356 Å\n7000 1\n".encode("latin-1"))
    assert "Å" in read_text(path)
