"""Trials of `xpdml watch`: killed at random with a catalog to catch up from, ended in every way, a burst."""

import random
import re
import signal
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import Self
from uuid import uuid4

from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.factory.bench.fault_ends import shell_status
from bluesky_xpdml.factory.bench.fault_place import ANSWERING, SURE, Place, Row
from bluesky_xpdml.factory.bench.fault_process import PATIENCE, Program
from bluesky_xpdml.factory.bench.fault_server import KEY, free_port
from bluesky_xpdml.factory.bench.fault_session import run_documents

QUIET = 45.0
"""Without another answer for so long, what is missing is lost [s]."""
LIFETIME = (3.0, 9.0)
"""Shortest and longest time until a watcher is killed again [s]."""
BETWEEN = 2e-4
"""Pause between two documents of a burst over 0MQ, which drops what a listener does not take in time [s]."""

ENDS: Mapping[str, tuple[tuple[int, ...], float]] = MappingProxyType(
    {
        "SIGTERM, with time": ((signal.SIGTERM,), 300.0),
        "SIGTERM": ((signal.SIGTERM,), 0.5),
        "SIGHUP": ((signal.SIGHUP,), 0.5),
        "ctrl-C": ((signal.SIGINT,), 0.5),
        "ctrl-C twice": ((signal.SIGINT, signal.SIGINT), 300.0),
        "kill -9": ((signal.SIGKILL,), 0.5),
    }
)
"""Signals that a watcher gets, and its patience [s], by what happens."""


class Network:
    """A 0MQ proxy, and a publisher whose connection to it is up."""

    def __init__(self, folder: Path) -> None:
        from bluesky_xpdml.sources.zmq import safe_publisher

        ports = [free_port(), free_port()]
        self.address = f"127.0.0.1:{ports[1]}"
        self.options = ("--zmq", self.address)
        self._open = ExitStack()
        command = ["-m", __name__, *map(str, ports)]
        self._open.enter_context(Program(command, folder / "proxy.log")).wait_for_key("ready")
        self.publish = safe_publisher(f"127.0.0.1:{ports[0]}")
        self._open.callback(self.publish.close)
        self.confirm()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def confirm(self) -> None:
        """Send a harmless document until it comes out of the proxy, and with it all that was sent before."""
        import zmq

        probe, end = uuid4().hex, time.monotonic() + PATIENCE
        with zmq.Context() as context, context.socket(zmq.SUB) as echo:
            echo.set(zmq.RCVHWM, 0)
            echo.subscribe(b"")
            echo.connect(f"tcp://{self.address}")
            while time.monotonic() < end:
                self.publish("datum", {"datum_id": probe, "resource": "none"})
                while echo.poll(100):
                    if probe.encode() in echo.recv():
                        return
        raise XpdmlError("expected the 0MQ proxy to pass documents on, found that it does not")

    def send(self, uid: str, *, between: float = 0.0) -> None:
        """Send the documents of a run, with pauses between them [s]."""
        for name, document in run_documents(uid, time.time()):
            self.publish(name, document)
            if between:
                time.sleep(between)


class Watcher(Program):
    """`xpdml watch` of a source, as options of the command line name it; its state is in a folder of its own.

    Parameters
    ----------
    source
        Options that name the source.
    path
        Container of the predictions.
    folder
        Holds its state; named after the container if None.
    more
        Further options.
    """

    def __init__(
        self,
        place: Place,
        source: Sequence[str],
        path: str,
        *,
        patience: float,
        folder: str = "",
        more: Sequence[str] = (),
    ) -> None:
        home = place.folder / (folder or path)
        home.mkdir(exist_ok=True)
        self._notes = home / f"watch-{uuid4().hex[:6]}.log"
        command = ["-c", "from bluesky_xpdml.cli import main; main()", "watch", "--json", *source]
        command += ["--tiled", place.server.uri, "--into", path, "--heartbeat", "0.2"]
        command += ["--patience", str(patience), *more]
        super().__init__(command, self._notes, TILED_API_KEY=KEY, XDG_STATE_HOME=str(home))

    def connected(self) -> Self:
        """Wait until it listens, and return it."""
        return self._noted("connected to", 1)

    def received(self, documents: int) -> Self:
        """Wait until it has so many documents, and return it."""
        return self._noted(r"(\d+) documents", documents)

    @property
    def notes(self) -> str:
        """What it wrote on stderr."""
        return self._notes.read_text(encoding="utf-8", errors="replace")

    def _noted(self, pattern: str, number: int) -> Self:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = re.findall(pattern, self.notes)
            if found and (not found[-1].isdecimal() or int(found[-1]) >= number):
                return self
            time.sleep(0.1)
        raise XpdmlError(f"expected the watcher to write {pattern}, found {self.notes[-2000:]}")


