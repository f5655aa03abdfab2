"""Data files through the one analysis: whatever goes wrong with one file gives a failed prediction for it."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from bluesky_xpdml.analysis.request import Analysis, JointCurves, PredictionRequest
from bluesky_xpdml.errors import attempt, reason_of
from bluesky_xpdml.models.repeats import RepeatedPrediction
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import Prediction, Verdict
from bluesky_xpdml.reduction.repeats import RepeatSettings
from bluesky_xpdml.settings import Settings
from bluesky_xpdml.sources.reading import FileKind, FileReading
from bluesky_xpdml.vocabulary import Modality, Reason

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


def guarded(action: Callable[[], Result], path: Path) -> Result | Reason:
    """Return what an action on one file returns, or the reason why it failed, internal errors included."""
    outcome = attempt(action)
    if not isinstance(outcome, Exception):
        return outcome
    logger.debug("%s could not be analysed", path, exc_info=outcome)
    return reason_of(outcome)


class FileAnalysis:
    """Answers for data files through the same analysis as a running beamline."""

    def __init__(self, reading: FileReading, settings: Settings, *, store: BundleStore | None = None) -> None:
        self.reading = reading
        self.analysis = Analysis(settings, store=store)

    def request(self, path: Path, kind: FileKind) -> PredictionRequest:
        """Return what is asked about one file."""
        return PredictionRequest(
            modality=self.reading.modality(kind),
            load=lambda: self.reading.load(path, kind),
            background=self.reading.background_pattern,
            element=self.reading.element,
            edge=self.reading.edge if kind is FileKind.XANES else "",
            source=path.name,
        )

    def predict(self, path: Path, kind: FileKind) -> tuple[Prediction, ...]:
        """Return the predictions for one file; whatever goes wrong gives a failed one with the reason."""
        return self._predict(self.request(path, kind.of(path)), path)

    def predict_each(self, paths: list[Path], kind: FileKind) -> Iterator[tuple[Path, Prediction]]:
        """Yield the predictions for file after file."""
        for path in paths:
            for prediction in self.predict(path, kind):
                yield path, prediction

    def predict_both(self, spectrum: Path, pattern: Path, kind: FileKind) -> list[tuple[Path, Prediction]]:
        """Return the joint prediction under the name of the spectrum, then those of each file."""
        (by_spectrum,) = self.predict(spectrum, FileKind.XANES)
        element = by_spectrum.element or self.reading.element
        of_pattern = self.predict(pattern, kind)
        by_pattern = next((each for each in of_pattern if each.element == element), of_pattern[0])
        curve = by_pattern.pdf if by_pattern.element == element else None
        curves = JointCurves(xanes=by_spectrum.xanes, pdf=curve, element=element, fallback=True)
        request = PredictionRequest(
            modality=Modality.XANES_DPDF if kind is FileKind.DPDF else Modality.XANES_PDF,
            load=lambda: curves,
            element=element,
            edge=by_spectrum.edge,
            source=f"{spectrum.name} + {pattern.name}",
            remarks=(*by_spectrum.quality.reasons, *by_pattern.quality.reasons),
        )
        (both,) = self._predict(request, spectrum)
        return [(spectrum, both), (spectrum, by_spectrum), (pattern, by_pattern)]

    def predict_repeats(
        self, paths: list[Path], merging: RepeatSettings
    ) -> tuple[list[RepeatedPrediction], list[str]]:
        """Return the prediction after each repeat of one scan, and which files could not be used and why."""
        refused: list[str] = []
        answers = self.analysis.predict_repeats(
            [self.request(path, FileKind.XANES) for path in paths],
            merging,
            refuse=lambda request, reason: refused.append(f"{request.source}: {reason}"),
        )
        return list(answers), refused

    def _predict(self, request: PredictionRequest, path: Path) -> tuple[Prediction, ...]:
        answers = guarded(lambda: self.analysis.predict(request), path)
        return (self.analysis.failure(request, answers),) if isinstance(answers, Reason) else answers


def file_answer(path: Path, prediction: Prediction) -> dict[str, Any]:
    """Return what is printed of a file: its name and the fields of the derived run's start document."""
    from bluesky_xpdml.publish.documents import summary

    return {"file": str(path), **summary(prediction)}


def is_failed(prediction: Prediction) -> bool:
    """Return whether there is no answer."""
    return prediction.quality.verdict is Verdict.FAILED
