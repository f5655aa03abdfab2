"""`xpdml predict`: from data files to descriptors."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import (
    COLOURS,
    JSON,
    answer_console,
    interval,
    print_json,
    print_table,
    progress_console,
    verdict,
)
from bluesky_xpdml.cli.reading import FileAnalysis, file_reading
from bluesky_xpdml.records import Prediction, Verdict
from bluesky_xpdml.settings import resolve_settings
from bluesky_xpdml.sources.reading import FileKind


def kind_beside(files: list[Path], *, differential: bool, measured_difference: bool) -> FileKind:
    """Return how the pattern beside one spectrum is read."""
    if len(files) != 1:
        raise typer.BadParameter(f"--pdf belongs to one sample: expected one spectrum, found {len(files)}")
    if measured_difference:
        raise typer.BadParameter(
            "--far: there is no joint model for the difference of two patterns; answer the two files singly"
        )
    return FileKind.DPDF if differential else FileKind.PDF


COLUMNS = ("file", "edge", "valence", "coord.", "bond [Å]", "verdict")


def predict(
    files: Annotated[list[Path], typer.Argument(help="Spectra, patterns, G(r) or detector images.")],
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
    poni: options.Poni = None,
    dark: options.Dark = None,
    mask: options.Mask = None,
    background: options.Background = None,
    background_scale: options.BackgroundScale = None,
    q_min: options.QMin = None,
    q_max: options.QMax = None,
    q_max_inst: options.QMaxInst = None,
    r_poly: options.RPoly = None,
    pdf: Annotated[
        Path | None,
        typer.Option("--pdf", help="Pattern, G(r) or image of the sample whose spectrum is the one file."),
    ] = None,
    dpdf: Annotated[
        bool, typer.Option("--dpdf", help="The file of --pdf is the G(r) of the metal's pairs alone.")
    ] = False,
    far: options.Far = None,
    far_wavelength: options.FarWavelength = None,
    far_poni: options.FarPoni = None,
    models: options.Models = None,
    settings: options.SettingsFile = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw curves and answers into this PNG, SVG or PDF.")
    ] = None,
    json: bool = JSON,
) -> None:
    """Predict oxidation state, coordination number and bond length from measurements in files.

    A file that cannot be used is answered with the reason, and the exit status is 1; the rest are still
    answered. With --json: one object a line and a file; a pattern of several metals gives one for each.
    With --pdf, a spectrum and a pattern of one sample are answered together, then each alone.
    """
    resolved = resolve_settings(
        settings,
        options={
            "models.folder": models,
            "calibration.energy_offset": energy_offset,
            "pdf.composition": composition,
            "pdf.background_scale": background_scale,
            "pdf.q_min": q_min,
            "pdf.q_max": q_max,
            "pdf.q_max_inst": q_max_inst,
            "pdf.r_poly": r_poly,
        },
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
        poni=poni,
        dark=dark,
        mask=mask,
        background=background,
        far=far,
        far_wavelength=far_wavelength,
        far_poni=far_poni,
    )
    analysis = FileAnalysis(reading, resolved)
    answered = _each(analysis, files, technique)
    if pdf is not None:
        kind = kind_beside(files, differential=dpdf, measured_difference=far is not None)
        answered = iter(analysis.predict_both(files[0], pdf, kind))
    predictions: list[tuple[Path, Prediction]] = []
    for path, prediction in answered:
        predictions.append((path, prediction))
        if json:
            print_json(file_answer(path, prediction))
    if not json:
        _tabulate(predictions, joint=pdf is not None)
        _explain(predictions)
    if plot is not None:
        from bluesky_xpdml.figures.curves import draw_predictions

        draw_predictions([prediction for _, prediction in predictions], plot)
        progress_console.print(f"picture: {plot}")
    if any(prediction.quality.verdict is Verdict.FAILED for _, prediction in predictions):
        raise typer.Exit(1)


def file_answer(path: Path, prediction: Prediction) -> dict[str, Any]:
    """Return what is printed of a file: its name and the fields of the derived run's start document."""
    from bluesky_xpdml.publish.documents import summary

    return {"file": str(path), **summary(prediction)}


def _each(analysis: FileAnalysis, files: list[Path], kind: FileKind) -> Iterator[tuple[Path, Prediction]]:
    """Yield the predictions for file after file, whatever goes wrong with one of them."""
    for path in files:
        for prediction in analysis.predict(path, kind):
            yield path, prediction


def _tabulate(predictions: list[tuple[Path, Prediction]], *, joint: bool) -> None:
    """Print a line an answer, with what it is from where one sample has several."""
    rows = [_row(path, prediction) for path, prediction in predictions]
    if not joint:
        print_table("", COLUMNS, rows)
        return
    told = [[prediction.technique, *row] for (_, prediction), row in zip(predictions, rows, strict=True)]
    print_table("", ("from", *COLUMNS), told)


def _row(path: Path, prediction: Prediction) -> list[str]:
    answer = file_answer(path, prediction)
    found = answer["descriptors"]
    return [
        path.name,
        f"{answer['element']} {answer['edge']}".strip(),
        interval(found.get("oxidation_state")),
        interval(found.get("coordination_number"), 1),
        interval(found.get("bond_length")),
        verdict(answer["quality"]),
    ]


def _explain(predictions: list[tuple[Path, Prediction]]) -> None:
    """Say under the table why an answer is doubtful or missing."""
    for path, prediction in predictions:
        quality = prediction.quality
        if quality.verdict is not Verdict.GOOD:
            answer_console.print(f"{path.name}: {quality.verdict}", style=COLOURS[quality.verdict])
            for reason in quality.reasons:
                answer_console.print(f"  {reason}", markup=False, highlight=False, soft_wrap=True)
