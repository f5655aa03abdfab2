"""`xpdml advise` and `xpdml build-advice`: what a second kind of measurement is worth."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import (
    JSON,
    Advance,
    answer_console,
    print_json,
    print_table,
    progress_bars,
    progress_console,
)
from bluesky_xpdml.cli.predict import Reader
from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.factory.bench.report import Report
from bluesky_xpdml.factory.cli.bench_accuracy import CACHE
from bluesky_xpdml.planning.advice import Advice
from bluesky_xpdml.planning.advice import advise as advise_on
from bluesky_xpdml.planning.advice_table import SHIPPED
from bluesky_xpdml.settings import resolve_settings
from bluesky_xpdml.sources.reading import scattering_reading, technique_of

COLUMNS = ("descriptor", "like", "measure", "now", "after", "gain", "+-", "error", "n")
UNITS = {"oxidation_state": "classes", "coordination_number": "classes", "bond_length": "Å"}


def advise(
    file: Annotated[Path | None, typer.Argument(help="Spectrum, pattern or G(r).")] = None,
    *,
    tiled: Annotated[str, typer.Option(help="Address of a Tiled server, instead of a file.")] = "",
    raw: Annotated[str, typer.Option(help="Start uid of the raw run whose predictions are in Tiled.")] = "",
    path: Annotated[str, typer.Option(help="Container of the predictions.")] = "xpdml",
    api_key: options.ApiKey = None,
    technique: options.Kind = options.Technique.AUTO,
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
        reading = options.Reading(element=element, edge=edge, columns=columns, unit=energy_unit)
        resolved = resolve_settings(
            settings, options={"models.folder": models, "calibration.energy_offset": energy_offset}
        )
        reader = Reader(
            spectra=reading,
            settings=resolved,
            scattering=scattering_reading(composition, q_unit, wavelength),
            store=resolved.store(),
        )
        starts = [summary(prediction) for prediction in reader.predict(file, technique_of(file, technique))]
    told = [_told(start, table or SHIPPED, json=json) for start in starts]
    if not all(told):
        raise typer.Exit(1)


def build_advice(
    simulation: Annotated[
        Path, typer.Argument(help="Folder of simulated spectra, structures and labels.")
    ] = options.DATA / "simulation",
    *,
    element: Annotated[
        list[str] | None, typer.Option(help="Element to count; repeat it for more, all by default.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The table.")] = Path("advice.json"),
    cache: Annotated[
        Path, typer.Option(help="Folder that keeps simulated curves and cross-validated answers.")
    ] = CACHE,
    seed: Annotated[int, typer.Option(help="The same seed, data and versions give the same table.")] = 0,
    json: bool = JSON,
) -> None:
    """Count, on simulated materials, what a second modality adds: the table that `advise` reads."""
    from bluesky_xpdml.factory.training.advice_count import build_table
    from bluesky_xpdml.factory.training.advice_data import AdviceRecipe
    from bluesky_xpdml.reduction.energy import FOIL_ENERGIES

    with progress_bars() as advance:
        found = build_table(
            simulation,
            element or list(FOIL_ENERGIES),
            AdviceRecipe(seed=seed),
            cache=cache,
            progress=advance,
        )
    found.write(output)
    size = output.stat().st_size
    if json:
        print_json({"table": str(output), "elements": list(found.elements), "bytes": size})
        return
    answer_console.print(f"{output}: {', '.join(found.elements)}, {size / 1e3:.0f} kB", markup=False)


def run_advice(simulation: Path, elements: Sequence[str], *, cache: Path, advance: Advance) -> Report:
    """Compare predicted with realised gains, of every element where none is named."""
    from bluesky_xpdml.factory.bench.advice import measure_advice
    from bluesky_xpdml.factory.training.advice_data import AdviceRecipe
    from bluesky_xpdml.reduction.energy import FOIL_ENERGIES

    return measure_advice(
        simulation,
        elements or list(FOIL_ENERGIES),
        recipe=AdviceRecipe(),
        cache=cache,
        progress=advance,
    )


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
    """Return the start documents of the newest predictions of a raw run, one a technique and metal."""
    from bluesky_xpdml.errors import PublishError
    from bluesky_xpdml.publish import find_predictions, open_existing

    container = open_existing(uri, api_key=api_key, path=path)
    try:
        starts = [run.metadata["start"] for run in find_predictions(container, raw)]
    finally:
        container.context.http_client.close()
    if not starts:
        raise PublishError(f"expected predictions of run {raw} in {path} at {uri}, found none")
    newest = {(start["technique"], start["element"], start.get("edge", "")): start for start in starts}
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
