"""The outbox on disk: order, claims of several processes, its bound, full disks, and files it cannot use."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish import LiveRun, Outbox, Sender, derived_run
from bluesky_xpdml.publish.outbox_file import FILE_NAME


class Server:
    """Keeps what it is given; does what `behave` says at each call."""

    def __init__(self, behave=lambda _documents: None) -> None:
        self.behave = behave
        self.got: list[list] = []

    def publish(self, documents) -> None:
        self.behave(documents)
        self.got.append(list(documents))

    extend = publish

    def close(self) -> None:
        pass


def run(number, raw="", *, size=10):
    """Return a derived run of as many random bytes."""
    filler = np.random.default_rng(number).bytes(size).hex()
    start = {
        "uid": f"derived-{number}",
        "raw_uid": raw or f"raw-{number}",
        "sample": {"name": f"LFP-{number}"},
        "origin": {"scan_id": str(number)},
        "technique": "xanes",
        "element": "Fe",
        "filler": filler,
    }
    return [("start", start), ("stop", {"run_start": start["uid"]})]


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox(tmp_path / "outbox")) as opened:
        yield opened


def send_all(outbox, server):
    sender = Sender(lambda: server, outbox)
    while sender.step() != "idle":
        pass
    return [documents[0][1]["uid"] for documents in server.got]


def test_a_run_comes_back_bit_for_bit_after_the_process_has_gone_on(tmp_path: Path, answer):
    documents = derived_run(answer("raw"))
    documents[0][1]["numbers"] = [0.1, float("inf"), 1e-310, 2**63 - 1, -(2**63), True, None]
    with closing(Outbox(tmp_path / "outbox")) as first:
        first.add(documents)
    with closing(Outbox(tmp_path / "outbox")) as second:
        (entry,) = second.entries()
        assert (entry.uid, entry.raw_uid, entry.sample) == (documents[0][1]["uid"], "raw", "LFP")
        assert (entry.technique, entry.element, entry.attempts, entry.live) == ("xanes", "Fe", 0, False)
        assert json.dumps(second.documents(entry)) == json.dumps(documents)
        assert second.size == entry.bytes > 0


def test_entries_leave_in_the_order_in_which_they_came(outbox):
    for number in range(5):
        outbox.add(run(number))
    outbox.add(run(3))
    assert len(outbox) == 5
    assert send_all(outbox, Server()) == [f"derived-{number}" for number in range(5)]
    assert len(outbox) == 0


def test_a_later_run_of_the_same_raw_run_waits_and_others_do_not(outbox):
    for number, raw in enumerate(("a", "b", "a", "b", "c")):
        outbox.add(run(number, raw))

    def refuse(documents):
        if documents[0][1]["uid"] == "derived-0":
            raise PublishError("no")

    assert send_all(outbox, Server(refuse)) == ["derived-1", "derived-3", "derived-4"]
    first, second = outbox.entries()
    assert (first.uid, first.attempts, first.error) == ("derived-0", 1, "no")
    assert (second.uid, second.attempts) == ("derived-2", 0)
    assert 0.0 < outbox.due_in() < 3.0
    outbox.make_due()
    assert send_all(outbox, Server()) == ["derived-0", "derived-2"]


def test_a_clock_that_was_set_back_does_not_hold_a_run_for_long(tmp_path: Path):
    with closing(Outbox(tmp_path / "outbox", clock=lambda: 2e9)) as before:
        before.add(run(1))
        before.note_failure(before.claim(), "no", pause=60.0)
    with closing(Outbox(tmp_path / "outbox", clock=lambda: 1e9)) as after:
        assert after.claim().uid == "derived-1"


def test_texts_of_others_are_bounded_and_shown_as_text(outbox):
    documents = run(1, "raw\x1b[31m\ud800" + "x" * 50_000)
    start = documents[0][1]
    start.update(sample={"name": ["no", "text"]}, origin="none")
    start["raw_uid"] = start["raw_uid"].encode("utf-8", "backslashreplace").decode()
    outbox.add(documents)
    (entry,) = outbox.entries()
    assert len(entry.raw_uid) <= 200
    assert "\x1b" not in str(entry)
    assert len(str(entry)) < 300


def test_what_is_no_plain_document_is_an_error_of_its_own(outbox):
    with pytest.raises(TypeError, match="object"):
        outbox.add([("start", {"uid": "x", "thing": object()})])
    assert len(outbox) == 0


def test_at_the_bound_partial_answers_go_first_and_then_new_answers_are_refused(tmp_path: Path, answer):
    with closing(Outbox(tmp_path / "outbox", limit=10_000)) as outbox:
        live = LiveRun()
        for _ in range(3):
            outbox.add(live.update(answer("measured")), live=True)
        assert [entry.rows for entry in outbox.entries()] == [3], "rows that wait are one part"
        added = 0
        with suppress(PublishError):
            for added in range(20):
                outbox.add(run(added, size=1000))
        with pytest.raises(PublishError, match=r"outbox\.limit"):
            outbox.add(run(added, size=1000))
        kept = outbox.entries()
        assert [entry.uid for entry in kept] == [f"derived-{number}" for number in range(added)]
        assert added > 5
        assert outbox.size <= 10_000
        # The rest of the live run is dropped, too: the server never saw its start.
        assert outbox.add(live.update(answer("measured")), live=True) is None
        outbox.remove(outbox.claim())
        outbox.add(run(100, size=1000))
        assert outbox.entries()[-1].uid == "derived-100"


@contextmanager
def few_pages(outbox: Outbox, _folder: Path) -> Iterator[None]:
    """Let SQLite find its disk full."""

    def limit(number: int) -> None:
        outbox._file.run(lambda each: each.execute(f"PRAGMA max_page_count = {number}").fetchall())

    limit(1)  # As many as there are.
    yield
    limit(1_000_000)


@contextmanager
def small_disk(outbox: Outbox, folder: Path) -> Iterator[None]:
    """Fill the disk of the outbox."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    yield
    ballast.unlink()


