"""A key or a password in an address ends in no output, no log and no derived run, whatever goes wrong."""

import logging
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from bluesky_xpdml import TiledPublisher, XpdmlCallback
from bluesky_xpdml.errors import PublishError, XpdmlError
from bluesky_xpdml.publish import PredictionCatalog, find_predictions, open_existing
from bluesky_xpdml.publish.tiled import connect
from bluesky_xpdml.sources.runs import open_runs

WORD = "-".join(["5ecre7", "5ecre7"])


@contextmanager
def answering(status: int, body: bytes = b"no") -> Iterator[int]:
    """Serve one answer to everything, and give the port."""
    requested: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert WORD not in str(requested)


@contextmanager
def closed() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    yield port


SERVERS: dict[str, Callable[[], Any]] = {
    "away": closed,
    "not found": lambda: answering(404),
    "no key": lambda: answering(401, b'{"detail": "Invalid API key"}'),
    "no Tiled": lambda: answering(200, b"<html>"),
}
ADDRESSES = {
    "key": "http://127.0.0.1:{port}/?api_key={word}",
    "key of the API": "http://127.0.0.1:{port}/api/v1/?api_key={word}",
    "password": "http://me:{word}@127.0.0.1:{port}",
    "both": "http://me:{word}@127.0.0.1:{port}/?api_key={word}",
}
WAYS: dict[str, Callable[[str], Any]] = {
    "connect": connect,
    "open_existing": lambda uri: open_existing(uri, path="a"),
    "publisher": TiledPublisher.from_uri,
    "catalog": PredictionCatalog.from_uri,
    "callback": lambda uri: XpdmlCallback.from_uri(uri, outbox=False),
    "runs": lambda uri: open_runs(uri).__enter__(),
}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("address", ADDRESSES)
def test_no_failing_connection_tells_the_key(server: str, address: str, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    for way in WAYS.values():
        with SERVERS[server]() as port, pytest.raises(XpdmlError) as caught:
            way(ADDRESSES[address].format(port=port, word=WORD))
        said = "".join(traceback.format_exception(caught.value))
        assert "expected a Tiled server" in said
        assert WORD not in said, said
        assert WORD[:6] not in said
    assert WORD not in caplog.text


@pytest.mark.parametrize("address", ["http://[{word}", "http://me:{word}@[", "http://a:{word}@h:x/"])
def test_what_is_no_address_is_not_repeated(address: str) -> None:
    with pytest.raises(PublishError) as caught:
        connect(address.format(word=WORD))
    assert WORD not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "command",
    [
        ("find",),
        ("pair", "--once"),
        ("watch", "--zmq", "localhost:5578"),
        ("replay", "uid", "--stored"),
        ("profile", "check", "generic", "--run", "uid"),
    ],
    ids=lambda command: command[0],
)
def test_no_command_tells_the_key_also_with_debug(xpdml: Any, command: tuple[str, ...], caplog: Any) -> None:
    with answering(401) as port:
        uri = ADDRESSES["both"].format(port=port, word=WORD)
        done = xpdml(*command, "--tiled", uri, "--debug")
    assert done.status == 1
    assert "127.0.0.1" in done.err
    assert WORD not in done.out + done.err
    assert WORD not in caplog.text


def test_a_key_on_the_command_line_is_warned_of_once(xpdml: Any) -> None:
    with closed() as port:
        address = ("--tiled", f"http://127.0.0.1:{port}")
        with_key, without = xpdml("find", *address, "--api-key", WORD), xpdml("find", *address)
    assert with_key.err.count("list of processes") == 1
    assert "TILED_API_KEY" in with_key.err
    assert WORD not in with_key.err
    assert "list of processes" not in without.err


def test_a_key_in_the_address_works_and_stays_out_of_logs_and_runs(
    tiled_server: Any, iron_scan: Any, caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    key = tiled_server.uri.partition("?api_key=")[2]
    documents = iron_scan()
    with XpdmlCallback.from_uri(tiled_server.uri, path="by-address") as callback:
        for name, document in documents:
            callback(name, document)
        assert callback.drain(timeout=60)
    publisher = TiledPublisher.from_uri(tiled_server.uri, path="by-address")
    (run,) = find_predictions(publisher.container, documents[0][1]["uid"])
    assert key not in str(run.metadata)
    assert key not in str(publisher.container.uri)
    publisher.close()
    assert key not in caplog.text
    assert "HTTP Request: " in caplog.text, "the log of httpx was looked at"
