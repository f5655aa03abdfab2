"""Sending from the outbox: each run once and in order, whatever the server does meanwhile."""

import logging
import os
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bluesky_xpdml.errors import PublishError, ServerAwayError
from bluesky_xpdml.factory.bench.fault_server import KEY, free_port
from bluesky_xpdml.factory.bench.fault_server import Server as BenchServer
from bluesky_xpdml.publish import (
    LiveRun,
    Outbox,
    OutboxPublisher,
    Sender,
    TiledPublisher,
    derived_run,
    find_predictions,
    outbox_publisher,
)
from bluesky_xpdml.publish.sender import Outcome
from bluesky_xpdml.records import PURPOSE


class Server:
    """Takes runs unless `behave`, called with their documents, raises."""

    def __init__(self, behave=lambda _documents: None) -> None:
        self.behave = behave
        self.got: list[list] = []
        self.n_calls = 0
        self.closed = False

    def publish(self, documents) -> None:
        self.n_calls += 1
        self.behave(documents)
        self.got.append(list(documents))

    extend = publish

    def close(self) -> None:
        self.closed = True

    @property
    def uids(self) -> list[str]:
        return [documents[0][1].get("uid") for documents in self.got]


def run(number, raw="raw"):
    """Return a derived run without streams."""
    uid = f"derived-{number}"
    start = {
        "uid": uid,
        "raw_uid": raw,
        "raw_uids": [raw],
        "sample": {"name": "LFP\x1b[31m"},
        "origin": {"scan_id": "12"},
    }
    return [("start", start), ("stop", {"run_start": uid})]


def fail(error):
    def behave(_documents) -> None:
        raise error

    return behave


@pytest.fixture
def opened(tmp_path: Path):
    """Return a function that opens a publisher with short pauses on one outbox; all are closed at the end."""
    publishers = []

    def open_publisher(server, **options) -> OutboxPublisher:
        pauses = {"shortest_probe": 0.02, "longest_probe": 0.05}
        made = OutboxPublisher(lambda: server, Outbox(tmp_path / "outbox"), **pauses | options)
        publishers.append(made)
        return made

    yield open_publisher
    for each in publishers:
        each.close(0.0)


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)


FAULTS = {"ok": None, "away": ServerAwayError("away"), "refused": PublishError("no"), "bug": TypeError("bug")}


@hypothesis_settings(max_examples=60)
@given(
    raws=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    faults=st.lists(st.sampled_from(sorted(FAULTS)), max_size=25),
    restarts=st.sets(st.integers(0, 30)),
)
def test_every_run_is_sent_once_and_those_of_one_raw_run_in_order(raws, faults, restarts):
    now = [1e9]
    plan = iter(faults)

    def behave(_documents) -> None:
        error = FAULTS[next(plan, "ok")]
        if error is not None:
            raise error

    server = Server(behave)
    with tempfile.TemporaryDirectory() as folder:
        outbox = Outbox(Path(folder) / "outbox", clock=lambda: now[0])
        sender = Sender(lambda: server, outbox)
        waiting = [run(number, f"raw-{raw}") for number, raw in enumerate(raws)]
        for step in range(200):
            if waiting and step % 2:
                outbox.add(waiting.pop(0))
            if step in restarts:
                outbox.close()
                outbox = Outbox(Path(folder) / "outbox", clock=lambda: now[0])
                sender = Sender(lambda: server, outbox)
            sender.step()
            now[0] += 600.0
            if not waiting and not outbox.entries():
                break
        outbox.close()
    assert sorted(server.uids) == sorted(f"derived-{number}" for number in range(len(raws)))
    for lane in set(raws):
        numbers = [number for number, raw in enumerate(raws) if raw == lane]
        sent = [int(uid.removeprefix("derived-")) for uid in server.uids]
        assert [number for number in sent if number in numbers] == numbers


def test_a_run_is_sent_at_once_and_reported(opened):
    reports = []
    server = Server()
    publisher = opened(server, on_sent=lambda start, error: reports.append((start["uid"], error)))
    publisher.publish(run(1))
    assert publisher.flush(30.0)
    assert server.uids == ["derived-1"]
    assert reports == [("derived-1", "")]
    assert (publisher.waiting, publisher.counts.sent, publisher.server_is_away) == (0, 1, False)
    assert publisher.last_sent == pytest.approx(time.time(), abs=60.0)


def test_a_report_that_fails_costs_nothing(opened):
    publisher = opened(server := Server(), on_sent=lambda _start, _error: 1 / 0)
    for number in range(3):
        publisher.publish(run(number))
    assert publisher.flush(30.0)
    assert len(server.uids) == 3


