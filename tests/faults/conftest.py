"""One place for all trials of a process: a server that is killed and started again, and folders."""

import pytest

from bluesky_xpdml.factory.bench.fault_place import Place


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    with Place(tmp_path_factory.mktemp("faults")) as opened:
        yield opened


@pytest.fixture
def require_nothing_lost():
    """Return a function that prints the rows of a trial and requires that nothing is lost or doubled."""

    def require(rows, *, memory_mb=1500.0):
        assert rows
        for row in rows:
            print(row)  # noqa: T201 - the figures of the trial
        assert [row for row in rows if row["lost"] or row["doubled"] or not row["sent"]] == []
        assert max(row["memory_mb"] for row in rows) < memory_mb
        return rows

    return require