@pytest.fixture(params=[few_pages, small_disk], ids=lambda each: each.__name__)
def full_disk(request, tmp_path: Path):
    """Return a folder, and what fills its disk as long as it is entered."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param is few_pages:
        yield folder, few_pages
        return
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=False)  # noqa: S607
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield folder, small_disk
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # noqa: S607


def test_a_full_disk_is_said_once_and_what_waits_in_memory_moves_to_the_disk(full_disk, caplog, monkeypatch):
    monkeypatch.setattr("bluesky_xpdml.publish.outbox.MOVE_INTERVAL", 0.0)
    folder, fill = full_disk
    with closing(Outbox(folder / "outbox")) as outbox:
        outbox.add(run(0, "a", size=2000))
        with fill(outbox, folder):
            for number in range(1, 5):
                outbox.add(run(number, "a", size=20_000))
            assert len([each for each in caplog.records if "full" in each.message]) == 1
            assert "make room" in caplog.text
            assert len(outbox) == 5
            assert [entry.seq for entry in outbox.entries()[-4:]] == [-1, -2, -3, -4]
        outbox.add(run(5, "b"))
        assert all(entry.seq > 0 for entry in outbox.entries())
        assert send_all(outbox, Server()) == [f"derived-{number}" for number in range(6)]


def test_a_full_disk_does_not_keep_runs_from_being_sent(full_disk):
    folder, fill = full_disk
    with closing(Outbox(folder / "outbox")) as outbox:
        outbox.add(run(0, "a", size=2000))
        with fill(outbox, folder):
            for number in range(1, 4):
                outbox.add(run(number, "a", size=20_000))
            assert send_all(outbox, Server()) == [f"derived-{number}" for number in range(4)]
            assert len(outbox) == 0
        assert outbox.entries() == []


def test_memory_is_bounded_and_what_it_cannot_hold_is_refused(outbox, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("bluesky_xpdml.publish.outbox.LARGEST_IN_MEMORY", 50_000)
    with few_pages(outbox, tmp_path):
        outbox.add(run(1, size=20_000))
        with pytest.raises(PublishError, match="or in memory"):
            outbox.add(run(2, size=40_000))
        assert [entry.uid for entry in outbox.entries()] == ["derived-1"]


@pytest.mark.parametrize("damage", ["no database", "pages", "emptied"])
def test_a_damaged_file_is_set_aside_and_named(tmp_path: Path, caplog, damage: str):
    folder = tmp_path / "outbox"
    with closing(Outbox(folder)) as before:
        for number in range(30):
            before.add(run(number, size=3000))
    content = bytearray((folder / FILE_NAME).read_bytes())
    if damage == "no database":
        content[:100] = b"x" * 100
    elif damage == "pages":
        content[8192:40960] = b"\xff" * (40960 - 8192)
    else:
        del content[20_000:]
    (folder / FILE_NAME).write_bytes(content)
    with closing(Outbox(folder)) as after:
        after.add(run(100))
        assert [entry.uid for entry in after.entries()] == ["derived-100"]
    (aside,) = folder.glob("outbox.sqlite.damaged-*")
    assert aside.read_bytes() == content
    assert aside.name in caplog.text
    assert "xpdml replay" in caplog.text


def test_damage_while_the_file_is_open_costs_no_further_run(tmp_path: Path):
    folder = tmp_path / "outbox"
    with closing(Outbox(folder)) as outbox, closing(Outbox(folder)) as other:
        for number in range(30):
            outbox.add(run(number, size=3000))
        outbox.shrink()
        with (folder / FILE_NAME).open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 100_000)
        other.add(run(100))
        outbox.add(run(101))
        assert {entry.uid for entry in outbox.entries()} == {"derived-100", "derived-101"}
    aside = [
        path for path in folder.glob("outbox.sqlite.damaged-*") if not path.name.endswith(("-wal", "-shm"))
    ]
    assert len(aside) == 1


def test_an_entry_that_cannot_be_read_is_kept_and_holds_up_no_other(outbox):
    for number in range(3):
        outbox.add(run(number))
    outbox._file.run(lambda each: each.execute("UPDATE contents SET documents = x'ff' WHERE seq = 1"))
    assert send_all(outbox, Server()) == ["derived-1", "derived-2"]
    (entry,) = outbox.entries()
    assert "analyse the raw run again" in entry.error


def test_a_refusal_that_cannot_be_written_down_still_makes_a_pause(outbox, monkeypatch):
    def refuse(_documents):
        raise PublishError("no")

    outbox.add(run(1))
    server = Server(refuse)
    sender = Sender(lambda: server, outbox)
    monkeypatch.setattr(outbox, "_file", ReadOnly(outbox._file))
    assert [sender.step() for _ in range(3)] == ["refused", "idle", "idle"]
    assert outbox.due_in() > 1.0


class ReadOnly:
    """A file whose disk is full: what reads works, what writes does not."""

    def __init__(self, file) -> None:
        self._file = file

    def run(self, action, *, durable=False):
        def read(connection):
            before = connection.total_changes
            found = action(connection)
            if connection.total_changes != before:
                raise sqlite3.OperationalError("database or disk is full")
            return found

        return self._file.run(read, durable=durable)

    def close(self) -> None:
        self._file.close()


def test_a_later_format_is_refused_and_left_as_it_is(tmp_path: Path):
    folder = tmp_path / "outbox"
    Outbox(folder).close()
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        connection.execute("PRAGMA user_version = 7")
    with pytest.raises(PublishError, match=r"format 1 in .*, found 7.*upgrade"):
        Outbox(folder)
    assert [path.name for path in folder.glob("*damaged*")] == []


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path):
    folder = tmp_path / "outbox"
    with closing(Outbox(folder)) as outbox:
        outbox.add(run(1))
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        outbox.add(run(2))
        assert [entry.uid for entry in outbox.entries()] == ["derived-2"]


def test_what_one_process_sends_another_leaves_alone(tmp_path: Path):
    folder = tmp_path / "outbox"
    with closing(Outbox(folder)) as one, closing(Outbox(folder)) as other:
        one.add(run(1, "a"))
        one.add(run(2, "a"))
        one.add(run(3, "b"))
        claimed = one.claim()
        assert claimed.uid == "derived-1"
        assert other.claim().uid == "derived-3"
        assert other.drop(other.entries()) == 1
        one.remove(claimed)
        assert one.claim() is None
        assert [entry.uid for entry in other.entries()] == ["derived-3"]


CLAIM_AND_HANG = """
import os, sys, time
from pathlib import Path
from bluesky_xpdml.publish import Outbox
outbox = Outbox(Path(sys.argv[1]))
for number in range(2):
    outbox.add([("start", {"uid": f"derived-{number}", "raw_uid": "raw"}), ("stop", {})])
