"""From images and patterns to predictions. A failure is a prediction too, with its reason.

Asked for are those metals from Ti to Cu in the composition that have a model, with one derived run each. If
none of them has, each gets a failed prediction with its G(r); a sample without any of them gets one.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.analysis.failed import failed_prediction
from bluesky_xpdml.analysis.memory import DarkFrames
from bluesky_xpdml.documents import (
    ImageMean,
    Position,
    ScatteringRun,
)
from bluesky_xpdml.errors import MissingDataError, ModelNotFoundError, ReductionError, XpdmlError
from bluesky_xpdml.models.pdf import predict_pdf
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import (
    Calibration,
    PairDistribution,
    Prediction,
    Quality,
    ScatteringFrame,
    ScatteringPattern,
)
from bluesky_xpdml.reduction.calibration import HOW_TO_GIVE, calibration_from, calibration_from_poni
from bluesky_xpdml.reduction.image import ImageSettings, combine_masks, reduce_image
from bluesky_xpdml.reduction.pattern import merge_patterns
from bluesky_xpdml.reduction.pdf import PdfSettings, reduce_pdf
from bluesky_xpdml.vocabulary import Modality, Reason, ReasonCode, Technique

WAVELENGTHS_AGREE = 0.005
"""Relative difference up to which two statements of the wavelength are the same."""


def integrate(
    run: ScatteringRun, *, darks: DarkFrames, settings: ImageSettings, calibration: Calibration | None
) -> ScatteringPattern:
    """Integrate the images of a run, each position by its own calibration, and merge them.

    A calibration may be given for runs that bring none.

    Raises
    ------
    ReductionError
        If calibration or wavelength are missing, or shapes do not agree.
    """
    dark, quality = find_dark(run, darks)
    frames = [_frame(run, each, dark, quality, calibration) for each in run.positions]
    patterns = [reduce_image(frame, settings) for frame in frames]
    return patterns[0] if len(patterns) == 1 else merge_patterns(patterns)


def find_dark(run: ScatteringRun, darks: DarkFrames) -> tuple[ImageMean | None, Quality]:
    """Return the dark frame of a run, and why there is none."""
    if run.dark is not None:
        return run.dark, Quality()
    if run.dark_uid:
        try:
            return darks.find(run.dark_uid), Quality()
        except MissingDataError as error:
            reason = Reason(f"{error}: no dark was subtracted", ReasonCode.DARK_MISSING)
            return None, Quality().suspect(reason)
    if run.counting:
        reason = Reason("the detector counts photons and needs no dark", ReasonCode.DETECTOR)
        return None, Quality().note(reason)
    text = "the run has no dark frames and names no dark run: no dark was subtracted"
    return None, Quality().suspect(Reason(text, ReasonCode.DARK_MISSING))


def _frame(
    run: ScatteringRun,
    position: Position,
    dark: ImageMean | None,
    quality: Quality,
    calibration: Calibration | None,
) -> ScatteringFrame:
    image = position.image
    found, remarks = _calibration(run, position, calibration)
    return ScatteringFrame(
        image=image.mean,
        n_frames=image.n_frames,
        dark=None if dark is None else dark.mean,
        dark_variance=None if dark is None else dark.variance,
        n_dark=1 if dark is None else dark.n_frames,
        mask=combine_masks(position.mask, image.bad, _dark_mask(dark, image)),
        calibration=found,
        sample=run.sample,
        raw_uids=run.raw_uids,
        source=run.source,
        completeness=run.completeness,
        quality=run.quality.merge(quality).suspect(*remarks),
    )


def _dark_mask(dark: ImageMean | None, image: ImageMean) -> NDArray[np.bool_] | None:
    # A dark of another shape is refused further on, by its own message.
    return dark.bad if dark is not None and dark.mean.shape == image.mean.shape else None


def _calibration(
    run: ScatteringRun, position: Position, given: Calibration | None
) -> tuple[Calibration, tuple[Reason, ...]]:
    rows, columns = position.image.mean.shape
    if position.calibration is not None:
        stated: Mapping[str, object] = position.calibration
        found = calibration_from(stated, shape=(rows, columns), wavelength=run.wavelength)
    elif position.poni is not None:
        found = _calibration_of_file(_with_wavelength(position.poni, run.wavelength), (rows, columns))
    elif given is not None:
        found = given
    else:
        raise ReductionError(
            f"the run has no calibration of the detector; {HOW_TO_GIVE}", ReasonCode.CALIBRATION_MISSING
        )
    if run.wavelength is None or np.isclose(found.wavelength * 1e10, run.wavelength, rtol=WAVELENGTHS_AGREE):
        return found, ()
    remark = (
        f"the wavelength of the calibration is {found.wavelength * 1e10:.5g} angstrom, that of the run "
        f"{run.wavelength:.5g}: the calibration's was used"
    )
    return found, (Reason(remark, ReasonCode.CALIBRATION_CONTRADICTED),)


def _calibration_of_file(poni: str, shape: tuple[int, int]) -> Calibration:
    try:
        return calibration_from_poni(poni, shape=shape)
    except ReductionError:
        # The message repeats what is in the file, which may be any that the run names.
        raise ReductionError(
            "expected a calibration as pyFAI writes it in the .poni file of the run, found none that can be "
            f"used; {HOW_TO_GIVE}",
            ReasonCode.CALIBRATION_MISSING,
        ) from None


def _with_wavelength(poni: str, wavelength: float | None) -> str:
    """Return the text of a calibration with the run's wavelength, where it states none itself."""
    if wavelength is None or re.search(r"^\s*wavelength\s*:\s*[0-9.]", poni, re.IGNORECASE | re.MULTILINE):
        return poni
    return f"{poni}\nWavelength: {wavelength * 1e-10!r}\n"


