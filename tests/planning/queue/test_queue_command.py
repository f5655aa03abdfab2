"""`xpdml plan` in a process of its own, as it runs through a night."""

import json
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("xpdml")
PATIENCE = 300.0
FILE = """
[question]
campaign = "{campaign}"
descriptor = "oxidation_state"
technique = "xanes"

[[parameters]]
name = "temperature"
low = 300
high = 800
unit = "K"
keyword = "kelvin"

[optimizer]
kind = "boundary"
at_most = 9

[plan]
name = "measure"

[limits]
at_most_queued = 2
measurements = 30
seconds = 3600
patience = 60

[queue]
address = "{address}"
timeout = 60
"""


class Command:
    """The command, with its lines as they come."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [PROGRAM, "plan", "--json", "--pause", "0.1", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out, self.err = queue.Queue(), queue.Queue()
        pairs = ((self.process.stdout, self.out), (self.process.stderr, self.err))
        self.threads = [threading.Thread(target=self._read, args=pair, daemon=True) for pair in pairs]
        for thread in self.threads:
            thread.start()

    @staticmethod
    def _read(stream, lines):
        with stream:
            for line in stream:
                lines.put(line.rstrip("\n"))

    def said(self, event):
        """Wait for an event and return it."""
        while True:
            found = json.loads(self.out.get(timeout=PATIENCE))
            if found["event"] == event:
                return found

    def answer(self, word):
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def end(self, number=None):
        """Send a signal if there is one, wait, and return the exit status and the rest of the lines."""
        try:
            if number is not None:
                self.process.send_signal(number)
            status = self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            for thread in self.threads:
                thread.join()
        return status, [json.loads(line) for line in self.out.queue], list(self.err.queue)


@pytest.fixture
def command(manager, campaign, tmp_path):
    """Return a function that starts the command for a campaign of its own."""
    path = tmp_path / "campaign.toml"
    path.write_text(FILE.format(campaign=campaign, address=manager.address))
    settings = tmp_path / "xpdml.toml"
    address, _, key = manager.tiled_uri.partition("?api_key=")
    settings.write_text(f'[tiled]\nuri = "{address}"\npath = "queued"\n')
    started = []

    def start(*arguments):
        started.append(Command(path, "--settings", settings, "--api-key", key, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


@pytest.mark.slow
def test_a_person_at_the_terminal_decides_what_is_measured(manager, campaign, command):
    running = command("--approve", "ask")
    first = running.said("proposed")
    running.answer("n")
    assert running.said("rejected")["trial"] == first["trial"]
    second = running.said("proposed")
    running.answer("what")
    running.answer("y")
    added = running.said("added")
    assert (added["trial"], added["parameters"]) == (second["trial"], second["parameters"])
    assert manager.trials(campaign, manager.waiting()) == [second["trial"]]
    status, _, notes = running.end(signal.SIGTERM)
    assert status == 0
    assert notes[-1] == "xpdml: stopped; what the campaign has in the queue stays there"
    assert "xpdml: expected y or n, found 'what'" in notes
    assert any(note.startswith("xpdml: waiting: the queue is stopped: start it") for note in notes)
    assert manager.trials(campaign, manager.waiting()) == [second["trial"]]


@pytest.mark.slow
def test_killed_and_started_again_it_ends_by_itself_with_nothing_measured_twice(manager, campaign, command):
    manager.start()
    running = command("--approve", "auto")
    running.said("answered")
    running.said("added")
    status, *_ = running.end(signal.SIGKILL)
    assert status == -signal.SIGKILL
    status, lines, notes = command("--approve", "auto").end()
    assert status == 0
    assert notes[-1].startswith("xpdml: finished after ")
    assert "at most 9 were allowed" in notes[-1]
    manager.idle()
    trials = manager.trials(campaign, manager.history())
    assert len(trials) == len(set(trials))
    assert 9 <= len(trials) <= 11
    answered = {line["trial"]: line for line in lines if line["event"] == "answered"}
    assert len(answered) == 9, "those of the first process among them"
    for line in answered.values():
        state = 2.0 if line["parameters"]["temperature"] < 500.0 else 3.0
        assert line["oxidation_state"] == state
        assert line["novelty"] is None
    assert manager.waiting() == []


@pytest.mark.slow
def test_a_closed_terminal_is_a_clear_error(command):
    running = command("--approve", "ask")
    running.said("proposed")
    running.process.stdin.close()
    status, _, notes = running.end()
    assert status == 1
    assert "expected answers on standard input, found its end" in notes[-1]


def test_no_tiled_server_is_a_clear_error(tmp_path):
    path = tmp_path / "campaign.toml"
    path.write_text(FILE.format(campaign="a", address="tcp://127.0.0.1:1"))
    done = subprocess.run(
        [PROGRAM, "plan", path, "--approve", "auto"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "expected a Tiled server, found none" in done.stderr
