"""`xpdml find`: predictions in Tiled that fulfil conditions."""

import datetime as dt
from typing import Annotated, Any

import typer
from rich.text import Text

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import (
    HEADINGS,
    JSON,
    intervals,
    print_json,
    print_table,
    progress_console,
    verdict,
)
from bluesky_xpdml.publish import PredictionCatalog, PublishedPrediction, Query
from bluesky_xpdml.records import Verdict

COLUMNS = ("time", "sample", "element", "technique", "verdict", *HEADINGS)


def find(
    *,
    tiled: options.Tiled = "",
    path: options.Predictions = "",
    api_key: options.Key = None,
    raw: Annotated[str, typer.Option(help="Start uid of a raw run.")] = "",
    sample: Annotated[str, typer.Option(help="Name of the sample.")] = "",
    proposal: Annotated[str, typer.Option(help="Proposal of the raw run.")] = "",
    element: Annotated[str, typer.Option(help="Element of the prediction.")] = "",
    technique: Annotated[str, typer.Option(help="xanes, pdf, dpdf, xanes+pdf or xanes+dpdf.")] = "",
    where: Annotated[
        list[str] | None,
        typer.Option(help="NAME:LOW:HIGH, such as oxidation_state:1.5:2.5; an end may be empty; repeatable."),
    ] = None,
    verdicts: Annotated[
        list[Verdict] | None, typer.Option("--verdict", help="Any of these; repeatable.")
    ] = None,
    after: Annotated[
        float | None, typer.Option(help="Predicted at this time or later [s since 1970].")
    ] = None,
    before: Annotated[float | None, typer.Option(help="Predicted before this time [s since 1970].")] = None,
    superseded: Annotated[bool, typer.Option("--all", help="Also superseded answers.")] = False,
    limit: Annotated[int, typer.Option(help="Most predictions to return.", min=1)] = 100,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Find predictions in Tiled, newest first; of the answers to one question the latest.

    With --json: one start document per line. The exit status is 1 if nothing is found.
    """
    resolved = options.require_server(options.resolve_options(settings, tiled__uri=tiled, tiled__path=path))
    query = Query(
        raw_uid=raw,
        sample=sample,
        proposal=proposal,
        element=element,
        technique=technique,
        descriptors=dict(map(_range, where or ())),
        verdicts=tuple(verdicts or ()),
        after=after,
        before=before,
    )
    catalog = PredictionCatalog.from_uri(
        resolved.tiled_uri, api_key=api_key or resolved.api_key(), path=resolved.tiled_path
    )
    try:
        found = catalog.find(query, limit=limit, superseded=superseded)
    finally:
        catalog.close()
    if json:
        for each in found:
            print_json(each.start)
    elif found:
        print_table("", COLUMNS, [_row(each) for each in found])
    if not found:
        progress_console.print("nothing was found")
        raise typer.Exit(1)


def _range(text: str) -> tuple[str, tuple[float, float]]:
    """Return name and ends of NAME:LOW:HIGH."""
    parts = [part.strip() for part in text.split(":")]
    try:
        name, low, high = parts
        return name, (float(low or "-inf"), float(high or "inf"))
    except ValueError as error:
        raise typer.BadParameter(f"expected NAME:LOW:HIGH, found {text!r}") from error


def _row(prediction: PublishedPrediction) -> list[str | Text]:
    start: Any = prediction.start
    moment = dt.datetime.fromtimestamp(prediction.time, tz=dt.UTC).astimezone()
    return [
        f"{moment:%Y-%m-%d %H:%M:%S}",
        prediction.sample.name or start.get("source", "") or "-",
        prediction.element,
        prediction.technique,
        verdict(start["quality"]),
        *intervals(start.get("descriptors", {})),
    ]
