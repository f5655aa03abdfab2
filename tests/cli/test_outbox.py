"""`xpdml outbox`: what waits is listed, sent to a real server, and dropped."""

from contextlib import closing

import pytest

from bluesky_xpdml.publish import Outbox, TiledPublisher, derived_run, find_predictions, state_folder
from bluesky_xpdml.records import Origin, Prediction, Quality, Sample

AWAY = "http://127.0.0.1:9"


@pytest.fixture
def filled(tmp_path, monkeypatch):
    """Return a function that lets two answers wait for a server, in an own state of the user."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def fill(uri, path="outboxed"):
        with closing(Outbox(state_folder(uri, path))) as outbox:
            for number in range(2):
                answer = Prediction(
                    technique="xanes",
                    element="Fe",
                    edge="K",
                    quality=Quality(),
                    descriptors={},
                    sample=Sample(name=f"LFP-{number}\x1b[31m"),
                    origin=Origin(scan_id=str(number)),
                    raw_uids=(f"raw-run-number-{number}",),
                )
                outbox.add(derived_run(answer))
        return "--tiled", uri, "--path", path

    return fill


def test_what_waits_is_listed_for_people_and_programs(xpdml, filled):
    server = filled(AWAY)
    listed = xpdml("outbox", "list", *server, "--json")
    assert listed.status == 0
    assert [(each["raw_uid"], each["scan_id"], each["attempts"]) for each in listed.objects] == [
        ("raw-run-number-0", "0", 0),
        ("raw-run-number-1", "1", 0),
    ]
    table = xpdml("outbox", "list", *server)
    assert "raw-run-number-1" in table.out
    assert "\x1b" not in table.out
    assert "2 wait in" in table.err


def test_without_a_server_every_outbox_of_this_computer_is_listed(xpdml, filled):
    filled(AWAY)
    filled(AWAY, "other")
    folders = {each["outbox"] for each in xpdml("outbox", "list", "--json").objects}
    assert len(folders) == 2


def test_a_server_without_outbox_has_nothing_waiting(xpdml, filled):
    done = xpdml("outbox", "list", "--tiled", AWAY, "--json")
    assert (done.status, done.out) == (0, "")
    assert "nothing waits" in done.err
    assert xpdml("outbox", "send", "--tiled", AWAY).status == 0


def test_a_server_that_is_away_keeps_all_and_the_status_says_so(xpdml, filled):
    done = xpdml("outbox", "send", *filled(AWAY), "--json")
    assert done.status == 3
    (answer,) = done.objects
    assert (answer["sent"], answer["kept"]) == (0, 2)
    assert "check the address" in answer["error"]


def test_what_waits_is_sent(xpdml, filled, tiled_server):
    server = filled(tiled_server.uri)
    done = xpdml("outbox", "send", *server, "--json")
    assert done.status == 0, done.err
    assert done.objects == [{"sent": 2, "kept": 0, "error": ""}]
    assert xpdml("outbox", "list", *server, "--json").out == ""
    reader = TiledPublisher.from_uri(tiled_server.uri, path="outboxed")
    for number in range(2):
        (run,) = find_predictions(reader.container, f"raw-run-number-{number}")
        assert run.metadata["stop"]["num_events"] == {}
    reader.close()


def test_runs_are_dropped_by_uid_or_all_of_them(xpdml, filled):
    server = filled(AWAY)
    assert xpdml("outbox", "drop", *server).status == 2
    assert xpdml("outbox", "drop", "raw", "--yes", *server).status == 1
    one = xpdml("outbox", "drop", "raw-run-number-1", "--yes", *server, "--json")
    assert one.objects == [{"dropped": 1}]
    (left,) = xpdml("outbox", "list", *server, "--json").objects
    assert left["raw_uid"] == "raw-run-number-0"
    assert xpdml("outbox", "drop", "--all", "--yes", *server, "--json").objects == [{"dropped": 1}]


def test_dropping_asks_first(xpdml_process, filled):
    server = filled(AWAY)
    refused = xpdml_process("outbox", "drop", "--all", *server)
    assert refused.status == 130
    assert "Drop 2 derived runs" in refused.err


def test_the_settings_name_another_folder(xpdml, filled, tmp_path):
    with closing(Outbox(state_folder(AWAY, "xpdml", root=tmp_path / "mine"))) as outbox:
        outbox.add([("start", {"uid": "derived", "raw_uid": "raw"}), ("stop", {})])
    (tmp_path / "xpdml.toml").write_text(f'[tiled]\nuri = "{AWAY}"\n[outbox]\nfolder = "mine"\nlimit = 1e6\n')
    (found,) = xpdml("outbox", "list", "--json").objects
    assert found["uid"] == "derived"
    (tmp_path / "xpdml.toml").write_text("[outbox]\nlimit = -1.0\n")
    assert "positive size" in xpdml("outbox", "list").err
