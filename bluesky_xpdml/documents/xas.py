"""From a collected run to absorption scans: one per absorbing element and sweep of the energy.

In a step scan the energy and the channels are columns of one stream; continuous scans are read by `fly_scan`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from bluesky_xpdml.documents.columns import real_number
from bluesky_xpdml.documents.fly_scan import describes_fly_scan, fly_readings
from bluesky_xpdml.documents.profile import Profile, look_up, look_up_text, matching
from bluesky_xpdml.documents.run import (
    CollectedRun,
    Readings,
    Stream,
    completeness,
    earlier_remarks,
    exit_remarks,
)
from bluesky_xpdml.documents.scan import absorption_scan
from bluesky_xpdml.documents.start import edge_of, elements_of, sample_of
from bluesky_xpdml.errors import DocumentError, MissingDataError
from bluesky_xpdml.records import AbsorptionScan, FloatArray, Quality
from bluesky_xpdml.vocabulary import Reason, ReasonCode

LARGEST_JITTER = 0.1
"""The energy turns back if it returns by more than this part of its whole range."""
SMALLEST_SWEEP = 0.5
"""A sweep covers at least this part of the range; a shorter one was aborted."""
FEWEST_POINTS = 10
"""Fewer points than this are the way back to the start, not a sweep."""
_SMALLEST_RANGE = 1e-3
"""An axis that moves by less than this fraction of its value was not scanned over an edge."""

_CHANNELS = ("i0", "it", "ir", "electron_yield", "mu")
_ENERGY_UNITS = ("ev", "kev")
_LOWEST_ENERGY_IN_EV = 1000.0


def holds_energy_scan(run: CollectedRun, profile: Profile) -> bool:
    """Return whether a run holds an energy axis that was scanned, and channels that give an absorption."""
    try:
        readings = readings_of(run, profile, next(iter(elements_of(run.start, profile)), ""))
    except DocumentError:
        return False
    return readings.gives_absorption() and readings.moves(_SMALLEST_RANGE)


def scans_in(run: CollectedRun, profile: Profile) -> Iterator[AbsorptionScan]:
    """Yield the absorption scans that a run holds, sweep by sweep for each element that it names.

    Sweeps of the energy, up or down, are repeats of one measurement. Aborted sweeps are left out if there is
    a whole one. A DocumentError is raised if there is no energy axis, or no channels that give an absorption.
    """
    if not any(stream.n_events or stream.arrays for stream in run.streams.values()):
        raise MissingDataError("expected events with an energy and intensities, found a run without events")
    elements = elements_of(run.start, profile) or ("",)
    for index, element in enumerate(elements):
        readings = readings_of(run, profile, element)
        several = any(other != element for other in elements)
        named = (_interpreted(f"the run names {', '.join(elements)}; this is {element}"),) if several else ()
        parts = sweeps(readings.energy)
        for number, rows in enumerate(parts, start=1):
            part = readings.part(rows)
            fraction, quality = _completeness(run, profile, part, is_repeat=len(parts) > 1)
            quality = quality.note(*named, *_which_sweep(number, parts, readings.energy))
            scan = _scan(run, profile, part, quality)
            edge = edge_of(run.start, profile, index)
            scan = replace(scan, mono=_monochromator(run, profile), time=_start_time(run))
            yield replace(scan, element=element, edge=edge, completeness=fraction)


def _interpreted(text: str) -> Reason:
    return Reason(text, ReasonCode.INTERPRETED_INPUT)


def _monochromator(run: CollectedRun, profile: Profile) -> str:
    """Return the name of the monochromator with the zero of its angle: a new zero voids old calibrations.

    A continuous scan that names none used the one whose encoder its profile describes.
    """
    zero = real_number(look_up(run.start, profile.fly.angle_offset))
    continuous = zero is not None and describes_fly_scan(run, profile)
    name = look_up_text(run.start, profile.start.mono) or (f"that of {profile.name}" if continuous else "")
    return f"{name}, zero {zero:.10g} deg" if name and zero is not None else name


def _start_time(run: CollectedRun) -> float | None:
    time = real_number(run.start.get("time"))
    return time if time is not None and time > 0.0 else None


def _which_sweep(number: int, parts: tuple[slice, ...], energy: FloatArray) -> tuple[Reason, ...]:
    left_out = energy.size - sum(part.stop - part.start for part in parts)
    remarks = []
    if len(parts) > 1:
        remarks.append(f"sweep {number} of {len(parts)} of the energy in one run")
    if left_out:
        remarks.append(f"{left_out} points of sweeps that were broken off, or of ways back, were left out")
    return tuple(map(_interpreted, remarks))


def _completeness(
    run: CollectedRun, profile: Profile, readings: Readings, *, is_repeat: bool
) -> tuple[float, Quality]:
    fraction, quality = completeness(run, profile, readings.energy, readings.n_points)
    if is_repeat:
        # The plan counted the points of all sweeps together.
        fraction, quality = 1.0, Quality()
    return min(fraction, 1.0), Quality().suspect(*exit_remarks(run)).merge(quality)


def _scan(run: CollectedRun, profile: Profile, readings: Readings, quality: Quality) -> AbsorptionScan:
    channels = readings.channels
    remarks = (*earlier_remarks(run, profile), *readings.remarks, *run.remarks())
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


def sweeps(energy: FloatArray) -> tuple[slice, ...]:
    """Return the rows of each sweep of an energy axis (n,), in the order of measurement; NaN is unknown.

    A turning point belongs to the sweep that it ends, a way back of few points to the sweep that follows.
    Aborted sweeps are left out. An axis that does not turn is one sweep.
    """
    everything = (slice(0, energy.size),)
    known = np.flatnonzero(np.isfinite(energy))
    with np.errstate(over="ignore"):
        span = float(np.ptp(energy[known])) if known.size else 0.0
    if not 0.0 < span < np.inf:
        return everything
    ends = [int(known[turn]) + 1 for turn in _turning_points(energy[known], LARGEST_JITTER * span)]
    parts = list(zip([0, *ends], [*ends, energy.size], strict=True))
    n_short = sum(last - first < FEWEST_POINTS for first, last in parts)
    if n_short > len(parts) - n_short:
        # Points in random order, or very few: there are no sweeps.
        return everything
    whole = [
        slice(*part) for part in _merge_short(parts) if _covers(energy[slice(*part)], SMALLEST_SWEEP * span)
    ]
    return tuple(whole) or everything


def _turning_points(energy: FloatArray, smallest: float) -> list[int]:
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


def _merge_short(parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge parts of few points into the part that follows."""
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


