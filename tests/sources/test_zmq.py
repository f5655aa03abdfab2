"""Documents from a real 0MQ socket: strangers are counted, silence and restarts are survived."""

import pickle
import threading
import time
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
import zmq

from bluesky_xpdml.errors import SourceError
from bluesky_xpdml.sources.wire import encode
from bluesky_xpdml.sources.zmq import ZmqSource, checked_address, safe_publisher

PATIENCE = 30.0
START = ("start", {"uid": "a", "time": 0.0, "grid": np.arange(3.0)})
STOP = ("stop", {"uid": "z", "run_start": "a"})


class Proxy:
    """What gives documents out: one socket that is bound to a port of its own."""

    def __init__(self, port=None):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.XPUB)
        self.socket.set(zmq.LINGER, 0)
        if port is None:
            port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        else:
            self.socket.bind(f"tcp://127.0.0.1:{port}")
        self.port = port

    def wait_for_listener(self):
        assert self.socket.poll(PATIENCE * 1e3), "nobody subscribed"
        assert self.socket.recv() == b"\x01"

    def send(self, *documents, prefix=b""):
        for name, document in documents:
            self.socket.send(b" ".join([prefix, name.encode(), encode(document)]))

    def close(self):
        self.socket.close()
        self.context.destroy(linger=0)


class Heard:
    def __init__(self):
        self.documents = []
        self.changed = threading.Condition()

    def __call__(self, name, document):
        with self.changed:
            self.documents.append((name, document))
            self.changed.notify_all()

    def wait_for(self, number):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.documents) >= number, PATIENCE), self.documents


@contextmanager
def listening(source):
    """Run a source in a thread; give what it heard and a function that stops it."""
    heard, stop = Heard(), threading.Event()
    thread = threading.Thread(target=source.run, args=(heard, stop))
    thread.start()
    try:
        yield heard
    finally:
        stop.set()
        thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.fixture
def proxy():
    opened = Proxy()
    yield opened
    opened.close()


def test_documents_come_in_their_order_and_with_their_arrays(proxy):
    source = ZmqSource(f"localhost:{proxy.port}")
    with listening(source) as heard:
        proxy.wait_for_listener()
        proxy.send(START, STOP)
        heard.wait_for(2)
    assert [name for name, _ in heard.documents] == ["start", "stop"]
    np.testing.assert_array_equal(heard.documents[0][1]["grid"], [0.0, 1.0, 2.0])
    assert (source.documents, source.refused) == (2, Counter())


def test_documents_of_strangers_are_counted_by_reason(proxy):
    source = ZmqSource(f"localhost:{proxy.port}", prefix=b"ours")
    with listening(source) as heard:
        proxy.wait_for_listener()
        for message in (
            b"",
            b"garbage",
            b"ours start",
            b"\xff\xfe \xff\xfe \xff\xfe",
            b"ours nonsense {}",
            b"ours start " + pickle.dumps({"uid": "a"}),
            b"ours start garbage",
            b'ours start {"temperature": 21.5}',
            b"ours start " + encode({"uid": "a", "grid": np.eye(9)})[:-20],
            b"theirs start " + encode({"uid": "a"}),
        ):
            proxy.socket.send(message)
        proxy.socket.send_multipart([b"ours", b"start", b"{}"])
        proxy.send(START, prefix=b"ours")
        heard.wait_for(1)
    assert heard.documents[0][1]["uid"] == "a"
    assert source.documents == 1
    assert source.refused == {
        "a message without prefix, name and content": 4,
        "a message of another prefix": 2,
        "a message whose name is that of no document": 1,
        "expected msgpack or JSON, found a pickle": 1,
        "expected msgpack or JSON, found neither": 2,
        "a start without uid": 1,
    }


def test_a_proxy_that_was_started_again_is_found_again(proxy):
    source = ZmqSource(f"127.0.0.1:{proxy.port}")
    with listening(source) as heard:
        proxy.wait_for_listener()
        proxy.send(START)
        heard.wait_for(1)
        proxy.close()
        again = Proxy(proxy.port)
        again.wait_for_listener()
        again.send(STOP)
        heard.wait_for(2)
        again.close()
    assert [name for name, _ in heard.documents] == ["start", "stop"]


def test_what_had_come_before_the_stop_is_handed_on(proxy):
    """The first document sets the stop; those behind it in the socket are not lost."""
    source, stop, heard = ZmqSource(f"127.0.0.1:{proxy.port}"), threading.Event(), []

    def slow(name, document):
        heard.append(name)
        sent.wait(PATIENCE)
        stop.set()

    sent = threading.Event()
    thread = threading.Thread(target=source.run, args=(slow, stop))
    thread.start()
    proxy.wait_for_listener()
    proxy.send(START, *[("event", {"descriptor": "d", "data": {}})] * 50, STOP)
    # Long enough for what was sent to lie in the listener's socket.
    time.sleep(0.5)
    sent.set()
    thread.join(PATIENCE)
    assert len(heard) == 52


def test_the_publisher_of_bluesky_is_understood_and_never_raises(proxy):
    source = ZmqSource(f"127.0.0.1:{proxy.port}")
    takes_in = proxy.context.socket(zmq.SUB)
    port = takes_in.bind_to_random_port("tcp://127.0.0.1")
    takes_in.set(zmq.SUBSCRIBE, b"")
    publisher = safe_publisher(f"127.0.0.1:{port}", prefix=b"b")
    strange = {"uid": "a", "time": 0.0, "huge": 10**400, "object": np.array([None, 1]), "key": {3: {4}}}
    while not takes_in.poll(100):
        publisher("start", strange)
    with listening(source) as heard:
        proxy.wait_for_listener()
        proxy.socket.send(takes_in.recv())
        heard.wait_for(1)
    publisher.close()
    takes_in.close(linger=0)
    _, document = heard.documents[0]
    assert document["uid"] == "a"
    assert document["object"] == [None, 1]
    assert document["key"] == {3: [4]}


@pytest.mark.parametrize(
    ("address", "checked"),
    [
        ("localhost:5578", "tcp://localhost:5578"),
        ("tcp://127.8.8.8:1", "tcp://127.8.8.8:1"),
        ("[::1]:5578", "tcp://[::1]:5578"),
        ("ipc:///tmp/documents", "ipc:///tmp/documents"),
    ],
)
def test_addresses_of_this_computer_are_taken(address, checked):
    assert checked_address(address, allow_remote=False) == checked


@pytest.mark.parametrize(
    "address", ["10.0.0.8:5578", "0.0.0.0:5578", "proxy.example:5578", "localhost.example:1", "*:1"]
)
def test_other_computers_need_leave(address):
    with pytest.raises(SourceError, match="on this computer"):
        ZmqSource(address)
    with pytest.raises(SourceError, match="on this computer"):
        safe_publisher(address)
    assert ZmqSource(address, allow_remote=True).address == f"tcp://{address}"


@pytest.mark.parametrize(
    "address", ["", "localhost", "localhost:", "localhost:99999", "http://localhost:80", "ipc://", ":1"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(SourceError, match="expected an address such as"):
        ZmqSource(address)


def test_a_prefix_has_no_spaces():
    with pytest.raises(SourceError, match="without spaces"):
        ZmqSource("localhost:1", prefix=b"a b")


def test_an_address_that_0mq_does_not_take_is_an_error_of_ours():
    source = ZmqSource("ipc:///tmp/" + "long" * 100)
    with pytest.raises(SourceError, match="can connect to"):
        source.run(print, threading.Event())
