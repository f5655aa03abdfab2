"""`xpdml watch` as beamlines run it, with a RunEngine, a 0MQ proxy and a Tiled server."""

import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import zmq

from bluesky_xpdml import TiledPublisher, find_predictions
from bluesky_xpdml.demo.beamline import (
    ImageFormat,
    ScatteringBeamline,
    XasBeamline,
    scan_sample,
    scattering_scan,
)
from bluesky_xpdml.sources.zmq import safe_publisher

PROGRAM = Path(sys.executable).with_name("xpdml")
PATIENCE = 240.0
TO_THE_END = ("--patience", "200")
PROXY = """
import sys
from bluesky.callbacks.zmq import Proxy
proxy = Proxy(*sys.argv[1:3])
print(proxy.in_port, proxy.out_port, flush=True)
proxy.start()
"""


class Process:
    """A process whose lines can be waited for."""

    def __init__(self, *command):
        self.process = subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.out, self.err = queue.Queue(), queue.Queue()
        self.threads = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for thread in self.threads:
            thread.start()

    @staticmethod
    def _read(stream, lines):
        with stream:
            for line in stream:
                lines.put(line.rstrip("\n"))

    def line(self):
        return self.out.get(timeout=PATIENCE)

    def note(self, text):
        """Wait for a line on stderr that holds a text and return it."""
        seen = []
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            seen.append(self.err.get(timeout=PATIENCE))
            if text in seen[-1]:
                return seen[-1]
        raise AssertionError(seen[-5:])

    def end(self, number):
        """Send a signal, wait, and return the exit status."""
        self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.close()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for thread in self.threads:
            thread.join()


class Proxy:
    def __init__(self, addresses=("tcp://127.0.0.1", "tcp://127.0.0.1")):
        self.process = Process(sys.executable, "-c", PROXY, *addresses)
        self.addresses = self.process.line().split()

    def restart(self):
        self.process.end(signal.SIGKILL)
        self.process = Process(sys.executable, "-c", PROXY, *self.addresses)
        assert self.process.line().split() == self.addresses


@pytest.fixture(scope="module")
def proxy():
    opened = Proxy()
    yield opened
    opened.process.close()


def watching(proxy, tiled_server, *more):
    target = ("--tiled", tiled_server.uri, "--into", "watched")
    process = Process(PROGRAM, "watch", "--zmq", proxy.addresses[1], *target, *TO_THE_END, *more)
    with ExitStack() as if_it_fails:
        if_it_fails.callback(process.close)
        process.note("connected to tcp://127.0.0.1")
        if_it_fails.pop_all()
    return process


@pytest.fixture(scope="module")
def watcher(proxy, tiled_server, images):
    """Return the command that listens through all tests, whatever comes."""
    process = watching(proxy, tiled_server, "--json", "--heartbeat", "0.5", "--root", images)
    yield process
    assert process.end(signal.SIGTERM) == 0


@pytest.fixture
def measure(proxy, run_engine):
    """Return a function that measures with a publisher of its own, and returns the uid of the run."""

    def run(plan):
        with publishing(proxy) as publisher:
            token = run_engine.subscribe(publisher)
            try:
                return run_engine(plan)[-1]
            finally:
                run_engine.unsubscribe(token)

    return run


