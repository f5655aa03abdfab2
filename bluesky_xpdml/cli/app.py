"""Commands, and how errors leave them: one clear line on stderr, or the traceback with `--debug`."""

import logging
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import TracebackType

import typer
from typer.exceptions import TyperException

from bluesky_xpdml import __version__
from bluesky_xpdml.cli import (
    advise,
    calibrate,
    demo,
    doctor,
    explain,
    find,
    models,
    pair,
    plan,
    predict,
    profile,
    reduce,
    repeats,
    replay,
    simulate,
    watch,
)
from bluesky_xpdml.cli.console import progress_console
from bluesky_xpdml.errors import XpdmlError

DEBUG = "--debug"
COMMANDS = "bluesky_xpdml.commands"
"""Group of entry points that add commands: the name of the command, and a function that takes the app."""

app = typer.Typer(
    name="xpdml",
    help="Structure descriptors from X-ray absorption and total scattering, in real time.",
    epilog=f"Every command takes {DEBUG}: errors then come with their traceback.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
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
app.command(name="pair", epilog="Example: xpdml pair --tiled http://localhost:8000 --within 3600")(pair.pair)
app.command(name="plan", epilog="Example: xpdml plan campaign.toml --approve auto")(plan.plan)
app.command(name="find", epilog="Example: xpdml find --tiled http://localhost:8000 --element Fe")(find.find)
app.command(name="doctor", epilog="Example: xpdml doctor --tiled http://localhost:8000")(doctor.doctor)


@cache
def add_plugins(app: typer.Typer) -> None:
    """Add the commands of the entry-point group, once; those that cannot be loaded say so when called."""
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
    version: bool = typer.Option(
        False,
        "--version",
        callback=lambda value: show_version(wanted=value),
        is_eager=True,
        help="Print the version.",
    ),
) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Run the command line and exit: 0 only on success, 1 where something failed, 2 on wrong usage."""
    arguments = [argument for argument in sys.argv[1:] if argument != DEBUG]
    debug = len(arguments) < len(sys.argv) - 1
    logging.basicConfig(level=logging.DEBUG if debug else logging.ERROR, stream=sys.stderr)
    if debug:
        logging.getLogger("matplotlib").setLevel(logging.INFO)
    else:
        sys.excepthook = _one_line
    add_plugins(app)
    try:
        status = app(arguments, standalone_mode=False)
    except TyperException as error:
        _complain(f"{error.format_message()}; `xpdml COMMAND --help` shows how")
        status = error.exit_code
    except (XpdmlError, OSError) as error:
        if debug:
            raise
        _complain(str(error))
        status = 1
    except (typer.Abort, KeyboardInterrupt):
        _complain("stopped")
        status = 130
    sys.exit(status or 0)


def _complain(message: str) -> None:
    progress_console.print(f"xpdml: {message}", style="red", markup=False, highlight=False, soft_wrap=True)


def _one_line(kind: type[BaseException], error: BaseException, _traceback: TracebackType | None) -> None:
    """Say in one line that something unforeseen happened."""
    _complain(f"internal error, {kind.__name__}: {error}; run again with {DEBUG} and report what it prints")
