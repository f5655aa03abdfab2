"""Trials of ends: sessions with queued runs that end in every way, answered by the next one."""

import signal
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType

from bluesky_xpdml.factory.bench.fault_place import SURE, Place, Row
from bluesky_xpdml.factory.bench.fault_process import Program

ENDS: Mapping[str, tuple[str, tuple[int, ...]]] = MappingProxyType(
    {
        "return": ("return", ()),
        "an exception": ("exception", ()),
        "sys.exit": ("exit", ()),
        "ctrl-C": ("wait", (signal.SIGINT,)),
        "ctrl-C twice": ("wait", (signal.SIGINT, signal.SIGINT)),
        "SIGTERM": ("wait", (signal.SIGTERM,)),
        "SIGHUP": ("wait", (signal.SIGHUP,)),
        "kill -9": ("wait", (signal.SIGKILL,)),
    }
)
"""How a session ends, and the signals that it gets, by what happens."""


def session_ends(place: Place, runs: int, *, ends: Collection[str] = tuple(ENDS)) -> list[Row]:
    """End a session with runs queued; the next session answers them without being asked."""
    plan = place.plan("ends")
    ended: dict[str, tuple[Program, list[str], int]] = {}
    for end in ends:
        how, numbers = ENDS[end]
        uids = [f"{end.replace(' ', '-')}-{number}" for number in range(runs)]
        program = place.session(replace(plan, uids=uids, end=how))
        program.wait_for_key("fed")
        if signal.SIGKILL in numbers:
            time.sleep(SURE)
        ended[end] = program, uids, program.end(*numbers)
    last = place.answer(plan)
    answers = place.server.answers(plan.path)
    return [
        place.row(
            f"session with queued runs ends by {end}, status {shell_status(status)}",
            plan,
            [program, last],
            sent=uids,
            answers=answers.of(uids),
        )
        for end, (program, uids, status) in ended.items()
    ]


def shell_status(status: int) -> int:
    """Return the status of a process as a shell shows it: 128 and the signal for one that a signal ended."""
    return 128 - status if status < 0 else status
