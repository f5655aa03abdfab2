"""`xpdml repeats`: the answer after each repeat of a scan, and when there are enough of them."""

from dataclasses import replace
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
from bluesky_xpdml.cli.reading import FileAnalysis, file_reading
from bluesky_xpdml.models.repeats import RepeatedPrediction
from bluesky_xpdml.reduction.repeats import Alignment, RepeatSettings
from bluesky_xpdml.settings import Settings, resolve_settings
from bluesky_xpdml.sources.reading import FileKind

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
        Alignment | None,
        typer.Option(help="By foils, else the shape (auto, the default); by the shape; or none at all."),
    ] = None,
    largest_shift: Annotated[
        float | None,
        typer.Option(help="A repeat whose edge lies farther from the others is left out [eV]; 1 by default."),
    ] = None,
    models: options.Models = None,
    settings: options.SettingsFile = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the interval against the repeats into this PNG, SVG or PDF.")
    ] = None,
    json: bool = JSON,
) -> None:
    """Merge repeats of one sample and say when there are enough.

    One line a repeat: the answer of all repeats up to it, how much noise moves it, and which part of the
    interval's width more repeats could take away. With --json: one object a line and a repeat.
    """
    resolved = resolve_settings(
        settings,
        options={
            "models.folder": models,
            "calibration.energy_offset": energy_offset,
        },
    )
    reading = file_reading(resolved, columns=columns, energy_unit=energy_unit, element=element, edge=edge)
    analysis = FileAnalysis(reading, resolved)
    merging = _merging(resolved, align, largest_shift)
    requests = [analysis.request(path, FileKind.XANES) for path in files]
    answers = list(analysis.analysis.predict_repeats(requests, merging))
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


def _merging(settings: Settings, alignment: Alignment | None, largest_shift: float | None) -> RepeatSettings:
    """Return how repeats are merged: as the options say, else the settings."""
    merging = RepeatSettings() if settings.repeats is None else settings.repeats.merging
    if alignment is not None:
        merging = replace(merging, alignment=alignment)
    return merging if largest_shift is None else replace(merging, largest_shift=largest_shift)


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
