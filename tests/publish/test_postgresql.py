"""A Tiled server whose catalog and tables are in PostgreSQL, also when that is restarted meanwhile."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from bluesky_tiled_plugins.clients.bluesky_run import BlueskyRun
from tiled.queries import Key

from bluesky_xpdml.publish import (
    LiveRun,
    PredictionCatalog,
    Query,
    TiledPublisher,
    derived_run,
    outbox_publisher,
)
from bluesky_xpdml.records import PairDistribution
from bluesky_xpdml.vocabulary import Technique

PATIENCE = 240.0
N_RUNS = 30
CURVE = PairDistribution(
    r=np.linspace(0.0, 20.0, 120), g=np.linspace(-1.0, 1.0, 120), composition={"Fe": 1.0}
)
SYSTEM_USER = "nobody"
"""Who runs PostgreSQL if the tests run as root, which it refuses."""


def programs():
    """Return the folder of the programs of PostgreSQL; None if it is not installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders += [Path(found).parent for found in [shutil.which("initdb")] if found]
    return next((each for each in folders if (each / "initdb").exists()), None)


class Postgres:
    """PostgreSQL with temporary storage on a local port."""

    def __init__(self, bin_folder, folder):
        self._bin, self._data = bin_folder, folder / "data"
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.port = unused.getsockname()[1]
        self._user = {"user": SYSTEM_USER} if os.geteuid() == 0 else {}
        if self._user:
            shutil.chown(folder, SYSTEM_USER)
        self._run("initdb", "-D", self._data, "-U", "tiled", "-A", "trust", "-E", "UTF8", "--no-sync")
        self._process = None
        self.start()

    def _run(self, program, *arguments, check=True):
        command = [self._bin / program, *map(str, arguments)]
        return subprocess.run(
            command, check=check, capture_output=True, cwd="/", timeout=PATIENCE, **self._user
        ).returncode

    def start(self):
        options = ["-h", "127.0.0.1", "-p", str(self.port), "-k", "", "-F"]
        self._process = subprocess.Popen(
            [self._bin / "postgres", "-D", self._data, *options],
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._user,
        )
        end = time.monotonic() + PATIENCE
        while self._run("pg_isready", "-h", "127.0.0.1", "-p", self.port, check=False) != 0:
            assert self._process.poll() is None
            assert time.monotonic() < end, "PostgreSQL did not start"
            time.sleep(0.1)

    def stop(self):
        """End it, and all connections, at once."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(PATIENCE)

    def database(self, name):
        """Make a database and return its address."""
        self._run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "tiled", name)
        return f"postgresql://tiled@127.0.0.1:{self.port}/{name}"


@pytest.fixture(scope="module")
def postgres():
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL is not installed (Debian package postgresql)")
    # Not a folder of pytest, which only its own user may enter.
    folder = Path(tempfile.mkdtemp(prefix="xpdml-postgresql-"))
    running = Postgres(found, folder)
    yield running
    running.stop()
    shutil.rmtree(folder)


@pytest.fixture
def server(postgres, serve, request):
    """Return address and key of a server whose catalog and tables are in a database of its own."""
    uri = postgres.database(request.node.name[:60])
    catalog = {"uri": uri, "init_if_not_exists": True, "writable_storage": ["data", uri]}
    with serve({"trees": [{"path": "/", "tree": "catalog", "args": catalog}]}) as served:
        yield served


def test_derived_runs_are_published_found_and_read(server, answer, tmp_path):
    uri, key = server
    sender = outbox_publisher(uri, api_key=key, path="a/xpdml", folder=tmp_path)
    for number in range(3):
        prediction = answer(f"raw-{number}", 2.0 + 0.5 * number, pdf=CURVE, technique=Technique.PDF)
        sender.publish(derived_run(prediction))
    live = LiveRun()
    for state in (1.0, 2.0, 3.0):
        sender.extend(live.update(answer("raw-live", state)))
    sender.extend(live.finish())
    assert sender.flush(PATIENCE)
    sender.close()
    with closing(TiledPublisher.from_uri(uri, api_key=key, path="a/xpdml")) as publisher:
        container = publisher.container
        catalog = PredictionCatalog(container)
        assert {each.raw_uids for each in catalog.find(Query(element="Fe"))} == {
            (f"raw-{number}",) for number in range(3)
        }
        high = Key("start.descriptors.oxidation_state.value") > 2.75
        (run,) = container.search(high).search(Key("start.sample.name") == "LFP").values()
        assert isinstance(run, BlueskyRun)
        assert run.start["raw_uid"] == "raw-2"
        assert run.prediction.raw_uids == ("raw-2",)
        np.testing.assert_array_equal(run.curves()["pdf"].g, CURVE.g)
        (rows,) = container.search(Key("start.raw_uid") == "raw-live").values()
        assert rows["updates"].read()["oxidation_state"].values.tolist() == [1.0, 2.0, 3.0]
        assert rows.stop["num_events"] == {"updates": 3}


def test_a_restart_of_the_database_loses_and_doubles_nothing(server, postgres, answer, tmp_path):
    uri, key = server
    sender = outbox_publisher(uri, api_key=key, path="xpdml", folder=tmp_path)
    for number in range(N_RUNS):
        sender.publish(derived_run(answer(f"raw-{number}", pdf=CURVE, technique=Technique.PDF)))
        if number == N_RUNS // 3:
            postgres.stop()
        if number == 2 * N_RUNS // 3:
            assert sender.waiting > 0
            postgres.start()
    assert sender.flush(PATIENCE)
    sender.close()
    with closing(TiledPublisher.from_uri(uri, api_key=key, path="xpdml")) as publisher:
        runs = list(publisher.container.values())
        found = Counter(run.start["raw_uid"] for run in runs)
        assert found == {f"raw-{number}": 1 for number in range(N_RUNS)}
        for run in runs:
            assert run.stop["exit_status"] == "success"
            np.testing.assert_array_equal(run.curves()["pdf"].g, CURVE.g)
