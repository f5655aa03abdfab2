"""Figure of the experiment that steers itself: measured points, found fronts, and saved measurements."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bluesky_xpdml.demo.beamline.front import POSITIONS, TEMPERATURES
from bluesky_xpdml.demo.loop_baselines import ACROSS, RASTER, TOLERANCE
from bluesky_xpdml.errors import needs_extra
from bluesky_xpdml.figures.curves import ACCENT, INK, MUTED, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

    from bluesky_xpdml.demo.loop import LoopResult

DRAWN = 3
"""Number of searches that are drawn as maps; the other panels show all."""


def draw_loop(results: Sequence["LoopResult"], path: Path) -> None:
    """Draw the first searches as maps, and distance and number of measurements of all, to PNG, SVG or PDF."""
    with needs_extra("demo"):
        from matplotlib import rc_context
        from matplotlib.figure import Figure

    drawn = results[:DRAWN]
    with rc_context(STYLE):
        figure = Figure(figsize=(3.1 * len(drawn) + 4.4, 3.0), layout="constrained")
        widths = [1.0] * len(drawn) + [0.8, 0.8]
        *maps, errors, counts = figure.subplots(1, len(drawn) + 2, width_ratios=widths)
        values = np.concatenate([result.search.values for result in drawn])
        for axes, result in zip(maps, drawn, strict=True):
            shown = _map(axes, result, float(values.min()), float(values.max()))
        figure.colorbar(shown, ax=maps[-1], label="oxidation state of Mn, as predicted")
        _errors(errors, results)
        _counts(counts, results)
        figure.savefig(path)


def _map(axes: "Axes", result: "LoopResult", low: float, high: float) -> "PathCollection":
    search = result.search
    where = [point["position"] for point in search.answered]
    heat = [point["temperature"] for point in search.answered]
    shown = axes.scatter(where, heat, c=search.values, vmin=low, vmax=high, cmap="viridis", s=14.0)
    axes.plot(ACROSS, search.truth, color=INK, linewidth=1.0, label="true front")
    axes.plot(ACROSS, search.found, color=ACCENT, linewidth=1.2, linestyle="--", label="found")
    axes.set_xlim(*POSITIONS)
    axes.set_ylim(*TEMPERATURES)
    axes.set_xlabel("position [mm]")
    axes.set_ylabel("temperature [K]")
    axes.set_title(f"seed {search.seed}: {search.measurements} measurements, {search.failed} failed")
    axes.legend(frameon=False, loc="best")
    return shown


def _errors(axes: "Axes", results: Sequence["LoopResult"]) -> None:
    ways = {
        "steered": [result.search.error for result in results],
        "as many\nrandom": [result.random.error for result in results],
        f"raster\nof {RASTER**2}": [result.raster_error for result in results],
    }
    _strips(axes, {name: [100.0 * error for error in errors] for name, errors in ways.items()})
    axes.axhline(100.0 * TOLERANCE, color=INK, linewidth=0.8, linestyle=":")
    axes.set_yticks([0.25, 0.5, 1.0, 2.0, 4.0, 8.0])
    axes.set_ylabel("distance to the true front [% of the range]")
    axes.set_title("dotted: requested")


def _counts(axes: "Axes", results: Sequence["LoopResult"]) -> None:
    most = RASTER**2
    ways = {
        "steered": [result.search.measurements for result in results],
        "random": [most if result.random.needed is None else result.random.needed for result in results],
        "raster": [most] * len(results),
    }
    _strips(axes, ways)
    axes.set_yticks([20, 50, 100, 200, 400])
    axes.set_ylabel("measurements")
    axes.set_title("to reach the requested distance")


def _strips(axes: "Axes", ways: Mapping[str, Sequence[float]]) -> None:
    """Draw a strip of points for each way, with its median as a line."""
    for place, (values, colour) in enumerate(zip(ways.values(), (ACCENT, INK, MUTED), strict=True)):
        spread = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(1)
        axes.scatter(place + spread, values, color=colour, s=8.0)
        axes.plot([place - 0.3, place + 0.3], [np.median(values)] * 2, color=colour, linewidth=1.5)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_xticks(range(len(ways)), list(ways))
    axes.set_xlim(-0.5, len(ways) - 0.5)
