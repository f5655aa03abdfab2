"""`xpdml predict`: from data files to descriptors."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import (
    COLOURS,
    HEADINGS,
    JSON,
    answer_console,
    intervals,
    print_json,
    print_table,
    progress_console,
    verdict,
)
from bluesky_xpdml.cli.reading import FileAnalysis, file_answer, is_failed
from bluesky_xpdml.records import Prediction, Verdict
from bluesky_xpdml.sources.reading import FileKind

COLUMNS = ("file", "edge", *HEADINGS, "verdict")


@options.expand_options
def predict(
    files: Annotated[list[Path], typer.Argument(help="Spectra, patterns, G(r) or detector images.")],
    *,
    technique: options.Kind = FileKind.AUTO,
    sample: options.ElementOptions,
    scan: options.ScanOptions,
    pattern: options.PatternOptions,
    image: options.ImageOptions,
    pdf: Annotated[
        Path | None,
        typer.Option("--pdf", help="Pattern, G(r) or image of the sample whose spectrum is the one file."),
    ] = None,
    dpdf: Annotated[
        bool, typer.Option("--dpdf", help="The file of --pdf is the G(r) of the metal's pairs alone.")
    ] = False,
    model: options.ModelOptions,
    settings: options.SettingsFile = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw curves and answers into this PNG, SVG or PDF.")
    ] = None,
    json: bool = JSON,
) -> None:
    """Predict oxidation state, coordination number and bond length from measurements in files.

    A file that cannot be used is answered with the reason, and the exit status is 1; the rest are still
    answered. With --json: one object per line and file; a pattern of several metals gives one for each. With
    --pdf, a spectrum and a pattern of one sample are answered together, then each alone.
    """
    resolved = options.resolve_options(settings, scan, pattern, image, model)
    reading = options.file_reading(resolved, sample, scan, pattern, image)
    analysis = FileAnalysis(reading, resolved)
    answers = analysis.predict_each(files, technique)
    if pdf is not None:
        kind = _kind_beside(files, differential=dpdf, measured_difference=image.far is not None)
        answers = iter(analysis.predict_both(files[0], pdf, kind))
    predictions: list[tuple[Path, Prediction]] = []
    for path, prediction in answers:
        predictions.append((path, prediction))
        if json:
            print_json(file_answer(path, prediction))
    if not json:
        _show(predictions, joint=pdf is not None)
    if plot is not None:
        from bluesky_xpdml.figures.curves import draw_predictions

        draw_predictions([prediction for _, prediction in predictions], plot)
        progress_console.print(f"picture: {plot}")
    if any(is_failed(prediction) for _, prediction in predictions):
        raise typer.Exit(1)


def _kind_beside(files: list[Path], *, differential: bool, measured_difference: bool) -> FileKind:
    """Return how the pattern beside one spectrum is read."""
    if len(files) != 1:
        raise typer.BadParameter(f"--pdf belongs to one sample: expected one spectrum, found {len(files)}")
    if measured_difference:
        raise typer.BadParameter(
            "--far: there is no joint model for the difference of two patterns; answer the two files singly"
        )
    return FileKind.DPDF if differential else FileKind.PDF


def _show(predictions: list[tuple[Path, Prediction]], *, joint: bool) -> None:
    """Print one line per answer, with its technique if one sample has several, and the reasons below."""
    rows = [_row(path, prediction) for path, prediction in predictions]
    if joint:
        rows = [[prediction.technique, *row] for (_, prediction), row in zip(predictions, rows, strict=True)]
    print_table("", ("from", *COLUMNS) if joint else COLUMNS, rows)
    for path, prediction in predictions:
        quality = prediction.quality
        if quality.verdict is not Verdict.GOOD:
            answer_console.print(f"{path.name}: {quality.verdict}", style=COLOURS[quality.verdict])
            for reason in quality.reasons:
                answer_console.print(f"  {reason}")


def _row(path: Path, prediction: Prediction) -> list[str | Text]:
    answer = file_answer(path, prediction)
    return [
        path.name,
        f"{answer['element']} {answer['edge']}".strip(),
        *intervals(answer["descriptors"]),
        verdict(answer["quality"]),
    ]
