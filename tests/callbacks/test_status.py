"""The status of a session: on the server and in a file while it runs, and gone when it ends."""

import json
import logging
import os
import socket
import time

import pytest

from bluesky_xpdml import XpdmlCallback
from bluesky_xpdml.callbacks import status as writing
from bluesky_xpdml.callbacks.inbox import Close, Inbox
from bluesky_xpdml.callbacks.journal import Journal
from bluesky_xpdml.publish import open_existing, read_statuses, status_path
from bluesky_xpdml.publish.status import OutboxStatus, Status, node_name
from bluesky_xpdml.settings import Settings

PATIENCE = 240.0


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(writing, "INTERVAL", 0.2)


def until(check):
    """Return what a check returns as soon as that is true."""
    end = time.monotonic() + PATIENCE
    while not (found := check()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)
    return found


@pytest.fixture
def statuses(tiled_server, request):
    """Return the path of the predictions, and what reads the records beside it by name."""
    path = f"session/{request.node.name}"
    root = open_existing(tiled_server.uri)

    def read():
        place = status_path(path)
        return {each.name: each for each in read_statuses(root[place])} if place in root else {}

    yield path, read
    root.context.http_client.close()


def files(tmp_path):
    return sorted(path.name for path in tmp_path.glob("state/**/status-*"))


def test_a_session_shows_what_it_answers_and_leaves_nothing(tiled_server, iron_scan, statuses, tmp_path):
    path, read = statuses
    name = node_name(socket.gethostname(), os.getpid())
    good, cut = iron_scan(), iron_scan()
    callback = XpdmlCallback.from_uri(tiled_server.uri, path=path)
    with callback:
        for document in (*good, cut[0], ("stop", {"uid": "s", "run_start": cut[0][1]["uid"], "time": 1.0})):
            callback(*document)
        assert callback.drain(PATIENCE)
        found = until(lambda: (one := read().get(name)) and one.runs == 2 and not one.outbox.entries and one)
        assert (found.kind, found.container, found.version != "") == ("session", path, True)
        assert (found.predicted, found.failed, sum(found.failures.values())) == (1, 1, len(found.failures))
        assert found.failures.keys() == set(found.last_answer.codes)
        assert (found.last_answer.raw_uid, found.last_answer.verdict) == (cut[0][1]["uid"], "failed")
        assert (found.backlog, found.lag, found.outbox.entries, found.troubles()) == (0, 0.0, 0, [])
        callback("start", {"uid": "goes on", "time": 0.0, "plan_name": "count"})
        until(lambda: read()[name].open_runs == 1)
        second = XpdmlCallback.from_uri(tiled_server.uri, path=path)
        until(lambda: read().keys() == {name, f"{name}-2"})
        assert files(tmp_path) == [f"status-{os.getpid()}-2.json", f"status-{os.getpid()}.json"]
        assert second.close(PATIENCE)
        assert read().keys() == {name}
    assert (read(), files(tmp_path)) == ({}, [])


def test_a_server_that_is_away_is_left_alone_and_the_file_says_so(iron_scan, tmp_path):
    callback = XpdmlCallback.from_uri("http://127.0.0.1:9", path="xpdml")
    for document in iron_scan():
        callback(*document)
    until(lambda: callback.status.outbox.server_is_away)

    def written():
        (path,) = tmp_path.glob("state/**/status-*.json")
        return json.loads(path.read_text())["outbox"]["server_is_away"]

    until(written)
    assert callback.status.troubles()[0].startswith("server away: expected a Tiled server")
    # What the process before left of itself is removed, if it is dead.
    (folder,) = {path.parent for path in tmp_path.glob("state/**/status-*.json")}
    assert not callback.close(1.0)
    assert files(tmp_path) == []
    (folder / f"status-{2**30}.json").write_text("{}")
    with XpdmlCallback.from_uri("http://127.0.0.1:9", path="xpdml"):
        until(lambda: files(tmp_path) == [f"status-{os.getpid()}.json"])


def test_a_server_that_came_back_just_before_the_end_keeps_no_record(tiled_server, statuses, tmp_path):
    path, read = statuses
    settings = Settings(tiled_uri=tiled_server.uri, tiled_path=path)
    away = OutboxStatus(entries=1, server_is_away=True)
    outbox = [OutboxStatus()]
    thread = writing.StatusThread(lambda: Status(outbox=outbox[0]), settings, None, tmp_path)
    until(read)
    outbox[0] = away
    until(lambda: any("true" in path.read_text() for path in tmp_path.glob("status-*.json")))
    outbox[0] = OutboxStatus()
    thread.close(PATIENCE)
    assert read() == {}


def test_the_oldest_run_that_waits_is_known_until_it_is_answered(tmp_path, iron_scan):
    inbox = Inbox(100)
    journal = Journal(inbox, tmp_path)
    before = time.time()
    uids = []
    for _ in range(2):
        documents = iron_scan()
        journal.add_run(documents)
        uids.append(documents[0][1]["uid"])
    oldest = journal.waiting_since
    assert before <= oldest <= time.time()
    journal.settle(uids[0], keep=False)
    assert journal.waiting_since > oldest
    journal.settle(uids[1], keep=False)
    assert journal.waiting_since is None
    inbox.mark(Close())
    assert journal.close() == 0


def test_without_a_journal_what_waits_is_not_counted(callback):
    assert (callback.status.backlog, callback.status.lag) == (None, None)


def test_no_handler_is_added_in_the_session_of_a_user(tiled_server, statuses):
    before = list(logging.getLogger().handlers), list(logging.getLogger("bluesky_xpdml").handlers)
    with XpdmlCallback.from_uri(tiled_server.uri, path=statuses[0]):
        pass
    assert before == (logging.getLogger().handlers, logging.getLogger("bluesky_xpdml").handlers)
