"""From a collected run to absorption scans: one for each absorber that it names, and each sweep."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from bluesky_xpdml.documents.absorption_start import claims_absorption, edge_of, elements_of, sample_of
from bluesky_xpdml.documents.columns import real_number
from bluesky_xpdml.documents.completeness import completeness, exit_remarks, said_before
from bluesky_xpdml.documents.fly_scan import describes_fly_scan, fly_readings
from bluesky_xpdml.documents.profile_keys import Profile, look_up, look_up_text
from bluesky_xpdml.documents.run import CollectedRun, Readings
from bluesky_xpdml.documents.scan import absorption_scan
from bluesky_xpdml.documents.step_scan import step_readings
from bluesky_xpdml.errors import DocumentError, MissingDataError
from bluesky_xpdml.records import AbsorptionScan, FloatArray, Quality

TURN = 0.1
"""The energy turns where it comes back by more than this part of its whole range: more than jitter."""
SMALLEST_PART = 0.5
"""A sweep covers at least this part of the range; a shorter one was broken off."""
FEWEST_POINTS = 10
"""Fewer points than this are the way back to the start, no sweep."""


def sweeps(energy: FloatArray) -> tuple[slice, ...]:
    """Return where the sweeps of an energy axis begin and end; one for all points where it does not turn.

    A point where the energy turns belongs to the sweep that it ends. A way back of few points belongs to the
    sweep that follows. Sweeps that were broken off are left out.

    Parameters
    ----------
    energy
        In the order of measurement [any unit], (n,); NaN where unknown.

    Examples
    --------
    >>> up = np.linspace(7000.0, 7200.0, 41)
    >>> sweeps(np.concatenate([up, up[::-1], up]))
    (slice(0, 41, None), slice(41, 82, None), slice(82, 123, None))
    >>> sweeps(np.concatenate([up, up]))
    (slice(0, 41, None), slice(41, 82, None))
    """
    everything = (slice(0, energy.size),)
    known = np.flatnonzero(np.isfinite(energy))
    with np.errstate(over="ignore"):
        span = float(np.ptp(energy[known])) if known.size else 0.0
    if not 0.0 < span < np.inf:
        return everything
    ends = [int(known[turn]) + 1 for turn in _turns(energy[known], TURN * span)]
    parts = list(zip([0, *ends], [*ends, energy.size], strict=True))
    n_short = sum(last - first < FEWEST_POINTS for first, last in parts)
    if n_short > len(parts) - n_short:
        # Points in no order, or very few: nothing that could be called a sweep.
        return everything
    whole = [
        slice(*part) for part in _without_short(parts) if _covers(energy[slice(*part)], SMALLEST_PART * span)
    ]
    return tuple(whole) or everything


def _turns(energy: FloatArray, smallest: float) -> list[int]:
    """Return the indices at which the energy turns by more than the smallest amount."""
    turns: list[int] = []
    low = high = 0
    direction = 0
    for i, value in enumerate(energy.tolist()):
        if value > energy[high]:
            high = i
        if value < energy[low]:
            low = i
        if direction >= 0 and energy[high] - value > smallest:
            # Before the first turn both extremes are open: it was one only if the energy had risen.
            if direction > 0 or energy[high] - energy[0] > smallest:
                turns.append(high)
            direction, low, high = -1, i, i
        elif direction <= 0 and value - energy[low] > smallest:
            if direction < 0 or energy[0] - energy[low] > smallest:
                turns.append(low)
            direction, low, high = 1, i, i
    return turns


def _without_short(parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Give parts of few points to the part that follows."""
    kept: list[tuple[int, int]] = []
    begin = 0
    for _, last in parts:
        if last - begin >= FEWEST_POINTS:
            kept.append((begin, last))
            begin = last
    return kept


def _covers(energy: FloatArray, smallest: float) -> bool:
    known = energy[np.isfinite(energy)]
    return bool(known.size and np.ptp(known) >= smallest)


_SMALLEST_RANGE = 1e-3
"""An axis that moves by less than this fraction of its value was not scanned over an edge."""


def is_absorption(run: CollectedRun, profile: Profile) -> bool:
    """Return whether a run is an absorption scan: by what it says of itself, or by what it holds.

    Parameters
    ----------
    run
        The collected run.
    profile
        Which key means what.

    Examples
    --------
    >>> from bluesky_xpdml.documents.profile import load_profile
    >>> is_absorption(CollectedRun(uid="a", start={"plan_name": "count"}), load_profile("generic"))
    False
    """
    return claims_absorption(run.start, profile) or holds_energy_scan(run, profile)


def holds_energy_scan(run: CollectedRun, profile: Profile) -> bool:
    """Return whether a run holds an energy axis that was scanned and a channel that absorption is read from.

    Parameters
    ----------
    run
        The collected run.
    profile
        Which key means what.
    """
    try:
        readings = readings_of(run, profile, next(iter(elements_of(run.start, profile)), ""))
    except DocumentError:
        return False
    return readings.gives_absorption() and readings.moves(_SMALLEST_RANGE)


def readings_of(run: CollectedRun, profile: Profile, element: str) -> Readings:
    """Return the energies and channels of a run, be it a step scan or a continuous one.

    Parameters
    ----------
    run
        The collected run.
    profile
        Which key means what.
    element
        Symbol of the absorber; empty where it is not known.

    Raises
    ------
    MissingDataError
        If the run holds no energy axis.
    DocumentError
        If the axis has no unit that can be known, or the values are not what a scan needs.
    """
    if describes_fly_scan(run, profile):
        return fly_readings(run, profile)
    return step_readings(run, profile, element)


