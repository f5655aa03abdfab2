"""Where faults are tried: a server, folders, the sessions of a trial, and the row that it ends in."""

import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import which
from typing import Any, Self

from bluesky_xpdml.factory.bench.fault_process import Program
from bluesky_xpdml.factory.bench.fault_server import KEY, Answers, Server
from bluesky_xpdml.factory.bench.fault_session import Plan, run_documents, start_session

ANSWERING = 600.0
"""Longest time until everything is answered [s]."""
SURE = 0.5
"""A run whose stop came so long before a kill is on the disk [s]."""

Row = dict[str, Any]


class Place:
    """A folder and a server in which faults are tried one after the other.

    Parameters
    ----------
    folder
        Empty.
    server
        Another one than that of `fault_server`.
    """

    def __init__(self, folder: Path, server: Server | None = None) -> None:
        self.folder = folder
        self.server = server or Server(folder)
        self._open = ExitStack()
        self._open.enter_context(self.server)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def plan(self, name: str, runs: int = 0, **more: Any) -> Plan:
        """Return what a session of a trial does: so many runs into a container of the trial."""
        uids = [f"{name}-{number}" for number in range(runs)]
        given = {
            "uri": self.server.uri,
            "path": name,
            "folder": str(self.folder / name),
            "uids": uids,
            **more,
        }
        return Plan(key=KEY, **given)

    def session(self, plan: Plan) -> Program:
        """Start a session."""
        Path(plan.folder).mkdir(parents=True, exist_ok=True)
        return start_session(plan, self.folder / f"{plan.path}.log")

    def answer(self, plan: Plan) -> Program:
        """Return a session without runs of its own, which has answered what others left."""
        program = self.session(replace(plan, uids=(), drain=ANSWERING, end="close", hostile=()))
        program.wait(ANSWERING + 60.0)
        return program

    def row(
        self,
        fault: str,
        plan: Plan,
        programs: Sequence[Program],
        *,
        sent: Collection[str] | None = None,
        failures: Collection[str] = (),
        answers: Answers | None = None,
    ) -> Row:
        """Return the row of a trial; what is counted is in the container of its plan, if not given."""
        uids = set(plan.uids if sent is None else sent)
        answers = answers or self.server.answers(plan.path)
        found = answers.found(uids, failures)
        longest = [each.value("longest_ms") for each in programs]
        return {
            "fault": fault,
            "sent": len(uids),
            "found": found,
            "lost": len(uids) - found,
            "doubled": answers.doubled,
            "longest_document_ms": max((each for each in longest if each is not None), default=None),
            "memory_mb": max((each.largest_memory for each in programs), default=0) / 1e6,
        }

    def store(self, path: str, uids: Sequence[str]) -> None:
        """Write raw runs into a container, as a facility does."""
        from bluesky_xpdml.publish import TiledPublisher

        publisher = TiledPublisher.from_uri(self.server.uri, api_key=KEY, path=path)
        try:
            for uid in uids:
                publisher.publish(list(run_documents(uid, time.time())))
        finally:
            publisher.close()


def stopped(program: Program, *, before: float | None = None) -> list[str]:
    """Return the runs whose stop document a session was given, until a moment of `time.monotonic` [s]."""
    return [
        each["stopped"]
        for each in tuple(program.said)
        if "stopped" in each and (before is None or each["at"] <= before)
    ]


def wait_stopped(program: Program, number: int) -> None:
    """Wait until a session was given so many whole runs."""
    program.wait_for(lambda said: sum("stopped" in each for each in said) >= number, ANSWERING)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Mapping[str, Any]]:
    """Mount a disk of some size [bytes] at a folder; yield whether that is permitted as `mounted`."""
    folder.mkdir(parents=True, exist_ok=True)
    mount, umount = which("mount"), which("umount")
    command = [str(mount), "-t", "tmpfs", "-o", f"size={size},mode=700", "xpdml-bench", str(folder)]
    done = mount and umount and not subprocess.run(command, check=False, capture_output=True).returncode  # noqa: S603
    try:
        yield {"mounted": bool(done)}
    finally:
        if done:
            subprocess.run([str(umount), "-l", str(folder)], check=False, capture_output=True)  # noqa: S603
