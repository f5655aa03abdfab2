"""Predictions without curves, and containers of a real server that they are put into."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial

import pytest

from bluesky_xpdml.publish import PredictionCatalog, TiledPublisher, derived_run
from bluesky_xpdml.records import Estimate, ModelReference, Origin, Prediction, Quality, Sample
from bluesky_xpdml.vocabulary import Descriptor, Technique

START_TIMEOUT = 300.0
"""Longest time that a server of its own may take to start on a busy machine [s]."""
PATIENCE = 60.0
"""Longest time for the first answer of a server to a publisher on a busy machine [s]."""


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Let publishers wait for a server that is slow because the machine is busy."""
    for module in ("nodes", "tiled"):
        monkeypatch.setattr(f"bluesky_xpdml.publish.{module}.FIRST_ANSWER_TIMEOUT", PATIENCE)
    monkeypatch.setattr("bluesky_xpdml.publish.nodes.ANSWER_TIMEOUT", PATIENCE)


@pytest.fixture(scope="session")
def answer():
    """Return a function that makes a prediction; another bundle gives it another uid."""
    return _answer


@pytest.fixture(scope="session")
def put():
    """Return a function that puts a run into a container as a writer does, without its streams."""
    return _put


@pytest.fixture(scope="session")
def insert(tiled_server):
    """Return a function that puts entries with any metadata into a container, by the file of the server."""
    import sqlalchemy as sa
    from sqlalchemy.orm import Session
    from tiled.catalog import orm

    def insert_into(container, metadata_by_key):
        engine = sa.create_engine(f"sqlite:///{tiled_server.directory / 'catalog.db'}")
        with Session(engine) as session:
            parent = 0
            for part in filter(None, container.path_parts):
                node = sa.select(orm.Node.id).where(orm.Node.key == part, orm.Node.parent == parent)
                parent = session.execute(node).scalar_one()
            # Tiled 0.2.9 has no default for access rights.
            entry = {"parent": parent, "structure_family": "container", "specs": [], "access_blob": {}}
            rows = [entry | {"key": key, "metadata_": metadata} for key, metadata in metadata_by_key.items()]
            session.execute(sa.insert(orm.Node), rows)
            session.commit()
        engine.dispose()

    return insert_into


@pytest.fixture
def serve(tmp_path):
    """Return a function that runs a server of its own, in another process, by a configuration of Tiled.

    What it returns is a context: the address of the server, and the key of its single user.
    """
    return partial(_serve, tmp_path)


@contextmanager
def _serve(folder, config, **variables):
    """Yield address and key of a server."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    (folder / "config.yml").write_text(json.dumps(config))
    command = [sys.executable, "-m", "tiled", "serve", "config", "config.yml", "--port", str(port)]
    key = "f" * 32
    environment = os.environ | {"TILED_SINGLE_USER_API_KEY": key} | variables
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    uri = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + START_TIMEOUT
        while not _answers(f"{uri}/healthz"):
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"the server did not start:\n{(folder / 'server.log').read_text()}")
            time.sleep(0.1)
        yield uri, key
    finally:
        process.terminate()
        process.wait()


def _answers(uri):
    import httpx

    try:
        return httpx.get(uri, timeout=2.0).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture
def container(tiled_server, request):
    """Return an empty container."""
    publisher = TiledPublisher.from_uri(tiled_server.uri, path=f"catalog/{request.node.name}")
    yield publisher.container
    publisher.close()


@pytest.fixture
def catalog(container):
    """Return the catalog of the container."""
    return PredictionCatalog(container)


def _answer(raw_uids, state=2.5, *, bundle=1, quality=None, **more):
    """Return a prediction without curves; another bundle gives it another uid."""
    found = Estimate(value=state, low=state - 0.5, high=state + 0.5, unit="e")
    fields = {
        "technique": Technique.XANES,
        "element": "Fe",
        "edge": "K",
        "quality": quality or Quality(),
        "descriptors": {Descriptor.OXIDATION_STATE: found},
        "models": (ModelReference(name="Fe", version=bundle, sha256=f"{bundle:064d}"),),
        "sample": Sample(name="LFP", uid="s-1"),
        "origin": Origin(proposal="310000", beamline="ISS"),
        "raw_uids": (raw_uids,) if isinstance(raw_uids, str) else raw_uids,
    }
    return Prediction(**fields | more)


def _put(container, prediction, at, *, complete=True):
    """Put a run into a container as a writer does, without its streams; return its uid."""
    (_, start), *_, (_, stop) = derived_run(prediction, clock=lambda: at)
    container.create_container(
        key=start["uid"], metadata={"start": start, **({"stop": stop} if complete else {})}
    )
    return start["uid"]
