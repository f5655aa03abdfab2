"""The line of each derived run that a command publishes."""

import json

import pytest

from bluesky_xpdml.cli.console import DIGITS
from bluesky_xpdml.cli.publishing import LineReport, ReportingPublisher
from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish import TiledPublisher, derived_run, find_predictions
from bluesky_xpdml.records import Estimate, Prediction, Quality, Sample
from bluesky_xpdml.vocabulary import Descriptor, Reason, ReasonCode, Technique

NOISY = Quality().suspect(Reason("noise is high", ReasonCode.NOISE))


def documents(uid="raw-1234567", quality=NOISY, **changes):
    descriptors = {
        Descriptor.OXIDATION_STATE: Estimate(value=2.667, low=2.3, high=3.0, unit="e"),
        Descriptor.COORDINATION_NUMBER: Estimate(value=5.9, low=5.0, high=6.0, unit="1"),
        Descriptor.BOND_LENGTH: Estimate(value=2.05, low=1.9, high=2.2, unit="angstrom"),
    }
    fields = {"technique": Technique.XANES, "element": "Fe", "edge": "K", "quality": quality} | changes
    answer = Prediction(descriptors=descriptors, sample=Sample(name="a"), raw_uids=(uid,), **fields)
    return derived_run(answer)


def test_a_line_names_each_descriptor_with_its_unit(capsys):
    LineReport(json=False)(documents()[0][1], "")
    words = capsys.readouterr().out.rstrip("\n").split("  ")
    assert words == [
        "raw-1234",
        "xanes",
        "Fe",
        "suspect",
        "oxidation state 2.67 (2.30-3.00), coordination number 5.9 (5-6), bond length 2.05 (1.90-2.20) Å",
        "-",
        "noise is high",
    ]
    for name in DIGITS:
        assert name.label in words[4]


def test_a_line_has_the_time_from_the_stop_document(capsys):
    report = LineReport(json=True)
    report.note_stop("event", {"run_start": "raw-1234567"})
    report(documents()[0][1], "")
    report.note_stop("stop", {"run_start": "raw-1234567"})
    report(documents()[0][1], "")
    without, after = map(json.loads, capsys.readouterr().out.splitlines())
    assert without["seconds"] is None
    assert 0.0 <= after["seconds"] < 60.0
    assert after["quality"]["codes"] == [ReasonCode.NOISE]


def test_text_of_documents_is_never_a_terminal_code(capsys):
    hostile = Quality().failed(Reason("\x1b[2J[bold]gone\nnext", ReasonCode.NOISE))
    LineReport(json=False)(documents(quality=hostile)[0][1], "")
    (line,) = capsys.readouterr().out.splitlines()
    assert "\x1b" not in line
    assert line.endswith("\\x1b[2J[bold]gone\\nnext")


def test_published_and_refused_runs_are_reported(tiled_server):
    reports = []
    opened = TiledPublisher.from_uri(tiled_server.uri, path="reported")
    publisher = ReportingPublisher(opened.container, lambda start, refused: reports.append((start, refused)))
    run = documents("reported-raw")
    publisher.publish(run)
    assert [
        found.metadata["start"]["uid"] for found in find_predictions(opened.container, "reported-raw")
    ] == [run[0][1]["uid"]]
    publisher.close()
    with pytest.raises(PublishError):
        publisher.publish(documents("late-raw"))
    assert [start["raw_uid"] for start, _ in reports] == ["reported-raw", "late-raw"]
    assert reports[0][1] == ""
    assert "closed" in reports[1][1]
