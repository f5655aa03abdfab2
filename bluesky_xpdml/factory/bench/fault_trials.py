"""Trials in a session: servers, networks, disks, the process of the analysis, files that are named."""

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from json import loads
from pathlib import Path

from bluesky_xpdml.factory.bench.fault_place import (
    ANSWERING,
    Place,
    Row,
    small_disk,
    wait_stopped,
)
from bluesky_xpdml.factory.bench.fault_process import Program
from bluesky_xpdml.factory.bench.fault_server import Proxy
from bluesky_xpdml.factory.bench.fault_session import Plan

PACE = 0.03
"""Pause between runs while something fails [s]."""
OUTAGE = 3.0
"""How long something is away [s]."""


def server_killed(place: Place, runs: int, *, emptied: bool = False) -> list[Row]:
    """Kill the server within the runs, and start it again, with or without its storage."""
    plan = place.plan(
        f"killed-{'empty' if emptied else 'kept'}", runs, pace=PACE, drain=ANSWERING, end="close"
    )
    with place.session(plan) as session:
        wait_stopped(session, runs // 3)
        _wait_answers(place, plan.path, runs // 10)
        place.server.kill()
        gone = _whole_in(place.folder / "storage" / "catalog.db") if emptied else set()
        time.sleep(OUTAGE)
        place.server.kill(emptied=emptied)
        place.server.start()
        session.wait(ANSWERING)
    answers = place.server.answers(plan.path)
    sent = [uid for uid in plan.uids if uid not in gone]
    what = "server killed, back " + ("empty" if emptied else "with its storage")
    return [place.row(what, plan, [session], sent=sent, answers=answers)]


def server_killed_and_emptied(place: Place, runs: int) -> list[Row]:
    """Kill the server and remove its storage; what it had confirmed is gone with it, and not counted."""
    return server_killed(place, runs, emptied=True)


def _wait_answers(place: Place, path: str, number: int) -> None:
    end = time.monotonic() + ANSWERING
    while len(place.server.answers(path).questions) < number and time.monotonic() < end:
        time.sleep(0.2)


def _whole_in(file: Path) -> set[str]:
    """Return the raw runs that have a whole answer in the file of a server that was killed."""
    with closing(sqlite3.connect(file)) as catalog:
        rows = catalog.execute("SELECT metadata FROM nodes WHERE structure_family = 'container'").fetchall()
    found = [loads(text) for (text,) in rows]
    return {
        str(each["start"]["raw_uid"])
        for each in found
        if isinstance(each, dict) and "stop" in each and "raw_uid" in each.get("start", {})
    }


def key_refused(place: Place, runs: int) -> list[Row]:
    """Refuse the key for some time."""
    with _behind_proxy(place, "key", runs) as (proxy, plan, session):
        wait_stopped(session, runs // 3)
        proxy.refuses = True
        wait_stopped(session, 2 * runs // 3)
        time.sleep(OUTAGE)
        proxy.refuses = False
        session.wait(ANSWERING)
    return [place.row("key refused midway", plan, [session])]


def server_slow(place: Place, runs: int) -> list[Row]:
    """Let each request take a second longer."""
    with _behind_proxy(place, "slow", runs, delay=1.0) as (_, plan, session):
        session.wait(ANSWERING)
    return [place.row("1 s a request", plan, [session])]


def server_failing(place: Place, runs: int) -> list[Row]:
    """Answer each third request with status 500, before it was done, then after it was done."""
    rows = []
    for is_lost in (False, True):
        name = "failing-after" if is_lost else "failing-before"
        with _behind_proxy(place, name, runs, every=3, is_lost=is_lost) as (_, plan, session):
            session.wait(ANSWERING)
        what = "each third answer a 500" + (", though it was done" if is_lost else "")
        rows.append(place.row(what, plan, [session]))
    return rows


@contextmanager
def _behind_proxy(
    place: Place, name: str, runs: int, *, delay: float = 0.0, every: int = 0, is_lost: bool = False
) -> Iterator[tuple[Proxy, Plan, Program]]:
    with Proxy(place.server.port) as proxy:
        proxy.delay, proxy.every, proxy.is_lost = delay, every, is_lost
        plan = place.plan(name, runs, uri=proxy.uri, pace=PACE, drain=ANSWERING, end="close")
        with place.session(plan) as session:
            yield proxy, plan, session


def disk_full(place: Place, runs: int) -> list[Row]:
    """Fill the disk of the state folder within the runs, and free it again."""
    plan = place.plan("disk-full", runs, pace=10 * PACE, drain=ANSWERING, end="close")
    with small_disk(Path(plan.folder), 16_000_000) as disk:
        if not disk["mounted"]:
            return []
        ballast = Path(plan.folder) / "ballast"
        with place.session(plan) as session:
            wait_stopped(session, runs // 3)
            _fill(ballast)
            wait_stopped(session, 2 * runs // 3)
            time.sleep(OUTAGE)
            ballast.unlink()
            session.wait(ANSWERING)
    return [place.row("disk full, and freed", plan, [session])]


def _fill(file: Path) -> None:
    """Write zeros until the disk is full."""
    with file.open("wb", buffering=0) as ballast:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    ballast.write(bytes(size))
            except OSError:
                continue


def analysis_killed(place: Place, runs: int, *, kills: int = 10) -> list[Row]:
    """Kill the process of the analysis again and again, at random."""
    chance = random.Random(1)  # noqa: S311 - not secret
    plan = place.plan("analysis", runs, pace=5.0 * PACE, drain=ANSWERING, end="close")
    with place.session(plan) as session:
        session.wait_for_key("ready")
        done, end = 0, time.monotonic() + ANSWERING
        while done < kills and time.monotonic() < end and session.value("closed") is None:
            time.sleep(chance.uniform(0.5, 4.0))
            done += session.kill_analysis()
        session.wait(ANSWERING)
    return [place.row(f"analysis killed {done} times", plan, [session])]


def two_publishers(place: Place, runs: int) -> list[Row]:
    """Answer everything in two sessions at once, whose state is apart."""
    plan = place.plan("two", runs, drain=ANSWERING, end="close")
    other = place.plan("two", runs, drain=ANSWERING, end="close", folder=str(place.folder / "two-b"))
    with place.session(plan) as first, place.session(other) as second:
        for each in (first, second):
            each.wait(ANSWERING)
    return [place.row("two publishers of everything", plan, [first, second])]


def burst(place: Place, runs: int) -> list[Row]:
    """Feed runs as fast as the callback takes them."""
    plan = place.plan("burst", runs, drain=ANSWERING, end="close")
    with place.session(plan) as session:
        session.wait(ANSWERING)
    return [place.row(f"{runs} runs in a burst", plan, [session])]


def clock_back(place: Place, runs: int) -> list[Row]:
    """Analyse everything again by a later analysis whose clock is an hour back: it has to become current."""
    from bluesky_xpdml.publish import PredictionCatalog, open_existing

    # Within the session's own process, which has that clock.
    plan = place.plan("clock", runs, drain=ANSWERING, end="close", limits={"isolated": False})
    later = place.plan(
        "clock", runs, drain=ANSWERING, end="close", limits={"isolated": False}, clock=-3600.0, revision=1
    )
    programs = []
    for each in (plan, later):
        with place.session(each) as session:
            session.wait(ANSWERING)
        programs.append(session)
    container = open_existing(plan.uri, api_key=plan.key, path=plan.path)
    with closing(container.context.http_client):
        current = [answer for uid in plan.uids for answer in PredictionCatalog(container).of_run(uid)]
    newest = max((each.revision for each in current), default=0)
    found = {each.raw_uids[0] for each in current if each.revision == newest}
    row = place.row("clock an hour back for the later analysis", plan, programs)
    # Two analyses of a run are two answers that stand beside each other; current is one.
    return [row | {"found": len(found), "lost": runs - len(found), "doubled": len(current) - len(found)}]
