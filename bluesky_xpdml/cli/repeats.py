"""`xpdml repeats`: the answer after each repeat of a scan, and when there are enough of them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import (
    JSON,
    answer_console,
    interval,
    print_json,
    print_table,
    progress_console,
    verdict,
)
from bluesky_xpdml.cli.predict import open_store
from bluesky_xpdml.models.repeats import RepeatedPrediction, predict_repeats
from bluesky_xpdml.reduction.repeats import Alignment, RepeatSettings

COLUMNS = ("repeats", "valence", "noise, e", "left to gain", "edge off by, eV", "verdict", "left out")


def repeats(
    files: Annotated[list[Path], typer.Argument(help="Scans of one sample, as they were measured.")],
    *,
    element: options.Element = "",
    edge: options.Edge = "",
    columns: options.Columns = "",
    energy_unit: options.Unit = None,
    energy_offset: options.Offset = None,
    align: Annotated[
        Alignment, typer.Option(help="By foils, else the shape (auto); by the shape; or not at all (none).")
    ] = Alignment.AUTO,
    largest_shift: Annotated[
        float, typer.Option(help="A repeat whose edge lies farther from the others is left out [eV].")
    ] = 1.0,
    models: options.Models = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the interval against the repeats into this PNG, SVG or PDF.")
    ] = None,
    json: bool = JSON,
) -> None:
    """Merge repeats of one sample and say when there are enough.

    One line a repeat: the answer of all repeats up to it, how much noise moves it, and which part of the
    interval's width more repeats could take away. With --json: one object a line and a repeat.
    """
    reading = options.Reading(element=element, edge=edge, columns=columns, unit=energy_unit)
    scans = [reading.read(path) for path in files]
    answers = predict_repeats(
        scans,
        open_store(models),
        options.settings_with(energy_offset),
        RepeatSettings(alignment=align, largest_shift=largest_shift),
    )
    if json:
        for answer in answers:
            print_json(repeat_answer(answer))
    else:
        print_table("", COLUMNS, [_row(answer) for answer in answers])
        _conclude(answers[-1])
    if plot is not None:
        from bluesky_xpdml.figures.curves import draw_repeats

        draw_repeats(answers, plot)
        progress_console.print(f"picture: {plot}")


def repeat_answer(answer: RepeatedPrediction) -> dict[str, Any]:
    """Return what is printed of the answer after a repeat, as plain JSON values."""
    from bluesky_xpdml.publish.documents import summary

    progress = answer.progress
    return {
        **summary(answer.prediction),
        "repeats": {
            "n": progress.n_repeats,
            "kept": progress.n_kept,
            "noise": progress.noise,
            "left_to_gain": progress.left_to_gain,
            "enough": progress.enough,
            "needed": progress.n_needed,
            "each": [
                {
                    "source": repeat.source,
                    "offset": repeat.offset,
                    "apparent_shift": repeat.apparent_shift,
                    "applied_shift": repeat.applied_shift,
                    "distance": repeat.distance,
                    "rejected": repeat.rejected,
                }
                for repeat in answer.merged.repeats
            ],
        },
    }


def _row(answer: RepeatedPrediction) -> list[str]:
    found = answer.prediction.descriptors["oxidation_state"]
    progress = answer.progress
    shift = answer.merged.repeats[-1].apparent_shift
    return [
        str(progress.n_repeats),
        interval({"value": found.value, "low": found.low, "high": found.high}),
        f"{progress.noise:.3f}",
        f"{progress.left_to_gain:.0%}",
        f"{-shift:+.2f}",
        verdict({"verdict": answer.prediction.quality.verdict.value}),
        ", ".join(repeat.source for repeat in answer.merged.repeats if repeat.rejected) or "-",
    ]


def _conclude(last: RepeatedPrediction) -> None:
    """Say under the table whether more repeats would help, and what was left out and why."""
    progress = last.progress
    if progress.enough:
        said = f"enough: more repeats would narrow the interval by {progress.left_to_gain:.0%} at most"
    else:
        said = (
            f"not enough: noise makes up {progress.left_to_gain:.0%} of the interval; about "
            f"{progress.n_needed} repeats like these would do"
        )
    for line in (said, *last.prediction.quality.reasons):
        answer_console.print(line, markup=False, highlight=False, soft_wrap=True)
