"""Encrypted 0MQ connections through Bluesky's own proxy, with right keys, wrong keys and none."""

import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import zmq.auth

from bluesky_xpdml.errors import SourceError
from bluesky_xpdml.sources import zmq as source_module
from bluesky_xpdml.sources.curve import CurveKeys
from bluesky_xpdml.sources.zmq import ZmqSource, safe_publisher

PATIENCE = 120.0
PROXY = """
import sys
from pathlib import Path
from bluesky.callbacks.zmq import Proxy, ServerCurve
end, folder, *addresses = sys.argv[1:]
curve = ServerCurve(Path(folder, "server.key_secret"), Path(folder, "clients"), None)
proxy = Proxy(*addresses, **{end: curve} if end else {})
print(proxy.in_port, proxy.out_port, flush=True)
proxy.start()
"""


class Proxy:
    """Bluesky's proxy in a process of its own, encrypted at one end: `in_curve`, `out_curve` or none."""

    def __init__(self, end, folder, addresses=("tcp://127.0.0.1", "tcp://127.0.0.1")):
        command = [sys.executable, "-c", PROXY, end, str(folder), *addresses]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.addresses = self.process.stdout.readline().split()
        self.input, self.output = self.addresses

    def close(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


class Received:
    """Counts the documents that a source passes on."""

    def __init__(self):
        self.names = []
        self.changed = threading.Condition()

    def __call__(self, name, _document):
        with self.changed:
            self.names.append(name)
            self.changed.notify_all()


@contextmanager
def listening(source):
    received, stop = Received(), threading.Event()
    thread = threading.Thread(target=source.run, args=(received, stop))
    thread.start()
    try:
        yield received
    finally:
        stop.set()
        thread.join(PATIENCE)
    assert not thread.is_alive()


def send_until_received(publisher, received):
    """Send until something comes out of the proxy: what is sent before the connections are up is lost."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        publisher("start", {"uid": "a", "time": 0.0})
        with received.changed:
            if received.changed.wait_for(lambda: received.names, 0.1):
                return
    raise AssertionError("nothing came out of the proxy")


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Let a refused source try again soon."""
    monkeypatch.setattr(source_module, "RETRY_AFTER", 0.2)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Return a folder with the keys of a server and of one client that it knows, and of two others."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "clients").mkdir()
    for name in ("server", "client", "stranger", "another-server"):
        zmq.auth.create_certificates(folder, name)
        (folder / f"{name}.key_secret").chmod(0o600)
    shutil.copy(folder / "client.key", folder / "clients")
    return folder


@pytest.fixture(scope="module")
def proxy(certificates):
    """Return a proxy that watchers need keys for, and publishers of this computer none."""
    opened = Proxy("out_curve", certificates)
    yield opened
    opened.close()


def keys_of(folder, own="client", server="server"):
    return CurveKeys(own=folder / f"{own}.key_secret", server=folder / f"{server}.key")


def test_documents_come_through_an_encrypted_proxy(proxy, certificates):
    source = ZmqSource(proxy.output, keys=keys_of(certificates))
    publisher = safe_publisher(proxy.input)
    with listening(source) as received:
        send_until_received(publisher, received)
        assert (source.connected, source.refusal) == (True, "")
    publisher.close()
    assert set(received.names) == {"start"}


def test_a_publisher_with_keys_reaches_an_encrypted_input(certificates):
    proxy = Proxy("in_curve", certificates)
    try:
        publisher = safe_publisher(proxy.input, keys=keys_of(certificates))
        stranger = safe_publisher(proxy.input, keys=keys_of(certificates, own="stranger"))
        plain = safe_publisher(proxy.input)
        with listening(ZmqSource(proxy.output)) as received:
            for each in (stranger, plain) * 20:
                each("stop", {"uid": "z", "run_start": "a"})
            send_until_received(publisher, received)
        for each in (publisher, stranger, plain):
            each.close()
    finally:
        proxy.close()
    assert set(received.names) == {"start"}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("stranger", "server"), "refused the key in .*stranger.key_secret: its public certificate must"),
        (("client", "another-server"), "refused the key: it does not have the key in .*another-server.key"),
        ((), "refused the connection: it probably expects keys"),
    ],
)
def test_who_has_a_wrong_key_receives_nothing_and_is_told_once(proxy, certificates, names, said, caplog):
    keys = keys_of(certificates, *names) if names else None
    source = ZmqSource(proxy.output, keys=keys)
    publisher = safe_publisher(proxy.input)
    with listening(source) as received:
        wait_for(lambda: source.refusal)
        tried = source._broken_handshakes
        for _ in range(20):
            publisher("start", {"uid": "a", "time": 0.0})
        # It goes on trying.
        wait_for(lambda: source._broken_handshakes >= tried + 2)
    publisher.close()
    assert (received.names, source.connected) == ([], False)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert source.refusal in warnings[0]
    secrets = [] if keys is None else [keys.read().secret.decode(), keys.read().public.decode()]
    assert not any(secret in text for secret in secrets for text in warnings)
    assert re.search(said, source.refusal)


