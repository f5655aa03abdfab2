"""Documents in text files, a line each."""

import pytest

from bluesky_xpdml.errors import FileFormatError, MissingDataError
from bluesky_xpdml.sources.jsonl import documents_in


def test_both_spellings_are_read(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text('["start", {"uid": "a"}]\n\n{"name": "stop", "doc": {"uid": "z"}}\n')
    assert list(documents_in(path)) == [("start", {"uid": "a"}), ("stop", {"uid": "z"})]


@pytest.mark.parametrize("line", ["{", "3", "[1]", '["start", 3]', '[1, {"uid": "a"}]', '{"name": "start"}'])
def test_a_line_that_is_no_document_is_named(tmp_path, line):
    path = tmp_path / "run.jsonl"
    path.write_text(f'["start", {{"uid": "a"}}]\n{line}\n')
    with pytest.raises(FileFormatError, match="line 2"):
        list(documents_in(path))


def test_a_file_that_is_not_there_is_missing(tmp_path):
    with pytest.raises(MissingDataError, match="cannot be opened"):
        list(documents_in(tmp_path / "none.jsonl"))