class Echo:
    """Listens to the proxy, to know that what was sent went through it."""

    def __init__(self, context, proxy):
        self.socket = context.socket(zmq.SUB)
        self.socket.set(zmq.RCVHWM, 0)
        self.socket.subscribe(b"")
        self.socket.connect(proxy.addresses[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def confirm(self, send):
        """Send a harmless document until it comes out of the proxy, and with it all that was sent before."""
        probe = uuid.uuid4().hex
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            send(b' datum {"datum_id": "%s", "resource": "none"}' % probe.encode())
            while self.socket.poll(100):
                if probe.encode() in self.socket.recv():
                    return
        raise AssertionError("the proxy passes nothing on")


@contextmanager
def publishing(proxy):
    """Give a publisher whose connection is up; what it sent has left it when it is closed."""
    publisher = safe_publisher(proxy.addresses[0])

    def send(message):
        publisher("datum", json.loads(message.split(b" ", 2)[2]))

    with zmq.Context() as context, Echo(context, proxy) as echo:
        echo.confirm(send)
        try:
            yield publisher
        finally:
            echo.confirm(send)
            publisher.close()


@pytest.fixture
def found(tiled_server):
    """Return a function that returns the derived runs of a raw run."""
    publisher = TiledPublisher.from_uri(tiled_server.uri, path="watched")
    yield lambda uid: [run.metadata["start"] for run in find_predictions(publisher.container, uid)]
    publisher.close()


def test_a_scan_becomes_a_line_and_a_prediction_in_tiled(watcher, measure, found):
    uid = measure(scan_sample(XasBeamline(seed=1), "LaFeO3"))
    said = json.loads(watcher.line())
    assert (said["raw_uid"], said["technique"], said["element"]) == (uid, "xanes", "Fe")
    assert 2.5 < said["descriptors"]["oxidation_state"]["value"] < 3.5
    assert said["seconds"] > 0.0
    (start,) = found(uid)
    assert (start["uid"], start["completeness"]) == (said["derived_uid"], 1.0)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_messages_of_strangers_are_counted_and_pickles_never_loaded(watcher, proxy, measure, found, tmp_path):
    trap = tmp_path / "sprung"
    with zmq.Context() as context, context.socket(zmq.PUB) as stranger, Echo(context, proxy) as echo:
        stranger.connect(proxy.addresses[0])
        echo.confirm(stranger.send)
        for message in (
            os.urandom(300).replace(b" ", b"x"),
            b" start " + pickle.dumps(Trap(trap)),
            b" start " + pickle.dumps({"uid": "a", "trap": Trap(trap)}, protocol=0),
            b' start {"temperature": 21.5}',
            b' stop {"run_start": "never seen"}',
            b' event {"descriptor": 5, "data": null}',
            b" start \x81\xa3uid",
        ):
            stranger.send(message)
        watcher.note("1 x a start without uid")
        note = watcher.note("neither")
    assert "2 x expected msgpack or JSON, found a pickle" in note
    assert not trap.exists()
    uid = measure(scan_sample(XasBeamline(seed=2), "LaMnO3"))
    assert json.loads(watcher.line())["raw_uid"] == uid
    assert len(found(uid)) == 1


@pytest.mark.slow
def test_a_restarted_proxy_is_found_again(watcher, proxy, measure):
    proxy.restart()
    watcher.note("connected to")
    uid = measure(scan_sample(XasBeamline(seed=3), "La2NiWO6"))
    assert json.loads(watcher.line())["raw_uid"] == uid


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Return the folder of images that the command may read."""
    return tmp_path_factory.mktemp("images")


@pytest.mark.slow
def test_images_in_external_files_are_read_from_disk(watcher, measure, found, images):
    beamline = ScatteringBeamline(seed=3, pixels=256, image_format=ImageFormat.HDF5, folder=images)
    uid = measure(scattering_scan(beamline, "LaFeO3", frames=2))
    said = json.loads(watcher.line())
    assert (said["raw_uid"], said["technique"], said["element"]) == (uid, "pdf", "Fe")
    (start,) = found(uid)
    assert start["analysis"]["settings"]["integration"]["n_frames"] == 2


def test_files_outside_of_the_roots_are_refused_with_a_reason(watcher, measure, tmp_path):
    """Whoever reaches the proxy can send documents that name files."""
    beamline = ScatteringBeamline(seed=3, pixels=256, image_format=ImageFormat.HDF5, folder=tmp_path)
    uid = measure(scattering_scan(beamline, "LaFeO3", frames=2))
    said = json.loads(watcher.line())
    assert (said["raw_uid"], said["quality"]["verdict"]) == (uid, "failed")
    reasons = "; ".join(said["quality"]["reasons"])
    assert "outside of the folders under [roots] in the settings" in reasons


def test_without_roots_no_file_is_opened(proxy, tiled_server, measure, tmp_path):
    process = watching(proxy, tiled_server, "--json")
    try:
        beamline = ScatteringBeamline(seed=3, pixels=256, image_format=ImageFormat.HDF5, folder=tmp_path)
        uid = measure(scattering_scan(beamline, "LaFeO3", frames=2))
        said = json.loads(process.line())
        assert (said["raw_uid"], said["quality"]["verdict"]) == (uid, "failed")
        assert "under [roots] in the settings, or give --root" in "; ".join(said["quality"]["reasons"])
    finally:
        assert process.end(signal.SIGTERM) == 0


def test_waiting_documents_are_analysed_before_it_stops(proxy, tiled_server, found, run_engine):
    """The signal comes while the documents of several runs wait, and in the midst of another."""
    process = watching(proxy, tiled_server, "--live", "--live-interval", "0")
    with publishing(proxy) as publisher:
        token = run_engine.subscribe(publisher)
        beamline = XasBeamline(seed=4)
        uids = [run_engine(scan_sample(beamline, name))[-1] for name in ("NaFeO2", "CaMnO3")]
        run_engine.unsubscribe(token)
        publisher("start", {"uid": "cut off", "time": 0.0, "plan_name": "xafs", "element": "Fe", "edge": "K"})
    assert process.end(signal.SIGINT) == 0, list(process.err.queue)[-3:]
    lines = list(process.out.queue)
    assert [line.split()[:3] for line in lines] == [
        [uids[0][:8], "xanes", "Fe"],
        [uids[1][:8], "xanes", "Mn"],
        ["cut", "off", "xanes"],
    ]
    assert "closed before the run stopped" in lines[2]
    assert list(process.err.queue)[-1].endswith("stopped")
    for uid in uids:
        assert "xpdml" in {start["purpose"] for start in found(uid)}, "what waited was published"


def test_a_settings_file_is_enough_and_its_repeats_are_merged(
    proxy, tiled_server, run_engine, iron_scan, tmp_path
):
    address, _, key = tiled_server.uri.partition("?api_key=")
    path = tmp_path / "night.toml"
    path.write_text(
        f'[tiled]\nuri = "{address}"\npath = "night"\n'
        "[calibration]\nenergy_offset = 0.5\n[repeats]\nwithin = 3600\n[pairing]\nwithin = 3600\n"
    )
    named = ("--settings", path, "--api-key", key)
    process = Process(PROGRAM, "watch", "--zmq", proxy.addresses[1], *named, *TO_THE_END, "--json")
    process.note("connected to tcp://127.0.0.1")
    with publishing(proxy) as publisher:
        token = run_engine.subscribe(publisher)
        uids = [iron_scan()[0][1]["uid"] for _ in range(2)]
        run_engine.unsubscribe(token)
        said = [json.loads(process.line()) for _ in range(3)]
    assert process.end(signal.SIGTERM) == 0
    assert [line["raw_uids"] for line in said] == [uids[:1], uids[1:], uids]
    publisher = TiledPublisher.from_uri(tiled_server.uri, path="night")
    alone, series = [run.metadata["start"] for run in find_predictions(publisher.container, uids[0])]
    publisher.close()
    assert (alone["uid"], series["uid"]) == (said[0]["derived_uid"], said[2]["derived_uid"])
    assert series["analysis"]["settings"]["repeats"]["count"] == 2
    assert series["analysis"]["settings"]["energy_axis"]["offset"] == 0.5
    values = series["analysis"]["resolved_settings"]["values"]
    assert values["repeats_within"] == {"value": 3600.0, "origin": "file"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--zmq", "localhost:5578"), "tiled.uri in the settings"),
        (("--zmq", "beamline.example:5578", "--tiled", "http://127.0.0.1:1"), "on this computer"),
        (("--zmq", "localhost", "--tiled", "http://127.0.0.1:1"), "expected an address"),
    ],
)
def test_a_source_or_server_that_cannot_be_used_is_one_line(xpdml, arguments, message):
    outcome = xpdml("watch", *arguments)
    assert (outcome.status, outcome.out) == (1, "")
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