METALS = ("Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu")
"""Elements that models are trained for."""


def analyse_pattern(
    pattern: ScatteringPattern,
    *,
    store: BundleStore,
    settings: PdfSettings,
    background: ScatteringPattern | None = None,
) -> tuple[Prediction, ...]:
    """Return the predictions for one pattern; what cannot be reduced or answered becomes a failed prediction.

    Parameters
    ----------
    pattern
        I(Q) of the sample with all around it.
    store
        The models that may answer.
    settings
        How the pattern becomes G(r).
    background
        I(Q) of what is around the sample; if None, nothing is subtracted.

    Returns
    -------
    tuple of Prediction
        One for each metal that is asked, at least one.
    """
    try:
        distribution = reduce_pdf(pattern, settings, background=background)
    except XpdmlError as error:
        failed = failed_prediction(
            error.reason,
            technique=Technique.PDF,
            noticed=pattern.quality,
            sample=pattern.sample,
            raw_uids=pattern.raw_uids,
            source=pattern.source,
            completeness=pattern.completeness,
            settings={"reduction": asdict(settings)},
        )
        return (_with_integration(failed, pattern),)
    return tuple(_with_integration(each, pattern) for each in ask_metals(distribution, store))


def ask_metals(distribution: PairDistribution, store: BundleStore) -> tuple[Prediction, ...]:
    """Return a prediction for each metal of a sample that has a model, at least one."""
    metals = [metal for metal in METALS if metal in distribution.composition]
    if not metals:
        found = ", ".join(distribution.composition) or "no known composition"
        reason = f"expected one of {', '.join(METALS)} in the sample, found {found}: there is no model for it"
        return (_failed_answer(distribution, "", Reason(reason, ReasonCode.MODEL_MISSING)),)
    answers: dict[str, Prediction] = {}
    unknown: dict[str, Reason] = {}
    for metal in metals:
        try:
            answers[metal] = predict_pdf(distribution, store, Modality.PDF, element=metal)
        except ModelNotFoundError as error:
            unknown[metal] = error.reason
        except XpdmlError as error:
            answers[metal] = _failed_answer(distribution, metal, error.reason)
    if not answers:
        return tuple(_failed_answer(distribution, metal, reason) for metal, reason in unknown.items())
    remarks = [
        Reason(f"the sample also contains {metal}, for which there is no model", ReasonCode.OTHER_METAL)
        for metal in unknown
    ]
    return tuple(
        replace(each, pdf=distribution, quality=each.quality.note(*remarks)) for each in answers.values()
    )


def _failed_answer(distribution: PairDistribution, metal: str, reason: Reason) -> Prediction:
    return failed_prediction(
        reason,
        technique=Technique.PDF,
        element=metal,
        noticed=distribution.quality,
        sample=distribution.sample,
        raw_uids=distribution.raw_uids,
        source=distribution.source,
        completeness=distribution.completeness,
        settings={"reduction": dict(distribution.settings)},
        pdf=distribution,
    )


def _with_integration(prediction: Prediction, pattern: ScatteringPattern) -> Prediction:
    """Return a prediction that says how its pattern was integrated, where that is known."""
    if not pattern.settings:
        return prediction
    return replace(prediction, settings={**prediction.settings, "integration": dict(pattern.settings)})
