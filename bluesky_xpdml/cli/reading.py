"""Data files that commands take: what the options say about them, and their way through the analysis."""

import logging
from pathlib import Path
from typing import Any

from bluesky_xpdml.analysis.request import Analysis, JointCurves, PredictionRequest
from bluesky_xpdml.cli import options
from bluesky_xpdml.errors import attempt, internal_reason
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import Prediction
from bluesky_xpdml.settings import Settings
from bluesky_xpdml.sources.reading import FileKind, FileReading
from bluesky_xpdml.vocabulary import Modality

logger = logging.getLogger(__name__)


def file_reading(
    settings: Settings, *, columns: str = "", energy_unit: options.EnergyUnit | None = None, **stated: Any
) -> FileReading:
    """Return how files are read; `stated` are further fields of `FileReading`, as the options give them."""
    return FileReading(
        columns=tuple(name.strip() for name in columns.split(",")) if columns else (),
        energy_unit=str(energy_unit or ""),
        scattering=settings.scattering,
        **stated,
    )


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
        request = self.request(path, kind.of(path))
        answers = attempt(lambda: self.analysis.predict(request))
        if isinstance(answers, Exception):
            logger.debug("%s could not be analysed", path, exc_info=answers)
            return (self.analysis.failure(request, internal_reason(answers)),)
        return answers

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
        (both,) = self.analysis.predict(request)
        return [(spectrum, both), (spectrum, by_spectrum), (pattern, by_pattern)]
