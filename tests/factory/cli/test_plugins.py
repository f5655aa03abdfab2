"""The commands of the factory are loaded through entry points and say what to install."""

import importlib.metadata
import tomllib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from bluesky_xpdml.cli import app as main_app
from bluesky_xpdml.errors import TrainingError, XpdmlError
from bluesky_xpdml.factory import cli

DECLARED = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"][
    "entry-points"
][main_app.COMMANDS]


def entry(name: str, value: str) -> importlib.metadata.EntryPoint:
    return importlib.metadata.EntryPoint(name=name, value=value, group=main_app.COMMANDS)


def plugged(monkeypatch, entries) -> typer.Typer:
    monkeypatch.setattr(main_app, "entry_points", lambda **_: entries)
    app = typer.Typer()
    app.callback()(lambda: None)
    main_app.add_plugins(app)
    return app


def test_every_declared_entry_point_adds_the_command_of_its_name(monkeypatch):
    assert list(DECLARED) == ["bench", "build-advice", "dataset", "train"]
    for name, value in DECLARED.items():
        app = plugged(monkeypatch, [entry(name, value)])
        commands = [command.name for command in (*app.registered_commands, *app.registered_groups)]
        assert commands == [name]


def test_the_installed_entry_points_are_the_declared_ones():
    installed = {
        found.name: found.value for found in importlib.metadata.entry_points(group=main_app.COMMANDS)
    }
    assert installed == DECLARED


def test_a_command_that_cannot_be_loaded_is_listed_and_says_what_to_install(monkeypatch):
    app = plugged(monkeypatch, [entry("train", "no_such_module:register")])
    assert "train" in CliRunner().invoke(app, ["--help"]).output
    done = CliRunner().invoke(app, ["train", "folder", "--element", "Fe"])
    assert isinstance(done.exception, XpdmlError)
    assert "pip install 'bluesky-xpdml[train]'" in str(done.exception)


@pytest.mark.parametrize(
    "command",
    [
        ("train", "folder"),
        ("dataset", "show", "folder"),
        ("bench", "quality"),
        ("build-advice", "folder"),
    ],
    ids=lambda command: command[0],
)
def test_without_the_extra_every_command_is_listed_and_says_what_to_install(monkeypatch, command):
    app = plugged(monkeypatch, [entry(name, value) for name, value in DECLARED.items()])
    find = cli.find_spec
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == "sklearn" else find(name))
    assert command[0] in CliRunner().invoke(app, ["--help"]).output
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, TrainingError)
    assert str(done.exception) == (
        "this command needs sklearn, found none: pip install 'bluesky-xpdml[train]'"
    )
