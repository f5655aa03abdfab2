"""`xpdml pair` in a process of its own: what is there, what comes, the end, and another beginning."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bluesky_xpdml import Prediction, Quality, TiledPublisher, derived_run
from bluesky_xpdml.cli.app import app
from bluesky_xpdml.errors import SettingsError
from bluesky_xpdml.publish import PredictionCatalog, Query
from bluesky_xpdml.records import Origin, Sample

PROGRAM = Path(sys.executable).with_name("xpdml")
PATIENCE = 240.0


def failed(technique, uid, name="a"):
    """Return the documents of a failed answer, which is quick to publish and to pair."""
    return derived_run(
        Prediction(
            technique=technique,
            element="Fe",
            edge="",
            quality=Quality().failed(f"{uid} went wrong"),
            sample=Sample(name=name),
            raw_uids=(uid,),
            origin=Origin(time=1.7e9),
        )
    )


@pytest.fixture
def publisher(tiled_server):
    opened = TiledPublisher.from_uri(tiled_server.uri, path="paired")
    yield opened
    opened.close()


def command(server, *options):
    address, _, query = server.uri.partition("?")
    key = query.partition("api_key=")[2]
    where = ["--tiled", address, "--path", "paired", *(["--api-key", key] if key else [])]
    return [str(PROGRAM), "pair", *where, "--within", "3600", "--json", *options]


@pytest.mark.slow
def test_a_process_pairs_what_is_there_and_what_comes_and_a_second_one_doubles_nothing(
    tiled_server, publisher
):
    for technique, uid in (("xanes", "x1"), ("pdf", "p1")):
        publisher.publish(failed(technique, uid))
    process = subprocess.Popen(
        command(tiled_server, "--interval", "0.2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        there = json.loads(process.stdout.readline())
        assert (there["technique"], there["raw_uids"]) == ("xanes+pdf", ["x1", "p1"])
        for technique, uid in (("pdf", "p2"), ("xanes", "x2")):
            publisher.publish(failed(technique, uid, name="b"))
        came = json.loads(process.stdout.readline())
        assert came["raw_uids"] == ["x2", "p2"]
        assert came["quality"]["verdict"] == "failed"
    finally:
        process.send_signal(signal.SIGTERM)
        rest, notes = process.communicate(timeout=PATIENCE)
    assert (process.returncode, rest) == (0, "")
    assert "2 joint failures, 0 errors" in notes
    publisher.publish(failed("pdf", "p3", name="a"))
    again = subprocess.run(
        command(tiled_server, "--once"), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert again.returncode == 0, again.stderr
    assert [json.loads(line)["raw_uids"] for line in again.stdout.splitlines()] == [["x1", "p3"]]
    joint = PredictionCatalog(publisher.container).find(Query(technique="xanes+pdf"), superseded=True)
    assert sorted(each.raw_uids for each in joint) == [("x1", "p1"), ("x1", "p3"), ("x2", "p2")]


def test_a_server_is_needed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XPDML_TILED_URI", raising=False)
    result = CliRunner().invoke(app, ["pair"])
    assert isinstance(result.exception, SettingsError)
    assert "name it by --tiled" in str(result.exception)


def test_a_time_has_to_be_positive():
    result = CliRunner().invoke(app, ["pair", "--tiled", "http://localhost:1", "--within", "0"])
    assert isinstance(result.exception, SettingsError)
