"""Somebody's session: its signal handlers stay what they were, and what waits is on disk before its end."""

import signal
import subprocess
import sys

import pytest

SESSION = """
import os, signal, sys, threading, time
from pathlib import Path
from bluesky_xpdml import XpdmlCallback

def other(number, frame):
    print("other", number, flush=True)
    sys.exit(7)

before = sys.argv[2]
if before == "handler":
    signal.signal(signal.SIGTERM, other)
elif before == "ignored":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
interrupt = signal.getsignal(signal.SIGINT)

def subscribe():
    global callback
    callback = XpdmlCallback.from_uri("http://127.0.0.1:9", outbox=Path(sys.argv[1]))

if before == "thread":
    thread = threading.Thread(target=subscribe)
    thread.start()
    thread.join()
    print("unchanged", signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, flush=True)
else:
    subscribe()
assert signal.getsignal(signal.SIGINT) is interrupt
callback("start", {"uid": "a", "time": 0.0, "plan_name": "xafs", "element": "Fe", "edge": "K"})
callback("stop", {"uid": "s", "run_start": "a", "time": 1.0, "exit_status": "success"})
os.kill(os.getpid(), getattr(signal, sys.argv[3]))
time.sleep(2.0 if before == "ignored" else 60.0)
print("went on", flush=True)
os._exit(0)
"""


def ended(folder, before, name):
    command = [sys.executable, "-c", SESSION, str(folder), before, name]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def kept(folder):
    """Return the runs that are kept in journals, by their rows."""
    import sqlite3
    from contextlib import closing

    rows = []
    for path in folder.rglob("journal-*.sqlite"):
        with closing(sqlite3.connect(path)) as file:
            rows += file.execute("SELECT run, name FROM documents ORDER BY seq").fetchall()
    return rows


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_session_as_before_with_everything_on_the_disk(tmp_path, name):
    done = ended(tmp_path, "default", name)
    assert done.returncode == -getattr(signal, name), done.stderr
    assert kept(tmp_path) == [("a", "start"), ("a", "stop")]


def test_a_handler_that_was_there_is_called_afterwards(tmp_path):
    done = ended(tmp_path, "handler", "SIGTERM")
    assert (done.returncode, done.stdout) == (7, f"other {int(signal.SIGTERM)}\n"), done.stderr


def test_a_signal_that_was_ignored_still_is(tmp_path):
    done = ended(tmp_path, "ignored", "SIGTERM")
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr


def test_a_callback_that_is_made_in_a_thread_changes_no_handler(tmp_path):
    done = ended(tmp_path, "thread", "SIGTERM")
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "unchanged True\n"), done.stderr
