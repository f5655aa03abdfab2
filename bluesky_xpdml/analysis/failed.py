"""The one builder of failed predictions: what could not be read, reduced or answered, with the reason."""

from collections.abc import Mapping

from bluesky_xpdml.records import Origin, PairDistribution, Prediction, Quality, Sample, Xanes
from bluesky_xpdml.vocabulary import Reason, Technique


def failed_prediction(
    *reasons: Reason,
    technique: Technique,
    element: str = "",
    edge: str = "",
    noticed: Quality | None = None,
    sample: Sample | None = None,
    origin: Origin | None = None,
    raw_uids: tuple[str, ...] = (),
    source: str = "",
    completeness: float = 0.0,
    settings: Mapping[str, object] | None = None,
    xanes: Xanes | None = None,
    pdf: PairDistribution | None = None,
) -> Prediction:
    """Return a prediction without descriptors.

    Parameters
    ----------
    *reasons
        Why there is no answer, the decisive reason first.
    technique, element, edge
        What was asked; empty if unknown.
    noticed
        Quality of the data as far as they were read; its reasons follow.
    sample, origin, raw_uids, source, completeness, settings, xanes, pdf
        As in `Prediction`; what is known of the measurement.

    Examples
    --------
    >>> from bluesky_xpdml.vocabulary import ReasonCode
    >>> reason = Reason("no model for Zn", ReasonCode.MODEL_MISSING)
    >>> failed_prediction(reason, technique=Technique.XANES, element="Zn").quality.verdict
    <Verdict.FAILED: 'failed'>
    """
    return Prediction(
        technique=technique,
        element=element,
        edge=edge,
        quality=Quality().failed(*reasons).merge(noticed or Quality()),
        sample=sample or Sample(),
        origin=origin or Origin(),
        raw_uids=raw_uids,
        source=source,
        completeness=completeness,
        settings=settings or {},
        xanes=xanes,
        pdf=pdf,
    )
