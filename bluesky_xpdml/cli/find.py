"""`xpdml find`: predictions in Tiled, by what they say."""

import datetime as dt
from typing import Annotated, Any

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, interval, print_json, print_table, progress_console, verdict
from bluesky_xpdml.errors import SettingsError
from bluesky_xpdml.publish import PredictionCatalog, PublishedPrediction, Query
from bluesky_xpdml.records import Verdict
from bluesky_xpdml.settings import resolve_settings

COLUMNS = ("time", "sample", "element", "technique", "verdict", "oxidation state", "coordination", "bond [Å]")
DESCRIPTORS = {"oxidation_state": 2, "coordination_number": 1, "bond_length": 3}
"""What the table shows, with the digits."""


def find(
    *,
    tiled: Annotated[
        str, typer.Option(help="Address of the Tiled server; that of the settings if not given.")
    ] = "",
    path: Annotated[
        str, typer.Option(help="Container of the predictions; xpdml, or what the settings say.")
    ] = "",
    api_key: options.Key = None,
    raw: Annotated[str, typer.Option(help="Start uid of a raw run.")] = "",
    sample: Annotated[str, typer.Option(help="Name of the sample.")] = "",
    proposal: Annotated[str, typer.Option(help="Proposal of the raw run.")] = "",
    element: Annotated[str, typer.Option(help="Of which the prediction is.")] = "",
    technique: Annotated[str, typer.Option(help="xanes, pdf, dpdf, xanes+pdf or xanes+dpdf.")] = "",
    where: Annotated[
        list[str] | None,
        typer.Option(help="NAME:LOW:HIGH, such as oxidation_state:1.5:2.5; an end may be empty; repeatable."),
    ] = None,
    verdicts: Annotated[
        list[Verdict] | None, typer.Option("--verdict", help="Any of these; repeatable.")
    ] = None,
    after: Annotated[float | None, typer.Option(help="Predicted then or later [s since 1970].")] = None,
    before: Annotated[float | None, typer.Option(help="Predicted before [s since 1970].")] = None,
    superseded: Annotated[bool, typer.Option("--all", help="Also answers that were superseded.")] = False,
    limit: Annotated[int, typer.Option(help="Predictions, at most.", min=1)] = 100,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Find predictions in Tiled, newest first; of the answers to one question the latest.

    With --json: one start document a line. The exit status is 1 where nothing is found.
    """
    resolved = resolve_settings(settings, options={"tiled.uri": tiled, "tiled.path": path})
    if not resolved.tiled_uri:
        raise SettingsError("expected a Tiled server, found none: name it by --tiled, or in the settings")
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
    """Return the name and the ends that NAME:LOW:HIGH says."""
    parts = [part.strip() for part in text.split(":")]
    try:
        name, low, high = parts
        return name, (float(low or "-inf"), float(high or "inf"))
    except ValueError as error:
        raise typer.BadParameter(f"expected NAME:LOW:HIGH, found {text!r}") from error


def _row(prediction: PublishedPrediction) -> list[str]:
    start: Any = prediction.start
    moment = dt.datetime.fromtimestamp(prediction.time, tz=dt.UTC).astimezone()
    return [
        f"{moment:%Y-%m-%d %H:%M:%S}",
        prediction.sample.name or start.get("source", "") or "-",
        prediction.element,
        prediction.technique,
        verdict(start["quality"]),
        *(interval(start.get("descriptors", {}).get(name), digits) for name, digits in DESCRIPTORS.items()),
    ]
