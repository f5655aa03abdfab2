"""The one way from one measurement to its predictions.

Live, final and replayed runs, files, repeats, advice and joint answers all become a `PredictionRequest` and
go through `Analysis.predict`. Only here are origin, profile and settings filled in.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from bluesky_xpdml.analysis.failed import failed_prediction
from bluesky_xpdml.analysis.scattering import analyse_pattern, ask_metals
from bluesky_xpdml.analysis.xanes import analyse_partial_scan, analyse_scan
from bluesky_xpdml.errors import PublishError, XpdmlError, attempt, reason_of
from bluesky_xpdml.models.explain import with_explanation
from bluesky_xpdml.models.joint import predict_joint, predict_sample
from bluesky_xpdml.models.pdf import predict_pdf
from bluesky_xpdml.models.repeats import RepeatedPrediction, RepeatSeries
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.publish.documents import RESOLVED
from bluesky_xpdml.records import (
    AbsorptionScan,
    DetectionMode,
    Origin,
    PairDistribution,
    Prediction,
    Sample,
    ScatteringPattern,
    Xanes,
)
from bluesky_xpdml.reduction.energy import CalibrationMemory
from bluesky_xpdml.reduction.repeats import RepeatSettings
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes
from bluesky_xpdml.settings import Settings
from bluesky_xpdml.vocabulary import Modality, Reason, Technique


@dataclass(frozen=True, slots=True, kw_only=True)
class JointCurves:
    """What was measured of one sample in two ways."""

    xanes: Xanes | None
    pdf: PairDistribution | None
    element: str
    fallback: bool = False
    """Whether one measurement answers alone if the other cannot be used; else there is no answer then."""


Data: TypeAlias = AbsorptionScan | ScatteringPattern | PairDistribution | JointCurves


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionRequest:
    """What was measured, how to load it, and what is known of it before it is loaded."""

    modality: Modality
    load: Callable[[], Data]
    """Reads or integrates the data; may raise an `XpdmlError` or an `OSError`, which fails the prediction."""
    background: Callable[[], ScatteringPattern | None] = lambda: None
    """Returns what is subtracted from a pattern."""
    element: str = ""
    """Absorbing element, or the only metal asked for; empty for what the data say."""
    edge: str = ""
    sample: Sample | None = None
    """If None, the sample of the data."""
    origin: Origin | None = None
    raw_uids: tuple[str, ...] = ()
    source: str = ""
    completeness: float = 0.0
    """Of a prediction that fails before the data are loaded."""
    profile: str = ""
    """Convention that the run follows; empty for files."""
    declared_mode: DetectionMode | None = None
    """Detection mode that the run states: preferred, unless the settings prefer another."""
    remarks: tuple[Reason, ...] = ()
    """What was noticed before loading, for a prediction that fails."""
    partial: bool = False
    """Whether the measurement is still running: intervals are widened, and failures give no prediction."""


class Analysis:
    """Turns measurements into predictions under the settings of a beamtime.

    Parameters
    ----------
    settings
        How data are reduced, and which models answer.
    store
        The models that may answer; if None, those of the settings.

    Examples
    --------
    >>> import numpy as np
    >>> energy = np.arange(7000.0, 7100.0)
    >>> scan = AbsorptionScan(energy=energy, mu=np.zeros(100), element="Fe", edge="K")
    >>> (prediction,) = Analysis(Settings()).predict(
    ...     PredictionRequest(modality=Modality.XANES, load=lambda: scan)
    ... )
    >>> prediction.quality.verdict
    <Verdict.FAILED: 'failed'>
    """

    def __init__(self, settings: Settings, *, store: BundleStore | None = None) -> None:
        self.settings = settings
        self.store = settings.store() if store is None else store
        self.calibrations = CalibrationMemory()
        self._published = settings.published()

    def predict(self, request: PredictionRequest) -> tuple[Prediction, ...]:
        """Return the predictions for one measurement: one for each metal that is asked, at least one.

        What cannot be read, reduced or answered becomes a failed prediction; a partial measurement gives
        nothing then.

        Raises
        ------
        PublishError
            If the data are loaded from a server that is away: to be asked again later.
        """
        try:
            answers = self._answers(request, request.load())
        except PublishError:
            raise
        except (XpdmlError, OSError) as error:
            answers = () if request.partial else (_failed(request, reason_of(error)),)
        return tuple(self._completed(answer, request) for answer in answers)

    def failure(self, request: PredictionRequest, reason: Reason) -> Prediction:
        """Return the failed prediction for a measurement."""
        return self._completed(_failed(request, reason), request)

    def predict_repeats(
        self,
        requests: Iterable[PredictionRequest],
        merging: RepeatSettings,
        *,
        refuse: Callable[[PredictionRequest, Reason], object] = lambda request, reason: None,  # noqa: ARG005
    ) -> Iterator[RepeatedPrediction]:
        """Yield the prediction of all repeats of one scan so far, after each one that can be used.

        `refuse` is called with each one that cannot be read, reduced or answered, and with the reason.
        """
        series = RepeatSeries(self.store, merging)
        remarks: list[Reason] = []
        for request in requests:
            found = attempt(partial(self._add_repeat, series, request))
            if isinstance(found, Exception):
                remarks.append(reason_of(found))
                refuse(request, remarks[-1])
                continue
            noted = found.prediction.with_quality(found.prediction.quality.note(*remarks))
            yield replace(found, prediction=self._completed(noted, request))

    def _add_repeat(self, series: RepeatSeries, request: PredictionRequest) -> RepeatedPrediction:
        return series.add(self.spectrum(request))

    def spectrum(self, request: PredictionRequest) -> Xanes:
        """Return the reduced spectrum of an absorption measurement.

        Raises
        ------
        XpdmlError
            If it cannot be read or reduced.
        """
        scan = request.load()
        if not isinstance(scan, AbsorptionScan):
            raise TypeError(f"expected an absorption scan, found {type(scan).__name__}")
        return reduce_xanes(scan, self._xanes_settings(request), memory=self.calibrations)

    def complete(
        self,
        prediction: Prediction,
        *,
        origin: Origin | None = None,
        sample: Sample | None = None,
        profile: str = "",
        explain: bool = True,
    ) -> Prediction:
        """Return a prediction with its origin, its profile, its settings and its explanation.

        Those pins and that calibration which bear on the prediction are among the settings that its derived
        run is identified by. All values that are not built in, and where each came from, stand beside those
        and do not count: the same answer for another server is the same run.
        """
        decisive = decisive_settings(prediction, self.settings)
        settings = {
            **prediction.settings,
            **({"profile": profile} if profile else {}),
            **({"beamtime": decisive} if decisive else {}),
            RESOLVED: self._published,
        }
        completed = replace(
            prediction,
            settings=settings,
            origin=origin or prediction.origin,
            sample=sample or prediction.sample,
        )
        return with_explanation(completed, self.store) if self.settings.explain and explain else completed

    def _completed(self, prediction: Prediction, request: PredictionRequest) -> Prediction:
        return self.complete(
            prediction,
            origin=request.origin,
            sample=request.sample,
            profile=request.profile,
            explain=not request.partial,
        )

    def _answers(self, request: PredictionRequest, data: Data) -> tuple[Prediction, ...]:
        match data:
            case AbsorptionScan():
                return self._of_scan(request, data)
            case ScatteringPattern():
                answers = analyse_pattern(
                    data,
                    store=self.store,
                    settings=self.settings.scattering.pdf,
                    background=request.background(),
                )
                return _of_metal(answers, request.element)
            case PairDistribution() if request.modality is Modality.PDF:
                return _of_metal(ask_metals(data, self.store), request.element)
            case PairDistribution():
                answer = predict_pdf(data, self.store, request.modality, element=request.element)
                return (replace(answer, pdf=data),)
            case JointCurves():
                return (self._of_curves(request, data),)

    def _of_scan(self, request: PredictionRequest, scan: AbsorptionScan) -> tuple[Prediction, ...]:
        settings = self._xanes_settings(request)
        if request.partial:
            return analyse_partial_scan(scan, store=self.store, settings=settings, memory=self.calibrations)
        return (analyse_scan(scan, store=self.store, settings=settings, memory=self.calibrations),)

    def _of_curves(self, request: PredictionRequest, curves: JointCurves) -> Prediction:
        if curves.fallback or curves.xanes is None or curves.pdf is None:
            return predict_sample(
                curves.xanes, curves.pdf, self.store, request.modality, element=curves.element
            )
        return predict_joint(curves.xanes, curves.pdf, self.store, request.modality)

    def _xanes_settings(self, request: PredictionRequest) -> XanesSettings:
        """Return settings that prefer the mode that a run states, unless they prefer another."""
        settings = self.settings.xanes
        if settings.prefer != "none" or request.declared_mode is None:
            return settings
        return replace(settings, prefer=request.declared_mode)


def decisive_settings(prediction: Prediction, settings: Settings) -> dict[str, object]:
    """Return those settings of the beamtime that bear on a prediction; none that have their default."""
    found: dict[str, object] = {}
    pins = {name: n for name, n in settings.pins.items() if name.startswith(f"{prediction.element}-")}
    if pins:
        found["pins"] = pins
    if Technique.XANES in Technique(prediction.technique).parts:
        if settings.xanes.energy_offset != XanesSettings().energy_offset:
            found["energy_offset"] = settings.xanes.energy_offset
        if settings.calibration_sha256:
            found["calibration_sha256"] = settings.calibration_sha256
    return found


def _failed(request: PredictionRequest, reason: Reason) -> Prediction:
    return failed_prediction(
        reason,
        *request.remarks,
        technique=request.modality.technique,
        element=request.element,
        edge=request.edge,
        raw_uids=request.raw_uids,
        source=request.source,
        completeness=request.completeness,
        settings={"modality": str(request.modality)} if request.modality in Modality.joint() else {},
    )


def _of_metal(answers: tuple[Prediction, ...], element: str) -> tuple[Prediction, ...]:
    """Return the predictions of the metal that was asked for; all of them if it has none."""
    return tuple(answer for answer in answers if not element or answer.element == element) or answers
