"""`xpdml bench`: the figures of this package, each benchmark a function that returns one table."""

import json as json_format
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, print_json, print_table, progress_bars, progress_console
from bluesky_xpdml.factory.cli import require_train_extra
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES

if TYPE_CHECKING:
    from bluesky_xpdml.cli.console import Advance
    from bluesky_xpdml.factory.bench.report import Report

SEEDS, RIVAL_SEEDS = 5, 3
CACHE = Path("build") / "bench"
"""Default folder of finished cells and simulated curves."""


class Bench(StrEnum):
    """Benchmarks by name."""

    ACCURACY = "accuracy"
    ADVICE = "advice"
    EXPERIMENT = "experiment"
    FAULTS = "faults"
    LIVE = "live"
    PUBLISH = "publish"
    QUALITY = "quality"
    QUERIES = "queries"
    RIVALS = "rivals"
    SPEED = "speed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Options of the command."""

    simulation: Path
    standards: Path
    judged: Path
    elements: list[str]
    quick: bool
    cache: Path
    plot: Path | None
    output: Path | None
    advance: "Advance"


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
    require_train_extra()
    with progress_bars() as advance:
        report = BENCHES[name](
            Request(
                simulation=simulation,
                standards=standards,
                judged=judged,
                elements=element or list(FOIL_ENERGIES),
                quick=quick,
                cache=cache,
                plot=plot,
                output=output,
                advance=advance,
            )
        )
    _show(report, output, json=json)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="bench", epilog="Example: xpdml bench speed --json")(bench)


def _accuracy(request: Request) -> "Report":
    """Measure accuracy on simulation; draw it, and write every figure as JSON beside the tables."""
    from bluesky_xpdml.factory.bench.accuracy import measure_accuracy
    from bluesky_xpdml.factory.bench.scoring import CellRecipe

    found = measure_accuracy(
        request.simulation,
        request.elements,
        seeds=range(1 if request.quick else SEEDS),
        splits=("formula",) if request.quick else ("formula", "record"),
        recipe=CellRecipe(threads=os.cpu_count() or 1),
        cache=request.cache,
        progress=request.advance,
    )
    if request.output is not None:
        beside = request.output.with_suffix(".json")
        text = json_format.dumps(found.as_json(), indent=1, allow_nan=False)
        beside.write_text(text + "\n", encoding="utf-8")
        progress_console.print(f"written: {beside}", markup=False)
    if request.plot is not None:
        from bluesky_xpdml.factory.cli.figures_accuracy import draw_accuracy

        draw_accuracy(found.figures, request.plot)
        progress_console.print(f"picture: {request.plot}", markup=False)
    return found.report


def _advice(request: Request) -> "Report":
    from bluesky_xpdml.factory.bench.advice import measure_advice
    from bluesky_xpdml.factory.training.advice_data import AdviceRecipe

    return measure_advice(
        request.simulation,
        request.elements,
        recipe=AdviceRecipe(),
        cache=request.cache,
        progress=request.advance,
    )


def _experiment(request: Request) -> "Report":
    from bluesky_xpdml.factory.bench.experiment import measure_experiment

    report = measure_experiment(request.standards, request.simulation, seed=0, progress=request.advance)
    if request.plot is not None:
        from bluesky_xpdml.figures.curves import draw_answers

        draw_answers(report.conditions["answers"], request.plot)
        progress_console.print(f"picture: {request.plot}", markup=False)
    return report


def _faults(request: Request) -> "Report":
    from bluesky_xpdml.factory.bench.faults import measure_faults

    return measure_faults(quick=request.quick, progress=request.advance)


def _live(request: Request) -> "Report":
    from bluesky_xpdml.factory.bench.live import measure_live

    return measure_live(request.standards, scans=2 if request.quick else 20, progress=request.advance)


def _publish(request: Request) -> "Report":
    from bluesky_xpdml.factory.bench.publish import measure_publish

    return measure_publish(rounds=1 if request.quick else 4, seed=1, progress=request.advance)


def _quality(request: Request) -> "Report":
    from bluesky_xpdml.factory.bench.quality import measure_quality

    return measure_quality(request.judged)


def _queries(request: Request) -> "Report":
    from bluesky_xpdml.factory.bench.queries import measure_queries

    runs, repeats = (1000, 3) if request.quick else (10_000, 40)
    return measure_queries(runs=runs, repeats=repeats, seed=1, progress=request.advance)


def _rivals(request: Request) -> "Report":
    from bluesky_xpdml.factory.bench.rivals import measure_rivals

    return measure_rivals(
        request.simulation,
        request.elements,
        seeds=range(1 if request.quick else RIVAL_SEEDS),
        cache=request.cache,
        threads=os.cpu_count() or 1,
        progress=request.advance,
    )


def _speed(request: Request) -> "Report":
    from bluesky_xpdml.factory.bench.speed import measure_speed

    return measure_speed(repeats=5 if request.quick else 200, progress=request.advance)


BENCHES: Mapping[Bench, Callable[[Request], "Report"]] = {
    Bench.ACCURACY: _accuracy,
    Bench.ADVICE: _advice,
    Bench.EXPERIMENT: _experiment,
    Bench.FAULTS: _faults,
    Bench.LIVE: _live,
    Bench.PUBLISH: _publish,
    Bench.QUALITY: _quality,
    Bench.QUERIES: _queries,
    Bench.RIVALS: _rivals,
    Bench.SPEED: _speed,
}


def _show(report: "Report", output: Path | None, *, json: bool) -> None:
    from bluesky_xpdml.factory.bench.report import cell, is_table

    if output is not None:
        output.write_text(report.as_markdown(), encoding="utf-8")
        progress_console.print(f"written: {output}", markup=False)
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
