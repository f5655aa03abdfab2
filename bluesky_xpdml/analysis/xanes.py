"""From an absorption run to a prediction. A failure is a prediction too, with its reason."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from bluesky_xpdml.analysis.series import RunSeries
from bluesky_xpdml.documents import (
    CollectedRun,
    Profile,
    declared_mode,
    detect_profile,
    elements_of,
    is_absorption,
    load_profile,
    sample_of,
    scan_from_run,
    scans_from_run,
)
from bluesky_xpdml.documents.profile import look_up_text
from bluesky_xpdml.errors import MissingDataError, ReductionError, XpdmlError
from bluesky_xpdml.models.partial import continue_scan, widen
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.xanes import predict_xanes
from bluesky_xpdml.records import PURPOSE, AbsorptionScan, Prediction, Quality, Xanes
from bluesky_xpdml.reduction.edges import name_edge
from bluesky_xpdml.reduction.energy import CalibrationMemory, calibration_of
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes
from bluesky_xpdml.vocabulary import ReasonCode

logger = logging.getLogger(__name__)


def analyse_scan(
    scan: AbsorptionScan,
    *,
    store: BundleStore,
    settings: XanesSettings,
    memory: CalibrationMemory | None = None,
) -> Prediction:
    """Return the prediction for one scan; what cannot be reduced or answered becomes a failed prediction.

    A scan that names no element, or no edge, is answered as what its edge shows it to be, which its quality
    says; where that may be the edge of two elements, none is answered.

    Parameters
    ----------
    scan
        The scan as counted.
    store
        The models that may answer.
    settings
        How the scan is reduced.
    memory
        Earlier calibrations of the monochromator, which a foil of this scan is added to; None where none
        are kept.
    """
    xanes: Xanes | None = None
    given = scan
    try:
        scan = _named(scan, settings)
        xanes = reduce_xanes(scan, settings, memory=memory)
        _require_one_edge(scan.quality)
        calibration = calibration_of(scan, xanes)
        if memory is not None and calibration is not None:
            memory.remember(calibration)
        return predict_xanes(xanes, store)
    except XpdmlError as error:
        noticed = xanes.quality if xanes is not None else scan.quality
        quality = Quality().failed(str(error)).merge(noticed)
    known = given if quality.has(ReasonCode.ELEMENT_AMBIGUOUS) else scan
    return Prediction(
        technique="xanes",
        element=known.element,
        edge=known.edge,
        quality=quality,
        sample=scan.sample,
        raw_uids=scan.raw_uids,
        source=scan.source,
        completeness=scan.completeness,
        settings={"reduction": dict(xanes.settings if xanes is not None else asdict(settings))},
        xanes=xanes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class XanesAnalysis:
    """What a worker does with the runs of an absorption beamline.

    Runs of the package itself, whose purpose begins with `xpdml`, are never analysed.
    """

    store: BundleStore
    """The models that may answer."""
    settings: XanesSettings
    """How scans are reduced."""
    profile: str
    """Which convention the runs follow; `auto` reads it from each start document."""
    memory: CalibrationMemory = field(default_factory=CalibrationMemory)
    """What the foils of earlier scans told about the monochromators."""
    series: RunSeries | None = None
    """What is known of repeats; None where runs are not merged."""

    def predict(self, run: CollectedRun) -> Prediction | None:
        """Return the prediction for a run; None where it is no absorption run.

        Parameters
        ----------
        run
            The collected run.
        """
        profile = self._profile_of(run)
        if is_derived(run.start) or not is_absorption(run, profile):
            return None
        if run.given_up:
            return failed_run(run, run.given_up, profile=profile)
        return analyse_run(run, profile=profile, store=self.store, settings=self.settings, memory=self.memory)

    def others(self, run: CollectedRun) -> tuple[Prediction, ...]:
        """Return the predictions for the further absorbers of a run that names several; else none.

        Parameters
        ----------
        run
            The collected run, which `predict` has answered for its first absorber.
        """
        profile = self._profile_of(run)
        if run.given_up or len(elements_of(run.start, profile)) < 2:
            return ()
        try:
            scans = scans_from_run(run, profile)
        except XpdmlError:
            # What is wrong with the run stands in the first answer.
            return ()
        first = {scan.element: scan for scan in reversed(scans) if scan.element != scans[0].element}
        return tuple(self._answer(run, first[element], profile) for element in reversed(first))

    def merged(self, run: CollectedRun, answers: Sequence[Prediction]) -> tuple[Prediction, ...]:
        """Return the updated predictions of the series of repeats that a run belongs to.

        Parameters
        ----------
        run
            The collected run.
        answers
            What `predict` and `others` said of it.
        """
        if self.series is None or run.given_up:
            return ()
        profile = self._profile_of(run)
        try:
            scans = scans_from_run(run, profile)
        except XpdmlError:
            # What is wrong with the run stands in the first answer.
            return ()
        spectra = [answer.xanes for answer in answers if answer.xanes is not None and answer.descriptors]
        spectra += self._further_sweeps(run, scans, profile)
        return tuple(
            replace(found, settings={**found.settings, "profile": profile.name})
            for found in self.series.add(spectra, uid=run.uid, time=scans[0].time)
        )

    def _further_sweeps(
        self, run: CollectedRun, scans: Sequence[AbsorptionScan], profile: Profile
    ) -> Iterator[Xanes]:
        """Return the sweeps that have no answer of their own, where they can be reduced."""
        settings = as_declared(run, profile, self.settings)
        seen: set[str] = set()
        for scan in scans:
            if scan.element not in seen:
                seen.add(scan.element)
                continue
            try:
                yield reduce_xanes(scan, settings, memory=self.memory)
            except XpdmlError as error:
                logger.info("a sweep of run %s was not merged: %s", run.uid, error)

    def _answer(self, run: CollectedRun, scan: AbsorptionScan, profile: Profile) -> Prediction:
        settings = as_declared(run, profile, self.settings)
        found = analyse_scan(scan, store=self.store, settings=settings, memory=self.memory)
        return replace(found, settings={**found.settings, "profile": profile.name})

    def failure(self, run: CollectedRun, reason: str) -> Prediction:
        """Return the failed prediction for a run.

        Parameters
        ----------
        run
            The collected run.
        reason
            Why, for people.
        """
        return failed_run(run, reason, profile=self._profile_of(run))

    def _profile_of(self, run: CollectedRun) -> Profile:
        return detect_profile(run.start) if self.profile == "auto" else load_profile(self.profile)


def analyse_run(
    run: CollectedRun,
    *,
    profile: Profile,
    store: BundleStore,
    settings: XanesSettings,
    memory: CalibrationMemory | None = None,
) -> Prediction:
    """Return the prediction for one absorption run, a failed one where the run cannot be read.

    The mode that a run declares is taken where it is usable, unless the settings prefer or name another.

    Parameters
    ----------
    run
        The collected run.
    profile
        Which key means what.
    store
        The models that may answer.
    settings
        How the scan is reduced.
    memory
        Earlier calibrations of the monochromator; None where none are kept.
    """
    try:
        scan = scan_from_run(run, profile)
    except XpdmlError as error:
        return failed_run(run, str(error), profile=profile)
    settings = as_declared(run, profile, settings)
    prediction = analyse_scan(scan, store=store, settings=settings, memory=memory)
    return replace(prediction, settings={**prediction.settings, "profile": profile.name})


def as_declared(run: CollectedRun, profile: Profile, settings: XanesSettings) -> XanesSettings:
    """Return settings that prefer the mode that a run declares, unless they prefer another.

    Parameters
    ----------
    run
        The collected run.
    profile
        Which key means what.
    settings
        How the scan is reduced.
    """
    declared = declared_mode(run.start, profile)
    if settings.prefer != "none" or declared is None:
        return settings
    return replace(settings, prefer=declared)


def is_derived(start: Mapping[str, object]) -> bool:
    """Return whether a run was published by this package: analysing it would feed the answer back.

    Parameters
    ----------
    start
        The start document.

    Examples
    --------
    >>> is_derived({"uid": "a", "purpose": "xpdml.live"})
    True
    """
    purpose = start.get("purpose")
    return isinstance(purpose, str) and purpose.startswith(PURPOSE)


def failed_run(run: CollectedRun, reason: str, *, profile: Profile) -> Prediction:
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
    >>> run = CollectedRun(uid="a", start={"uid": "a", "element": "Fe"})
    >>> failed_run(run, "queue full", profile=load_profile("generic")).quality.reasons
    ('queue full',)
    """
    keys = profile.start
    return Prediction(
        technique="xanes",
        element=look_up_text(run.start, keys.element),
        edge=look_up_text(run.start, keys.edge),
        quality=Quality().failed(reason, *run.remarks()),
        sample=sample_of(run.start, profile),
        raw_uids=(run.uid,),
        source=look_up_text(run.start, keys.source),
        completeness=0.0,
        settings={"profile": profile.name},
    )


