"""`xpdml explain`: which part of a curve led to the answers."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, answer_console, print_json, print_table, progress_console
from bluesky_xpdml.cli.predict import file_answer
from bluesky_xpdml.cli.reading import FileAnalysis, file_reading
from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.records import Prediction
from bluesky_xpdml.settings import resolve_settings
from bluesky_xpdml.sources.reading import FileKind


class Picture(StrEnum):
    """What explanations are drawn into."""

    PNG = "png"
    SVG = "svg"
    HTML = "html"
    """A page of its own, with the numbers as tables."""


def explain(
    files: Annotated[list[Path], typer.Argument(help="Spectra, patterns or G(r).")],
    *,
    technique: options.Kind = FileKind.AUTO,
    element: options.Element = "",
    edge: options.Edge = "",
    columns: options.Columns = "",
    energy_unit: options.Unit = None,
    energy_offset: options.Offset = None,
    composition: options.Composition = "",
    q_unit: options.QUnitOption = None,
    wavelength: options.Wavelength = None,
    models: options.Models = None,
    settings: options.SettingsFile = None,
    picture: Annotated[Picture, typer.Option("--format", help="Of the pictures.")] = Picture.PNG,
    output: Annotated[Path, typer.Option(help="Folder of the pictures, one a file and metal.")] = Path(),
    json: bool = JSON,
) -> None:
    """Draw the curve, what each part of it adds to the answers, and what the models rely on.

    A file that cannot be answered or explained is named with the reason, and the exit status is 1; the rest
    are still explained. With --json: one object a line, with the fields of the derived run's start document.
    """
    resolved = resolve_settings(
        settings, options={"models.folder": models, "calibration.energy_offset": energy_offset}
    )
    reading = file_reading(
        resolved,
        columns=columns,
        energy_unit=energy_unit,
        element=element,
        edge=edge,
        composition=composition,
        q_unit=q_unit,
        wavelength=wavelength,
    )
    analysis = FileAnalysis(reading, resolved)
    output.mkdir(parents=True, exist_ok=True)
    failed = False
    for path in files:
        for prediction in analysis.predict(path, technique):
            found, reason = _explained(prediction, analysis.analysis.store)
            if reason:
                failed = True
                progress_console.print(f"{path.name}: {reason}", markup=False, soft_wrap=True)
            else:
                _draw(found, output / f"{path.stem}-{found.element}-explained.{picture}", picture)
            if json:
                print_json(file_answer(path, found))
            elif not reason:
                _show(path, found)
    if failed:
        raise typer.Exit(1)


def _explained(prediction: Prediction, store: Any) -> tuple[Prediction, str]:
    """Return the explained prediction, or the same one and why it cannot be explained."""
    from dataclasses import replace

    from bluesky_xpdml.models.explain import explain as explanation_of

    try:
        return replace(prediction, explanation=explanation_of(prediction, store)), ""
    except XpdmlError as error:
        return prediction, str(error)


def _draw(prediction: Prediction, path: Path, picture: Picture) -> None:
    from bluesky_xpdml.figures.explanation import draw_explanation, write_page

    if picture is Picture.HTML and prediction.explanation is not None:
        write_page(prediction, prediction.explanation, path)
    else:
        draw_explanation(prediction, path, picture)
    progress_console.print(f"picture: {path}", markup=False, highlight=False, soft_wrap=True)


def _show(path: Path, prediction: Prediction) -> None:
    from bluesky_xpdml.figures.explanation import part_rows, sentence_of

    if prediction.explanation is not None:
        headings, *rows = part_rows(prediction.explanation)
        print_table(
            f"{path.name}, {prediction.element}", [each.replace("[", "\\[") for each in headings], rows
        )
        said = sentence_of(prediction)
        if said:
            answer_console.print(said, markup=False, highlight=False, soft_wrap=True)
