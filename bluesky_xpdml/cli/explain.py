"""`xpdml explain`: which part of a curve led to the answers."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, answer_console, print_json, print_table, progress_console
from bluesky_xpdml.cli.reading import FileAnalysis, file_answer, guarded
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import Prediction
from bluesky_xpdml.sources.reading import FileKind
from bluesky_xpdml.vocabulary import Reason


class Picture(StrEnum):
    """Formats of explanations."""

    PNG = "png"
    SVG = "svg"
    HTML = "html"
    """A page of its own, with the numbers as tables."""


@options.expand_options
def explain(
    files: Annotated[list[Path], typer.Argument(help="Spectra, patterns or G(r).")],
    *,
    technique: options.Kind = FileKind.AUTO,
    sample: options.ElementOptions,
    scan: options.ScanOptions,
    pattern: options.PatternOptions,
    model: options.ModelOptions,
    settings: options.SettingsFile = None,
    picture: Annotated[Picture, typer.Option("--format", help="Of the pictures.")] = Picture.PNG,
    output: Annotated[
        Path, typer.Option(help="Folder of the pictures, one for each file and metal.")
    ] = Path(),
    json: bool = JSON,
) -> None:
    """Draw the curve, what each part of it adds to the answers, and what the models rely on.

    A file that cannot be answered or explained is named with the reason, and the exit status is 1; the rest
    are still explained. With --json: one object per line, the start document of the derived run.
    """
    resolved = options.resolve_options(settings, scan, pattern, model)
    analysis = FileAnalysis(options.file_reading(resolved, sample, scan, pattern), resolved)
    output.mkdir(parents=True, exist_ok=True)
    failed = False
    for path, prediction in analysis.predict_each(files, technique):
        target = output / f"{path.stem}-{prediction.element}-explained.{picture}"
        explained, reason = _explained(prediction, analysis.analysis.store, path, target)
        if reason:
            failed = True
            progress_console.print(f"{path.name}: {reason}")
        else:
            progress_console.print(f"picture: {target}")
        if json:
            print_json(file_answer(path, explained))
        elif not reason:
            _show(path, explained)
    if failed:
        raise typer.Exit(1)


def _explained(
    prediction: Prediction, store: BundleStore, path: Path, target: Path
) -> tuple[Prediction, str]:
    """Return the explained prediction, which is drawn, or the same one and why it cannot be explained."""
    from bluesky_xpdml.models.explain import explain as explanation_of

    explanation = guarded(lambda: explanation_of(prediction, store), path)
    if isinstance(explanation, Reason):
        return prediction, explanation
    explained = replace(prediction, explanation=explanation)
    drawn = guarded(lambda: _draw(explained, target), path)
    return explained, drawn if isinstance(drawn, Reason) else ""


def _draw(prediction: Prediction, path: Path) -> None:
    from bluesky_xpdml.figures.explanation import draw_explanation, write_page

    picture = Picture(path.suffix[1:])
    if picture is Picture.HTML and prediction.explanation is not None:
        write_page(prediction, prediction.explanation, path)
    else:
        draw_explanation(prediction, path, picture)


def _show(path: Path, prediction: Prediction) -> None:
    from bluesky_xpdml.figures.explanation import part_rows, sentence_of

    if prediction.explanation is not None:
        headings, *rows = part_rows(prediction.explanation)
        print_table(f"{path.name}, {prediction.element}", headings, rows)
        sentence = sentence_of(prediction)
        if sentence:
            answer_console.print(sentence)
