"""A RunEngine, a proxy in front of the Tiled server, and a fake analysis that answers runs by their start."""

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from bluesky import RunEngine, plan_stubs, preprocessors

from bluesky_xpdml.documents.start import origin_of
from bluesky_xpdml.planning import answers
from bluesky_xpdml.publish import TiledPublisher, connect, derived_run
from bluesky_xpdml.publish.predictions import PredictionCatalog
from bluesky_xpdml.records import Estimate, Prediction, Quality, Sample
from bluesky_xpdml.vocabulary import Reason, ReasonCode


def answer(
    start: Mapping[str, Any],
    state: float = 2.5,
    half: float = 0.2,
    *,
    technique: str = "xanes",
    raw_uids: tuple[str, ...] = (),
    diagnostics: Mapping[str, float] | None = None,
) -> Prediction:
    """Return a prediction of iron for a run, with its origin."""
    return Prediction(
        technique=technique,
        element="Fe",
        edge="K" if "xanes" in technique else "",
        quality=Quality(),
        descriptors={"oxidation_state": Estimate(value=state, low=state - half, high=state + half, unit="e")},
        diagnostics=diagnostics or {"novelty_score": 0.5, "novelty_threshold": 1.8},
        sample=Sample(name=str(start.get("sample_name", ""))),
        origin=origin_of(start),
        raw_uids=raw_uids or (start["uid"],),
    )


def failure(start: Mapping[str, Any], reason: str = "no edge step", technique: str = "xanes") -> Prediction:
    """Return a failed prediction for a run, without element."""
    failed = answer(start, technique=technique)
    quality = Quality().failed(Reason(reason, ReasonCode.REDUCTION_FAILED))
    return replace(failed, element="", descriptors={}, diagnostics={}, quality=quality)


Rule = Callable[[Mapping[str, Any]], Sequence[Prediction]]


def measured(md: Mapping[str, Any]) -> Any:
    """Plan: an empty run, which the fake analysis answers."""
    empty = preprocessors.run_wrapper(plan_stubs.null(), md={"plan_name": "measured", **md})
    return (yield from empty)


class FakeAnalysis:
    """A callback that publishes the predictions of a rule for each finished run, in a thread of its own."""

    answer = staticmethod(answer)
    failure = staticmethod(failure)
    measured = staticmethod(measured)

    def __init__(self, publisher: TiledPublisher) -> None:
        self.publisher = publisher
        self.rule: Rule = lambda start: [answer(start)]
        self.starts: dict[str, Mapping[str, Any]] = {}
        self._worker = ThreadPoolExecutor(1)

    def __call__(self, name: str, document: Mapping[str, Any]) -> None:
        if name == "start":
            self.starts[document["uid"]] = document
        if name == "stop":
            start = self.starts[document["run_start"]]
            if start.get("plan_name") == "measured":
                self._worker.submit(self.publish, *self.rule(start))

    def publish(self, *predictions: Prediction) -> None:
        # Planners read start documents only: no streams are written.
        for prediction in predictions:
            documents = derived_run(prediction)
            self.publisher.publish([documents[0], documents[-1]])

    def close(self) -> None:
        self._worker.shutdown()


@pytest.fixture(scope="module")
def publisher(tiled_server: Any) -> Iterator[TiledPublisher]:
    made = TiledPublisher.from_uri(tiled_server.uri, path=f"acting/{uuid4().hex[:8]}")
    yield made
    made.close()


@pytest.fixture
def analysis(publisher: TiledPublisher) -> Iterator[FakeAnalysis]:
    made = FakeAnalysis(publisher)
    yield made
    made.close()


@pytest.fixture
def catalog(publisher: TiledPublisher) -> PredictionCatalog:
    return PredictionCatalog(publisher.container)


@pytest.fixture(scope="module")
def engine() -> RunEngine:
    return RunEngine({}, call_returns_result=True)


@pytest.fixture
def measuring(engine: RunEngine, analysis: FakeAnalysis) -> Iterator[RunEngine]:
    """Return a RunEngine whose runs are answered."""
    token = engine.subscribe(analysis)
    yield engine
    engine.unsubscribe(token)


class QueryClock:
    """Replaces the clock of `planning.answers`: time passes between queries, not while the server is queried.

    So a timeout ends a test after the same queries on a slow machine as on a fast one.
    """

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
        if seconds > answers.POLL_INTERVAL:
            self._now += seconds


@pytest.fixture
def query_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "time", QueryClock())


class Proxy:
    """Forwards connections to the server until it is cut, or falls silent."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._silent = threading.Event()
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            ready, _, _ = select.select([self._listener], [], [], 0.05)
            if ready and not self._ended.is_set():
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [near, far]
                threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        while not self._ended.is_set():
            ready, _, _ = select.select([near, far], [], [], 0.05)
            for each in ready:
                data = b"" if self._ended.is_set() else each.recv(65536)
                if not data:
                    near.close()
                    far.close()
                    return
                if not self._silent.is_set():
                    (far if each is near else near).sendall(data)
        near.close()
        far.close()

    def fall_silent(self) -> None:
        self._silent.set()

    def cut(self) -> None:
        self._ended.set()
        self._listener.close()


@pytest.fixture
def proxy(tiled_server: Any) -> Iterator[Proxy]:
    made = Proxy(int(tiled_server.uri.split(":")[-1].split("/")[0].split("?")[0]))
    yield made
    made.cut()


@pytest.fixture
def proxied_catalog(
    proxy: Proxy, tiled_server: Any, publisher: TiledPublisher
) -> Iterator[PredictionCatalog]:
    """Return the catalog behind the proxy."""
    uri = tiled_server.uri.replace(tiled_server.uri.split("/")[2], f"127.0.0.1:{proxy.port}")
    client: Any = connect(uri)
    yield PredictionCatalog(client["/".join(publisher.container.path_parts)])
    client.context.http_client.close()
