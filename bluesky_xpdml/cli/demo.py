"""`xpdml demo`: measure, predict, publish, read back, with nothing but this package."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.text import Text

from bluesky_xpdml.cli.console import (
    DIGITS,
    JSON,
    answer_console,
    interval,
    print_json,
    print_table,
    progress_bars,
    progress_console,
    verdict,
)
from bluesky_xpdml.errors import needs_extra

if TYPE_CHECKING:
    from bluesky_xpdml.demo.loop import LoopResult, Search
    from bluesky_xpdml.demo.session import Session
    from bluesky_xpdml.records import DemoMeasurement


def loop(
    *,
    seeds: Annotated[int, typer.Option(min=1, help="Fronts to find, one per seed.")] = 20,
    first: Annotated[int, typer.Option(min=0, help="The first seed.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Parallel processes.")] = 2,
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
    with needs_extra("demo"):
        from bluesky_xpdml.demo.figures import draw_loop
        from bluesky_xpdml.demo.loop import run_loops

    progress_console.print(f"{seeds} fronts to find, {jobs} at a time; each takes a minute or two ...")
    results = run_loops(range(first, first + seeds), jobs=jobs, found=_report)
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
    print_table("Fronts found through Tiled", columns, [_loop_row(result) for result in results])
    answer_console.print(_summary(results))
    answer_console.print(f"picture: {plot}")


def as_json(results: list["LoopResult"]) -> dict[str, Any]:
    """Return the results as plain JSON values; errors are fractions of the range of the temperature."""
    errors = [result.search.error for result in results]
    return {
        "seeds": [result.as_json() for result in results],
        "median_error": float(np.median(errors)),
        "worst_error": max(errors),
        "median_measurements": float(np.median([result.search.measurements for result in results])),
        "worst_measurements": max(result.search.measurements for result in results),
        "median_random_error": float(np.median([result.random.error for result in results])),
        "median_raster_error": float(np.median([result.raster_error for result in results])),
        "median_saving": float(np.median([result.saving for result in results])),
    }


def _report(search: "Search") -> None:
    progress_console.print(
        f"seed {search.seed}: {search.error:.1%} of the range off, after {search.measurements} measurements; "
        f"{search.reason}"
    )


def _summary(results: list["LoopResult"]) -> str:
    totals = as_json(results)
    return (
        f"median distance {totals['median_error']:.1%} (worst {totals['worst_error']:.1%}) of the range, "
        f"with {totals['median_measurements']:.0f} measurements (most {totals['worst_measurements']}): "
        f"{totals['median_saving']:.0%} of the raster's were not needed"
    )


def _loop_row(result: "LoopResult") -> list[str]:
    search = result.search
    return [
        str(search.seed),
        f"{100.0 * search.error:.2f}",
        str(search.measurements),
        str(search.pdfs),
        str(search.failed),
        f"{100.0 * result.raster_error:.2f}",
        f"{100.0 * result.random.error:.2f}",
    ]


app = typer.Typer(invoke_without_command=True)
app.command(name="loop", epilog="Example: xpdml demo loop --seeds 3")(loop)


@app.callback(epilog="Example: xpdml demo")
def demo(
    context: typer.Context,
    *,
    serve: Annotated[
        bool, typer.Option(help="Keep the Tiled server until Ctrl-C, with the raw runs.")
    ] = False,
    plot: Annotated[Path, typer.Option(help="Picture of spectra and predictions.")] = Path("xpdml-demo.png"),
    seed: Annotated[int, typer.Option(help="Of the counting statistics.")] = 1,
    samples: Annotated[int, typer.Option(min=1, help="Number of oxides to measure.")] = 13,
    json: bool = JSON,
) -> None:
    """Measure thirteen oxides by XANES and PDF on simulated beamlines, and find the predictions in Tiled.

    Needs no network, no beamline and no server. The oxides were not trained on, the monochromator is off by
    an amount that the callback has to find, the images have dark current, background and bad pixels, and
    truth is printed beside prediction.
    """
    if context.invoked_subcommand is not None:
        return
    with needs_extra("demo"):
        from bluesky_xpdml.demo.session import Session
        from bluesky_xpdml.figures.curves import draw_demo

    progress_console.print("starting a Tiled server in this process ...")
    with Session(seed) as session:
        measurements = _measure(session, samples)
        draw_demo(measurements, plot)
        if serve:
            session.publish_raw()
        _show(session, measurements, plot, json=json)
        if serve:
            _serve(session)


def _measure(session: "Session", samples: int) -> list["DemoMeasurement"]:
    beamlines = {
        "XANES measured": (session.measure, list(session.beamline.wheel.samples)[:samples]),
        "PDF measured": (session.measure_scattering, list(session.scattering.changer.samples)[:samples]),
    }
    measurements = []
    with progress_bars() as advance:
        for what, (measure, names) in beamlines.items():
            for done, name in enumerate(names, start=1):
                measurements.append(measure(name))
                advance(what, done, len(names))
    return measurements


def _show(session: "Session", measurements: list["DemoMeasurement"], plot: Path, *, json: bool) -> None:
    if json:
        samples = [_sample(measurement) for measurement in measurements]
        print_json({"tiled_uri": session.server.uri, "samples": samples})
        progress_console.print(f"picture: {plot}")
        return
    pairs = [heading for name in DIGITS for heading in (name.heading, "true")]
    columns = ("sample", "by", *pairs, "verdict", "found in")
    print_table(
        "Predictions found in Tiled, value and 90 % interval", columns, [_row(m) for m in measurements]
    )
    answer_console.print(f"picture: {plot}")


def _sample(measurement: "DemoMeasurement") -> dict[str, Any]:
    start = measurement.start
    return {
        "name": measurement.name,
        "technique": measurement.technique,
        "element": measurement.element,
        "truth": measurement.truth,
        "descriptors": start["descriptors"],
        "quality": start["quality"],
        "raw_uid": measurement.raw_uid,
        "derived_uid": start["uid"],
        "seconds_stop_to_found": measurement.seconds_stop_to_found,
    }


def _row(measurement: "DemoMeasurement") -> list[str | Text]:
    found, truth = measurement.start["descriptors"], measurement.truth
    pairs = [
        cell
        for name, digits in DIGITS.items()
        for cell in (interval(found.get(name), digits), f"{truth[name]:.{digits}f}")
    ]
    return [
        measurement.name,
        measurement.technique,
        *pairs,
        verdict(measurement.start["quality"]),
        f"{measurement.seconds_stop_to_found * 1e3:.0f} ms",
    ]


def _serve(session: "Session") -> None:
    address, _, key = session.server.uri.partition("?api_key=")
    progress_console.print(f"serving {address} with API key {key}; Ctrl-C ends it")
    try:
        while True:
            time.sleep(1.0)
    except KeyboardInterrupt:
        progress_console.print("closing")
