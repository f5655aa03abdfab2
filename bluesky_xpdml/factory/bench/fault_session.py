"""A session with a subscribed callback, run as a process of its own that can end in any way.

What it is to do comes as JSON in its argument; it says on stdout, one JSON object per line, which runs have
stopped, and how long the longest call of the callback took.
"""

import json
import logging
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from bluesky_xpdml.factory.bench.fault_process import Program

Documents = list[tuple[str, dict[str, Any]]]

POINTS = 4
"""Of the simulated scan, each so-many-th point is kept: 90 are enough for a good answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a session does."""

    uri: str
    key: str
    path: str
    """Container of the predictions."""
    folder: str
    """Above its state folder."""
    uids: Sequence[str] = ()
    """Of the runs that it feeds."""
    raw_path: str = ""
    pace: float = 0.0
    """Pause before each run [s]."""
    keep_up: bool = False
    """Whether it waits for the answer to each run before the next."""
    drain: float = 0.0
    """How long it waits until everything is in Tiled [s]."""
    end: str = "return"
    """`return`, `exception`, `exit`, `close`, or `wait` for a signal."""
    limits: Mapping[str, Any] = field(default_factory=dict)
    hostile: Sequence[str] = ()
    """Files that every second run names."""
    models: str = ""
    """Folder of the model bundles; those that are shipped if empty."""
    clock: float = 0.0
    """How far its clock is off [s]."""
    revision: int = 0
    """How much later than this version its analysis is."""


def start_session(plan: Plan, log: Path) -> Program:
    """Start a session in a process of its own."""
    return Program(["-m", __name__, json.dumps(asdict(plan))], log)


@cache
def _scan() -> Any:
    from bluesky_xpdml.demo.simulated_scan import simulated_scan

    scan = simulated_scan()
    return replace(scan, **{name: getattr(scan, name)[::POINTS] for name in ("energy", "i0", "it", "ir")})


@cache
def _documents() -> Documents:
    from bluesky_xpdml.factory.bench.live import scan_documents

    return list(scan_documents(_scan(), "-"))


def run_documents(uid: str, when: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the documents of an iron scan."""
    keys = {"uid", "run_start", "descriptor"}
    for name, document in _documents():
        renamed = {key: f"{uid}{value[1:]}" if key in keys else value for key, value in document.items()}
        yield name, renamed | {"time": when}


def image_documents(uid: str, file: str, when: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the documents of a total-scattering run whose image is in a file."""
    yield (
        "start",
        {
            "uid": uid,
            "time": when,
            "beamline_id": "xpd",
            "sample_composition": {"Ni": 1, "O": 1},
            "sample_name": "NiO",
            "calibration_md": {
                "dist": 0.2,
                "poni1": 0.0,
                "poni2": 0.0,
                "rot1": 0.0,
                "rot2": 0.0,
                "rot3": 0.0,
                "wavelength": 1.836e-11,
                "pixel1": 1.3e-3,
                "pixel2": 1.3e-3,
            },
        },
    )
    kwargs = {"path": "flat", "dataset": "flat", "frame_per_point": 1}
    resource = {"uid": f"{uid}-r", "run_start": uid, "spec": "AD_HDF5", "root": "", "resource_path": file}
    key = {"source": "", "dtype": "array", "shape": [1, 60_000, 60_000], "external": "FILESTORE:"}
    yield (
        "descriptor",
        {
            "uid": f"{uid}-d",
            "run_start": uid,
            "name": "scattering",
            "time": when,
            "data_keys": {"pe1c_image": key},
        },
    )
    yield "resource", resource | {"resource_kwargs": kwargs, "path_semantics": "posix"}
    yield "datum", {"datum_id": f"{uid}-r/0", "resource": f"{uid}-r", "datum_kwargs": {"point_number": 0}}
    event = {"uid": f"{uid}-e", "descriptor": f"{uid}-d", "seq_num": 1, "time": when, "timestamps": {}}
    yield "event", event | {"data": {"pe1c_image": f"{uid}-r/0"}, "filled": {"pe1c_image": False}}
    yield "stop", {"uid": f"{uid}-s", "run_start": uid, "exit_status": "success", "time": when}


class Session:
    """Feeds a callback and times its calls."""

    def __init__(self, plan: Plan) -> None:
        from bluesky_xpdml.callbacks.callback import XpdmlCallback
        from bluesky_xpdml.settings import LimitSettings, Settings

        self._plan = plan
        self.callback = XpdmlCallback.from_uri(
            plan.uri,
            api_key=plan.key,
            path=plan.path,
            raw_path=plan.raw_path or None,
            settings=Settings(models_folder=Path(plan.models)) if plan.models else None,
            outbox=plan.folder,
            limits=LimitSettings(**plan.limits),
        )
        self.longest = 0.0

    def feed(self) -> None:
        """Feed all runs."""
        for number, uid in enumerate(self._plan.uids):
            time.sleep(self._plan.pace)
            when = time.time()
            hostile = self._plan.hostile
            documents = list(
                image_documents(uid, hostile[number // 2 % len(hostile)], when)
                if hostile and number % 2
                else run_documents(uid, when)
            )
            for name, document in documents:
                begin = time.perf_counter()
                self.callback(name, document)
                self.longest = max(self.longest, time.perf_counter() - begin)
            if self._plan.keep_up:
                self.callback.drain(self._plan.drain)
            say(stopped=uid, at=time.monotonic(), longest_ms=self.longest * 1e3)

    def finish(self) -> None:
        """Wait for the answers, and end as planned."""
        if self._plan.drain:
            say(drained=self.callback.drain(self._plan.drain))
        say(fed=True, statistics=asdict(self.callback.statistics))
        match self._plan.end:
            case "exception":
                raise RuntimeError("the session ends by an error")
            case "exit":
                sys.exit(5)
            case "close":
                closed = self.callback.close()
                say(closed=closed, kept_runs=self.callback.kept.runs)
            case "wait":
                while True:
                    signal.pause()


def say(**entries: Any) -> None:
    """Write a line of JSON, which outlasts a kill of this process."""
    sys.stdout.write(json.dumps(entries) + "\n")
    sys.stdout.flush()


def _change_clock(plan: Plan) -> None:
    """Let this process have another time, and a later analysis, as planned."""
    if plan.clock:
        real = time.time
        # Before anything is imported that keeps a reference to it.
        time.time = lambda: real() + plan.clock
    writing: Any = import_module("bluesky_xpdml.publish.documents")
    writing.ANALYSIS_REVISION += plan.revision


def main(text: str) -> None:
    """Do what a plan says."""
    plan = Plan(**json.loads(text))
    # A shell that starts the bench in the background has them ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    _change_clock(plan)
    session = Session(plan)
    say(ready=True)
    session.feed()
    session.finish()


if __name__ == "__main__":
    main(sys.argv[1])
