"""From a collected run to its predictions: final ones, and partial ones while it is still running."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import import_module

from bluesky_xpdml.analysis.failed import failed_prediction
from bluesky_xpdml.analysis.memory import Backgrounds, DarkFrames, FetchedRuns, FetchRun
from bluesky_xpdml.analysis.request import Analysis, PredictionRequest
from bluesky_xpdml.analysis.scattering import METALS, integrate
from bluesky_xpdml.analysis.series import RunSeries
from bluesky_xpdml.documents import CollectedRun, Measurement, RunKind, ScatteringRun, read_run
from bluesky_xpdml.errors import MissingDataError, XpdmlError
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import AbsorptionScan, Prediction, ScatteringPattern, Xanes
from bluesky_xpdml.reduction.composition import parse_composition
from bluesky_xpdml.settings import Settings
from bluesky_xpdml.vocabulary import Modality, Reason, ReasonCode


class RunAnalysis:
    """Analyses the runs of a beamline, of both techniques.

    Runs of the package itself are never analysed. Dark frames, patterns, calibrations and repeats of earlier
    runs are kept in memory, because later runs need them.

    Parameters
    ----------
    settings
        Of the beamtime.
    store
        The models that may answer; if None, those of the settings.
    fetch
        Gives the documents of dark and background runs that were not seen; if None, only runs that were
        seen count.
    in_order
        Whether runs come in the order in which they were measured. If not, a background that is named by its
        sample is always fetched: the latest that was seen may be another one.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: BundleStore | None = None,
        fetch: FetchRun | None = None,
        in_order: bool = True,
    ) -> None:
        self.settings = settings
        self.analysis = Analysis(settings, store=store)
        self._stored = FetchedRuns(
            fetch=fetch,
            profile=settings.profile,
            root_map=settings.scattering.root_map,
            anywhere=not settings.remote_documents,
        )
        self._darks = DarkFrames(self._stored)
        self._backgrounds = Backgrounds(by_sample=in_order)
        repeats = settings.repeats
        self._series = None if repeats is None else RunSeries(self.analysis.store, repeats)

    def prepare(self) -> None:
        """Import what the first spectrum and the first image need."""
        for module in ("scipy.ndimage", "pyFAI.integrator.azimuthal"):
            with suppress(ImportError):
                import_module(module)

    def expect(self, run: CollectedRun) -> None:
        """Load the models that will answer for a running run, as far as its start document tells them."""
        measurement = self._read(run)
        if not measurement.claims_scattering:
            self._load(measurement.elements, measurement.edge, Modality.XANES)
            return
        with suppress(XpdmlError):
            composition = parse_composition(measurement.sample.composition)
            self._load([metal for metal in METALS if metal in composition], Modality.PDF.edge, Modality.PDF)

    def _load(self, elements: Sequence[str], edge: str, modality: Modality) -> None:
        for element in elements:
            with suppress(XpdmlError):
                self.analysis.store.find(element, edge, modality)

    def predict(self, run: CollectedRun) -> tuple[Prediction, ...]:
        """Return the predictions for a run that has ended; none if it is no measurement, or dark frames."""
        measurement = self._read(run)
        if measurement.kind in {RunKind.DERIVED, RunKind.OTHER}:
            return ()
        if run.given_up:
            return (self._failed(measurement, run.given_up),)
        if measurement.error is not None:
            return (self._failed(measurement, measurement.error.reason),)
        if measurement.dark is not None:
            self._darks.keep(run.uid, measurement.dark)
            return ()
        if measurement.scattering is not None:
            return self.analysis.predict(self._of_images(measurement, measurement.scattering, is_final=True))
        requests = [self._of_scan(measurement, scan) for scan in measurement.scans]
        answers = [answer for request in requests for answer in self.analysis.predict(request)]
        return (*answers, *self._merged(measurement, answers))

    def update(self, run: CollectedRun) -> tuple[Prediction, ...]:
        """Return partial predictions for a running run; none if its technique is switched off."""
        measurement = self._read(run)
        if self._interval(measurement) is None or measurement.error is not None:
            return ()
        if measurement.scattering is not None:
            request = self._of_images(measurement, measurement.scattering, is_final=False)
        elif measurement.scans:
            request = self._of_scan(measurement, measurement.scans[0])
        else:
            return ()
        return self.analysis.predict(replace(request, partial=True))

    def live_interval(self, run: CollectedRun) -> float:
        """Return the least time between two looks at a running run [s]: the interval of its technique.

        A run whose technique is not known yet, or is switched off, gets the shortest one that is in use.
        """
        live, scattering = self.settings.live, self.settings.scattering
        used = [live.interval] * live.xanes + [scattering.live_interval] * scattering.live
        own = self._interval(self._read(run))
        return min(used, default=math.inf) if own is None else own

    def failure(self, run: CollectedRun, reason: Reason) -> Prediction:
        """Return the failed prediction for a run."""
        return self._failed(self._read(run), reason)

    def _read(self, run: CollectedRun) -> Measurement:
        return read_run(run, self.settings.profile, carry=self.settings.carried)

    def _interval(self, measurement: Measurement) -> float | None:
        live, scattering = self.settings.live, self.settings.scattering
        if measurement.kind is RunKind.SCATTERING and scattering.live:
            return scattering.live_interval
        if measurement.kind is RunKind.ABSORPTION and live.xanes:
            return live.interval
        return None

    def _of_scan(self, measurement: Measurement, scan: AbsorptionScan) -> PredictionRequest:
        return PredictionRequest(
            modality=Modality.XANES,
            load=lambda: scan,
            element=scan.element,
            edge=scan.edge,
            origin=measurement.origin,
            raw_uids=scan.raw_uids,
            profile=measurement.profile.name,
            declared_mode=measurement.declared_mode,
        )

    def _of_images(
        self, measurement: Measurement, images: ScatteringRun, *, is_final: bool
    ) -> PredictionRequest:
        background, remarks = self._background(measurement, images)

        def load() -> ScatteringPattern:
            pattern = self._pattern(images)
            if is_final:
                self._backgrounds.keep(measurement.run.uid, pattern)
            return replace(pattern, quality=pattern.quality.suspect(*remarks))

        return PredictionRequest(
            modality=Modality.PDF,
            load=load,
            background=lambda: background,
            origin=measurement.origin,
            raw_uids=(measurement.run.uid,),
            source=measurement.source,
            sample=measurement.sample,
            profile=measurement.profile.name,
            remarks=measurement.run.remarks(),
        )

    def _pattern(self, images: ScatteringRun) -> ScatteringPattern:
        scattering = self.settings.scattering
        return integrate(
            images, darks=self._darks, settings=scattering.image, calibration=scattering.calibration
        )

    def _background(
        self, measurement: Measurement, images: ScatteringRun
    ) -> tuple[ScatteringPattern | None, tuple[Reason, ...]]:
        """Return the background that a run or the settings name, and why there is none."""
        named = [name for name in (images.background_uid, images.background_name) if name]
        named = named or [name for name in (self.settings.scattering.background,) if name]
        own = (*images.raw_uids, images.sample.name)
        if not named or any(name in own for name in named):
            return None, ()
        for found in map(self._backgrounds.find, named):
            if found is not None:
                return found, ()
        reasons = []
        for name in named:
            try:
                return self._fetched_background(name, measurement), ()
            except XpdmlError as error:
                reasons.append(f"{error}: nothing was subtracted")
        return None, (Reason(reasons[0], ReasonCode.BACKGROUND_MISSING),)

    def _fetched_background(self, name: str, light: Measurement) -> ScatteringPattern:
        background = self._stored.background(name, light)
        if background.error is not None:
            raise background.error
        if background.scattering is None:
            raise MissingDataError(f"the background run {name} holds no images")
        pattern = self._pattern(background.scattering)
        self._backgrounds.keep(background.run.uid, pattern)
        return pattern

    def _merged(self, measurement: Measurement, answers: list[Prediction]) -> Iterator[Prediction]:
        """Yield the updated predictions of the series of repeats that a run belongs to."""
        if self._series is None or measurement.further_error is not None or not measurement.scans:
            return
        spectra = [answer.xanes for answer in answers if answer.xanes is not None and answer.descriptors]
        spectra += self._further_sweeps(measurement)
        origin, profile = measurement.origin, measurement.profile.name
        for merged in self._series.add(spectra, uid=measurement.run.uid, time=measurement.scans[0].time):
            yield self.analysis.complete(merged, origin=origin, profile=profile)

    def _further_sweeps(self, measurement: Measurement) -> Iterator[Xanes]:
        """Yield the sweeps without a prediction of their own that can be reduced."""
        for scan in measurement.repeats:
            try:
                yield self.analysis.spectrum(self._of_scan(measurement, scan))
            except XpdmlError:
                continue

    def _failed(self, measurement: Measurement, reason: Reason) -> Prediction:
        failed = failed_prediction(
            reason,
            *measurement.run.remarks(),
            technique=measurement.technique,
            element=measurement.element,
            edge=measurement.edge,
            sample=measurement.sample,
            raw_uids=(measurement.run.uid,),
            source=measurement.source,
        )
        return self.analysis.complete(failed, origin=measurement.origin, profile=measurement.profile.name)
