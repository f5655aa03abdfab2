"""From an absorption run that goes on to what can be said of it up to now."""

from dataclasses import replace

from bluesky_xpdml.callbacks.xanes import analyse_scan
from bluesky_xpdml.documents import CollectedRun, Profile, declared_mode, is_absorption, scan_from_run
from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.models.partial import continued, widened
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import AbsorptionScan, Prediction
from bluesky_xpdml.reduction.calibration_memory import CalibrationMemory
from bluesky_xpdml.reduction.xanes import XanesSettings


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
    """Return the answer for a scan that goes on, its intervals widened; nothing before its edge is passed.

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
        longer = continued(scan)
    except XpdmlError:
        return ()
    # Half a foil is good enough to answer by, not to be remembered.
    earlier = None if memory is None else CalibrationMemory.from_plain(memory.to_plain())
    answer = analyse_scan(longer, store=store, settings=settings, memory=earlier)
    if not answer.descriptors:
        return ()
    answer = widened(answer, float(scan.energy[-1]))
    return (answer,) if answer.descriptors else ()
