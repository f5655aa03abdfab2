"""From what a run holds to a pattern: each image gets its dark, mask and calibration, then is integrated."""

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.callbacks.dark_runs import DarkRuns
from bluesky_xpdml.documents import ImageMean, Position, ScatteringRun
from bluesky_xpdml.errors import MissingDataError, ReductionError
from bluesky_xpdml.records import Calibration, Quality, ScatteringFrame, ScatteringPattern
from bluesky_xpdml.reduction.calibration import HOW_TO_GIVE, calibration_from, calibration_from_poni
from bluesky_xpdml.reduction.image import ImageSettings, reduce_image
from bluesky_xpdml.reduction.masks import combine_masks
from bluesky_xpdml.reduction.pattern import merge_patterns

WAVELENGTHS_AGREE = 0.005
"""Relative difference up to which two statements of the wavelength are the same."""


def integrate(
    run: ScatteringRun, *, darks: DarkRuns, settings: ImageSettings, calibration: Calibration | None
) -> ScatteringPattern:
    """Integrate the images of a run, each position by its own calibration, and merge them.

    Parameters
    ----------
    run
        What the run holds.
    darks
        Dark runs that it may name.
    settings
        How to integrate.
    calibration
        For a run that brings none; None: such a run fails.

    Raises
    ------
    ReductionError
        If calibration or wavelength are missing, or shapes do not agree.
    """
    dark, quality = find_dark(run, darks)
    frames = [_frame(run, each, dark, quality, calibration) for each in run.positions]
    patterns = [reduce_image(frame, settings) for frame in frames]
    return patterns[0] if len(patterns) == 1 else merge_patterns(patterns)


def find_dark(run: ScatteringRun, darks: DarkRuns) -> tuple[ImageMean | None, Quality]:
    """Return the dark frame of a run, and what there is to say where there is none.

    Parameters
    ----------
    run
        What the run holds.
    darks
        Dark runs that it may name.
    """
    if run.dark is not None:
        return run.dark, Quality()
    if run.dark_uid:
        try:
            return darks.find(run.dark_uid), Quality()
        except MissingDataError as error:
            return None, Quality().suspect(f"{error}: no dark was subtracted")
    if run.counting:
        return None, Quality().note("the detector counts photons and needs no dark")
    return None, Quality().suspect("the run has no dark frames and names no dark run: no dark was subtracted")


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
) -> tuple[Calibration, tuple[str, ...]]:
    rows, columns = position.image.mean.shape
    if position.calibration is not None:
        said: Mapping[str, object] = position.calibration
        found = calibration_from(said, shape=(rows, columns), wavelength=run.wavelength)
    elif position.poni is not None:
        found = calibration_from_poni(_with_wavelength(position.poni, run.wavelength), shape=(rows, columns))
    elif given is not None:
        found = given
    else:
        raise ReductionError(f"the run has no calibration of the detector; {HOW_TO_GIVE}")
    if run.wavelength is None or np.isclose(found.wavelength * 1e10, run.wavelength, rtol=WAVELENGTHS_AGREE):
        return found, ()
    remark = (
        f"the wavelength of the calibration is {found.wavelength * 1e10:.5g} angstrom, the run says "
        f"{run.wavelength:.5g}: the calibration's was used"
    )
    return found, (remark,)


def _with_wavelength(poni: str, wavelength: float | None) -> str:
    """Return the text of a calibration with the run's wavelength, where it states none itself."""
    if wavelength is None or re.search(r"^\s*wavelength\s*:\s*[0-9.]", poni, re.IGNORECASE | re.MULTILINE):
        return poni
    return f"{poni}\nWavelength: {wavelength * 1e-10!r}\n"
