"""A hang, a crash and a bomb in one run end as its failure with the reason; all other runs are answered."""

import os
import signal
import sys
import time

import pytest

from bluesky_xpdml import BundleStore, CallbackPublisher, XpdmlCallback
from bluesky_xpdml.demo.simulated_scan import simulated_scan
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.settings import LimitSettings
from bluesky_xpdml.vocabulary import ReasonCode

PATIENCE = 240.0

STORE = '''
"""Models at which the analysis hangs, crashes, or takes all memory."""

import os
import signal
import time

from bluesky_xpdml.models.store import BundleStore


class HostileStore(BundleStore):
    def find(self, element, edge, modality):
        match element:
            case "Ti":
                time.sleep(600)
            case "V":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "Cr":
                taken = [bytearray(50_000_000) for _ in range(100)]
                raise AssertionError(len(taken))
        return super().find(element, edge, modality)
'''


@pytest.fixture(scope="module")
def hostile_store(tmp_path_factory):
    """Return models of a module that the process of the analysis can import, too."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "hostile_store.py").write_text(STORE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        from hostile_store import HostileStore

        yield HostileStore(BundleStore.default().folder)
    del sys.modules["hostile_store"]


def scan_of(element, uid):
    """Yield the documents of a scan at the K edge of an element."""
    scan = simulated_scan()
    columns = {name: getattr(scan, name)[::4] for name in ("energy", "i0", "it", "ir")}
    columns["energy"] = columns["energy"] + FOIL_ENERGIES[element] - FOIL_ENERGIES["Fe"]
    start = {"uid": uid, "time": 0.0, "plan_name": "xafs", "element": element, "edge": "K"}
    yield "start", start
    keys = {name: {"dtype": "number", "shape": [], "source": "scan"} for name in columns}
    keys["energy"]["units"] = "eV"
    yield "descriptor", {"uid": f"{uid}-d", "run_start": uid, "name": "primary", "data_keys": keys}
    for number, values in enumerate(zip(*columns.values(), strict=True), start=1):
        data = dict(zip(columns, map(float, values), strict=True))
        event = {"uid": f"{uid}-{number}", "descriptor": f"{uid}-d", "seq_num": number, "time": 0.0}
        yield "event", event | {"data": data, "timestamps": dict.fromkeys(data, 0.0)}
    yield "stop", {"uid": f"{uid}-s", "run_start": uid, "exit_status": "success", "time": 1.0}


def feed(callback, *elements):
    for number, element in enumerate(elements):
        for name, document in scan_of(element, f"{element}-{number}"):
            callback(name, document)


def codes(derived, uid):
    return derived.of(uid)["quality"]["codes"]


def test_a_run_at_which_the_analysis_hangs_crashes_or_bursts_fails_with_the_reason(derived, hostile_store):
    limits = LimitSettings(time=4.0, memory=3e8)
    with XpdmlCallback(
        CallbackPublisher(derived), store=hostile_store, isolated=True, limits=limits
    ) as callback:
        feed(callback, "Fe", "Ti", "Fe", "V", "Fe", "Cr", "Fe")
        assert callback.drain(PATIENCE)
        counts = callback.statistics
    assert codes(derived, "Ti-1") == [ReasonCode.TIME_LIMIT]
    assert codes(derived, "V-3") == [ReasonCode.PROCESS_ENDED]
    assert codes(derived, "Cr-5") == [ReasonCode.MEMORY_LIMIT]
    assert [derived.of(f"Fe-{number}")["quality"]["verdict"] for number in (0, 2, 4, 6)] == ["good"] * 4
    assert (counts.predicted, counts.failed, len(derived.starts)) == (4, 3, 7)


def plain(derived):
    """Return documents without the moments at which they were made."""
    volatile = {"time", "timestamps"}
    return [
        (name, {key: value for key, value in document.items() if key not in volatile})
        for name, document in derived.documents
    ]


def test_answers_are_the_same_with_and_without_isolation(derived, store):
    for isolated in (False, True):
        with XpdmlCallback(CallbackPublisher(derived), store=store, isolated=isolated) as callback:
            feed(callback, "Fe", "Ni")
            assert callback.drain(PATIENCE)
    documents = plain(derived)
    half = len(documents) // 2
    assert half > 4
    assert [name for name, _ in documents[:half]] == [name for name, _ in documents[half:]]
    for (_, inside), (_, outside) in zip(documents[:half], documents[half:], strict=True):
        assert {**inside, "uid": ""} == {**outside, "uid": ""}
    uids = [start["uid"] for start in derived.starts]
    assert uids[:2] == uids[2:]


def next_child(callback, killed):
    """Return the number of the process of the analysis, once there is another than those that were killed."""
    end = time.monotonic() + PATIENCE
    while (pid := callback._processor.pid) in killed:
        assert time.monotonic() < end, "no process was started again"
        time.sleep(0.01)
    return pid


def test_an_analysis_that_is_killed_from_outside_loses_no_run(derived, store):
    with XpdmlCallback(CallbackPublisher(derived), store=store, isolated=True) as callback:
        killed = []
        for number in range(4):
            for name, document in scan_of("Fe", f"run-{number}"):
                callback(name, document)
            if number < 3:
                killed.append(next_child(callback, killed))
                os.kill(killed[-1], signal.SIGKILL)
        assert callback.drain(PATIENCE)
        assert callback.statistics.predicted == 4
    assert sorted(start["raw_uid"] for start in derived.starts) == [f"run-{number}" for number in range(4)]
