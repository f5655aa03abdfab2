"""From a total-scattering run to predictions: images, pattern, G(r), descriptors. A failure has its reason.

Which elements are asked: of the metals from Ti to Cu in the composition those that have a model, one derived
run each. Where none of them has, each gets a failed prediction that says so, with its G(r); a sample without
any of them gets one.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.analysis.memory import Backgrounds, DarkRuns, FetchRun
from bluesky_xpdml.documents import (
    CollectedRun,
    ImageMean,
    Position,
    Profile,
    ScatteringRun,
    dark_of,
    is_dark,
    scattering_from_run,
    scattering_sample,
)
from bluesky_xpdml.documents.profile import look_up_text
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


METALS = ("Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu")
"""Elements that models answer for, where they are trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScatteringSettings:
    """How total-scattering runs are reduced.

    Examples
    --------
    >>> ScatteringSettings(live=True).live_interval
    2.0
    """

    image: ImageSettings = field(default_factory=ImageSettings)
    """How images are integrated."""
    pdf: PdfSettings = field(default_factory=PdfSettings)
    """How patterns become G(r)."""
    calibration: Calibration | None = None
    """Of runs that bring none; None: such runs fail."""
    background: str = ""
    """Uid or sample name of the background run, for runs that name none."""
    root_map: Mapping[str, str] = field(default_factory=dict)
    """Folder here by folder there, for image files that are mounted under another name."""
    live: bool = False
    """Whether partial results are published while a run goes on, as runs of the purpose `xpdml.live`."""
    live_interval: float = 2.0
    """Least time between two partial results [s]."""


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
        I(Q) of what is around the sample; None where nothing is to be subtracted.

    Returns
    -------
    tuple of Prediction
        One for each metal that is asked, at least one.
    """
    try:
        distribution = reduce_pdf(pattern, settings, background=background)
    except XpdmlError as error:
        failed = Prediction(
            technique="pdf",
            element="",
            edge="",
            quality=Quality().failed(str(error)).merge(pattern.quality),
            sample=pattern.sample,
            raw_uids=pattern.raw_uids,
            source=pattern.source,
            completeness=pattern.completeness,
            settings={"reduction": asdict(settings)},
        )
        return (_with_integration(failed, pattern),)
    return tuple(_with_integration(each, pattern) for each in ask_metals(distribution, store))


def ask_metals(distribution: PairDistribution, store: BundleStore) -> tuple[Prediction, ...]:
    """Return a prediction for each metal of a sample that is asked, at least one.

    Parameters
    ----------
    distribution
        Pair distribution function of all pairs, with the composition.
    store
        The models that may answer.
    """
    metals = [metal for metal in METALS if metal in distribution.composition]
    if not metals:
        held = ", ".join(distribution.composition) or "nothing that is known"
        reason = f"the sample holds none of {', '.join(METALS)} but {held}: there is no model to ask"
        return (_failed_answer(distribution, "", reason),)
    answers: dict[str, Prediction] = {}
    unknown: dict[str, str] = {}
    for metal in metals:
        try:
            answers[metal] = predict_pdf(distribution, store, "pdf", element=metal)
        except ModelNotFoundError as error:
            unknown[metal] = str(error)
        except XpdmlError as error:
            answers[metal] = _failed_answer(distribution, metal, str(error))
    if not answers:
        return tuple(_failed_answer(distribution, metal, reason) for metal, reason in unknown.items())
    remarks = [f"the sample holds {metal} too, for which there is no model" for metal in unknown]
    return tuple(
        replace(each, pdf=distribution, quality=each.quality.note(*remarks)) for each in answers.values()
    )


class ScatteringAnalysis:
    """What a worker does with the runs of a total-scattering beamline.

    It remembers dark frames and patterns of recent runs, because later runs name them.

    Parameters
    ----------
    store
        The models that may answer.
    settings
        How runs are reduced.
    fetch
        Gives the documents of dark and background runs that were not seen; None where only what was seen
        counts.
    """

    def __init__(
        self, *, store: BundleStore, settings: ScatteringSettings, fetch: FetchRun | None = None
    ) -> None:
        self._store = store
        self._settings = settings
        self._darks = DarkRuns(fetch)
        self._backgrounds = Backgrounds()
        self._fetch = fetch

    def predict(self, run: CollectedRun, profile: Profile) -> tuple[Prediction, ...]:
        """Return the predictions for a run: one a metal, and nothing for a run of dark frames.

        Parameters
        ----------
        run
            The collected run.
        profile
            Which key means what.
        """
        try:
            if is_dark(run.start, profile):
                self._darks.keep(run.uid, dark_of(run, profile))
                return ()
            held = scattering_from_run(run, profile)
            pattern = self._pattern(held)
        except XpdmlError as error:
            return (failed_scattering(run, str(error), profile=profile),)
        self._backgrounds.keep(run.uid, pattern)
        return self._answer(held, pattern, profile)

    def update(self, run: CollectedRun, profile: Profile) -> tuple[Prediction, ...]:
        """Return what can be said of a run that goes on; nothing is remembered of it.

        Parameters
        ----------
        run
            What was collected up to now.
        profile
            Which key means what.
        """
        if is_dark(run.start, profile):
            return ()
        try:
            held = scattering_from_run(run, profile)
            return self._answer(held, self._pattern(held), profile)
        except XpdmlError:
            # Whether it is a failure is known when the run has ended.
            return ()

    def _pattern(self, held: ScatteringRun) -> ScatteringPattern:
        return integrate(
            held,
            darks=self._darks,
            settings=self._settings.image,
            calibration=self._settings.calibration,
        )

    def _answer(
        self, held: ScatteringRun, pattern: ScatteringPattern, profile: Profile
    ) -> tuple[Prediction, ...]:
        background, remarks = self._background(held)
        pattern = replace(pattern, quality=pattern.quality.suspect(*remarks))
        answers = analyse_pattern(
            pattern, store=self._store, settings=self._settings.pdf, background=background
        )
        return tuple(replace(each, settings={**each.settings, "profile": profile.name}) for each in answers)

    def _background(self, held: ScatteringRun) -> tuple[ScatteringPattern | None, tuple[str, ...]]:
        """Return the background that a run or the settings name, and what there is to say of a lost one."""
        names = [name for name in (held.background_uid, held.background_name) if name]
        names = names or [name for name in (self._settings.background,) if name]
        own = (*held.raw_uids, held.sample.name)
        if not names or any(name in own for name in names):
            return None, ()
        for name in names:
            found = self._backgrounds.find(name)
            if found is not None:
                return found, ()
        return None, (
            f"the background run {' or '.join(names)} was not seen before this run: nothing was subtracted",
        )


def failed_scattering(run: CollectedRun, reason: str, *, profile: Profile) -> Prediction:
    """Return the failed prediction of a run that could not be read.

    Parameters
    ----------
    run
        The collected run.
    reason
        Why, for people.
    profile
        Which key means what.

    Examples
    --------
    >>> from bluesky_xpdml.documents import load_profile
    >>> run = CollectedRun(uid="a", start={})
    >>> failed_scattering(run, "queue full", profile=load_profile("xpd")).technique
    'pdf'
    """
    return Prediction(
        technique="pdf",
        element="",
        edge="",
        quality=Quality().failed(reason, *run.remarks()),
        sample=scattering_sample(run.start, profile),
        raw_uids=(run.uid,),
        source=look_up_text(run.start, profile.start.source),
        completeness=0.0,
        settings={"profile": profile.name},
    )


def _failed_answer(distribution: PairDistribution, metal: str, reason: str) -> Prediction:
    return Prediction(
        technique="pdf",
        element=metal,
        edge="",
        quality=Quality().failed(reason).merge(distribution.quality),
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
