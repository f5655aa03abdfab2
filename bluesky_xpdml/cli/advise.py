"""`xpdml advise`: what a second kind of measurement is worth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import (
    JSON,
    answer_console,
    print_json,
    print_table,
    progress_console,
)
from bluesky_xpdml.cli.reading import FileAnalysis, file_reading
from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.advice import Advice
from bluesky_xpdml.planning.advice import advise as advise_on
from bluesky_xpdml.planning.advice_table import SHIPPED
from bluesky_xpdml.settings import resolve_settings
from bluesky_xpdml.sources.reading import FileKind

COLUMNS = ("descriptor", "like", "measure", "now", "after", "gain", "+-", "error", "n")
UNITS = {"oxidation_state": "classes", "coordination_number": "classes", "bond_length": "Å"}


def advise(
    file: Annotated[Path | None, typer.Argument(help="Spectrum, pattern or G(r).")] = None,
    *,
    tiled: Annotated[str, typer.Option(help="Address of a Tiled server, instead of a file.")] = "",
    raw: Annotated[str, typer.Option(help="Start uid of the raw run whose predictions are in Tiled.")] = "",
    path: Annotated[str, typer.Option(help="Container of the predictions.")] = "xpdml",
    api_key: options.ApiKey = None,
    technique: options.Kind = FileKind.AUTO,
    element: options.Element = "",
    edge: options.Edge = "",
    columns: options.Columns = "",
    energy_unit: options.Unit = None,
    energy_offset: options.Offset = None,
    composition: options.Composition = "",
    q_unit: options.QUnitOption = None,
    wavelength: options.Wavelength = None,
    models: options.Models = None,
    settings: options.SettingsFile = None,
    table: Annotated[
        Path | None, typer.Option(help="Table of gains, instead of the one that comes with the package.")
    ] = None,
    json: bool = JSON,
) -> None:
    """Say how much measuring the other modality is expected to narrow each descriptor.

    Of a file, or of the predictions that Tiled holds of a raw run. What cannot be advised is named with the
    reason, and the exit status is 1. With --json: one object a metal.
    """
    from bluesky_xpdml.publish.documents import summary

    if (file is None) == (not (tiled and raw)):
        raise typer.BadParameter("expected either a file, or --tiled and --raw")
    if file is None:
        starts = _published(tiled, raw, path, api_key)
    else:
        resolved = resolve_settings(
            settings, options={"models.folder": models, "calibration.energy_offset": energy_offset}
        )
        reading = file_reading(
            resolved,
            columns=columns,
            energy_unit=energy_unit,
            element=element,
            edge=edge,
            composition=composition,
            q_unit=q_unit,
            wavelength=wavelength,
        )
        predictions = FileAnalysis(reading, resolved).predict(file, technique)
        starts = [summary(prediction) for prediction in predictions]
    told = [_told(start, table or SHIPPED, json=json) for start in starts]
    if not all(told):
        raise typer.Exit(1)


def _told(start: Mapping[str, Any], table: Path, *, json: bool) -> bool:
    """Print the advice on one prediction; return whether there is any."""
    try:
        advice = advise_on(start, table)
    except PlanningError as error:
        progress_console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        return False
    if json:
        print_json(advice.as_json())
    else:
        _show(advice)
    return True


def _published(uri: str, raw: str, path: str, api_key: str | None) -> list[Mapping[str, Any]]:
    """Return the start documents of the current predictions of a raw run, one per technique and metal."""
    from bluesky_xpdml.errors import PublishError
    from bluesky_xpdml.publish import PredictionCatalog

    catalog = PredictionCatalog.from_uri(uri, api_key=api_key, path=path)
    try:
        found = [each for each in catalog.of_run(raw) if each.raw_uids[0] == raw]
    finally:
        catalog.close()
    if not found:
        raise PublishError(f"expected predictions of run {raw} in {path} at {uri}, found none")
    newest = {(each.technique, each.element, each.edge): each.start for each in reversed(found)}
    return list(newest.values())


def _show(advice: Advice) -> None:
    title = f"{advice.element}, {advice.technique} measured"
    if not advice.gains:
        answer_console.print(f"{title}: nothing is left to measure", markup=False)
        return
    rows = []
    for gain in advice.gains:
        unit = UNITS[gain.descriptor]
        best = advice.best(gain.descriptor) == gain and gain.gain > 0.0
        rows.append(
            [
                gain.descriptor,
                gain.predicted,
                gain.modality,
                f"{gain.now:.3f} {unit}",
                f"{gain.after:.3f} {unit}",
                f"[green]{gain.gain:+.0%}[/]" if best else f"{gain.gain:+.0%}",
                f"{gain.standard_error:.0%}",
                f"{gain.error_change:+.3f}",
                str(gain.n),
            ]
        )
    print_table(title, COLUMNS, rows)
    answer_console.print(
        "Means over simulated materials that were predicted alike: 90 % set or interval, and absolute error.",
        markup=False,
        soft_wrap=True,
    )