def scan_from_run(run: CollectedRun, profile: Profile) -> AbsorptionScan:
    """Return the absorption scan that a run holds: the first, with a remark, where it holds several.

    Parameters
    ----------
    run
        The collected run.
    profile
        Which key means what.

    Raises
    ------
    MissingDataError
        If the run holds no energy axis or no channels.
    DocumentError
        If the axis has no unit that can be known, or the values are not what a scan needs.

    Examples
    --------
    >>> from bluesky_xpdml.documents.profile import load_profile
    >>> from bluesky_xpdml.documents.run import Stream
    >>> columns = {"energy": tuple(range(7000, 7020)), "i0": (2.0,) * 20, "it": (1.0,) * 20}
    >>> stream = Stream(name="primary", data_keys={"energy": {"units": "eV"}}, columns=columns, n_events=20)
    >>> start = {"uid": "a", "element": "Fe", "edge": "K", "num_points": 20}
    >>> run = CollectedRun(uid="a", start=start, streams={"primary": stream}, stop={"exit_status": "success"})
    >>> scan = scan_from_run(run, load_profile("generic"))
    >>> scan.element, scan.completeness, scan.quality.reasons
    ('Fe', 1.0, ())
    """
    return next(scans_in(run, profile))


def scans_from_run(run: CollectedRun, profile: Profile) -> tuple[AbsorptionScan, ...]:
    """Return all absorption scans that a run holds, sweep by sweep for each absorber that it names.

    Sweeps of the energy, up or down, are repeats of one measurement. A sweep that was broken off is left out
    where there is another.

    Parameters
    ----------
    run
        The collected run.
    profile
        Which key means what.

    Raises
    ------
    MissingDataError, DocumentError
        As for `scan_from_run`.
    """
    return tuple(scans_in(run, profile))


def scans_in(run: CollectedRun, profile: Profile) -> Iterator[AbsorptionScan]:
    """Yield the absorption scans that a run holds, sweep by sweep for each element that it names."""
    if not any(stream.n_events or stream.arrays for stream in run.streams.values()):
        raise MissingDataError("expected events with an energy and intensities, found a run without events")
    elements = elements_of(run.start, profile) or ("",)
    for index, element in enumerate(elements):
        readings = readings_of(run, profile, element)
        others = [other for other in elements if other != element]
        several = (f"the run names {', '.join(elements)}; this is {element}",) if others else ()
        parts = sweeps(readings.energy)
        for number, where in enumerate(parts, start=1):
            part = readings.part(where)
            fraction, quality = _completeness(run, profile, part, is_repeat=len(parts) > 1)
            quality = quality.note(*several, *_which_sweep(number, parts, readings.energy))
            scan = _scan(run, profile, part, quality)
            edge = edge_of(run.start, profile, index)
            scan = replace(scan, mono=_monochromator(run, profile), time=_began(run))
            yield replace(scan, element=element, edge=edge, completeness=fraction)


def _monochromator(run: CollectedRun, profile: Profile) -> str:
    """Return which monochromator it was, and the zero of its angle: a new zero makes an old calibration void.

    A continuous scan that names none came through the one whose encoder its profile knows.
    """
    zero = real_number(look_up(run.start, profile.fly.angle_offset))
    continuous = zero is not None and describes_fly_scan(run, profile)
    name = look_up_text(run.start, profile.start.mono) or (f"that of {profile.name}" if continuous else "")
    return f"{name}, zero {zero:.10g} deg" if name and zero is not None else name


def _began(run: CollectedRun) -> float | None:
    time = real_number(run.start.get("time"))
    return time if time is not None and time > 0.0 else None


def _which_sweep(number: int, parts: tuple[slice, ...], energy: FloatArray) -> tuple[str, ...]:
    left_out = energy.size - sum(part.stop - part.start for part in parts)
    remarks = []
    if len(parts) > 1:
        remarks.append(f"sweep {number} of {len(parts)} of the energy in one run")
    if left_out:
        remarks.append(f"{left_out} points of sweeps that were broken off, or of ways back, were left out")
    return tuple(remarks)


def _completeness(
    run: CollectedRun, profile: Profile, readings: Readings, *, is_repeat: bool
) -> tuple[float, Quality]:
    fraction, quality = completeness(run, profile, readings.energy, readings.n_points)
    if is_repeat:
        # The plan counted the points of all sweeps: what one of them lacks, it does not say.
        fraction, quality = 1.0, Quality()
    return min(fraction, 1.0), Quality().suspect(*exit_remarks(run)).merge(quality)


def _scan(run: CollectedRun, profile: Profile, readings: Readings, quality: Quality) -> AbsorptionScan:
    channels = readings.channels
    remarks = (*said_before(run, profile), *readings.remarks, *run.remarks())
    return absorption_scan(
        energy=readings.energy,
        energy_unit=readings.unit,
        i0=channels.get("i0"),
        it=channels.get("it"),
        ir=channels.get("ir"),
        mu=channels.get("mu"),
        fluorescence=channels.get("fluorescence"),
        fluorescence_elements=readings.elements,
        electron_yield=channels.get("electron_yield"),
        sample=sample_of(run.start, profile),
        raw_uids=(run.uid,),
        source=look_up_text(run.start, profile.start.source),
        quality=quality.note(*remarks),
    )
