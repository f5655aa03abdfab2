"""From an absorption run that goes on to what can be said of it up to now."""

from dataclasses import replace

from bluesky_xpdml.callbacks.xanes import analyse_scan
from bluesky_xpdml.documents import CollectedRun, Profile, declared_mode, is_absorption, scan_from_run
from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.models.partial import continued, widened
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import AbsorptionScan, DetectionMode, Prediction
from bluesky_xpdml.reduction.xanes import XanesSettings


def analyse_partial_run(
    run: CollectedRun, *, profile: Profile, store: BundleStore, settings: XanesSettings
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
    """
    if not is_absorption(run, profile):
        return ()
    try:
        scan = scan_from_run(run, profile)
    except XpdmlError:
        # Whether it is a failure is known when the run has ended.
        return ()
    declared = declared_mode(run.start, profile)
    if settings.mode == "auto" and declared in (DetectionMode.FLUORESCENCE, DetectionMode.REFERENCE):
        settings = replace(settings, mode=declared)
    found = analyse_partial_scan(scan, store=store, settings=settings)
    return tuple(replace(each, settings={**each.settings, "profile": profile.name}) for each in found)


def analyse_partial_scan(
    scan: AbsorptionScan, *, store: BundleStore, settings: XanesSettings
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
    answer = analyse_scan(longer, store=store, settings=settings)
    if not answer.descriptors:
        return ()
    answer = widened(answer, float(scan.energy[-1]))
    return (answer,) if answer.descriptors else ()
