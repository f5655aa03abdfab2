"""`xpdml bench`: the figures of this package, each a command that prints a table."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.advise import run_advice
from bluesky_xpdml.cli.console import JSON, print_json, print_table, progress_bars, progress_console
from bluesky_xpdml.factory.bench.report import cell, is_table
from bluesky_xpdml.factory.cli.bench_accuracy import CACHE, run_simulated

if TYPE_CHECKING:
    from bluesky_xpdml.cli.console import Advance
    from bluesky_xpdml.factory.bench.report import Report


class Bench(StrEnum):
    """What can be measured."""

    ACCURACY = "accuracy"
    ADVICE = "advice"
    EXPERIMENT = "experiment"
    LIVE = "live"
    PUBLISH = "publish"
    QUALITY = "quality"
    QUERIES = "queries"
    RIVALS = "rivals"
    SPEED = "speed"


def bench(
    name: Annotated[Bench, typer.Argument(help="What to measure.")],
    *,
    simulation: Annotated[Path, typer.Option(help="Folder of simulated spectra.")] = options.DATA
    / "simulation",
    standards: Annotated[
        Path, typer.Option(help="Folder of measured spectra with labels.csv.")
    ] = options.DATA / "experiment" / "xanes",
    judged: Annotated[
        Path, typer.Option(help="Folder of spectra that people called good or bad (quality).")
    ] = options.DATA / "experiment" / "quality",
    element: Annotated[
        list[str] | None, typer.Option(help="Only this element (accuracy, advice, rivals); repeatable.")
    ] = None,
    quick: Annotated[
        bool, typer.Option(help="One seed, split by formula (accuracy); fewer repeats.")
    ] = False,
    cache: Annotated[
        Path,
        typer.Option(
            help="Folder of finished cells and curves (accuracy, advice, rivals): a stopped run goes on."
        ),
    ] = CACHE,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the picture (accuracy, experiment) into this PNG, SVG or PDF.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Also write the table, as Markdown, into this file.")
    ] = None,
    json: bool = JSON,
) -> None:
    """Measure and print one table: accuracy, experiment, publish, queries, and so on, as NAME says."""
    with progress_bars() as advance:
        match name:
            case Bench.ACCURACY | Bench.RIVALS:
                report = run_simulated(
                    simulation,
                    element or [],
                    rivals=name is Bench.RIVALS,
                    quick=quick,
                    cache=cache,
                    plot=plot,
                    output=output,
                    advance=advance,
                )
            case Bench.ADVICE:
                report = run_advice(simulation, element or [], cache=cache, advance=advance)
            case Bench.EXPERIMENT:
                report = _experiment(standards, simulation, plot, advance)
            case Bench.LIVE:
                from bluesky_xpdml.factory.bench.live import measure_live

                report = measure_live(standards, scans=2 if quick else 20, progress=advance)
            case Bench.PUBLISH | Bench.QUERIES:
                report = _through_tiled(name, advance, quick=quick)
            case Bench.QUALITY:
                from bluesky_xpdml.factory.bench.quality import measure_quality

                report = measure_quality(judged)
            case Bench.SPEED:
                from bluesky_xpdml.factory.bench.speed import measure_speed

                report = measure_speed(repeats=20 if quick else 200, progress=advance)
    _show(report, output, json=json)


def _through_tiled(name: Bench, advance: "Advance", *, quick: bool) -> "Report":
    from bluesky_xpdml.factory.bench.publish import measure_publish
    from bluesky_xpdml.factory.bench.queries import measure_queries

    if name is Bench.PUBLISH:
        return measure_publish(rounds=1 if quick else 4, seed=1, progress=advance)
    return measure_queries(
        runs=1000 if quick else 10_000, repeats=3 if quick else 40, seed=1, progress=advance
    )


def _experiment(standards: Path, simulation: Path, plot: Path | None, advance: "Advance") -> "Report":
    from bluesky_xpdml.factory.bench.experiment import measure_experiment

    report = measure_experiment(standards, simulation, seed=0, progress=advance)
    if plot is not None:
        from bluesky_xpdml.figures.curves import draw_answers

        draw_answers(report.conditions["answers"], plot)
        progress_console.print(f"picture: {plot}")
    return report


def _show(report: "Report", output: Path | None, *, json: bool) -> None:
    if output is not None:
        output.write_text(report.as_markdown(), encoding="utf-8")
        progress_console.print(f"written: {output}")
    if json:
        print_json(report.as_json())
        return
    tables = {key: value for key, value in report.conditions.items() if is_table(value)}
    for key, value in report.conditions.items():
        if key not in tables:
            progress_console.print(f"{key}: {value}", markup=False, highlight=False)
    for title, rows in ((report.what, report.rows), *tables.items()):
        keys = list(rows[0])
        print_table(title, keys, [[cell(row[key]) for key in keys] for row in rows])
