"""`xpdml catch-up`: analyse the raw runs of a catalog that have no answer."""

import datetime as dt
from typing import Annotated

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, note
from bluesky_xpdml.cli.publishing import KEPT, LineReport

TIMEOUT = 600.0
"""The catalog, and then the analysis, may take this long [s]."""


@options.expand_options
def catch_up(
    *,
    since: Annotated[
        dt.datetime | None,
        typer.Option(
            help="Runs that began at this time or later, in the time zone of this computer.",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S"],
        ),
    ] = None,
    tiled: options.Tiled = "",
    into: options.Predictions = "",
    raw: Annotated[str, typer.Option(help="Container of the raw runs.")] = "",
    api_key: options.Key = None,
    model: options.ModelOptions,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Analyse the raw runs in Tiled that have no prediction, and publish what is found.

    Callbacks and watchers do this by themselves when they start, for the runs since their start before; this
    command is for older ones, or without a watcher. The exit status is 3 if something is kept on disk because
    the server is away or time is up.
    """
    from bluesky_xpdml.callbacks.callback import XpdmlCallback

    resolved = options.require_server(
        options.resolve_options(settings, model, tiled__uri=tiled, tiled__path=into, tiled__raw_path=raw)
    )
    after = 0.0 if since is None else since.timestamp()
    with XpdmlCallback.from_settings(
        resolved, api_key=api_key, on_sent=LineReport(json=json), outlived=True
    ) as callback:
        found = callback.catch_up(after=after, timeout=TIMEOUT)
        note(f"{found} runs had no answer")
        callback.drain(TIMEOUT)
    kept = callback.kept
    if kept.runs or kept.predictions:
        note(f"{kept.runs} runs and {kept.predictions} predictions are kept in {kept.folder}")
        raise typer.Exit(KEPT)
