"""What a publisher raises when its server is away or refuses, and what it leaves behind."""

import http.server
import socket
import socketserver
import threading
from contextlib import closing, contextmanager, suppress
from urllib.parse import urlsplit

import numpy as np
import pytest

from bluesky_xpdml.errors import PublishError, ServerAwayError
from bluesky_xpdml.publish import LiveRun, TiledPublisher, derived_run
from bluesky_xpdml.records import PairDistribution

CURVE = PairDistribution(r=np.linspace(0.0, 10.0, 20), g=np.linspace(-1.0, 1.0, 20), composition={"Fe": 1.0})


def free_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


@contextmanager
def forwarded(port, target):
    """Forward connections to a port to the server at an address, as if the server ran there."""

    class Forward(socketserver.BaseRequestHandler):
        def handle(self):
            with socket.create_connection((target.hostname, target.port)) as there:
                sockets.extend([self.request, there])
                back = threading.Thread(target=copy, args=(there, self.request))
                back.start()
                copy(self.request, there)
                back.join()

    sockets = []

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    def copy(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    with Server(("127.0.0.1", port), Forward) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield
        server.shutdown()
        for each in sockets:
            # Otherwise open connections would go on.
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        thread.join()


def answering(container, change):
    """Pass each answer of the server to a function; return the methods of the requests that were answered."""
    client, methods = container.context.http_client, []

    def note(response):
        methods.append(response.request.method)
        change(response, methods)

    hooks = client.event_hooks
    client.event_hooks = {**hooks, "response": [*hooks["response"], note]}
    return methods


def test_a_publisher_that_starts_without_a_server_connects_later(tiled_server, answer, request):
    place, port = urlsplit(tiled_server.uri), free_port()
    key = place.query.removeprefix("api_key=")
    publisher = TiledPublisher.lazily(f"http://127.0.0.1:{port}", api_key=key, path=request.node.name)
    with pytest.raises(ServerAwayError, match="check the address and the key, and that the server runs"):
        publisher.publish(derived_run(answer("raw")))
    with forwarded(port, place):
        publisher.publish(derived_run(answer("raw")))
        assert publisher.n_written == 1
        assert len(publisher.container) == 1
        publisher.close()


def test_a_server_that_went_away_is_no_fault_of_the_run_and_is_used_again(tiled_server, answer, request):
    place, port = urlsplit(tiled_server.uri), free_port()
    key = place.query.removeprefix("api_key=")
    publisher = TiledPublisher.lazily(f"http://127.0.0.1:{port}", api_key=key, path=request.node.name)
    with forwarded(port, place):
        publisher.publish(derived_run(answer("raw-1")))
    with pytest.raises(ServerAwayError):
        publisher.extend(LiveRun().update(answer("raw-2")))
    with pytest.raises(ServerAwayError):
        publisher.publish(derived_run(answer("raw-2")))
    with forwarded(port, place):
        publisher.publish(derived_run(answer("raw-2")))
        assert len(publisher.container) == 2
        publisher.close()


def test_a_server_that_accepts_connections_but_does_not_answer_is_away(answer, monkeypatch):
    monkeypatch.setattr("bluesky_xpdml.publish.tiled.FIRST_ANSWER_TIMEOUT", 2.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        publisher = TiledPublisher.lazily(f"http://127.0.0.1:{silent.getsockname()[1]}", api_key="0" * 16)
        with pytest.raises(ServerAwayError, match="ReadTimeout"):
            publisher.publish(derived_run(answer("raw")))


def test_a_server_that_is_being_started_is_away(answer):
    class Starting(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(503)

        log_message = lambda *_: None  # noqa: E731

    with http.server.HTTPServer(("127.0.0.1", 0), Starting) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        publisher = TiledPublisher.lazily(f"http://127.0.0.1:{server.server_port}", api_key="0" * 16)
        with pytest.raises(ServerAwayError, match="503"):
            publisher.publish(derived_run(answer("raw")))
        thread.join()


@pytest.mark.parametrize("status", [401, 403, 429, 502, 503])
def test_a_server_that_refuses_everything_is_away_and_nothing_is_left(container, answer, status):
    def refuse(response, methods):
        if response.request.method == "PUT":
            response.status_code = status

    answering(container, refuse)
    publisher = TiledPublisher(container)
    with pytest.raises(ServerAwayError, match=f"status {status}"):
        publisher.publish(derived_run(answer("raw", pdf=CURVE)))
    assert len(container) == 0


def test_a_run_that_is_refused_is_said_apart_and_nothing_is_left(container, answer):
    def refuse(response, methods):
        if response.request.method == "PUT":
            response.status_code = 422

    answering(container, refuse)
    with pytest.raises(PublishError, match="status 422") as refusal:
        TiledPublisher(container).publish(derived_run(answer("raw", pdf=CURVE)))
    assert not isinstance(refusal.value, ServerAwayError)
    assert len(container) == 0


def test_what_is_left_when_the_server_dies_within_a_run_is_written_anew_at_once(container, answer):
    """No waiting for another writer: the publisher knows its own run again."""
    dead = []

    def die(response, methods):
        if response.request.method == "PUT" or dead:
            dead.append(response)
            if len(dead) < 3:
                raise OSError("no route to host")

    answering(container, die)
    publisher = TiledPublisher(container)
    documents = derived_run(answer("raw", pdf=CURVE))
    with pytest.raises(ServerAwayError, match="no route to host"):
        publisher.publish(documents)
    assert len(container) == 1
    methods = answering(container, lambda *_: None)
    publisher.publish(documents)
    (run,) = container.values()
    assert run.metadata["stop"]["num_events"] == {"pdf": 20, "predictions": 1}
    assert "xpdml_writer" not in run.metadata
    # Four looks at the run at most: waiting for another writer looks at it many times.
    assert methods.count("GET") < 10


def test_a_container_that_is_gone_is_made_again(tiled_server, answer):
    publisher = TiledPublisher.from_uri(tiled_server.uri, path="gone/derived/xpdml")
    other = TiledPublisher.from_uri(tiled_server.uri, path="beside")
    from tiled.client.constructors import from_context

    root = from_context(other.container.context)
    root.delete_contents(["gone"], recursive=True, external_only=False)
    publisher.publish(derived_run(answer("raw-1")))
    assert [spec.name for spec in root["gone/derived/xpdml"].specs] == ["CatalogOfBlueskyRuns"]
    assert len(root["gone/derived/xpdml"]) == 1
    root.delete_contents(["gone"], recursive=True, external_only=False)
    live = LiveRun()
    publisher.extend(live.update(answer("raw-1")))
    assert list(root["gone/derived/xpdml"]) == [live.uid]
    publisher.close()
    other.close()


def test_a_server_without_writable_storage_keeps_no_half_run(serve, answer):
    server = serve(
        {
            "trees": [
                {"path": "/", "tree": "catalog", "args": {"uri": "catalog.db", "init_if_not_exists": True}}
            ]
        }
    )
    with server as (uri, key), closing(TiledPublisher.lazily(uri, api_key=key)) as publisher:
        with pytest.raises(ServerAwayError, match="writable storage"):
            publisher.publish(derived_run(answer("raw", pdf=CURVE)))
        assert len(publisher.container) == 0


def test_a_closed_publisher_refuses_runs(container, answer):
    publisher = TiledPublisher(container)
    publisher.close()
    with pytest.raises(PublishError, match="expected an open publisher"):
        publisher.publish(derived_run(answer("raw")))