def test_a_server_that_is_away_is_left_alone_until_it_comes_back(opened, caplog):
    server = Server(fail(ServerAwayError("nobody answers")))
    publisher = opened(server, shortest_probe=0.4, longest_probe=0.4)
    publisher.publish(run(0))
    until(lambda: publisher.server_is_away)
    before = server.n_calls
    for number in range(1, 20):
        publisher.publish(run(number))
    assert server.n_calls - before <= 1
    assert not publisher.flush(0.01)
    assert (publisher.waiting, publisher.last_error) == (20, "nobody answers")
    server.behave = lambda _documents: None
    assert publisher.flush(30.0)
    assert server.uids == [f"derived-{number}" for number in range(20)]
    assert not publisher.server_is_away
    said = [record.message for record in caplog.records]
    assert len([message for message in said if "does not take derived runs" in message]) == 1
    assert len([message for message in said if "takes derived runs again" in message]) == 1


def test_each_reason_of_an_absence_is_said_once(opened, caplog):
    reasons = ["nothing listens", "nothing listens", "status 401", "nothing listens", "status 401"]

    def behave(documents) -> None:
        found = reasons.pop(0) if reasons else "status 401"
        raise ServerAwayError(f"expected to write run {documents[0][1]['uid']}, found {found}")

    publisher = opened(Server(behave))
    for number in range(3):
        publisher.publish(run(number, f"raw-{number}"))
    until(lambda: not reasons)
    lines = [record.message for record in caplog.records if "does not take" in record.message]
    assert [("listens" in line, "401" in line) for line in lines] == [(True, False), (False, True)]


def test_the_file_shrinks_after_an_outage(opened):
    server = Server(fail(ServerAwayError("away")))
    publisher = opened(server)
    for number in range(30):
        documents = run(number)
        documents[0][1]["filler"] = os.urandom(20_000)
        publisher.publish(documents)
    server.behave = lambda _documents: None
    assert publisher.flush(30.0)
    until(lambda: publisher.outbox.path.stat().st_size < 100_000)


def test_a_refused_run_holds_up_its_raw_run_only(opened, caplog):
    reports = []

    def behave(documents) -> None:
        if documents[0][1]["uid"] == "derived-0":
            raise PublishError("422 \x1b[31m")

    server = Server(behave)
    publisher = opened(server, on_sent=lambda start, error: reports.append((start["uid"], error)))
    for number, raw in enumerate(("a", "a", "b", "c")):
        publisher.publish(run(number, raw))
    until(lambda: len(server.uids) == 2)
    until(lambda: reports)
    assert server.uids == ["derived-2", "derived-3"]
    assert publisher.waiting == 2
    assert ("derived-0", "422 \x1b[31m") in reports
    assert publisher.counts.refused == 1
    assert publisher.counts.failures == {"PublishError": 1}
    (line,) = [record.message for record in caplog.records if "refused" in record.message]
    assert "run 'a' (sample 'LFP\\x1b[31m', scan '12')" in line
    assert "\x1b" not in line
    server.behave = lambda _documents: None
    assert publisher.flush(30.0)
    assert server.uids[2:] == ["derived-0", "derived-1"]


def test_one_run_that_breaks_the_server_does_not_keep_others_from_it(opened):
    """A status 500 may mean that the server is broken, or that it breaks at this run."""

    def behave(documents) -> None:
        if documents[0][1]["uid"] == "derived-0":
            raise ServerAwayError("500")

    server = Server(behave)
    publisher = opened(server)
    for number in range(10):
        publisher.publish(run(number, f"raw-{number}"))
    until(lambda: len(server.uids) == 9)
    until(lambda: publisher.counts.refused == 1)
    (entry,) = publisher.outbox.entries()
    assert (entry.uid, entry.error) == ("derived-0", "500")


def test_what_is_left_at_the_end_is_said_and_the_next_start_goes_on(opened, caplog):
    publisher = opened(Server(fail(ServerAwayError("away"))))
    publisher.publish(run(1))
    publisher.publish(run(2))
    publisher.close(10.0)
    (line,) = [record.message for record in caplog.records if "xpdml outbox send" in record.message]
    assert line.startswith(f"2 derived runs wait in {publisher.outbox.path}")
    with pytest.raises(PublishError, match="closed"):
        publisher.publish(run(3))
    later = Server()
    opened(later)
    until(lambda: later.uids == ["derived-1", "derived-2"])


