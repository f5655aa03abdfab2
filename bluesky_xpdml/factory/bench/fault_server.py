"""A Tiled server that can be killed, and a proxy before it that delays and refuses."""

import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import rmtree
from signal import SIGKILL
from typing import Any, Self

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.factory.bench.fault_process import Program
from bluesky_xpdml.publish import open_existing
from bluesky_xpdml.publish.requests import Requests
from bluesky_xpdml.records import Verdict

KEY = "0123456789abcdef"
"""Of the server, which only this computer reaches."""


class Server:
    """A Tiled server in a process of its own, at one port however often it is killed and started again.

    Parameters
    ----------
    folder
        Holds its storage.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage = folder / "storage"
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._program: Program | None = None
        self.start()

    def start(self) -> None:
        """Start it, and return when it answers."""
        command = ["-m", __name__, str(self.storage), str(self.port)]
        self._program = Program(command, self.folder / "server.log")
        self._program.wait_for_key("ready")

    def kill(self, *, emptied: bool = False) -> None:
        """Kill it, as a power failure would; with `emptied`, its storage is gone, too."""
        if self._program is not None:
            self._program.end(SIGKILL)
            self._program = None
        if emptied:
            rmtree(self.storage, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def answers(self, path: str) -> "Answers":
        """Return what a container holds; nothing if there is none."""
        try:
            container: Any = open_existing(self.uri, api_key=KEY, path=path)
        except PublishError:
            return Answers()
        with closing(container.context.http_client):
            runs = [run for page in Requests(container).pages() for run in page]
        whole = [run.start for run in runs if run.complete]
        return Answers(
            questions=Counter((str(s["raw_uid"]), str(s["technique"]), str(s["element"])) for s in whole),
            failed={
                str(s["raw_uid"]): "; ".join(s["quality"]["reasons"])
                for s in whole
                if s["quality"]["verdict"] == Verdict.FAILED
            },
            incomplete=len(runs) - len(whole),
        )


@dataclass(frozen=True, slots=True)
class Answers:
    """Derived runs that a server has whole."""

    questions: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """How many by raw run, technique and element."""
    failed: dict[str, str] = field(default_factory=dict)
    """Reasons of failures by raw run."""
    incomplete: int = 0
    """Derived runs without a stop document."""

    @property
    def doubled(self) -> int:
        """Answers more than one to one question."""
        return sum(number - 1 for number in self.questions.values())

    def of(self, uids: Collection[str]) -> "Answers":
        """Return the answers to some raw runs only."""
        wanted = set(uids)
        questions = Counter({key: number for key, number in self.questions.items() if key[0] in wanted})
        return replace(self, questions=questions)

    def found(self, uids: Collection[str], failures: Collection[str] = ()) -> int:
        """Return how many raw runs have an answer: one that failed counts for those at fault themselves."""
        answered = {uid for uid, *_ in self.questions} - (self.failed.keys() - set(failures))
        return len(answered & set(uids))


class Proxy:
    """Passes requests on to a server; a trial changes what becomes of them.

    Attributes
    ----------
    delay : float
        Time that each request takes longer [s].
    every : int
        Each so-many-th request is answered with status 500; none if 0.
    is_lost : bool
        Whether such a request is done before: only its answer is lost.
    refuses : bool
        Whether the key is refused.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.delay, self.every, self.is_lost, self.refuses = 0.0, 0, False, False
        self.requests = 0
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                """Answer one request; what a client that was killed leaves is no error."""
                try:
                    super().handle_one_request()
                except ConnectionError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Write no line per request."""

            def _answer(self) -> None:
                proxy.answer(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 - names of the library

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer a request as the trial wants it."""
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self._lock:
            self.requests += 1
            fails = bool(self.every) and self.requests % self.every == 0
        time.sleep(self.delay)
        if self.refuses:
            _reply(request, HTTPStatus.UNAUTHORIZED, b'{"detail": "Invalid API key"}')
        elif fails and not self.is_lost:
            _reply(request, HTTPStatus.INTERNAL_SERVER_ERROR, b"a fault")
        else:
            status, headers, content = self._passed_on(request, body)
            if fails:
                _reply(request, HTTPStatus.INTERNAL_SERVER_ERROR, b"a fault")
            else:
                _reply(request, status, content, headers)

    def _passed_on(
        self, request: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        from http.client import HTTPConnection, HTTPException

        own = {"host", "connection", "content-length", "accept-encoding"}
        headers = {key: value for key, value in request.headers.items() if key.lower() not in own}
        # Links in the answers have to lead through this proxy.
        headers["Host"] = request.headers["Host"]
        with closing(HTTPConnection("127.0.0.1", self._port, timeout=60.0)) as connection:
            try:
                connection.request(request.command, request.path, body or None, headers)
                response = connection.getresponse()
                return response.status, response.getheaders(), response.read()
            except (OSError, HTTPException):
                return HTTPStatus.BAD_GATEWAY, [], b"no server"


def _reply(
    request: BaseHTTPRequestHandler, status: int, content: bytes, headers: Collection[tuple[str, str]] = ()
) -> None:
    own = {"connection", "content-length", "transfer-encoding", "date", "server"}
    request.send_response(status)
    for key, value in headers:
        if key.lower() not in own:
            request.send_header(key, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)


def free_port() -> int:
    """Return a port that nothing listens to."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def serve(folder: Path, port: int) -> None:
    """Serve a folder until the process is killed."""
    from bluesky_tiled_plugins.exporters import json_seq_exporter
    from tiled.media_type_registration import default_serialization_registry as exporters
    from tiled.server import SimpleTiledServer

    # Versions of bluesky-tiled-plugins before 2.0.7 need it to read runs as documents.
    exporters.register("BlueskyRun", "application/json-seq", json_seq_exporter)
    folder.mkdir(parents=True, exist_ok=True)
    with SimpleTiledServer(folder, api_key=KEY, port=port):
        sys.stdout.write('{"ready": true}\n')
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
