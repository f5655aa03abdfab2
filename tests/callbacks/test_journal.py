"""The journal keeps documents until their run is answered, whoever dies meanwhile."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from threading import Event
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bluesky_xpdml.callbacks import journal as journal_module
from bluesky_xpdml.callbacks.inbox import Close, Flush, GiveUp, Inbox, Sync
from bluesky_xpdml.callbacks.journal import ORPHANED, Journal
from bluesky_xpdml.sources.wire import decode
from bluesky_xpdml.vocabulary import Reason, ReasonCode

PATIENCE = 240.0
REASON = Reason("it took too long", ReasonCode.TIME_LIMIT)

OWNER = """
import ast, os, sys, time
from pathlib import Path
from threading import Event
from bluesky_xpdml.callbacks.inbox import Inbox, Sync
from bluesky_xpdml.callbacks.journal import Journal

inbox = Inbox(1000)
journal = Journal(inbox, Path(sys.argv[1]), outlived=sys.argv[2] == "outlived")
for name, document in ast.literal_eval(sys.argv[3]):
    inbox.offer(name, document)
written = Event()
inbox.mark(Sync(written))
written.wait()
for run in ast.literal_eval(sys.argv[4]):
    journal.settle(run, keep=True)
if "fork" in sys.argv and not os.fork():
    os.write(1, f"{os.getpid()}\\n".encode())
    time.sleep(600)
    os._exit(0)