def _named(scan: AbsorptionScan, settings: XanesSettings) -> AbsorptionScan:
    """Return a scan that says whose edge it shows, and in its quality how that was found."""
    named, said = name_edge(scan, e0=settings.e0)
    missing = [name for name, value in (("element", named.element), ("edge", named.edge)) if not value]
    if missing:
        raise MissingDataError(
            f"expected the {' and the '.join(missing)} of the scan, found none, and no tabulated edge near "
            "the one that it shows; give them in the start document or by hand"
        )
    return replace(named, quality=scan.quality.note(*said))


def _require_one_edge(quality: Quality) -> None:
    for doubt in quality.of(ReasonCode.ELEMENT_AMBIGUOUS):
        raise ReductionError(doubt)


def analyse_partial_run(
    run: CollectedRun,
    *,
    profile: Profile,
    store: BundleStore,
    settings: XanesSettings,
    memory: CalibrationMemory | None = None,
) -> tuple[Prediction, ...]:
    """Return the answer for an absorption run that goes on; nothing before its edge is passed.

    Parameters
    ----------
    run
        What was collected up to now.
    profile
        Which key means what.
    store
        The models that may answer.
    settings
        How the scan is reduced.
    memory
        Earlier calibrations of the monochromator; nothing is added to them. None where none are kept.
    """
    if not is_absorption(run, profile):
        return ()
    try:
        scan = scan_from_run(run, profile)
    except XpdmlError:
        # Whether it is a failure is known when the run has ended.
        return ()
    declared = declared_mode(run.start, profile)
    if settings.prefer == "none" and declared is not None:
        settings = replace(settings, prefer=declared)
    found = analyse_partial_scan(scan, store=store, settings=settings, memory=memory)
    return tuple(replace(each, settings={**each.settings, "profile": profile.name}) for each in found)


