"""The benchmark of live answers gives its table, and the answers converge in it."""

import csv

import pytest

from bluesky_xpdml.errors import MissingDataError
from bluesky_xpdml.factory.bench.live import CUTS, measure_live
from bluesky_xpdml.models.partial import REACHES, WIDENING
from bluesky_xpdml.sources.standards import LABELS


def silent(_what: str, _done: int, _total: int) -> None:
    """Show no progress."""


@pytest.fixture
def standards(shared_data, unread, tmp_path):
    """Return a folder with the spectra of the table in the package, and with files that are not read."""
    folder = shared_data / "experiment" / "xanes"
    for each in folder.iterdir():
        if each.is_dir():
            (tmp_path / each.name).symlink_to(each)
    with (folder / LABELS).open(newline="") as lines:
        table = csv.DictReader(lines)
        rows = [
            row
            for row in table
            if not row["file"].startswith("published/") or f"xanes/{row['file']}" in unread
        ]
    with (tmp_path / LABELS).open("w", newline="") as lines:
        writer = csv.DictWriter(lines, table.fieldnames or ())
        writer.writeheader()
        writer.writerows(rows)
    n_unread = sum(row["is_oxide"] == "1" for row in rows if row["file"].startswith("published/"))
    return tmp_path, n_unread


@pytest.mark.slow
def test_answers_converge_and_the_table_of_the_package_is_the_measured_one(standards):
    folder, n_unread = standards
    report = measure_live(folder, scans=1, progress=silent)
    assert report.conditions["files in formats that are not read"] == n_unread
    rows = {row["reach_ev"]: row for row in report.rows}
    assert tuple(rows) == CUTS
    for column in ("state_p90", "number_p90", "length_p90"):
        assert rows[18.0][column] > rows[30.0][column] > rows[38.0][column] > rows[60.0][column] == 0.0
    for name, column in zip(WIDENING, ("state_p90", "number_p90", "length_p90"), strict=True):
        for reach, widening in zip(REACHES, WIDENING[name], strict=True):
            assert rows[reach][column] <= 1.1 * widening + 0.01
    assert min(row["inside"] for row in report.rows) > 0.9
    assert report.conditions["documents timed"] > 300


def test_without_a_table_there_is_nothing_to_measure(tmp_path):
    with pytest.raises(MissingDataError, match=r"labels\.csv is missing"):
        measure_live(tmp_path, scans=1, progress=silent)
