"""Measured spectra of the development data."""

import csv
from pathlib import Path

import pytest

from bluesky_xpdml.errors import DocumentError
from bluesky_xpdml.records import AbsorptionScan
from bluesky_xpdml.sources.files import read_scan


@pytest.fixture(scope="session")
def labelled_scans(shared_data: Path) -> list[tuple[dict[str, str], AbsorptionScan]]:
    """Return the labels of each spectrum that can be read, and the spectrum as its file states it.

    Which formats are read is tested where they are read.
    """
    folder = shared_data / "experiment" / "xanes"
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    found = []
    for row in rows:
        try:
            found.append((row, read_scan(folder / row["file"])))
        except DocumentError:
            continue
    assert len(found) > 0.9 * len(rows)
    return found
