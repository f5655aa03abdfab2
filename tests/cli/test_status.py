"""`xpdml status` beside a running watcher and callback, with a server and without; and what the log says."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import zmq

from bluesky_xpdml.callbacks.journal_file import create_file
from bluesky_xpdml.publish import Outbox, Status, state_folder
from bluesky_xpdml.publish.status import write_status_file
from bluesky_xpdml.sources.wire import encode

PROGRAM = Path(sys.executable).with_name("xpdml")
AWAY = "http://127.0.0.1:9"
PATIENCE = 240.0


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@contextmanager
def watching(port, uri, path, *more):
    """Run a watcher, and give what reads its lines until one holds a text."""
    command = [PROGRAM, "watch", "--zmq", f"localhost:{port}", "--tiled", uri, "--into", path, *more]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    seen = []
    arrived = threading.Condition()

    def read():
        for line in process.stderr:
            with arrived:
                seen.append(line)
                arrived.notify_all()

    def wait_for(text):
        with arrived:
            assert arrived.wait_for(lambda: any(text in line for line in seen), PATIENCE), seen

    reading = threading.Thread(target=read)
    reading.start()
    try:
        yield process, wait_for, seen
    finally:
        process.kill()
        process.wait()
        reading.join()
        process.stderr.close()


def until(check):
    """Return what a check returns as soon as that is true."""
    end = time.monotonic() + PATIENCE
    while not (found := check()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.2)
    return found


def test_a_running_watcher_is_seen_and_leaves_no_trace(xpdml, tiled_server, iron_scan, tmp_path):
    address, _, key = tiled_server.uri.partition("?api_key=")
    server = ("--tiled", tiled_server.uri, "--path", "seen/xpdml")
    log = tmp_path / "watch.log"
    more = ("--log-file", log, "--log-level", "info", "--heartbeat", "1")
    with zmq.Context() as context, context.socket(zmq.PUB) as proxy:
        port = proxy.bind_to_random_port("tcp://127.0.0.1")
        with watching(port, tiled_server.uri, "seen/xpdml", *more) as (process, wait_for, lines):
            wait_for("connected to")
            documents = iron_scan()
            for name, document in documents:
                proxy.send(b" %s %s" % (name.encode(), encode(document)))
            proxy.send(b" start \x81\xa3uid")
            (found,) = until(
                lambda: [each for each in xpdml("status", *server, "--json").objects if each["predicted"]]
            )
            table = xpdml("status", *server)
            wait_for("1 predicted")
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
    assert (found["kind"], found["pid"], found["stale"], found["troubles"]) == (
        "watch",
        process.pid,
        False,
        [],
    )
    assert (found["runs"], found["backlog"], found["open_runs"], found["lag"]) == (1, 0, 0, 0.0)
    assert (found["documents"], found["gaps"]["refused"]) == (len(documents), 1)
    assert found["server"] == address
    uid = documents[0][1]["uid"]
    last = found["last_answer"]
    assert (last["raw_uid"], last["technique"], last["element"]) == (uid, "xanes", "Fe")
    assert min(found["memory"], found["memory_of_analysis"]) > 10_000_000
    assert table.status == 0
    assert re.search(rf"-{process.pid} +watch +ok", table.out)
    ended = xpdml("status", *server)
    assert ended.status == 1, "its record was removed"
    assert "no watcher or callback" in ended.err
    assert list(tmp_path.glob("state/**/status-*")) == []
    text = log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    assert re.search(
        rf"^\d{{4}}-.* INFO bluesky_xpdml\.callbacks\.worker run '{uid}' \(sample .*xanes Fe",
        text,
        re.MULTILINE,
    )
    assert "httpx" not in text
    for said in (text, "".join(lines), table.out, table.err, json.dumps(found)):
        assert key not in said


def test_a_server_that_is_away_leaves_the_files_of_this_computer(xpdml, tmp_path):
    server = ("--tiled", AWAY, "--path", "night")
    nothing = xpdml("status", *server)
    assert (nothing.status, nothing.out) == (1, "")
    with watching(9, AWAY, "night") as (process, wait_for, _):
        wait_for("listening to")
        (found,) = until(lambda: xpdml("status", *server, "--json").objects)
        said = xpdml("status", *server)
        assert said.status == 0
        assert "the server cannot be asked, the files of this computer are read" in said.err
        assert (found["pid"], found["container"], found["stale"]) == (process.pid, "night", False)
        assert len(xpdml("status", "--json").objects) == 1, "without a server all folders are read"
        (file,) = tmp_path.glob(f"state/**/status-{process.pid}.json")
        assert file.stat().st_mode & 0o777 == 0o600
    assert len(xpdml("status", *server, "--json").objects) == 1, "a killed watcher leaves its record"


def test_what_an_ended_session_left_is_told(xpdml):
    folder = state_folder(AWAY, "xpdml")
    with closing(Outbox(folder)) as outbox:
        outbox.add([("start", {"uid": "d-1", "raw_uid": "r-1"}), ("stop", {"run_start": "d-1"})])
    with closing(create_file(folder / "journal-999999999-ab.sqlite", outlived=False)) as journal, journal:
        rows = [(1, "r-1", "start", b"", 0.0), (2, "r-2", "start", b"", 0.0), (3, "r-2", "stop", b"", 0.0)]
        journal.executemany("INSERT INTO documents VALUES (?, ?, ?, ?, ?)", rows)
        journal.execute("INSERT INTO answered VALUES ('r-1')")
    said = xpdml("status", "--tiled", AWAY)
    assert said.status == 1
    assert f"1 runs and 1 predictions wait in {folder}" in " ".join(said.err.split())


def test_a_record_that_is_old_is_stale_and_the_status_says_so(xpdml):
    folder = state_folder(AWAY, "xpdml")
    record = Status(name="ws-1", host="ws", pid=1, kind="watch\x1b[31m", time=time.time() - 100.0)
    write_status_file(folder / "status-1.json", record)
    told = xpdml("status", "--tiled", AWAY)
    assert told.status == 1
    assert "ws-1: stale: no sign for 1" in told.err
    assert "\x1b" not in told.out
    assert xpdml("status", "--tiled", AWAY, "--json").objects[0]["stale"] is True


def test_the_log_of_a_command_names_the_run_and_its_sample(xpdml, tiled_server, iron_file, tmp_path):
    _, _, key = tiled_server.uri.partition("?api_key=")
    log = tmp_path / "replay.log"
    log.touch(mode=0o644)
    done = xpdml(
        "--log-file",
        log,
        "replay",
        iron_file,
        "--element",
        "Fe",
        "--edge",
        "K",
        "--publish",
        tiled_server.uri,
    )
    assert done.status == 0, done.err
    text = log.read_text()
    assert re.search(
        r"INFO bluesky_xpdml\.callbacks\.worker run '[^']+' \(sample '.*', scan '.*'\): xanes Fe: ", text
    )
    assert key not in text + done.err
    assert log.stat().st_mode & 0o777 == 0o600
    size = log.stat().st_size
    assert xpdml("models", "list").status == 0
    assert log.stat().st_size == size, "the log of a command ends with it"


def test_a_log_file_that_cannot_be_written_is_one_line(xpdml, tmp_path):
    link = tmp_path / "link.log"
    link.symlink_to(tmp_path / "other")
    for file in (tmp_path, tmp_path / "absent" / "a.log", link):
        told = xpdml("--log-file", file, "models", "list")
        assert (told.status, told.out, told.err.count("\n")) == (1, "", 1)
    assert not os.path.lexists(tmp_path / "other")
