"""`xpdml reprocess`: analyse the raw runs of a catalog anew, on several processes or a Dask cluster."""

import datetime as dt
import json as json_text
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, note, print_table, progress_bars
from bluesky_xpdml.cli.publishing import LineReport

if TYPE_CHECKING:
    from bluesky_xpdml.callbacks.reprocess import Summary

MOST_NAMED = 20
"""Runs of one kind that are named in the summary; --json has all."""


@options.expand_options
def reprocess(
    *,
    tiled: options.Tiled = "",
    raw: Annotated[str, typer.Option(help="Container of the raw runs.")] = "",
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="KEY=VALUE, an entry of the start documents, such as proposal=31415 or sample.name=LFP; "
            "the value is read as JSON if it is JSON, else as text; may be given again."
        ),
    ] = None,
    since: Annotated[
        dt.datetime | None,
        typer.Option(
            help="Runs that began at this time or later, in the time zone of this computer.",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S"],
        ),
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--all", help="Also runs that are done under the present settings and models."),
    ] = False,
    into: options.Predictions = "",
    dask: Annotated[str, typer.Option(help="Address of a Dask scheduler, such as tcp://host:8786.")] = "",
    workers: Annotated[
        int, typer.Option(help="Processes of this computer, without --dask; as many as CPUs if 0.", min=0)
    ] = 0,
    api_key: options.Key = None,
    model: options.ModelOptions,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Analyse all chosen raw runs of a catalog anew with the present models and settings, and publish.

    A run that is published twice is one run; runs that are done under the same settings and models are
    skipped. Workers that die lose nothing. The exit status is 1 if a run failed, or could not be read or
    published. With --json: one object per line and derived run.
    """
    from bluesky_xpdml.callbacks.reprocess import Choice
    from bluesky_xpdml.callbacks.reprocess import reprocess as analyse_anew

    resolved = options.require_server(
        options.resolve_options(settings, model, tiled__uri=tiled, tiled__path=into, tiled__raw_path=raw)
    )
    choice = Choice(
        where=dict(map(condition, where or ())),
        since=None if since is None else since.timestamp(),
        again=again,
    )
    with progress_bars() as advance:
        summary = analyse_anew(
            resolved,
            choice,
            api_key=api_key,
            dask=dask,
            workers=workers or os.cpu_count() or 1,
            on_sent=LineReport(json=True) if json else None,
            advance=advance,
        )
    _show(summary, json=json)
    if not summary.is_whole:
        raise typer.Exit(1)


def condition(text: str) -> tuple[str, Any]:
    """Return key and value of KEY=VALUE.

    Examples
    --------
    >>> condition("proposal=31415"), condition('proposal="31415"'), condition("sample.name=LFP-3")
    (('proposal', 31415), ('proposal', '31415'), ('sample.name', 'LFP-3'))
    """
    key, is_given, value = text.partition("=")
    if not (key.strip() and is_given):
        raise typer.BadParameter(f"expected KEY=VALUE, such as sample.name=LFP, found {text!r}")
    try:
        read = json_text.loads(value)
    except ValueError:
        read = value
    if not isinstance(read, str | int | float):
        raise typer.BadParameter(f"expected a text, a number, true or false as {key}, found {value!r}")
    return key.strip(), read


def _show(summary: "Summary", *, json: bool) -> None:
    """Print what became of the runs."""
    counts = {
        "answered": summary.answered,
        "failed": len(summary.failed),
        "skipped (done before)": summary.skipped,
        "no measurement": summary.ignored,
        "could not be read": len(summary.unread),
        "not published": len(summary.unpublished),
        "without stop document": summary.running,
    }
    rows = [[what, str(n)] for what, n in counts.items() if n or what in {"answered", "failed"}]
    print_table(f"{summary.chosen} raw runs", ("", "runs"), rows, to_stderr=json)
    if summary.joint:
        note(f"{summary.joint} joint answers were published")
    if summary.uncalibrated:
        note(
            f"{summary.uncalibrated} answers have no calibrated axis: if a foil was measured before, choose "
            "its run as well"
        )
    for kind, runs in (
        ("failed", summary.failed),
        ("could not be read", summary.unread),
        ("not published", summary.unpublished),
    ):
        _name(kind, runs)


def _name(kind: str, runs: Mapping[str, str]) -> None:
    for uid, reason in list(runs.items())[:MOST_NAMED]:
        note(f"{uid} {kind}: {reason}", style="red")
    if len(runs) > MOST_NAMED:
        note(f"{len(runs) - MOST_NAMED} more {kind}")
