"""Commands, and how errors leave them: one clear line on stderr, and the traceback with `--debug`."""

import sys
import traceback
from collections.abc import Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points

import typer
from typer.exceptions import TyperException

from bluesky_xpdml import __version__
from bluesky_xpdml.cli import (
    advise,
    calibrate,
    catch_up,
    demo,
    doctor,
    explain,
    find,
    log,
    models,
    outbox,
    pair,
    plan,
    predict,
    profile,
    reduce,
    repeats,
    replay,
    reprocess,
    simulate,
    status,
    watch,
)
from bluesky_xpdml.cli.console import note, progress_console
from bluesky_xpdml.errors import XpdmlError, attempt

DEBUG = "--debug"
STOPPED = 130
"""Exit status after Ctrl-C."""
COMMANDS = "bluesky_xpdml.commands"
"""Group of entry points that add commands: the name of the command, and a function that takes the app."""

app = typer.Typer(
    name="xpdml",
    help="Structure descriptors from X-ray absorption and total scattering, in real time.",
    epilog=f"Every command takes {DEBUG}: errors then come with their traceback.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Not "rich": units in brackets, such as [s], would be markup.
    rich_markup_mode="markdown",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(demo.app, name="demo")
app.command(name="predict", epilog="Example: xpdml predict spectrum.xdi --energy-offset -0.25")(
    predict.predict
)
app.command(name="explain", epilog="Example: xpdml explain spectrum.xdi --format html --output pictures")(
    explain.explain
)
app.command(
    name="reduce",
    epilog="Example: xpdml reduce nickel.chi --composition Ni --q-unit 1/nm --output reduced --plot",
)(reduce.reduce)
app.command(name="repeats", epilog="Example: xpdml repeats scan_*.xdi --plot interval.png")(repeats.repeats)
app.command(name="replay", epilog="Example: xpdml replay spectrum.xdi --publish http://localhost:8000")(
    replay.replay
)
app.command(
    name="reprocess",
    epilog="Example: xpdml reprocess --tiled http://localhost:8000 --raw raw --where proposal=31415",
)(reprocess.reprocess)
app.add_typer(models.app, name="models")
app.add_typer(profile.app, name="profile")
app.add_typer(simulate.app, name="simulate")
app.command(name="advise", epilog="Example: xpdml advise spectrum.xdi --energy-offset -0.25")(advise.advise)
app.command(name="calibrate", epilog="Example: xpdml calibrate my_standards --output beamline.json")(
    calibrate.calibrate
)
app.command(name="watch", epilog="Example: xpdml watch --zmq localhost:5578 --tiled http://localhost:8000")(
    watch.watch
)
app.command(name="catch-up", epilog="Example: xpdml catch-up --since 2026-11-29 --raw raw")(catch_up.catch_up)
app.command(name="status", epilog="Example: xpdml status --tiled http://localhost:8000")(status.status)
app.command(name="pair", epilog="Example: xpdml pair --tiled http://localhost:8000 --within 3600")(pair.pair)
app.command(name="plan", epilog="Example: xpdml plan campaign.toml --approve auto")(plan.plan)
app.command(name="find", epilog="Example: xpdml find --tiled http://localhost:8000 --element Fe")(find.find)
app.add_typer(outbox.app, name="outbox")
app.command(name="doctor", epilog="Example: xpdml doctor --tiled http://localhost:8000")(doctor.doctor)


@cache
def add_plugins(app: typer.Typer) -> None:
    """Add the commands of the entry-point group, once; one that cannot be loaded says so when called."""
    for entry in sorted(entry_points(group=COMMANDS), key=lambda entry: entry.name):
        try:
            register = entry.load()
        except ImportError as error:
            _add_unavailable(app, entry, error)
        else:
            register(app)


def _add_unavailable(app: typer.Typer, entry: EntryPoint, error: ImportError) -> None:
    @app.command(
        name=entry.name,
        help=f"Not available: {error}.",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def unavailable() -> None:
        msg = f"{entry.name} could not be loaded ({error}): pip install 'bluesky-xpdml[train]'"
        raise XpdmlError(msg)


def show_version(*, wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        typer.echo(f"xpdml {__version__}")
        raise typer.Exit


@app.callback()
def common(
    *,
    version: bool = typer.Option(  # noqa: ARG001 - its callback does the work
        False,
        "--version",
        callback=lambda value: show_version(wanted=value),
        is_eager=True,
        help="Print the version.",
    ),
    log_file: log.LogFile = None,
    log_level: log.Level = None,
) -> None:
    """Take the options that stand before a command."""
    log.command_log.choose(log_file, log_level)


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command; return 0 only on success, 1 if something failed, 2 on wrong usage, 130 if stopped."""
    words = [argument for argument in arguments if argument != DEBUG]
    debug = len(words) < len(arguments)
    log.command_log.begin(debug=debug)
    try:
        outcome = attempt(lambda: _command(words))
    except KeyboardInterrupt:
        outcome = STOPPED
    finally:
        log.command_log.end()
    if outcome == STOPPED:
        note("stopped", style="red")
    if not isinstance(outcome, Exception):
        return outcome
    message, status = _explained(outcome)
    note(message, style="red")
    if debug and status == 1:
        progress_console.print("".join(traceback.format_exception(outcome)), end="")
    return status


def _command(words: list[str]) -> int:
    add_plugins(app)
    return app(words, standalone_mode=False) or 0


def _explained(error: Exception) -> tuple[str, int]:
    """Return what is printed about an error, and the exit status."""
    match error:
        case TyperException():
            return f"{error.format_message()}; `xpdml COMMAND --help` shows how", error.exit_code
        case typer.Abort():
            return "stopped", STOPPED
        case XpdmlError() | OSError():
            return str(error), 1
    kind = type(error).__name__
    return f"internal error, {kind}: {error}; run again with {DEBUG} and report what it prints", 1