def test_keys_at_a_proxy_without_encryption_are_refused(certificates):
    proxy = Proxy("", certificates)
    try:
        source = ZmqSource(proxy.output, keys=keys_of(certificates))
        with listening(source) as received:
            wait_for(lambda: "not encrypted" in source.refusal)
    finally:
        proxy.close()
    assert received.names == []


def test_a_proxy_that_learns_the_key_is_reached_without_a_restart_of_the_watcher(certificates, tmp_path):
    folder = tmp_path / "keys"
    shutil.copytree(certificates, folder)
    proxy = Proxy("out_curve", folder)
    source = ZmqSource(proxy.output, keys=keys_of(certificates, own="stranger"))
    try:
        with listening(source) as received:
            wait_for(lambda: "stranger.key_secret" in source.refusal)
            shutil.copy(folder / "stranger.key", folder / "clients")
            proxy.close()
            proxy = Proxy("out_curve", folder, proxy.addresses)
            publisher = safe_publisher(proxy.input)
            send_until_received(publisher, received)
            publisher.close()
            assert (source.connected, source.refusal) == (True, "")
    finally:
        proxy.close()


def test_an_encrypted_proxy_may_be_on_another_computer(certificates):
    keys = keys_of(certificates)
    assert ZmqSource("proxy.example:5578", keys=keys).address == "tcp://proxy.example:5578"
    safe_publisher("192.0.2.1:5577", keys=keys).close()


def test_a_secret_that_others_may_read_is_refused(certificates, tmp_path):
    own = tmp_path / "client.key_secret"
    shutil.copy(certificates / own.name, own)
    own.chmod(0o640)
    with pytest.raises(SourceError, match=r"only its owner may read, found the mode 0640 .*: chmod 600"):
        ZmqSource("localhost:1", keys=CurveKeys(own=own, server=certificates / "server.key"))


@pytest.mark.parametrize(
    ("own", "server", "said"),
    [
        (
            "missing.key_secret",
            "server.key",
            "that this user can read in .*missing.key_secret, found: No such",
        ),
        ("client.key_secret", "missing.key", "that this user can read in .*missing.key, found: No such"),
        ("clients", "server.key", "found: expected a regular file, found a folder"),
        ("client.key", "server.key", "expected a secret certificate in .*client.key, found a public one"),
        ("client.key_secret", "server.key_secret", "expected the public certificate .* found its secret one"),
        ("damaged", "server.key", "found no public key"),
        ("large", "server.key", "expected at most 65536 bytes"),
    ],
)
def test_files_that_hold_no_usable_keys_are_refused(certificates, tmp_path, own, server, said):
    for each in certificates.glob("*.key*"):
        shutil.copy2(each, tmp_path)
    (tmp_path / "clients").mkdir()
    (tmp_path / "client.key").chmod(0o600)
    for name, content in (("damaged", b"\xff" * 100), ("large", b"x" * 70_000)):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
    keys = CurveKeys(own=tmp_path / own, server=tmp_path / server)
    with pytest.raises(SourceError, match=said):
        safe_publisher("localhost:1", keys=keys)
    with pytest.raises(SourceError, match=said) as caught:
        ZmqSource("localhost:1", keys=keys)
    for line in (certificates / "client.key_secret").read_text().splitlines():
        if "-key" in line:
            assert line.split('"')[1] not in str(caught.value)


def test_the_command_needs_both_keys(xpdml, certificates):
    options = ("--zmq-key", certificates / "client.key_secret", "--tiled", "http://127.0.0.1:9")
    outcome = xpdml("watch", "--zmq", "proxy.example:1", *options)
    assert outcome.status != 0
    assert "--zmq-server-key" in outcome.err
    assert CurveKeys.of(None, None) is None
