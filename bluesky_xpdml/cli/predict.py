"""`xpdml predict`: from data files to descriptors."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
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
from bluesky_xpdml.cli.options import Technique
from bluesky_xpdml.errors import MissingDataError, XpdmlError
from bluesky_xpdml.records import Prediction, Quality, Verdict
from bluesky_xpdml.settings import Settings, resolve_settings, with_settings
from bluesky_xpdml.sources.reading import Ranges, ScatteringReading, technique_of
from bluesky_xpdml.vocabulary import Modality


def joint_technique(files: list[Path], *, differential: bool, measured_difference: bool) -> Technique:
    """Return how the pattern beside a spectrum is read.

    Parameters
    ----------
    files
        What the caller named beside the pattern: one spectrum.
    differential
        Whether the pattern shows the pairs of the metal alone.
    measured_difference
        Whether it is one of two patterns below the metal's edge.

    Raises
    ------
    typer.BadParameter
        If there is not one spectrum, or no joint model for such a pattern.
    """
    if len(files) != 1:
        raise typer.BadParameter(f"--pdf belongs to one sample: expected one spectrum, found {len(files)}")
    if measured_difference:
        raise typer.BadParameter(
            "--far: there is no joint model for the difference of two patterns; answer the two files singly"
        )
    return Technique.DPDF if differential else Technique.PDF


def predict_both(
    reader: "Reader", spectrum: Path, pattern: Path, technique: Technique
) -> list[tuple[Path, Prediction]]:
    """Return the joint answer of one sample, and beside it what each file says alone.

    Parameters
    ----------
    reader
        Reads files and asks the models.
    spectrum, pattern
        Of the same sample.
    technique
        What the pattern is: `pdf` or `dpdf`.

    Returns
    -------
    list of tuple
        File and answer: the joint one, under the name of the spectrum, then those of the two files.
    """
    from bluesky_xpdml.models.joint import predict_sample

    (by_spectrum,) = reader.predict(spectrum, Technique.XANES)
    element = by_spectrum.element or reader.spectra.element
    of_pattern = reader.predict(pattern, technique)
    by_pattern = next((each for each in of_pattern if each.element == element), of_pattern[0])
    curve = by_pattern.pdf if by_pattern.pdf is not None and by_pattern.element == element else None
    kind = Modality.XANES_DPDF if technique is Technique.DPDF else Modality.XANES_PDF
    try:
        both = predict_sample(by_spectrum.xanes, curve, reader.store, kind, element=element)
    except MissingDataError as error:
        both = Prediction(
            technique=str(kind),
            element=element,
            edge=by_spectrum.edge,
            source=f"{spectrum.name} + {pattern.name}",
            quality=Quality().failed(str(error), *by_spectrum.quality.reasons, *by_pattern.quality.reasons),
        )
    answer = with_settings(both, reader.settings)
    return [(spectrum, answer), (spectrum, by_spectrum), (pattern, by_pattern)]


COLUMNS = ("file", "edge", "valence", "coord.", "bond [Å]", "verdict")


def predict(
    files: Annotated[list[Path], typer.Argument(help="Spectra, patterns, G(r) or detector images.")],
    *,
    technique: options.Kind = options.Technique.AUTO,
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
    ranges = Ranges(
        background_scale=background_scale, q_min=q_min, q_max=q_max, q_max_inst=q_max_inst, r_poly=r_poly
    )
    resolved = resolve_settings(
        settings, options={"models.folder": models, "calibration.energy_offset": energy_offset}
    )
    reader = Reader(
        spectra=options.Reading(element=element, edge=edge, columns=columns, unit=energy_unit),
        settings=resolved,
        scattering=ScatteringReading(
            composition=composition,
            q_unit=q_unit,
            wavelength=wavelength,
            poni=poni,
            dark=dark,
            mask=mask,
            background=background,
            ranges=ranges,
            far=far,
            far_wavelength=far_wavelength,
            far_poni=far_poni,
        ),
        store=resolved.store(),
    )
    answered = _each(reader, files, technique)
    if pdf is not None:
        how = joint_technique(files, differential=dpdf, measured_difference=far is not None)
        answered = iter(predict_both(reader, files[0], pdf, how))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads files and asks the models."""

    spectra: options.Reading
    settings: Settings
    scattering: ScatteringReading
    store: Any

    def predict(self, path: Path, technique: options.Technique) -> tuple[Prediction, ...]:
        """Answer one file; what cannot be read becomes a failed prediction with the reason."""
        return tuple(with_settings(each, self.settings) for each in self._answers(path, technique))

    def _answers(self, path: Path, technique: options.Technique) -> tuple[Prediction, ...]:
        try:
            if technique is options.Technique.XANES:
                return (self._absorption(path),)
            if technique is options.Technique.DPDF:
                return (self._differential(path),)
            return self._scattering(path)
        except (XpdmlError, OSError) as error:
            absorbs = technique is options.Technique.XANES
            return (
                Prediction(
                    technique=str(technique),
                    element=self.spectra.element,
                    edge=self.spectra.edge if absorbs else "",
                    source=path.name,
                    quality=Quality().failed(str(error)),
                ),
            )

    def _absorption(self, path: Path) -> Prediction:
        from bluesky_xpdml.analysis.xanes import analyse_scan

        return analyse_scan(self.spectra.read(path), store=self.store, settings=self.settings.xanes())

    def _differential(self, path: Path) -> Prediction:
        from bluesky_xpdml.models.pdf import predict_pdf
        from bluesky_xpdml.vocabulary import Modality

        metal = self.spectra.element
        curve = self.scattering.differential(path, metal)
        measured = self.scattering.far is not None
        modality = Modality.DPDF_ANOMALOUS if measured else Modality.DPDF
        return replace(predict_pdf(curve, self.store, modality, element=metal), pdf=curve)

    def _scattering(self, path: Path) -> tuple[Prediction, ...]:
        from bluesky_xpdml.analysis.scattering import ask_metals

        answers = ask_metals(self.scattering.distribution(path), self.store)
        wanted = self.spectra.element
        return tuple(answer for answer in answers if not wanted or answer.element == wanted) or answers


def open_store(folder: Path | None) -> Any:
    """Return the store of a folder, or of the bundles that come with the package."""
    from bluesky_xpdml.models.store import BundleStore

    return BundleStore.default() if folder is None else BundleStore(folder)


def file_answer(path: Path, prediction: Prediction) -> dict[str, Any]:
    """Return what is printed of a file: its name and the fields of the derived run's start document."""
    from bluesky_xpdml.publish.documents import summary

    return {"file": str(path), **summary(prediction)}


def _each(
    reader: Reader, files: list[Path], technique: options.Technique
) -> Iterator[tuple[Path, Prediction]]:
    """Answer file after file."""
    for path in files:
        for prediction in reader.predict(path, technique_of(path, technique)):
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
