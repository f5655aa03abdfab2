"""Texts of documents and files are shown as text: no markup, no terminal codes; JSON has them unchanged."""

import json
import logging

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bluesky_xpdml.cli.console import (
    LONGEST_CELL,
    LONGEST_LINE,
    VisibleFormatter,
    note,
    print_line,
    print_table,
    visible,
)
from bluesky_xpdml.publish import TiledPublisher, derived_run
from bluesky_xpdml.records import Prediction, Quality, Sample
from bluesky_xpdml.vocabulary import Reason, ReasonCode, Technique

SHOWN = {
    "LFP [/batch 2]": "LFP [/batch 2]",
    "[fresh] LFP": "[fresh] LFP",
    "[red]hot[/]": "[red]hot[/]",
    "LFP \x1b[2Jgone": "LFP \\x1b[2Jgone",
    "tab\there": "tab\\there",
    "\N{SNOWMAN} é Å :smile:": "\N{SNOWMAN} é Å :smile:",
}
"""What is shown of each name of a sample."""


@pytest.fixture(scope="module")
def named_samples(tiled_server):
    publisher = TiledPublisher.from_uri(tiled_server.uri, path="foreign")
    for number, name in enumerate(SHOWN):
        quality = Quality().suspect(Reason(f"about {name}", ReasonCode.NOISE))
        answer = Prediction(
            technique=Technique.XANES,
            element="Fe",
            edge="K",
            quality=quality,
            sample=Sample(name=name),
            raw_uids=(f"foreign-{number}",),
        )
        publisher.publish(derived_run(answer, clock=lambda at=number: 1e9 + at))
    publisher.close()
    return "--tiled", tiled_server.uri, "--path", "foreign"


def test_find_shows_every_name_as_it_is(xpdml, named_samples):
    done = xpdml("find", *named_samples)
    assert done.status == 0, done.err
    assert "\x1b" not in done.out
    rows = done.out.splitlines()
    for shown in SHOWN.values():
        assert sum(shown in row for row in rows) == 1, shown


def test_json_keeps_every_name(xpdml, named_samples):
    done = xpdml("find", *named_samples, "--json")
    assert "\x1b" not in done.out
    assert sorted(start["sample"]["name"] for start in done.objects) == sorted(SHOWN)


def test_errors_and_names_of_files_are_shown_as_they_are(xpdml, tmp_path):
    path = tmp_path / "[bold]a\x1b[31m[nothing].dat"
    path.write_text("no numbers")
    for command in ("predict", "reduce", "replay"):
        done = xpdml(command, path.name)
        assert done.status == 1
        assert "\x1b" not in done.out + done.err
        assert "[bold]a\\x1b[31m[nothing].dat" in done.out + done.err
    (answer,) = xpdml("predict", path.name, "--json").objects
    assert answer["file"] == path.name


@given(st.text(alphabet=st.characters(exclude_categories=[]), max_size=30))
@example("\x1b]0;title\x07")
@example("a\ud800b")
@example("\u202egnp.exe")
@example("a\nb\r\x85\u2028c")
def test_any_text_becomes_one_line_that_a_terminal_may_show(text):
    shown = visible(text)
    shown.encode()
    assert len(shown.splitlines()) <= 1
    assert not any(character < " " or character in "\x7f\u202e" for character in shown)
    assert visible(shown) == shown


def test_very_long_texts_are_cut_in_lines_and_cells_but_not_in_json(capsys):
    print_line("x" * 3 * LONGEST_LINE)
    print_table("", ["a"], [["y" * 3 * LONGEST_CELL]])
    note("z" * 3 * LONGEST_LINE)
    out, err = capsys.readouterr()
    assert out.count("x") == LONGEST_LINE
    assert out.count("y") <= LONGEST_CELL
    assert err.count("z") == LONGEST_LINE - len("xpdml: ")


def test_an_endless_text_with_a_key_at_the_cut_is_shown_without_it():
    secret = "-".join(["5ecre7", "5ecre7"])
    for padding in range(LONGEST_LINE - 60, LONGEST_LINE + 1, 7):
        text = "x" * padding + f" http://me:{secret}@host/?api_key={secret} " + "y" * 50_000_000
        assert secret[:6] not in visible(text)
        assert len(visible(text)) < LONGEST_LINE + 10


def test_titles_and_headings_are_text_too(capsys):
    print_table("[title]", ["[s]", "length [Å]"], [["[/]", "\x1b[1m"]])
    out = capsys.readouterr().out
    for text in ("[title]", "[s]", "length [Å]", "[/]", "\\x1b[1m"):
        assert text in out


@pytest.mark.parametrize(
    ("command", "units"),
    [
        (("watch",), ("[s]",)),
        (("predict",), ("[eV]", "[angstrom]", "[1/angstrom]")),
        (("find",), ("[s", "since", "1970]")),
        (("simulate", "pdf"), ("[1/angstrom]", "[angstrom^2]")),
        (("pair",), ("[s]",)),
    ],
)
def test_help_shows_units(xpdml, command, units, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = xpdml(*command, "--help").out
    for unit in units:
        assert unit in text


def test_log_records_and_tracebacks_are_text_too(xpdml, monkeypatch):
    formatter = VisibleFormatter("%(message)s")
    record = logging.LogRecord("a", logging.ERROR, "a.py", 1, "run %s\nnext", ("\x1b[2J",), None)
    assert formatter.format(record) == "run \\x1b[2J\nnext"

    def fail(*_arguments, **_options):
        raise RuntimeError("\x1b[2Jgone")

    monkeypatch.setattr("bluesky_xpdml.cli.find.PredictionCatalog.from_uri", fail)
    error = xpdml("find", "--tiled", "http://localhost:1", "--debug").err
    assert "\x1b" not in error
    assert error.splitlines()[-1] == "RuntimeError: \\x1b[2Jgone"


def test_objects_on_stdout_are_valid_whatever_they_hold(capsys):
    from bluesky_xpdml.cli.console import print_json

    value = {"text": "[red]\x1b[0m\ud800", "next": "\u2028"}
    print_json(value)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == value
