"""`xpdml advise`: what a second kind of measurement is worth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, answer_console, print_json, print_table, progress_console
from bluesky_xpdml.cli.reading import FileAnalysis
from bluesky_xpdml.errors import PlanningError, PublishError
from bluesky_xpdml.planning.advice import Advice
from bluesky_xpdml.planning.advice import advise as advise_on
from bluesky_xpdml.planning.advice_table import SHIPPED
from bluesky_xpdml.settings import Settings
from bluesky_xpdml.sources.reading import FileKind
from bluesky_xpdml.vocabulary import Descriptor

COLUMNS = ("descriptor", "like", "measure", "now", "after", "gain", "+-", "error", "n")


@options.expand_options
def advise(
    file: Annotated[Path | None, typer.Argument(help="Spectrum, pattern or G(r).")] = None,
    *,
    tiled: Annotated[
        str, typer.Option(help="Address of the Tiled server of the run, instead of that of the settings.")
    ] = "",
    raw: Annotated[
        str, typer.Option(help="Start uid of the raw run whose predictions are in Tiled, instead of a file.")
    ] = "",
    path: options.Predictions = "",
    api_key: options.Key = None,
    technique: options.Kind = FileKind.AUTO,
    sample: options.ElementOptions,
    scan: options.ScanOptions,
    pattern: options.PatternOptions,
    model: options.ModelOptions,
    settings: options.SettingsFile = None,
    table: Annotated[
        Path | None, typer.Option(help="Table of gains, instead of the one that comes with the package.")
    ] = None,
    json: bool = JSON,
) -> None:
    """Estimate how much measuring the other modality would narrow each descriptor.

    For a file, or for the predictions that Tiled holds of a raw run. A prediction without advice is named
    with the reason, and the exit status is 1. With --json: one object per metal.
    """
    resolved = options.resolve_options(settings, scan, pattern, model, tiled__uri=tiled, tiled__path=path)
    from_tiled = bool(raw and resolved.tiled_uri)
    if (file is None) != from_tiled:
        raise typer.BadParameter("expected either a file, or --tiled and --raw")
    if file is None:
        starts = _published(resolved, raw, api_key)
    else:
        from bluesky_xpdml.publish.documents import summary

        reading = options.file_reading(resolved, sample, scan, pattern)
        predictions = FileAnalysis(reading, resolved).predict(file, technique)
        starts = [summary(prediction) for prediction in predictions]
    advised = [_print_advice(start, table or SHIPPED, json=json) for start in starts]
    if not all(advised):
        raise typer.Exit(1)


def _print_advice(start: Mapping[str, Any], table: Path, *, json: bool) -> bool:
    """Print the advice on one prediction; return whether there is any."""
    try:
        advice = advise_on(start, table)
    except PlanningError as error:
        progress_console.print(str(error))
        return False
    if json:
        print_json(advice.as_json())
    else:
        _show(advice)
    return True


def _published(settings: Settings, raw: str, api_key: str | None) -> list[Mapping[str, Any]]:
    """Return the start documents of the current predictions of a raw run, one per technique and metal."""
    from bluesky_xpdml.publish import PredictionCatalog

    uri, path = settings.tiled_uri, settings.tiled_path
    catalog = PredictionCatalog.from_uri(uri, api_key=api_key or settings.api_key(), path=path)
    try:
        found = [each for each in catalog.of_run(raw) if each.raw_uids[0] == raw]
    finally:
        catalog.close()
    if not found:
        server = uri.partition("?")[0]
        raise PublishError(f"expected predictions of run {raw} in {path} at {server}, found none")
    newest = {(each.technique, each.element, each.edge): each.start for each in reversed(found)}
    return list(newest.values())


def _unit(name: Descriptor) -> str:
    """Return the unit of a gain: that of an interval, or classes of a set."""
    return name.symbol or "classes"


def _show(advice: Advice) -> None:
    title = f"{advice.element}, {advice.technique} measured"
    if not advice.gains:
        answer_console.print(f"{title}: nothing is left to measure")
        return
    rows: list[list[str | Text]] = []
    for gain in advice.gains:
        unit = _unit(gain.descriptor)
        best = advice.best(gain.descriptor) == gain and gain.gain > 0.0
        rows.append(
            [
                gain.descriptor.label,
                gain.predicted,
                gain.modality,
                f"{gain.now:.3f} {unit}",
                f"{gain.after:.3f} {unit}",
                Text(f"{gain.gain:+.0%}", style="green" if best else ""),
                f"{gain.standard_error:.0%}",
                f"{gain.error_change:+.3f}",
                str(gain.n),
            ]
        )
    print_table(title, COLUMNS, rows)
    answer_console.print(
        "Means over simulated materials that were predicted alike: 90 % set or interval, and absolute error."
    )