def readings_of(run: CollectedRun, profile: Profile, element: str) -> Readings:
    """Return the energies and channels of a step scan or a continuous one; errors as for `scans_in`."""
    if describes_fly_scan(run, profile):
        return fly_readings(run, profile)
    return _step_readings(run, profile, element)


@dataclass(frozen=True, slots=True)
class _Keys:
    stream: Stream
    energy: str
    single: Mapping[str, str]
    """Data key by channel."""
    fluorescence: tuple[str, ...]
    remarks: tuple[Reason, ...]


def _step_readings(run: CollectedRun, profile: Profile, element: str) -> Readings:
    """Return the energies and channels of a step scan, in the order of its events."""
    keys = _find(run, profile, element)
    energy = keys.stream.column(keys.energy)
    unit, remarks = _energy_unit(keys.stream, keys.energy, energy)
    channels = {name: _value(keys.stream, key, profile) for name, key in keys.single.items()}
    counts = {key: _value(keys.stream, key, profile) for key in keys.fluorescence}
    if len(counts) == 1:
        # A single channel may be the sum that the beamline computed from its elements.
        channels["fluorescence"] = counts.popitem()[1]
    return Readings(
        energy=energy,
        unit=unit,
        channels=channels,
        elements=counts,
        names={
            "energy": f"{keys.energy} in stream {keys.stream.name}",
            **keys.single,
            "fluorescence": ", ".join(keys.fluorescence),
        },
        n_points=keys.stream.n_events,
        remarks=(*remarks, *keys.remarks),
    )