def watch_killed(place: Place, runs: int, *, kills: int = 10) -> list[Row]:
    """Kill the watcher again and again, at random, while runs are measured and stored."""
    chance = random.Random(1)  # noqa: S311 - not secret
    plan = place.plan("watch-killed", runs, raw_path="watch-raw")
    place.store(plan.raw_path, ["before"])
    watchers: list[Watcher] = []

    def start() -> Watcher:
        watchers.append(
            Watcher(place, network.options, plan.path, patience=1.0, more=["--raw", plan.raw_path])
        )
        return watchers[-1]

    with Network(place.folder) as network:
        start().connected()
        measuring = _measure(place, network, plan.uids, raw=plan.raw_path, during=6.0 * kills)
        for _ in range(kills):
            time.sleep(chance.uniform(*LIFETIME))
            watchers[-1].end(signal.SIGKILL)
            start()
        measuring.join(ANSWERING)
        # What was lost on the way to a watcher is found at its next start.
        time.sleep(SURE)
        watchers[-1].end(signal.SIGKILL)
        start()
        settle(place, plan.path, plan.uids)
        watchers[-1].end(signal.SIGTERM)
    return [place.row(f"xpdml watch killed {kills + 1} times", plan, watchers)]


def _measure(place: Place, network: Network, uids: Collection[str], *, raw: str, during: float) -> Thread:
    """Send and store runs in a thread, spread over some time [s]; some kills hit in the midst of a run."""

    def measure() -> None:
        from bluesky_xpdml.publish import TiledPublisher

        publisher = TiledPublisher.from_uri(place.server.uri, api_key=KEY, path=raw)
        for uid in uids:
            network.send(uid, between=during / len(uids) / 200)
            publisher.publish(list(run_documents(uid, time.time())))
            time.sleep(during / len(uids) / 4)
        publisher.close()

    thread = Thread(target=measure, daemon=True)
    thread.start()
    return thread


def settle(place: Place, path: str, uids: Collection[str]) -> None:
    """Wait until all runs have an answer, or no more come."""
    best, since = -1, time.monotonic()
    while best < len(uids) and time.monotonic() < since + QUIET:
        found = place.server.answers(path).found(uids)
        if found > best:
            best, since = found, time.monotonic()
        time.sleep(0.5)


def watch_ends(place: Place, runs: int, *, ends: Collection[str] = tuple(ENDS)) -> list[Row]:
    """End a watcher with runs queued; the next one answers them."""
    path = "watch-ends"
    ended: dict[str, tuple[Watcher, list[str], int]] = {}
    with Network(place.folder) as network:
        for end in ends:
            numbers, patience = ENDS[end]
            uids = [f"watch-{end.replace(' ', '-')}-{number}" for number in range(runs)]
            watcher = Watcher(place, network.options, path, patience=patience).connected()
            network.confirm()
            for uid in uids:
                network.send(uid, between=BETWEEN)
            watcher.received(runs * sum(1 for _ in run_documents("", 0.0)))
            if signal.SIGKILL in numbers:
                time.sleep(SURE)
            ended[end] = watcher, uids, watcher.end(*numbers)
    plan = place.plan(path, folder=str(place.folder / path / "xpdml"))
    last = place.answer(plan)
    answers = place.server.answers(path)
    return [
        place.row(
            f"xpdml watch with queued runs ends by {end}, status {shell_status(status)}",
            plan,
            [watcher, last],
            sent=uids,
            answers=answers.of(uids),
        )
        for end, (watcher, uids, status) in ended.items()
    ]


def watch_burst(place: Place, runs: int) -> list[Row]:
    """Send runs as fast as 0MQ passes them on."""
    plan = place.plan("watch-burst", runs)
    with (
        Network(place.folder) as network,
        Watcher(place, network.options, plan.path, patience=300.0) as watcher,
    ):
        watcher.connected()
        network.confirm()
        for uid in plan.uids:
            network.send(uid, between=BETWEEN)
        settle(place, plan.path, plan.uids)
        watcher.end(signal.SIGTERM)
    return [place.row(f"{runs} runs in a burst over 0MQ", plan, [watcher])]


def _forward(into: str, out: str) -> None:
    """Run a 0MQ proxy until this process is killed."""
    from bluesky.callbacks.zmq import Proxy

    proxy = Proxy(f"tcp://127.0.0.1:{into}", f"tcp://127.0.0.1:{out}")
    sys.stdout.write('{"ready": true}\n')
    sys.stdout.flush()
    proxy.start()


if __name__ == "__main__":
    _forward(*sys.argv[1:3])
