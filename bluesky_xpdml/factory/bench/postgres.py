"""PostgreSQL in a temporary folder, and a Tiled server whose catalog and tables are in it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.factory.bench.fault_place import Place, Row, wait_stopped
from bluesky_xpdml.factory.bench.fault_process import PATIENCE, Program
from bluesky_xpdml.factory.bench.fault_server import KEY, Server, free_port

SYSTEM_USER = "nobody"
"""Who runs PostgreSQL for root, whom it refuses."""
AWAY = 10.0
"""How long the database is away [s]."""


def programs() -> Path | None:
    """Return the folder of the programs of PostgreSQL; None if it is not installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders += [Path(found).parent for found in [shutil.which("initdb")] if found]
    return next((each for each in folders if (each / "initdb").exists()), None)


class Postgres:
    """PostgreSQL with temporary storage on a local port, until the end of a `with` block.

    Parameters
    ----------
    folder
        Of its programs.
    """

    def __init__(self, folder: Path) -> None:
        self._bin = folder
        # Its system user has to enter it.
        self._folder = Path(tempfile.mkdtemp(prefix="xpdml-postgresql-"))
        self._data = self._folder / "data"
        self.port = free_port()
        self._user: dict[str, Any] = {"user": SYSTEM_USER} if os.geteuid() == 0 else {}
        if self._user:
            shutil.chown(self._folder, SYSTEM_USER)
        self._run("initdb", "-D", self._data, "-U", "tiled", "-A", "trust", "-E", "UTF8", "--no-sync")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def start(self) -> None:
        """Start it, and return when it answers."""
        options = ["-h", "127.0.0.1", "-p", str(self.port), "-k", "", "-F"]
        self._process = subprocess.Popen(  # noqa: S603 - this program
            [self._bin / "postgres", "-D", self._data, *options],
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._user,
        )
        end = time.monotonic() + PATIENCE
        while self._run("pg_isready", "-h", "127.0.0.1", "-p", self.port, check=False):
            if self._process.poll() is not None or time.monotonic() > end:
                raise XpdmlError("expected PostgreSQL to start, found that it does not answer")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it, and all connections, at once."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE)
            self._process = None

    def database(self, name: str) -> str:
        """Make a database and return its address."""
        self._run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "tiled", name)
        return f"postgresql://tiled@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *arguments: object, check: bool = True) -> int:
        command = [str(self._bin / program), *map(str, arguments)]
        return subprocess.run(  # noqa: S603 - this program
            command, check=check, capture_output=True, cwd="/", timeout=PATIENCE, **self._user
        ).returncode


class PostgresServer(Server):
    """A Tiled server on a database."""

    def __init__(self, folder: Path, database: str) -> None:
        self._database = database
        super().__init__(folder)

    def start(self) -> None:
        """Start it, and return when it answers."""
        import httpx

        uri = self._database
        catalog = {"uri": uri, "init_if_not_exists": True, "writable_storage": [str(self.storage), uri]}
        config = self.folder / "tiled.json.yml"
        config.write_text(json.dumps({"trees": [{"path": "/", "tree": "catalog", "args": catalog}]}))
        command = ["-m", "tiled", "serve", "config", str(config), "--port", str(self.port)]
        self._program = Program(command, self.folder / "server.log", TILED_SINGLE_USER_API_KEY=KEY)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                if httpx.get(f"{self.uri}/healthz", timeout=2.0).is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)
        raise XpdmlError("expected a Tiled server on PostgreSQL to start, found no answer")


def postgres_restarted(place: Place, runs: int) -> list[Row]:
    """Let the database of the server go and come back in the midst of the runs; no row if there is none."""
    found = programs()
    if found is None:
        sys.stderr.write("PostgreSQL is not installed: it is not tried\n")
        return []
    folder = place.folder / "postgres"
    folder.mkdir()
    with (
        Postgres(found) as postgres,
        Place(folder, PostgresServer(folder, postgres.database("xpdml"))) as own,
    ):
        plan = own.plan("postgres", runs, pace=0.3, drain=300.0, end="close")
        program = own.session(plan)
        wait_stopped(program, runs // 3)
        postgres.stop()
        time.sleep(AWAY)
        postgres.start()
        program.wait(600.0)
        return [own.row(f"Tiled on PostgreSQL, which is away for {AWAY:g} s", plan, [program])]
