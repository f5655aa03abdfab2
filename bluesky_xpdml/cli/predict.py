"""`xpdml predict`: from data files to descriptors."""

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
from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.records import Prediction, Quality, Verdict
from bluesky_xpdml.reduction.xanes import XanesSettings

COLUMNS = ("file", "edge", "valence", "coord.", "bond [Å]", "verdict")


def predict(
    files: Annotated[list[Path], typer.Argument(help="Spectra: XDI or columns of numbers.")],
    *,
    element: options.Element = "",
    edge: options.Edge = "",
    technique: Annotated[
        options.Technique, typer.Option(help="What was measured.")
    ] = options.Technique.XANES,
    columns: options.Columns = "",
    energy_unit: options.Unit = None,
    energy_offset: options.Offset = None,
    models: options.Models = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw spectra and answers into this PNG, SVG or PDF.")
    ] = None,
    json: bool = JSON,
) -> None:
    """Predict oxidation state, coordination number and bond length from spectra in files.

    A file that cannot be used is answered with the reason, and the exit status is 1; the rest are still
    answered. With --json: one object a line and a file.
    """
    store = open_store(models)
    reading = options.Reading(element=element, edge=edge, columns=columns, unit=energy_unit)
    settings = options.settings_with(energy_offset)
    predictions = []
    for path in files:
        prediction = predict_file(path, reading, settings, store, technique)
        predictions.append((path, prediction))
        if json:
            print_json(file_answer(path, prediction))
    if not json:
        print_table("", COLUMNS, [_row(path, prediction) for path, prediction in predictions])
        _explain(predictions)
    if plot is not None:
        from bluesky_xpdml.cli.figures import draw_predictions

        draw_predictions([prediction for _, prediction in predictions], plot)
        progress_console.print(f"picture: {plot}")
    if any(prediction.quality.verdict is Verdict.FAILED for _, prediction in predictions):
        raise typer.Exit(1)


def open_store(folder: Path | None) -> Any:
    """Return the store of a folder, or of the bundles that come with the package."""
    from bluesky_xpdml.models.store import BundleStore

    return BundleStore.default() if folder is None else BundleStore(folder)


def predict_file(
    path: Path,
    reading: options.Reading,
    settings: XanesSettings,
    store: Any,
    technique: options.Technique,
) -> Prediction:
    """Answer one file; what cannot be read becomes a failed prediction with the reason."""
    from bluesky_xpdml.callbacks.xanes import analyse_scan

    try:
        scan = reading.read(path)
    except (XpdmlError, OSError) as error:
        return Prediction(
            technique=str(technique),
            element=reading.element,
            edge=reading.edge,
            source=path.name,
            quality=Quality().failed(str(error)),
        )
    return analyse_scan(scan, store=store, settings=settings)


def file_answer(path: Path, prediction: Prediction) -> dict[str, Any]:
    """Return what is printed of a file: its name and the fields of the derived run's start document."""
    from bluesky_xpdml.publish.documents import summary

    return {"file": str(path), **summary(prediction)}


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
