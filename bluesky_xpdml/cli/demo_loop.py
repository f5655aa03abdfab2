"""`xpdml demo loop`: an experiment that steers itself, beside a raster and random choice."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from bluesky_xpdml.cli.console import (
    JSON,
    answer_console,
    print_json,
    print_table,
    progress_console,
)

if TYPE_CHECKING:
    from bluesky_xpdml.bench.loop import Search
    from bluesky_xpdml.bench.loop_runs import LoopResult


def loop(
    *,
    seeds: Annotated[int, typer.Option(min=1, help="Fronts to find, one a seed.")] = 20,
    first: Annotated[int, typer.Option(min=0, help="The first seed.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 2,
    plot: Annotated[Path, typer.Option(help="Picture of what was found.")] = Path("xpdml-demo-loop.png"),
    json: bool = JSON,
) -> None:
    """Let a planner find a reaction front through Tiled, in a fraction of the measurements of a raster.

    A powder reacts at a temperature that depends on the position on the sample. XANES is measured on one
    simulated beamline, and PDF on another where XANES leaves open what it is; a planner that sees nothing
    but the predictions in Tiled decides where. There is noise, one scan in twenty loses its beam, and the
    planner is started anew after 15 measurements. Found and true front are drawn; a 20 x 20 raster and
    random choice stand beside.
    """
    from bluesky_xpdml.bench.loop_runs import run_loops
    from bluesky_xpdml.cli.figures_loop import draw_loop

    progress_console.print(f"{seeds} fronts to find, {jobs} at a time; each takes a minute or two ...")
    results = run_loops(range(first, first + seeds), jobs=jobs, found=_tell)
    draw_loop(results, plot)
    if json:
        print_json(as_json(results))
        progress_console.print(f"picture: {plot}")
        return
    columns = (
        "seed",
        "off [%]",
        "measured",
        "PDF too",
        "failed",
        "raster of 400, off [%]",
        "as many random, off [%]",
    )
    print_table("Fronts found through Tiled", columns, [_row(result) for result in results])
    answer_console.print(_summary(results))
    answer_console.print(f"picture: {plot}", soft_wrap=True)


def as_json(results: list["LoopResult"]) -> dict[str, Any]:
    """Return the results as plain JSON values; errors are in ranges of the temperature.

    Parameters
    ----------
    results
        One a seed.
    """
    errors = [result.search.error for result in results]
    return {
        "seeds": [result.as_json() for result in results],
        "median_error": float(np.median(errors)),
        "worst_error": max(errors),
        "median_measurements": float(np.median([result.search.measurements for result in results])),
        "worst_measurements": max(result.search.measurements for result in results),
        "median_random_error": float(np.median([result.chance.error for result in results])),
        "median_raster_error": float(np.median([result.raster_error for result in results])),
        "median_saving": float(np.median([result.saving for result in results])),
    }


def _tell(search: "Search") -> None:
    progress_console.print(
        f"seed {search.seed}: {search.error:.1%} of the range off, after {search.measurements} measurements; "
        f"{search.reason}",
        soft_wrap=True,
    )


def _summary(results: list["LoopResult"]) -> str:
    said = as_json(results)
    return (
        f"median distance {said['median_error']:.1%} (worst {said['worst_error']:.1%}) of the range, with "
        f"{said['median_measurements']:.0f} measurements (most {said['worst_measurements']}): "
        f"{said['median_saving']:.0%} of the raster's were not needed"
    )


def _row(result: "LoopResult") -> list[str]:
    search = result.search
    return [
        str(search.seed),
        f"{100.0 * search.error:.2f}",
        str(search.measurements),
        str(search.pdfs),
        str(search.failed),
        f"{100.0 * result.raster_error:.2f}",
        f"{100.0 * result.chance.error:.2f}",
    ]
