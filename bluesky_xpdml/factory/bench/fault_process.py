"""Processes that faults are done to: what they say, how much memory they take, and how they end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Any, Self

from bluesky_xpdml.errors import XpdmlError

PATIENCE = 120.0
"""Longest time that a process may take to start, or to end, on a busy machine [s]."""
SAMPLING = 0.25
"""Interval of the measurements of memory [s]."""
ANALYSIS = "bluesky_xpdml.callbacks.child"
"""Stands in the command of a process of the analysis."""


class Program:
    """A process whose lines of JSON on stdout are kept, and whose memory is measured.

    Parameters
    ----------
    command
        Arguments after that of Python.
    log
        File that takes its stderr.
    environment
        Variables in addition to those of this process.
    """

    def __init__(self, command: Sequence[str], log: Path, **environment: str) -> None:
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - this program
                [sys.executable, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
                text=True,
            )
        self.pid = self._process.pid
        self.said: list[dict[str, Any]] = []
        self.largest_memory = 0
        """Largest sum of its resident memory and that of its children [bytes]."""
        self.memory: list[int] = []
        """That sum every `SAMPLING` [bytes]."""
        self._changed = Condition()
        self._ended = Event()
        self._threads = [Thread(target=each, daemon=True) for each in (self._read, self._measure)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)

    def wait_for(
        self, condition: Callable[[list[dict[str, Any]]], object], timeout: float = PATIENCE
    ) -> None:
        """Wait until what was said fulfils a condition.

        Raises
        ------
        XpdmlError
            If the process ended before, or took too long.
        """
        with self._changed:
            reached = self._changed.wait_for(
                lambda: condition(self.said) or not self._threads[0].is_alive(), timeout
            )
        if not (reached and condition(self.said)):
            text = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise XpdmlError(
                f"expected a process to go on, found {self.said[-1:]}, status {self._process.poll()}; "
                f"it wrote {text}"
            )

    def wait_for_key(self, key: str, timeout: float = PATIENCE) -> Any:
        """Wait for a line with a key and return its value; raises as `wait_for`."""
        self.wait_for(lambda said: any(key in each for each in said), timeout)
        return self.value(key)

    def value(self, key: str) -> Any:
        """Return the value of the newest line with a key; None if there is none."""
        return next((each[key] for each in reversed(tuple(self.said)) if key in each), None)

    def signal(self, number: int) -> None:
        """Send a signal, if the process lives."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def end(self, *numbers: int, pause: float = 0.3) -> int:
        """Send signals with pauses between them [s], wait for the end, and return the status."""
        for place, number in enumerate(numbers):
            time.sleep(pause if place else 0.0)
            self.signal(number)
        return self.wait()

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for the end and return the status; what does not end in time [s] is killed."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._ended.set()
        for thread in self._threads:
            thread.join()
        return self._process.returncode

    def kill_analysis(self) -> bool:
        """Kill the process of the analysis below it, and return whether there was one."""
        found = [pid for pid in children(self.pid) if ANALYSIS in _command(pid)]
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return False
        return bool(found)

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - for the type checker
        with stdout:
            for line in stdout:
                try:
                    entry = json.loads(line)
                except ValueError:
                    entry = {"line": line}
                with self._changed:
                    self.said.append(entry)
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _measure(self) -> None:
        while not self._ended.wait(SAMPLING) and self._process.poll() is None:
            taken = sum(resident(pid) for pid in (self.pid, *children(self.pid)))
            self.memory.append(taken)
            self.largest_memory = max(self.largest_memory, taken)


def children(parent: int) -> list[int]:
    """Return the processes below one, its children and theirs; none where there is no /proc."""
    below: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        below.setdefault(int(fields[1]), []).append(int(path.name))
    found, waiting = list[int](), [parent]
    while waiting:
        new = below.get(waiting.pop(), [])
        found += new
        waiting += new
    return found


def resident(pid: int) -> int:
    """Return the resident memory of a process [bytes]; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