# In one piece: the fork writes at the same moment.
os.write(1, b"written\\n")
time.sleep(600)
"""


def documents(uid, n_events=2, *, stops=True):
    yield "start", {"uid": uid, "time": 0.0}
    yield "descriptor", {"uid": f"{uid}-d", "run_start": uid, "name": "primary"}
    for number in range(1, n_events + 1):
        yield "event", {"descriptor": f"{uid}-d", "seq_num": number, "data": {"i0": 1.0}}
    if stops:
        yield "stop", {"uid": f"{uid}-s", "run_start": uid, "num_events": {"primary": n_events}}


class Opened:
    """A journal with its inbox, which is read up to a marker."""

    def __init__(self, folder, **options):
        self.inbox = Inbox(100_000)
        self.journal = Journal(self.inbox, folder, **options)

    def offer(self, *runs):
        for each in runs:
            for name, document in each:
                self.inbox.offer(name, document)
        return self

    def written(self):
        marker = Sync(Event())
        self.inbox.mark(marker)
        assert marker.reached.wait(PATIENCE)
        return self

    def taken(self):
        """Return everything that waits, decoded."""
        self.inbox.mark(Flush(Event()))
        items = []
        while not (items and isinstance(items[-1], Flush)):
            items += self.journal.take()
        return [item if isinstance(item, GiveUp) else (item[0], decode(item[1])) for item in items[:-1]]

    def close(self):
        self.inbox.mark(Close())
        return self.journal.close()


@pytest.fixture
def opened(tmp_path):
    """Return a function that opens a journal in one folder; what is open at the end is closed."""
    journals = []

    def open_journal(**options):
        journals.append(Opened(tmp_path, **options))
        return journals[-1]

    yield open_journal
    for each in journals:
        if each.journal._thread.is_alive():
            each.close()


@pytest.fixture
def owner(tmp_path):
    """Return a function that starts a process with a journal of some documents, all on disk."""
    processes = []

    def start(*runs, answered=(), outlived=False, more=()):
        given = [document for run in runs for document in run]
        kind = "outlived" if outlived else "session"
        command = [sys.executable, "-c", OWNER, str(tmp_path), kind, repr(given), repr(answered), *more]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        lines = [process.stdout.readline()] + ([process.stdout.readline()] if more else [])
        assert "written\n" in lines
        process.said = [line.strip() for line in lines]
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def killed(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def journals(folder):
    return sorted(path.name for path in folder.glob("journal-*") if "lock" not in path.name)


def test_documents_come_out_as_they_came_in_and_nothing_is_left_once_they_are_answered(opened, tmp_path):
    each = opened().offer(documents("a"), documents("b"))
    assert [name for name, _ in each.taken()] == ["start", "descriptor", "event", "event", "stop"] * 2
    assert each.journal.backlog + each.journal.gaps.unstopped == 2
    for run in "ab":
        each.journal.settle(run, keep=True)
    assert each.journal.is_answered("a")
    assert each.close() == 0
    assert journals(tmp_path) == []


def test_a_journal_of_a_dead_owner_is_taken_over_before_anything_new(opened, owner, tmp_path):
    killed(owner(documents("a"), documents("b", stops=False), documents("c"), answered=["c"]))
    each = opened().offer(documents("d"))
    items = each.taken()
    assert [item for item in items if isinstance(item, GiveUp)] == [
        GiveUp("b", {"uid": "b", "time": 0.0}, ORPHANED)
    ]
    runs = [item[1].get("uid") for item in items if not isinstance(item, GiveUp) and item[0] == "start"]
    # An answered run comes again for what later runs need of it: its dark frames, its calibration.
    assert runs == ["a", "c", "d"]
    assert each.journal.is_answered("c")
    assert each.journal.backlog + each.journal.gaps.unstopped == 3
    assert len(journals(tmp_path)) >= 1
    assert {name.split("-")[1] for name in journals(tmp_path)} == {str(os.getpid())}


def test_a_run_that_goes_on_without_its_watcher_stays_open(opened, owner):
    killed(owner(documents("a", stops=False), outlived=True))
    each = opened(outlived=True)
    each.offer([("stop", {"uid": "s", "run_start": "a", "num_events": {"primary": 2}})])
    assert [name for name, _ in each.taken()] == ["start", "descriptor", "event", "event", "stop"]
    assert each.journal.gaps.events == 0


def test_a_journal_whose_owner_lives_is_left_alone(opened, owner, tmp_path):
    owner(documents("a"))
    before = journals(tmp_path)
    each = opened().offer(documents("b"))
    assert [item[1].get("uid") for item in each.taken() if item[0] == "start"] == ["b"]
    assert set(before) <= set(journals(tmp_path))


def test_a_fork_that_outlives_its_owner_does_not_keep_the_journal(opened, owner):
    process = owner(documents("a"), more=["fork"])
    killed(process)
    # The system takes a moment to give the lock of a killed process up.
    time.sleep(0.5)
    child = int(next(line for line in process.said if line.isdecimal()))
    try:
        assert [item[1].get("uid") for item in opened().taken() if item[0] == "start"] == ["a"]
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_damaged_journal_is_set_aside_by_name_and_the_rest_is_taken(opened, owner, tmp_path, caplog):
    first, second = owner(documents("a")), owner(documents("b"))
    for process in (first, second):
        killed(process)
    (damaged,) = tmp_path.glob(f"journal-{first.pid}-*.sqlite")
    damaged.write_bytes(b"no database at all" * 500)
    for suffix in ("-wal", "-shm"):
        damaged.with_name(damaged.name + suffix).unlink(missing_ok=True)
    assert [item[1].get("uid") for item in opened().taken() if item[0] == "start"] == ["b"]
    (aside,) = tmp_path.glob("journal-*.damaged-*")
    assert aside.read_bytes().startswith(b"no database at all")
    assert aside.name in caplog.text
    assert "found a damaged file" in caplog.text


def test_a_journal_of_a_later_version_is_left_where_it_is(opened, owner, tmp_path, caplog):
    killed(owner(documents("a")))
    (later,) = tmp_path.glob("journal-*.sqlite")
    with closing(sqlite3.connect(later)) as file:
        file.execute(f"PRAGMA user_version = {journal_module.FORMAT + 1}")
    assert opened().taken() == []
    assert later.exists()
    assert "later version" in caplog.text
    with closing(sqlite3.connect(later)) as file:
        assert file.execute("SELECT count(*) FROM documents").fetchone() == (5,)


def test_documents_that_are_none_do_not_cost_the_others(opened, owner, tmp_path):
    malformed = [("event", None), ("start", {1: 2}), ("stop", "text")]
    killed(owner(malformed, documents("a"), malformed))
    each = opened()
    each.inbox.mark(Flush(Event()))
    names = []
    while not (items := each.journal.take()) or isinstance(items[0], tuple):
        names += [name for name, _ in items]
    assert names.count("stop") == 3
    assert each.journal.backlog + each.journal.gaps.unstopped == 1
    assert not list(tmp_path.glob("*damaged*"))


def full(journal, pages):
    """Let the file of a journal grow no further, as on a full disk."""
    journal._file.execute(f"PRAGMA max_page_count = {pages}").fetchall()


def test_a_full_disk_loses_nothing_and_is_used_again_when_there_is_room(opened, owner, tmp_path, caplog):
    each = opened()
    full(each.journal, 1)
    each.offer(documents("a", 200), documents("b", 200)).written()
    assert "documents wait in memory" in caplog.text
    assert sum(item[0] == "event" for item in each.taken()) == 400
    full(each.journal, 1 << 30)
    end = time.monotonic() + PATIENCE
    while each.journal._memory and time.monotonic() < end:
        time.sleep(0.2)
        each.offer([("datum", {"datum_id": "x", "resource": "none"})]).written()
    with closing(sqlite3.connect(next(tmp_path.glob("journal-*.sqlite")))) as file:
        stored = file.execute("SELECT run, count(*) FROM documents WHERE run != '' GROUP BY run").fetchall()
    assert stored == [("a", 203), ("b", 203)]


def test_what_finds_no_room_at_the_end_is_written_if_there_is_room_then_else_named(opened, tmp_path, caplog):
    each = opened()
    full(each.journal, 1)
    each.offer(documents("a", 100)).written()
    full(each.journal, 1 << 30)
    assert each.close() == 1
    assert "lost" not in caplog.text
    second = opened()
    assert sum(item[0] == "event" for item in second.taken()) == 100
    full(second.journal, 1)
    second.offer(documents("b", 500)).written()
    second.close()
    assert "1 runs are lost" in caplog.text
    caplog.clear()
    third = opened()
    full(third.journal, 1)
    third.offer(documents("c", 500)).written()
    third.journal.settle("c", keep=True)
    third.close()
    assert "lost" not in caplog.text, "it was answered"


def test_an_earlier_journal_waits_until_there_is_room_for_it(owner, tmp_path, monkeypatch, caplog):
    killed(owner(documents("a", 500)))
    create = journal_module.create_file

    def small(path, **options):
        file = create(path, **options)
        file.execute("PRAGMA max_page_count = 1").fetchall()
        return file

    monkeypatch.setattr(journal_module, "create_file", small)
    monkeypatch.setattr(journal_module, "RETRY", 0.0)
    each = Opened(tmp_path)
    assert each.written().taken() == []
    assert "cannot be taken over now" in caplog.text
    full(each.journal, 1 << 30)
    each.offer(documents("b")).written()
    items = each.taken()
    assert {item[1]["uid"] for item in items if item[0] == "start"} == {"a", "b"}
    for run in "ab":
        each.journal.settle(run, keep=True)
    assert each.close() == 0
    assert journals(tmp_path) == []


def test_a_run_that_is_given_up_is_one_note_behind_everything_that_waits(opened):
    each = opened().offer(documents("a"), documents("b")).written()
    each.journal.give_up("a", REASON)
    items = each.taken()
    assert [item[0] for item in items[:-1]] == ["start", "descriptor", "event", "event", "stop"]
    assert items[-1] == GiveUp("a", {"uid": "a", "time": 0.0}, REASON)
    assert items[-1].reason.code is ReasonCode.TIME_LIMIT
    each.journal.rewind()
    assert each.taken() == items


def test_a_run_whose_stop_was_lost_is_replaced_by_that_of_a_catalog(opened):
    each = opened(outlived=True).offer(documents("a", 1, stops=False)).written()
    assert each.journal.is_open("a")
    each.journal.add_run(list(documents("a", 3)))
    assert not each.journal.is_open("a")
    items = each.taken()
    assert items[0] == GiveUp("a", None, None)
    assert [item[0] for item in items[1:]] == ["start", "descriptor", *["event"] * 3, "stop"]


def test_answered_runs_are_removed_but_for_the_last_ones(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "KEPT_RUNS", 3)
    each = opened().offer(*(documents(f"run-{number}") for number in range(10)))
    each.taken()
    for number in range(10):
        each.journal.settle(f"run-{number}", keep=number != 9)
    each.journal.rewind()
    assert [item[1]["uid"] for item in each.taken() if item[0] == "start"] == ["run-6", "run-7", "run-8"]
    assert each.journal.backlog + each.journal.gaps.unstopped == 0


def test_missing_events_and_stops_are_counted(opened):
    lost = [each for number, each in enumerate(documents("a", 5)) if number not in {3, 4}]
    each = opened().offer(lost, documents("b", stops=False)).written()
    assert (each.journal.gaps.events, each.journal.gaps.unstopped) == (2, 1)


def without(run, name):
    return [each for each in run if each[0] != name]


def test_runs_without_a_start_document_are_named_and_hold_up_nothing(opened, caplog):
    each = opened().offer(without(documents("a"), "start"), documents("b")).written()
    assert (each.journal.gaps.unstarted, each.journal.backlog) == (1, 1)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("run 'a' ended, but its start document never came")
    each.taken()
    each.journal.settle("b", keep=False)
    each.journal.rewind()
    assert each.taken() == [], "nothing is kept for ever"


@pytest.mark.parametrize("outlived", [False, True])
def test_a_journal_is_taken_over_whatever_its_runs_lack(opened, owner, tmp_path, outlived):
    names = ("start", "descriptor", "event", "stop")
    killed(owner(*(without(documents(name), name) for name in names), documents("whole"), outlived=outlived))
    each = opened().offer(documents("new"))
    items = each.taken()
    assert [item[1]["uid"] for item in items if not isinstance(item, GiveUp) and item[0] == "start"][
        -1
    ] == "new"
    assert each.journal.gaps.unstarted == 1
    assert each.journal.gaps.unstopped == outlived
    assert each.journal.backlog == 5 - outlived
    assert all(name.split("-")[1] == str(os.getpid()) for name in journals(tmp_path))


def test_a_journal_that_lacks_its_owner_is_set_aside(opened, owner, tmp_path, caplog):
    killed(owner(documents("a")))
    (path,) = tmp_path.glob("journal-*.sqlite")
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("DELETE FROM owner")
    each = opened().offer(documents("b"))
    assert next(iter(each.taken()))[0] == "start"
    assert any("damaged" in name for name in journals(tmp_path))
    assert "xpdml catch-up" in caplog.text


RUNS = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=6)


@given(runs=RUNS, chance=st.randoms(use_true_random=False), answered=st.sets(st.integers(0, 5)))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_interleaved_comes_out_of_the_next_journal_too(tmp_path, runs, chance, answered):
    folder = tmp_path / uuid4().hex
    folder.mkdir()
    streams = [list(documents(f"r{n}", events, stops=stops)) for n, (events, stops) in enumerate(runs)]
    given = {f"r{n}": list(stream) for n, stream in enumerate(streams)}
    first = Opened(folder, outlived=True)
    while waiting := [stream for stream in streams if stream]:
        first.inbox.offer(*chance.choice(waiting).pop(0))
    first.written()
    done = {f"r{n}" for n in answered if n < len(runs) and runs[n][1]}
    for run in done:
        first.journal.settle(run, keep=False)
    first.inbox.mark(Close(keep_open=True))
    left = first.journal.close()
    assert left == sum(stops for _, stops in runs) - len(done)
    second = Opened(folder, outlived=True)
    found = {run: [] for run in given}
    for name, document in second.taken():
        run = document.get("run_start") or document.get("descriptor") or document["uid"]
        found[run.split("-")[0]].append((name, document))
    assert found == {run: [] if run in done else stream for run, stream in given.items()}
    for run in given:
        second.journal.settle(run, keep=False)
    assert second.close() == 0
    assert journals(folder) == []
