"""Step scans: one event a point, the energy and the channels side by side in one stream."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from bluesky_xpdml.documents.profile_keys import Profile, look_up, matching
from bluesky_xpdml.documents.run import CollectedRun, Readings, Stream
from bluesky_xpdml.errors import DocumentError, MissingDataError
from bluesky_xpdml.records import FloatArray

_CHANNELS = ("i0", "it", "ir", "electron_yield", "mu")
_ENERGY_UNITS = ("ev", "kev")
_LOWEST_ENERGY_IN_EV = 1000.0


@dataclass(frozen=True, slots=True)
class _Keys:
    stream: Stream
    energy: str
    single: Mapping[str, str]
    """Data key by channel."""
    fluorescence: tuple[str, ...]
    remarks: tuple[str, ...]


def step_readings(run: CollectedRun, profile: Profile, element: str) -> Readings:
    """Return the energies and channels of a step scan, in the order of its events.

    Parameters
    ----------
    run
        The collected run.
    profile
        Which key means what.
    element
        Symbol of the absorber, which names fluorescence channels; empty where it is not known.

    Raises
    ------
    MissingDataError
        If no stream holds an energy axis.
    DocumentError
        If the axis has no unit that can be known, or values are not numbers.
    """
    keys = _find(run, profile, element)
    energy = keys.stream.column(keys.energy)
    unit, remarks = _energy_unit(keys.stream, keys.energy, energy)
    channels = {name: _value(keys.stream, key, profile) for name, key in keys.single.items()}
    counts = {key: _value(keys.stream, key, profile) for key in keys.fluorescence}
    if len(counts) == 1:
        # One channel may well be the sum that the beamline made of its elements.
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
        keys = [
            key for key in stream.columns if not re.fullmatch(profile.absorption.ignore, key, re.IGNORECASE)
        ]
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
    """Return the key of the axis; that the plan moved it weighs most, then its unit, then its name."""
    named = matching(profile.absorption.energy, keys, "")
    in_energy = [key for key in keys if stream.unit(key).lower() in _ENERGY_UNITS]
    motors = _moved(run.start)
    moved = [key for key in keys if any(key == motor or key.startswith(f"{motor}_") for motor in motors)]
    moved_energy = [key for key in moved if key in in_energy]
    named_moved_energy = [key for key in moved_energy if matching(profile.absorption.energy, [key], "")]
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
            remarks.append(f"{', '.join(found)} are all called like {channel}; {found[0]} was taken")
    rest = [key for key in keys if key not in single.values()]
    fluorescence = tuple(sorted(matching(profile.absorption.fluorescence, rest, element), key=_numbered))
    return _Keys(stream, energy, single, fluorescence, tuple(remarks))


def _as_named(keys: _Keys, named: object) -> _Keys:
    """Take the detector elements that the start document names, where events hold them."""
    said = [key for key in named if key in keys.stream.columns] if isinstance(named, list | tuple) else []
    return replace(keys, fluorescence=tuple(said)) if said else keys


def _numbered(key: str) -> tuple[int, str]:
    return (len(key), key)


def _value(stream: Stream, key: str, profile: Profile) -> FloatArray:
    """Return a channel less its offset, where the device was configured with one."""
    values = stream.column(key)
    if len(profile.absorption.offset) != 2:
        return values
    pattern, replacement = profile.absorption.offset
    offset = stream.configuration.get(re.sub(pattern, replacement, key)) if re.search(pattern, key) else None
    if not isinstance(offset, int | float | np.number) or isinstance(offset, bool):
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        return values - float(offset)


def _energy_unit(stream: Stream, key: str, energy: FloatArray) -> tuple[str, tuple[str, ...]]:
    """Return the unit of the axis, and a remark where the run does not state it."""
    unit = stream.unit(key)
    if unit.lower() in _ENERGY_UNITS:
        return unit, ()
    if unit:
        raise DocumentError(f"expected {key} in eV or keV, found the unit {unit!r}; it is not an energy axis")
    known = energy[np.isfinite(energy)]
    if known.size and float(np.min(known)) >= _LOWEST_ENERGY_IN_EV:
        return "eV", (f"{key} states no unit; values from 1000 on were taken as eV",)
    raise DocumentError(
        f"expected a unit for {key}, found none, and its values do not tell eV from keV; "
        "give the device's signal its engineering units"
    )
