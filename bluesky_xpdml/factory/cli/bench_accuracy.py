"""`xpdml bench accuracy` and `xpdml bench rivals`: what is learnt from simulation, in cells that are kept."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from bluesky_xpdml.cli.console import Advance, progress_console

if TYPE_CHECKING:
    from bluesky_xpdml.factory.bench.report import Report

SEEDS = 5
RIVAL_SEEDS = 3
CACHE = Path("build") / "bench"
"""Where cells and simulated curves are kept by default."""


def run_simulated(
    simulation: Path,
    elements: list[str],
    *,
    rivals: bool,
    quick: bool,
    cache: Path,
    plot: Path | None,
    output: Path | None,
    advance: Advance,
) -> "Report":
    """Measure accuracy on simulation; draw it, and write every figure as JSON beside the tables.

    Parameters
    ----------
    simulation
        Folder of simulated spectra and structures.
    elements
        Chemical symbols, all where there are none.
    rivals
        Other learners beside the forests; there is no picture of them.
    quick
        One seed, split by formula.
    cache
        Folder of kept cells and simulated curves.
    plot
        Picture to draw.
    output
        Markdown file beside which the JSON is written.
    advance
        Shows progress.
    """
    if rivals:
        return _rivals(simulation, elements, quick=quick, cache=cache, advance=advance)
    from bluesky_xpdml.factory.bench.accuracy import measure_accuracy
    from bluesky_xpdml.factory.training.cells import CellRecipe
    from bluesky_xpdml.reduction.energy import FOIL_ENERGIES

    found = measure_accuracy(
        simulation,
        elements or list(FOIL_ENERGIES),
        seeds=range(1 if quick else SEEDS),
        splits=("formula",) if quick else ("formula", "record"),
        recipe=CellRecipe(threads=os.cpu_count() or 1),
        cache=cache,
        progress=advance,
    )
    if output is not None:
        beside = output.with_suffix(".json")
        beside.write_text(json.dumps(found.as_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        progress_console.print(f"written: {beside}")
    if plot is not None:
        from bluesky_xpdml.factory.cli.figures_accuracy import draw_accuracy

        draw_accuracy(found.figures, plot)
        progress_console.print(f"picture: {plot}")
    return found.report


def _rivals(simulation: Path, elements: list[str], *, quick: bool, cache: Path, advance: Advance) -> "Report":
    from bluesky_xpdml.factory.bench.rivals import measure_rivals
    from bluesky_xpdml.reduction.energy import FOIL_ENERGIES

    return measure_rivals(
        simulation,
        elements or list(FOIL_ENERGIES),
        seeds=range(1 if quick else RIVAL_SEEDS),
        cache=cache,
        threads=os.cpu_count() or 1,
        progress=advance,
    )