def test_closing_sends_what_waits_and_closes_the_connection(opened):
    server = Server(lambda _documents: time.sleep(0.01))
    publisher = opened(server)
    for number in range(20):
        publisher.publish(run(number))
    publisher.close(60.0)
    assert len(server.uids) == 20
    assert server.closed


def test_closing_waits_for_what_another_process_sends_first(opened, tmp_path: Path):
    publisher = opened(server := Server(fail(ServerAwayError("away"))))
    with closing(Outbox(tmp_path / "outbox")) as other:
        publisher.publish(run(0))
        until(lambda: server.n_calls > 0)
        first = other.claim()
        while first is None:
            first = other.claim()
        server.behave = lambda _documents: None
        publisher.publish(run(2))
        ending = threading.Thread(target=publisher.close, args=(60.0,))
        ending.start()
        ending.join(0.5)
        assert ending.is_alive()
        other.remove(first)
        ending.join(60.0)
        assert server.uids == ["derived-2"]
        other.add(run(3))
        assert publisher.kept == 0, "the other one goes on with its own"
    assert publisher.kept == 1


def test_a_connection_that_cannot_be_opened_is_tried_again(tmp_path: Path):
    server, attempts = Server(), []

    def connect() -> Server:
        attempts.append(1)
        if len(attempts) < 4:
            raise OSError("no route to host")
        return server

    publisher = OutboxPublisher(connect, Outbox(tmp_path / "outbox"), shortest_probe=0.01)
    publisher.publish(run(1))
    assert publisher.flush(30.0)
    assert publisher.counts.failures == {"ServerAwayError": 3}
    publisher.close()


def test_runs_that_were_in_a_damaged_file_do_not_count_as_sent(opened):
    publisher = opened(Server(fail(ServerAwayError("away"))))
    for number in range(40):
        publisher.publish(run(number))
    publisher.outbox.shrink()
    with publisher.outbox.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 1_000_000)
    # Another process finds the damage first: this one has its pages in memory.
    Outbox(publisher.outbox.folder).close()
    assert not publisher.flush(60.0)
    assert (publisher.waiting, publisher.outbox.n_replaced) == (0, 1)
    publisher.publish(run(100))
    assert publisher.waiting == 1


def rows(server):
    """Return the live documents that a server has: their names in order, and the stop documents."""
    documents = [each for part in server.got for each in part]
    return [name for name, _ in documents], [document for name, document in documents if name == "stop"]


def test_a_live_run_reaches_the_server_row_by_row(opened, answer):
    publisher = opened(server := Server())
    live = LiveRun()
    for _ in range(3):
        publisher.extend(live.update(answer("raw")))
    publisher.extend(live.finish())
    publisher.extend(LiveRun().finish())
    assert publisher.flush(30.0)
    names, (stop,) = rows(server)
    assert names == ["start", "descriptor", "event", "event", "event", "stop"]
    assert stop["num_events"] == {"updates": 3}


def test_a_final_answer_replaces_partial_ones_that_the_server_never_saw(tmp_path: Path, answer):
    server = Server(fail(ServerAwayError("away")))
    with closing(Outbox(tmp_path / "outbox")) as outbox:
        sender = Sender(lambda: server, outbox)
        ended, running = LiveRun(), LiveRun()
        for live in (ended, running, ended):
            outbox.add(live.update(answer("raw")), live=True)
        outbox.add(ended.finish(), live=True)
        assert sender.step() is Outcome.AWAY
        final = derived_run(answer("raw"))
        outbox.add(final, away=True)
        assert [entry.live for entry in outbox.entries()] == [False]
        # What comes of them later is dropped, too.
        assert outbox.add(running.update(answer("raw")), live=True) is None
        assert outbox.add(running.finish(), live=True) is None
        server.behave = lambda _documents: None
        assert sender.step() is Outcome.SENT
    assert server.uids == [final[0][1]["uid"]]


def test_a_live_run_that_lost_rows_is_ended_with_the_rows_that_the_server_has(tmp_path: Path, answer):
    server = Server()
    with closing(Outbox(tmp_path / "outbox")) as outbox:
        sender = Sender(lambda: server, outbox)
        live = LiveRun()
        for _ in range(2):
            outbox.add(live.update(answer("raw")), live=True)
            assert sender.step() is Outcome.SENT
        for _ in range(3):
            outbox.add(live.update(answer("raw")), live=True)
        outbox.add(live.finish(), live=True)
        outbox.add(derived_run(answer("raw")), away=True)
        assert len(outbox) == 2
        while sender.step() is Outcome.SENT:
            pass
    names, stops = rows(server)
    assert names[:5] == ["start", "descriptor", "event", "event", "stop"]
    assert stops[0]["num_events"] == {"updates": 2}
    assert stops[0]["run_start"] == live.uid