def analyse_partial_scan(
    scan: AbsorptionScan,
    *,
    store: BundleStore,
    settings: XanesSettings,
    memory: CalibrationMemory | None = None,
) -> tuple[Prediction, ...]:
    """Return the answer for a scan that goes on, its intervals widen; nothing before its edge is passed.

    Parameters
    ----------
    scan
        What was counted up to now.
    store
        The models that may answer.
    settings
        How the scan is reduced.
    memory
        Earlier calibrations of the monochromator; nothing is added to them. None where none are kept.

    Examples
    --------
    >>> import numpy as np
    >>> energy = np.arange(7000.0, 7100.0)
    >>> early = AbsorptionScan(energy=energy, mu=np.zeros(100), element="Fe", edge="K")
    >>> analyse_partial_scan(early, store=BundleStore.default(), settings=XanesSettings())
    ()
    """
    try:
        longer = continue_scan(scan)
    except XpdmlError:
        return ()
    # Half a foil is good enough to answer by, not to be remembered.
    earlier = None if memory is None else CalibrationMemory.from_plain(memory.to_plain())
    answer = analyse_scan(longer, store=store, settings=settings, memory=earlier)
    if not answer.descriptors:
        return ()
    answer = widen(answer, float(scan.energy[-1]))
    return (answer,) if answer.descriptors else ()
