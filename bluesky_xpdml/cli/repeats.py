"""`xpdml repeats`: the answer after each repeat of a scan, and when there are enough of them."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import (
    JSON,
    answer_console,
    intervals,
    note,
    print_json,
    print_table,
    progress_console,
    verdict,
)
from bluesky_xpdml.cli.reading import FileAnalysis
from bluesky_xpdml.models.repeats import RepeatedPrediction
from bluesky_xpdml.reduction.repeats import Alignment
from bluesky_xpdml.settings import SeriesSettings
from bluesky_xpdml.vocabulary import Descriptor

COLUMNS = (
    "repeats",
    Descriptor.OXIDATION_STATE.heading,
    "noise, e",
    "left to gain",
    "edge off by, eV",
    "verdict",
    "left out",
)


@options.expand_options
def repeats(
    files: Annotated[list[Path], typer.Argument(help="Scans of one sample, as they were measured.")],
    *,
    sample: options.ElementOptions,
    scan: options.ScanOptions,
    align: Annotated[
        Alignment | None,
        typer.Option(help="By foils, else the shape (auto, the default); by the shape; or none at all."),
    ] = None,
    largest_shift: Annotated[
        float | None,
        typer.Option(help="A repeat whose edge is farther from the others is left out [eV]; 1 by default."),
    ] = None,
    model: options.ModelOptions,
    settings: options.SettingsFile = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the interval against the repeats into this PNG, SVG or PDF.")
    ] = None,
    json: bool = JSON,
) -> None:
    """Merge repeats of one sample and say when there are enough.

    One line per repeat: the answer of all repeats up to it, how much noise moves it, and which part of the
    interval's width more repeats could take away. A file that cannot be used is named with the reason, and
    the exit status is 1. With --json: one object per line and repeat.
    """
    resolved = options.resolve_options(settings, scan, model)
    analysis = FileAnalysis(options.file_reading(resolved, sample, scan), resolved)
    merging = options.resolve_options(
        settings,
        repeats__within=SeriesSettings().within,
        repeats__alignment=align,
        repeats__largest_shift=largest_shift,
    ).repeats
    answers, refused = analysis.predict_repeats(files, (merging or SeriesSettings()).merging)
    if json:
        for answer in answers:
            print_json(repeat_answer(answer))
    elif answers:
        print_table("", COLUMNS, [_row(answer) for answer in answers])
        _conclude(answers[-1])
    if plot is not None and answers:
        from bluesky_xpdml.figures.curves import draw_repeats

        draw_repeats(answers, plot)
        progress_console.print(f"picture: {plot}")
    for line in refused:
        note(line, style="red")
    if refused:
        raise typer.Exit(1)


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


def _row(answer: RepeatedPrediction) -> list[str | Text]:
    found = answer.prediction.descriptors[Descriptor.OXIDATION_STATE]
    state, *_ = intervals(
        {Descriptor.OXIDATION_STATE: {"value": found.value, "low": found.low, "high": found.high}}
    )
    progress = answer.progress
    shift = answer.merged.repeats[-1].apparent_shift
    return [
        str(progress.n_repeats),
        state,
        f"{progress.noise:.3f}",
        f"{progress.left_to_gain:.0%}",
        f"{-shift:+.2f}",
        verdict({"verdict": answer.prediction.quality.verdict}),
        ", ".join(repeat.source for repeat in answer.merged.repeats if repeat.rejected) or "-",
    ]


def _conclude(last: RepeatedPrediction) -> None:
    """Say under the table whether more repeats would help, and what was left out and why."""
    progress = last.progress
    if progress.enough:
        text = f"enough: more repeats would narrow the interval by {progress.left_to_gain:.0%} at most"
    else:
        text = (
            f"not enough: noise makes up {progress.left_to_gain:.0%} of the interval; about "
            f"{progress.n_needed} repeats like these would do"
        )
    for line in (text, *last.prediction.quality.reasons):
        answer_console.print(line)
