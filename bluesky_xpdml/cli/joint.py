"""How the command line answers one sample that was measured both ways."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bluesky_xpdml.cli.options import Technique
from bluesky_xpdml.errors import MissingDataError
from bluesky_xpdml.features.joint import JointModality
from bluesky_xpdml.records import Prediction, Quality
from bluesky_xpdml.settings import with_settings

if TYPE_CHECKING:
    from bluesky_xpdml.cli.predict import Reader


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
    from bluesky_xpdml.models.predict_joint import predict_sample

    (by_spectrum,) = reader.predict(spectrum, Technique.XANES)
    element = by_spectrum.element or reader.spectra.element
    of_pattern = reader.predict(pattern, technique)
    by_pattern = next((each for each in of_pattern if each.element == element), of_pattern[0])
    curve = by_pattern.pdf if by_pattern.pdf is not None and by_pattern.element == element else None
    kind = JointModality.XANES_DPDF if technique is Technique.DPDF else JointModality.XANES_PDF
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