def test_the_live_run_of_a_process_that_died_is_ended_with_the_final_answer(tmp_path: Path, answer):
    server = Server()
    live = LiveRun()
    with closing(Outbox(tmp_path / "outbox")) as outbox:
        outbox.add(live.update(answer("raw")), live=True)
        assert Sender(lambda: server, outbox).step() is Outcome.SENT
    with closing(Outbox(tmp_path / "outbox")) as outbox:
        outbox.add(derived_run(answer("raw")))
        sender = Sender(lambda: server, outbox)
        while sender.step() is Outcome.SENT:
            pass
    _, stops = rows(server)
    assert (stops[0]["run_start"], stops[0]["exit_status"]) == (live.uid, "abort")
    assert stops[0]["num_events"] == {"updates": 1}


def test_a_live_run_that_cannot_be_continued_is_dropped(tmp_path: Path, answer, caplog):
    caplog.set_level(logging.INFO)
    server = Server(fail(PublishError("409")))
    with closing(Outbox(tmp_path / "outbox")) as outbox:
        sender = Sender(lambda: server, outbox)
        live = LiveRun()
        outbox.add(live.update(answer("raw")), live=True)
        outbox.add(live.update(answer("raw")), live=True)
        assert sender.step() is Outcome.REFUSED
        assert len(outbox) == 0
        assert outbox.add(live.update(answer("raw")), live=True) is None
        assert outbox.add(live.finish(), live=True) is None
    (record,) = [record for record in caplog.records if "not continued" in record.message]
    assert record.levelno == logging.INFO


class RealPublisher:
    """A publisher into Tiled that says of connections that fail that the server is away."""

    def __init__(self, publisher: TiledPublisher) -> None:
        self._publisher = publisher

    def publish(self, documents) -> None:
        self._do(self._publisher.publish, documents)

    def extend(self, documents) -> None:
        self._do(self._publisher.extend, documents)

    def _do(self, action, documents) -> None:
        try:
            action(documents)
        except PublishError as error:
            if isinstance(error.__cause__, httpx.TransportError):
                raise ServerAwayError(str(error)) from error
            raise

    def close(self) -> None:
        self._publisher.close()


def test_predictions_reach_a_real_server_through_the_outbox(tiled_server, tmp_path: Path, answer):
    publisher = outbox_publisher(tiled_server.uri, path="outboxed", folder=tmp_path, wrap=RealPublisher)
    live = LiveRun()
    publisher.extend(live.update(answer("raw-0")))
    publisher.extend(live.update(answer("raw-0")))
    publisher.extend(live.finish())
    for number in range(3):
        publisher.publish(derived_run(answer(f"raw-{number}")))
    assert publisher.flush(120.0)
    publisher.close()
    reader = TiledPublisher.from_uri(tiled_server.uri, path="outboxed")
    for number in range(3):
        found = [run.metadata for run in find_predictions(reader.container, f"raw-{number}")]
        (final,) = [each for each in found if each["start"]["purpose"] == PURPOSE]
        assert final["stop"]["exit_status"] == "success"
    updates = reader.container[live.uid]
    assert updates.metadata["stop"]["num_events"] == {"updates": 2}
    assert len(updates["updates"].read()["completeness"]) == 2
    reader.close()


def test_a_server_that_is_started_later_gets_what_waited(tmp_path: Path, answer):
    with BenchServer(tmp_path) as server:
        server.kill()
        publisher = outbox_publisher(
            server.uri, api_key=KEY, path="later", folder=tmp_path / "state", wrap=RealPublisher
        )
        publisher.publish(derived_run(answer("raw-0")))
        until(lambda: publisher.server_is_away)
        server.start()
        assert publisher.flush(180.0)
        reader = TiledPublisher.from_uri(server.uri, api_key=KEY, path="later")
        (found,) = find_predictions(reader.container, "raw-0")
        assert found.metadata["stop"]["exit_status"] == "success"
        reader.close()
    publisher.publish(derived_run(answer("raw-1")))
    until(lambda: publisher.server_is_away)
    publisher.close()
    with closing(Outbox(publisher.outbox.folder)) as outbox:
        (entry,) = outbox.entries()
        assert entry.raw_uid == "raw-1"


def test_without_an_outbox_the_server_must_answer(tmp_path: Path):
    with pytest.raises(PublishError, match="check the address"):
        outbox_publisher(f"http://127.0.0.1:{free_port()}", folder=tmp_path, enabled=False)
    assert [*tmp_path.iterdir()] == []
