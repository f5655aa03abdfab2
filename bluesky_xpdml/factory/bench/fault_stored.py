"""Trials of watchers that follow the raw runs of a Tiled server: killed, sharing, without a server."""

import random
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from threading import Thread

from bluesky_xpdml.errors import ServerAwayError
from bluesky_xpdml.factory.bench.fault_place import ANSWERING, Place, Row
from bluesky_xpdml.factory.bench.fault_session import run_documents
from bluesky_xpdml.factory.bench.fault_watch import Watcher, settle

LIFETIME = (3.0, 9.0)
"""Shortest and longest time until a watcher is killed again [s]."""
RETRY = 1.0
"""Pause before a raw run is stored again whose server is away [s]."""
_PACE = 0.3


def stored_watch_killed(place: Place, runs: int, *, kills: int = 5) -> list[Row]:
    """Kill a watcher of stored runs again and again, at random, while they are stored."""
    chance = random.Random(3)  # noqa: S311 - not secret
    plan = place.plan("stored-killed", runs, raw_path="stored-killed-raw")
    place.store(plan.raw_path, [plan.uids[0]])
    watchers: list[Watcher] = []
    with ExitStack() as open_:
        storing = _stored_meanwhile(place, plan.raw_path, plan.uids[1:])
        for _ in range(kills):
            watchers.append(open_.enter_context(_watcher(place, plan.path, "one")))
            time.sleep(chance.uniform(*LIFETIME))
            watchers[-1].end(signal.SIGKILL)
        watchers.append(open_.enter_context(_watcher(place, plan.path, "one")))
        storing.join(ANSWERING)
        settle(place, plan.path, plan.uids)
        watchers[-1].end(signal.SIGTERM)
    return [place.row(f"stored runs: the watcher killed {kills} times", plan, watchers)]


def stored_shared(place: Place, runs: int) -> list[Row]:
    """Let two watchers share the runs, one of which is killed for good."""
    plan = place.plan("stored-shared", runs, raw_path="stored-shared-raw")
    place.store(plan.raw_path, [plan.uids[0]])
    with ExitStack() as open_:
        both = [open_.enter_context(_watcher(place, plan.path, name)) for name in ("stays", "killed")]
        for each in both:
            each.connected()
        storing = _stored_meanwhile(place, plan.raw_path, plan.uids[1:])
        while len(both[1].said) < runs // 4:
            time.sleep(0.1)
        both[1].end(signal.SIGKILL)
        storing.join(ANSWERING)
        settle(place, plan.path, plan.uids)
        both[0].end(signal.SIGTERM)
    return [place.row("stored runs: one of two watchers killed for good", plan, both)]


def stored_server_killed(place: Place, runs: int, *, away: float = 10.0) -> list[Row]:
    """Kill the server of raw runs and predictions in the midst of the runs, and start it again."""
    plan = place.plan("stored-server", runs, raw_path="stored-server-raw")
    place.store(plan.raw_path, [plan.uids[0]])
    with _watcher(place, plan.path, "one") as watcher:
        watcher.connected()
        storing = _stored_meanwhile(place, plan.raw_path, plan.uids[1:])
        while len(watcher.said) < runs // 3:
            time.sleep(0.1)
        place.server.kill()
        time.sleep(away)
        place.server.start()
        storing.join(ANSWERING)
        settle(place, plan.path, plan.uids)
        watcher.end(signal.SIGTERM)
    return [place.row(f"stored runs: their server killed for {away:g} s", plan, [watcher])]


def _watcher(place: Place, path: str, name: str) -> Watcher:
    """Start a watcher as on a computer of its own."""
    source = ("--from-tiled", place.server.uri, "--raw", f"{path}-raw", "--from-beginning")
    return Watcher(place, source, path, patience=5.0, folder=f"{path}-{name}")


def _stored_meanwhile(place: Place, path: str, uids: Sequence[str]) -> Thread:
    """Store raw runs in a thread; what a server that is away did not take is stored later."""

    def store() -> None:
        from bluesky_xpdml.factory.bench.fault_server import KEY
        from bluesky_xpdml.publish import TiledPublisher

        publisher = TiledPublisher.from_uri(place.server.uri, api_key=KEY, path=path)
        waiting = list(uids)
        while waiting:
            try:
                publisher.publish(list(run_documents(waiting[0], time.time())))
            except ServerAwayError:
                time.sleep(RETRY)
                continue
            del waiting[0]
            time.sleep(_PACE)
        publisher.close()

    thread = Thread(target=store, daemon=True)
    thread.start()
    return thread
