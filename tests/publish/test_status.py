"""The record of a process beside its predictions: replaced, removed, stale, read by other versions."""

import dataclasses
import time
from functools import partial

import pytest

from bluesky_xpdml.errors import PublishError, ServerAwayError
from bluesky_xpdml.publish import Status, connect, open_existing, read_statuses, status_path
from bluesky_xpdml.publish.status import (
    ENTRY,
    LastAnswer,
    OutboxStatus,
    StatusNode,
    node_name,
    read_status_files,
    write_status_file,
)

DEAD = 2**30
"""No process has this number."""


def status(name="here-1", **more):
    fields = {"host": "here", "pid": 1, "kind": "watch", "time": time.time(), "backlog": 0, "lag": 0.0}
    return Status(name=name, **fields | more)


@pytest.fixture
def place(tiled_server, request):
    """Return the path of the predictions, a function that makes nodes beside it, and one that reads them."""
    path = f"status/{request.node.name}/xpdml"
    nodes = []

    def node(name="here-1"):
        nodes.append(StatusNode(partial(connect, tiled_server.uri), path, name))
        return nodes[-1]

    def read():
        container = open_existing(tiled_server.uri, path=status_path(path))
        found = read_statuses(container)
        container.context.http_client.close()
        return found

    yield path, node, read
    for each in nodes:
        each.close()


def test_a_record_is_replaced_and_leaves_no_revision(place, tiled_server):
    path, node, read = place
    writer = node()
    for number in range(4):
        writer.write(status(documents=number))
    (found,) = read()
    assert (found.name, found.documents, found.kind) == ("here-1", 3, "watch")
    client = open_existing(tiled_server.uri, path=f"{status_path(path)}/here-1")
    assert (len(client.metadata_revisions), list(client)) == (0, [])
    assert [each.name for each in client.specs] == ["XpdmlStatus"]
    client.context.http_client.close()
    # The predictions are where they were: nothing of the status is among them.
    with pytest.raises(PublishError, match="found none"):
        open_existing(tiled_server.uri, path=path)


def test_a_record_that_was_removed_by_others_is_written_again(place):
    _, node, read = place
    one, other = node(), node("here-2")
    one.write(status())
    other.write(status("here-2"))
    another = node()
    another.write(status(documents=7))
    another.remove()
    assert [each.name for each in read()] == ["here-2"]
    one.write(status(documents=8))
    assert [(each.name, each.documents) for each in read()] == [("here-1", 8), ("here-2", 0)]
    one.remove()
    other.remove()
    assert read() == []


def test_stale_records_of_dead_processes_of_this_computer_are_removed(place):
    _, node, read = place
    old = time.time() - 61.0
    for name, more in {
        "here-1": {},
        "dead": {"pid": DEAD, "time": old},
        "dead but fresh": {"pid": DEAD},
        "alive but stale": {"pid": 1, "time": old},
        "elsewhere": {"pid": DEAD, "time": old, "host": "there"},
    }.items():
        node(name).write(status(name, **more))
    assert node().remove_dead("here") == ["dead"]
    left = {each.name: each.is_stale() for each in read()}
    assert left == {"here-1": False, "dead but fresh": False, "alive but stale": True, "elsewhere": True}


def test_nothing_of_a_run_with_access_tags_stands_beside_the_predictions(place):
    _, node, read = place
    start = {
        "uid": "d",
        "time": 1000.0,
        "raw_uid": "secret-run",
        "sample": {"name": "secret sample \ud800"},
        "technique": "xanes",
        "element": "Fe",
        "quality": {"verdict": "failed", "codes": ["edge-not-covered", "edge-not-covered"]},
    }
    tagged = LastAnswer.of(start | {"tiled_access_tags": ["proposal-1"]})
    node().write(status(last_answer=tagged, outbox=OutboxStatus(entries=1, last_error="tag proposal-1")))
    (found,) = read()
    assert "secret" not in str(found)
    assert "proposal" not in str(found)
    assert (found.last_answer.verdict, found.last_answer.codes) == ("failed", ("edge-not-covered",))
    node().write(status(last_answer=LastAnswer.of(start)))
    assert LastAnswer.of(start).time == 1000.0
    (found,) = read()
    assert (found.last_answer.raw_uid, found.last_answer.sample) == ("secret-run", "secret sample \\ud800")


def test_records_of_later_versions_and_of_strangers_are_read_as_far_as_they_fit(place, tiled_server):
    path, node, read = place
    node().write(status())
    container = open_existing(tiled_server.uri, path=status_path(path))
    later = status("x", documents=3, failures={"new-code": 2}).to_json()
    later |= {"kind": "dashboard", "new": {"a": 1}, "lag": "long", "pid": 1.5, "last_answer": [1]}
    later |= {"outbox": {"entries": float("1e300"), "last_error": 5}, "runs": True, "version": "9" * 1000}
    container.create_container("later", metadata={ENTRY: later})
    container.create_container("other", metadata={"start": {"uid": "no record"}})
    container.create_container("strange", metadata={ENTRY: [1, 2]})
    container.context.http_client.close()
    _, found = read()
    assert (found.name, found.kind, found.documents, found.lag) == ("later", "dashboard", 3, None)
    assert (found.failures, found.last_answer, found.runs) == ({"new-code": 2}, None, 0)
    assert (found.outbox.last_error, len(found.version)) == ("", 200)


def test_a_server_that_is_away_is_an_error_that_says_so():
    with pytest.raises(ServerAwayError, match="expected a Tiled server"):
        StatusNode(partial(connect, "http://127.0.0.1:9"), "xpdml", "here-1").write(status())


def test_a_file_is_replaced_and_what_is_no_record_is_skipped(tmp_path):
    file = tmp_path / "status-1.json"
    for number in range(2):
        write_status_file(file, status(documents=number, last_answer=LastAnswer(codes=("a", "b"))))
    assert file.stat().st_mode & 0o777 == 0o600
    (tmp_path / "status-2.json").write_text('{"pid": ')
    (tmp_path / "status-3.json").write_text("[" * 100_000)
    (found,) = read_status_files(tmp_path)
    assert (found.documents, found.last_answer.codes) == (1, ("a", "b"))
    assert [path.name for path in tmp_path.glob("*.new")] == []


def test_troubles_are_named():
    now = time.time()
    waiting = OutboxStatus(entries=2, last_error="no room")
    away = dataclasses.replace(waiting, server_is_away=True)
    assert status(time=now).troubles(now) == []
    assert status(time=now - 61.0).troubles(now) == ["stale: no sign for 61 s"]
    assert status(time=now, outbox=away).troubles(now) == ["server away: no room"]
    assert status(time=now, outbox=waiting).troubles(now) == ["refused: no room"]
    assert status(time=now, lag=700.0).troubles(now) == ["behind: a run waits for 700 s"]


def test_names_of_nodes_are_parts_of_a_path():
    assert node_name("a/b c", 5) == "a-b-c-5"
