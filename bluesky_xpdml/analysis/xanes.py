"""From an absorption scan to a prediction. A failure is a prediction too, with its reason."""

from dataclasses import asdict, replace

from bluesky_xpdml.analysis.failed import failed_prediction
from bluesky_xpdml.errors import MissingDataError, ReductionError, XpdmlError
from bluesky_xpdml.models.partial import continue_scan, widen
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.xanes import predict_xanes
from bluesky_xpdml.records import AbsorptionScan, Prediction, Quality, Xanes
from bluesky_xpdml.reduction.edges import name_edge
from bluesky_xpdml.reduction.energy import CalibrationMemory, calibration_of
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes
from bluesky_xpdml.vocabulary import ReasonCode, Technique


def analyse_scan(
    scan: AbsorptionScan,
    *,
    store: BundleStore,
    settings: XanesSettings,
    memory: CalibrationMemory | None = None,
) -> Prediction:
    """Return the prediction for one scan; what cannot be reduced or answered becomes a failed prediction.

    A scan that names no element, or no edge, is answered as what its edge shows it to be, which its quality
    states; if that may be the edge of two elements, the prediction fails.

    Parameters
    ----------
    scan
        The scan as counted.
    store
        The models that may answer.
    settings
        How the scan is reduced.
    memory
        Earlier calibrations of the monochromator, which a foil of this scan is added to; if None, none are
        kept.

    Examples
    --------
    >>> import numpy as np
    >>> scan = AbsorptionScan(energy=np.arange(7000.0, 7100.0), mu=np.zeros(100), element="Fe", edge="K")
    >>> analyse_scan(scan, store=BundleStore.default(), settings=XanesSettings()).quality.verdict
    <Verdict.FAILED: 'failed'>
    """
    xanes: Xanes | None = None
    named = scan
    try:
        named = _name_edge(scan, settings)
        xanes = reduce_xanes(named, settings, memory=memory)
        for doubt in named.quality.of(ReasonCode.ELEMENT_AMBIGUOUS):
            raise ReductionError(doubt)
        calibration = calibration_of(named, xanes)
        if memory is not None and calibration is not None:
            memory.remember(calibration)
        return predict_xanes(xanes, store)
    except XpdmlError as error:
        reason = error.reason
    noticed = xanes.quality if xanes is not None else named.quality
    is_ambiguous = reason.code is ReasonCode.ELEMENT_AMBIGUOUS or noticed.has(ReasonCode.ELEMENT_AMBIGUOUS)
    known = scan if is_ambiguous else named
    return failed_prediction(
        reason,
        technique=Technique.XANES,
        element=known.element,
        edge=known.edge,
        noticed=noticed,
        sample=scan.sample,
        raw_uids=scan.raw_uids,
        source=scan.source,
        completeness=scan.completeness,
        settings={"reduction": dict(xanes.settings if xanes is not None else asdict(settings))},
        xanes=xanes,
    )


def analyse_partial_scan(
    scan: AbsorptionScan,
    *,
    store: BundleStore,
    settings: XanesSettings,
    memory: CalibrationMemory | None = None,
) -> tuple[Prediction, ...]:
    """Return the prediction for a running scan, its intervals widened; nothing before its edge is passed.

    Earlier calibrations are used, and none is added: half a foil is good enough to answer by, not to be kept.

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
    earlier = None if memory is None else CalibrationMemory.from_plain(memory.to_plain())
    answer = analyse_scan(longer, store=store, settings=settings, memory=earlier)
    if not answer.descriptors:
        return ()
    answer = widen(answer, float(scan.energy[-1]))
    return (answer,) if answer.descriptors else ()


def _name_edge(scan: AbsorptionScan, settings: XanesSettings) -> AbsorptionScan:
    """Return a scan that states whose edge it shows, and in its quality how that was found."""
    named, remarks = name_edge(scan, e0=settings.e0)
    missing = [name for name, value in (("element", named.element), ("edge", named.edge)) if not value]
    if missing:
        raise MissingDataError(
            f"expected the {' and the '.join(missing)} of the scan, found none, and no tabulated edge near "
            "the measured one; give them in the start document or by hand",
            ReasonCode.ELEMENT_MISSING,
        )
    quality: Quality = scan.quality.note(*remarks)
    return replace(named, quality=quality)