claimed = outbox.claim()
if "with-child" in sys.argv and os.fork() == 0:
    # It lives until nobody can write to it any more.
    os.write(1, b"child\\n")
    sys.stdin.read()
    os._exit(0)
os.write(1, f"{claimed.uid}\\n".encode())
time.sleep(600)
"""


@pytest.mark.parametrize("child", ["alone", "with-child"])
def test_what_a_killed_process_was_sending_another_sends(tmp_path: Path, child: str):
    folder = tmp_path / "outbox"
    command = [sys.executable, "-c", CLAIM_AND_HANG, str(folder), child]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
        closing(Outbox(folder)) as outbox,
    ):
        try:
            said = {process.stdout.readline().strip() for _ in range(1 + (child == "with-child"))}
            assert said - {"child"} == {"derived-0"}
            # As long as the other lives, its run and what must come after it are left alone.
            assert outbox.claim() is None
        finally:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert send_all(outbox, Server()) == ["derived-0", "derived-1"]
    assert [path.name for path in folder.glob("owner-*")] == []


SEND_TO_FILE = """
import os, sys
from pathlib import Path
from bluesky_xpdml.publish import CallbackPublisher, Outbox, OutboxPublisher
folder, name = Path(sys.argv[1]), sys.argv[2]
log = os.open(folder.parent / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(kind, document):
    if kind == "start":
        os.write(log, f"{document['uid']} {document['raw_uid']}\\n".encode())

publisher = OutboxPublisher(lambda: CallbackPublisher(note), Outbox(folder))
for number in range(40):
    start = {"uid": f"{name}-{number}", "raw_uid": f"raw-{number % 5}"}
    publisher.publish([("start", start), ("stop", {})])
print(publisher.flush(60.0))
publisher.close()
"""


def test_two_processes_share_an_outbox(tmp_path: Path):
    folder = tmp_path / "outbox"
    commands = [[sys.executable, "-c", SEND_TO_FILE, str(folder), name] for name in "ab"]
    processes = [subprocess.Popen(each, stdout=subprocess.PIPE, text=True) for each in commands]
    assert [process.communicate(timeout=120)[0].strip() for process in processes] == ["True", "True"]
    sent = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(uid for uid, _ in sent) == sorted(
        f"{name}-{number}" for name in "ab" for number in range(40)
    )
    for name in "ab":
        for raw in range(5):
            numbers = [int(uid[2:]) for uid, lane in sent if uid[0] == name and lane == f"raw-{raw}"]
            assert numbers == sorted(numbers)
    with closing(Outbox(folder)) as outbox:
        assert len(outbox) == 0


def test_the_file_gives_its_space_back(outbox, monkeypatch):
    monkeypatch.setattr("bluesky_xpdml.publish.outbox_file.PAGES_GIVEN_BACK", 200)
    for number in range(50):
        outbox.add(run(number, size=20_000))
    assert not outbox.shrink()
    largest = outbox.path.stat().st_size
    send_all(outbox, Server())
    assert outbox.shrink()
    while outbox.shrink():
        pass
    assert outbox.path.stat().st_size < 0.2 * largest