def _find(run: CollectedRun, profile: Profile, element: str) -> _Keys:
    """Find the stream that holds an energy axis, and its channels."""
    for stream in _streams(run, profile):
        ignored = matching((profile.absorption.ignore,), list(stream.columns))
        keys = [key for key in stream.columns if key not in ignored]
        keys.sort(key=lambda key, hints=stream.hints: (key not in hints, len(key), key))  # type: ignore[misc]
        energy = _energy_key(run, stream, keys, profile)
        if energy:
            found = _assigned(stream, energy, [key for key in keys if key != energy], profile, element)
            return _as_named(found, look_up(run.start, profile.start.detector_elements))
    held = "; ".join(
        f"{name}: {', '.join(stream.columns) or 'nothing'}" for name, stream in run.streams.items()
    )
    raise MissingDataError(f"expected an energy axis (a data key in eV or keV), found {held or 'no stream'}")


def _streams(run: CollectedRun, profile: Profile) -> Iterator[Stream]:
    preferred = [run.streams[name] for name in profile.absorption.streams if name in run.streams]
    others = [stream for name, stream in run.streams.items() if name not in profile.absorption.streams]
    for stream in [*preferred, *sorted(others, key=lambda stream: (-stream.n_events, stream.name))]:
        if stream.n_events and stream.name != "baseline":
            yield stream


def _energy_key(run: CollectedRun, stream: Stream, keys: list[str], profile: Profile) -> str:
    """Return the key of the axis: best one that the plan moved, else by its unit, else by its name."""
    named = matching(profile.absorption.energy, keys)
    in_energy = [key for key in keys if stream.unit(key).lower() in _ENERGY_UNITS]
    motors = _moved(run.start)
    moved = [key for key in keys if any(key == motor or key.startswith(f"{motor}_") for motor in motors)]
    moved_energy = [key for key in moved if key in in_energy]
    named_moved_energy = [key for key in moved_energy if matching(profile.absorption.energy, [key])]
    named_energy = [key for key in named if key in in_energy]
    for candidates in (named_moved_energy, moved_energy, named_energy, named):
        if candidates:
            return candidates[0]
    return ""


def _moved(start: Mapping[str, object]) -> tuple[str, ...]:
    motors = start.get("motors")
    return tuple(name for name in motors if isinstance(name, str)) if isinstance(motors, list | tuple) else ()


def _assigned(stream: Stream, energy: str, keys: list[str], profile: Profile, element: str) -> _Keys:
    single: dict[str, str] = {}
    remarks = []
    for channel in _CHANNELS:
        found = matching(getattr(profile.absorption, channel), keys, element)
        if found:
            single[channel] = found[0]
        if len(found) > 1:
            remarks.append(
                _interpreted(f"{', '.join(found)} are all called like {channel}; {found[0]} was taken")
            )
    rest = [key for key in keys if key not in single.values()]
    fluorescence = tuple(sorted(matching(profile.absorption.fluorescence, rest, element), key=_numbered))
    return _Keys(stream, energy, single, fluorescence, tuple(remarks))


def _as_named(keys: _Keys, named: object) -> _Keys:
    """Use the detector elements that the start document names, if the events hold them."""
    held = [key for key in named if key in keys.stream.columns] if isinstance(named, list | tuple) else []
    return replace(keys, fluorescence=tuple(held)) if held else keys


def _numbered(key: str) -> tuple[int, str]:
    return (len(key), key)


def _value(stream: Stream, key: str, profile: Profile) -> FloatArray:
    """Return a channel minus its offset, if the device was configured with one."""
    values = stream.column(key)
    if len(profile.absorption.offset) != 2:
        return values
    pattern, replacement = profile.absorption.offset
    offset = stream.configuration.get(re.sub(pattern, replacement, key)) if re.search(pattern, key) else None
    if not isinstance(offset, int | float | np.number) or isinstance(offset, bool):
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        return values - float(offset)


def _energy_unit(stream: Stream, key: str, energy: FloatArray) -> tuple[str, tuple[Reason, ...]]:
    """Return the unit of the axis, with a remark if the run does not state it."""
    unit = stream.unit(key)
    if unit.lower() in _ENERGY_UNITS:
        return unit, ()
    if unit:
        raise DocumentError(f"expected {key} in eV or keV, found the unit {unit!r}; it is not an energy axis")
    known = energy[np.isfinite(energy)]
    if known.size and float(np.min(known)) >= _LOWEST_ENERGY_IN_EV:
        return "eV", (_interpreted(f"{key} states no unit; values from 1000 on were taken as eV"),)
    raise DocumentError(
        f"expected a unit for {key}, found none, and its values do not tell eV from keV; "
        "give the device's signal its engineering units"
    )
