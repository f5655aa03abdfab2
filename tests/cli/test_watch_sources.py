"""Where `xpdml watch` takes documents from: exactly one source, named for what is missing."""

import signal
import time

import pytest

from bluesky_xpdml.factory.bench.fault_kafka import Cluster
from bluesky_xpdml.factory.bench.fault_process import Program
from bluesky_xpdml.factory.bench.fault_session import run_documents
from bluesky_xpdml.publish import TiledPublisher

TILED = ("--tiled", "http://127.0.0.1:9")
PATIENCE = 240.0


class Watcher(Program):
    """`xpdml watch`, with what it writes on stderr."""

    def __init__(self, folder, *options, **environment):
        self.log = folder / f"watch-{time.monotonic_ns()}.log"
        command = ["-c", "from bluesky_xpdml.cli import main; main()", "watch", *options]
        super().__init__([*command, "--json", "--patience", "200"], self.log, **environment)

    def note(self, text):
        """Wait until it has written a text, and return the line."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for line in self.log.read_text().splitlines():
                if text in line:
                    return line
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def answers(self, number):
        """Wait for so many answers, and return their raw runs."""
        self.wait_for(lambda said: len(said) >= number, PATIENCE)
        return [each["raw_uid"] for each in self.said]


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """Return a function that starts a watcher whose state is in a folder of the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    started = []

    def start(*options, **environment):
        started.append(Watcher(tmp_path, *options, **environment))
        return started[-1]

    yield start
    for each in started:
        each.end(signal.SIGKILL)


@pytest.fixture
def store(tiled_server, request):
    """Return a function that stores a whole raw run; its attribute is the path of the container."""
    path = f"{request.node.name[:30]}-raw"
    publisher = TiledPublisher.from_uri(tiled_server.uri, path=path)

    def put(uid):
        publisher.publish(list(run_documents(uid, time.time())))

    put.path = path
    yield put
    publisher.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "expected one source of documents, found none"),
        (("--zmq", "localhost:1", "--kafka", "localhost:2"), "found --zmq and --kafka"),
        (("--zmq", "localhost:1", "--from-tiled", "http://localhost:2"), "found --zmq and --from-tiled"),
        (("--kafka", "localhost:2"), "expected the topic of the documents, found none"),
        (("--from-tiled", "http://localhost:2"), "expected the container of the raw runs, found none"),
        (
            ("--kafka", "/nowhere/kafka.yml", "--topic", "t"),
            "/nowhere/kafka.yml: expected the file that names the brokers, found none",
        ),
    ],
)
def test_what_is_missing_is_said_with_the_choices(xpdml, options, said):
    done = xpdml("watch", *options, *TILED)
    assert done.status == 1
    assert said in " ".join(done.err.split())


def test_a_raw_container_that_is_gone_is_asked_again_and_named(tiled_server, watched):
    watcher = watched("--from-tiled", tiled_server.uri, "--raw", "no-such-container", "--into", "gone")
    assert "no-such-container cannot be read now" in watcher.note("cannot be read now")
    assert watcher.end(signal.SIGTERM) == 0


def test_the_key_of_the_predictions_is_not_given_to_another_server(tiled_server, watched):
    key = "f" * 24
    # The same server by another name: the watcher cannot know.
    other = tiled_server.uri.partition("?")[0].replace("127.0.0.1", "localhost")
    target = ("--tiled", tiled_server.uri, "--into", "elsewhere")
    watcher = watched("--from-tiled", other, "--raw", "raw", *target, XPDML_RAW_API_KEY=key)
    said = watcher.note("cannot be read now")
    assert "401" in said
    assert key not in watcher.log.read_text()


def test_stored_runs_are_answered_once_over_a_restart(tiled_server, watched, store):
    into = store.path.replace("-raw", "")
    source = ("--from-tiled", tiled_server.uri, "--raw", store.path, "--into", into)
    store("before")
    first = watched(*source)
    first.note("connected to")
    store("while it runs")
    assert first.answers(1) == ["while it runs"]
    assert first.end(signal.SIGTERM) == 0
    store("meanwhile")
    second = watched(*source)
    assert second.answers(1) == ["meanwhile"]
    assert second.end(signal.SIGTERM) == 0
    # Another folder of states, as on another computer: what is answered is not answered again.
    third = watched(*source, "--from-beginning", XDG_STATE_HOME=str(second.log.parent / "elsewhere"))
    assert third.answers(1) == ["before"]
    assert third.end(signal.SIGTERM) == 0
    assert len(third.said) == 1


@pytest.fixture
def cluster(tmp_path):
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed: the extra kafka")
    with Cluster(tmp_path, "documents", "xpdml") as opened:
        yield opened


def test_a_topic_without_keys_is_refused(tiled_server, watched, cluster):
    cluster.send("torn", key=None, partition=0)
    watcher = watched(*cluster.options, "--tiled", tiled_server.uri, "--into", "torn")
    assert watcher.wait(PATIENCE) == 1
    assert "expected documents with a key, found none" in watcher.log.read_text().replace("\n", " ")
    assert set(cluster.committed().values()) == {0}


def test_keys_that_change_within_a_run_are_refused(tiled_server, watched, cluster):
    from bluesky_xpdml.sources.wire import encode_pair

    for number, (name, document) in enumerate(run_documents("torn", 0.0)):
        cluster.send_message(encode_pair(name, document), key=str(number), partition=0)
    watcher = watched(*cluster.options, "--tiled", tiled_server.uri, "--into", "torn")
    assert watcher.wait(PATIENCE) == 1
    assert "expected one key for all documents of run" in watcher.log.read_text().replace("\n", " ")


def test_a_run_that_goes_on_when_a_watcher_ends_is_answered_once(tiled_server, watched, cluster):
    from bluesky_xpdml.sources.wire import encode_pair

    documents = list(run_documents("goes on", time.time()))
    target = ("--tiled", tiled_server.uri, "--into", "goes-on")
    first = watched(*cluster.options, *target, "--heartbeat", "0.2")
    for name, document in documents[:50]:
        cluster.send_message(encode_pair(name, document), key="goes on")
    first.note(" 50 documents")
    assert first.end(signal.SIGTERM) == 3
    assert first.said == []
    second = watched(*cluster.options, *target)
    for name, document in documents[50:]:
        cluster.send_message(encode_pair(name, document), key="goes on")
    assert second.answers(1) == ["goes on"]
    assert second.said[0]["quality"]["verdict"] == "good"
    assert second.end(signal.SIGTERM) == 0


def test_a_constant_key_leaves_all_runs_to_one_consumer(tiled_server, watched, cluster):
    watcher = watched(*cluster.options, "--tiled", tiled_server.uri, "--into", "constant")
    for uid in ("first", "second"):
        cluster.send(uid, key="beamline")
    assert watcher.answers(2) == ["first", "second"]
    assert watcher.end(signal.SIGTERM) == 0
    assert cluster.is_settled()
