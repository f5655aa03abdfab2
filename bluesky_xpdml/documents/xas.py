"""From a collected run to an absorption scan: its energy axis, its channels, its completeness."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.documents.profile import Profile, look_up, look_up_text, matching
from bluesky_xpdml.documents.run import CollectedRun, Stream
from bluesky_xpdml.documents.scan import absorption_scan
from bluesky_xpdml.errors import DocumentError, MissingDataError
from bluesky_xpdml.records import AbsorptionScan, DetectionMode, FloatArray, Quality, Sample

_ENERGY_UNITS = ("ev", "kev")
_LOWEST_ENERGY_IN_EV = 1000.0
_SMALLEST_RANGE = 1e-3
"""An axis that moves by less than this fraction of its value was not scanned over an edge."""


@dataclass(frozen=True, slots=True)
class _Channels:
    stream: Stream
    energy: str
    single: Mapping[str, str]
    """Data key by channel: i0, it, ir, mu."""
    fluorescence: tuple[str, ...]
    remarks: tuple[str, ...]


def claims_absorption(start: Mapping[str, object], profile: Profile) -> bool:
    """Return whether a start document says that the run is an X-ray absorption measurement.

    It does where its technique or plan name says so, or where it names both an element and an edge.

    Parameters
    ----------
    start
        The start document.
    profile
        Which key means what.

    Examples
    --------
    >>> from bluesky_xpdml.documents.profile import load_profile
    >>> claims_absorption({"plan_name": "xafs"}, load_profile("generic"))
    True
    >>> claims_absorption({"plan_name": "count"}, load_profile("generic"))
    False
    """
    texts = (look_up(start, (path,)) for path in profile.start.technique)
    claim = re.compile(profile.absorption.claims, re.IGNORECASE)
    if any(isinstance(text, str) and claim.search(text) for text in texts):
        return True
    return bool(look_up_text(start, profile.start.element) and look_up_text(start, profile.start.edge))


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
        channels = _channels(run, profile, _element(run, profile))
        energy = channels.stream.column(channels.energy)
    except DocumentError:
        return False
    known = energy[np.isfinite(energy)]
    if known.size == 0 or not (channels.fluorescence or {"it", "mu"} & set(channels.single)):
        return False
    return bool(np.ptp(known) > _SMALLEST_RANGE * np.max(np.abs(known)))


def scan_from_run(run: CollectedRun, profile: Profile) -> AbsorptionScan:
    """Return the absorption scan that a run holds.

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
    >>> columns = {"energy": tuple(range(7000, 7020)), "i0": (2.0,) * 20, "it": (1.0,) * 20}
    >>> stream = Stream(name="primary", data_keys={"energy": {"units": "eV"}}, columns=columns, n_events=20)
    >>> start = {"uid": "a", "element": "Fe", "edge": "K", "num_points": 20}
    >>> run = CollectedRun(uid="a", start=start, streams={"primary": stream}, stop={"exit_status": "success"})
    >>> scan = scan_from_run(run, load_profile("generic"))
    >>> scan.element, scan.completeness, scan.quality.reasons
    ('Fe', 1.0, ())
    """
    if not any(stream.n_events for stream in run.streams.values()):
        raise MissingDataError("expected events with an energy and intensities, found a run without events")
    element = _element(run, profile)
    channels = _channels(run, profile, element)
    energy = channels.stream.column(channels.energy)
    unit, unit_remarks = _energy_unit(channels.stream, channels.energy, energy)
    completeness, complete_quality = _completeness(run, profile, channels.stream, channels.energy)
    quality = Quality().suspect(*exit_remarks(run)).merge(complete_quality)
    single = {name: channels.stream.column(key) for name, key in channels.single.items()}
    return absorption_scan(
        energy=energy,
        energy_unit=unit,
        i0=single.get("i0"),
        it=single.get("it"),
        ir=single.get("ir"),
        mu=single.get("mu"),
        fluorescence=_sum_of(channels.stream, channels.fluorescence),
        element=element,
        edge=look_up_text(run.start, profile.start.edge),
        sample=sample_of(run.start, profile),
        raw_uids=(run.uid,),
        source=look_up_text(run.start, profile.start.source),
        completeness=completeness,
        quality=quality.note(*said_before(run, profile), *unit_remarks, *channels.remarks, *run.remarks()),
    )


def declared_mode(start: Mapping[str, object], profile: Profile) -> DetectionMode | None:
    """Return the detection mode that a start document names; None where it names none, or several.

    Parameters
    ----------
    start
        The start document.
    profile
        Which key means what.

    Examples
    --------
    >>> from bluesky_xpdml.documents.profile import load_profile
    >>> declared_mode({"plan_name": "scan_nd xafs fluorescence"}, load_profile("generic"))
    <DetectionMode.FLUORESCENCE: 'fluorescence'>
    """
    named = (DetectionMode.TRANSMISSION, DetectionMode.FLUORESCENCE, DetectionMode.REFERENCE)
    for path in profile.start.mode:
        text = look_up_text(start, (path,)).lower()
        found = [mode for mode in named if mode.value in text]
        if len(found) == 1:
            return found[0]
    return None


def sample_of(start: Mapping[str, object], profile: Profile) -> Sample:
    """Return what a start document says of the sample.

    Parameters
    ----------
    start
        The start document.
    profile
        Which key means what.

    Examples
    --------
    >>> from bluesky_xpdml.documents.profile import load_profile
    >>> sample_of({"sample_name": "LFP-3"}, load_profile("generic")).name
    'LFP-3'
    """
    keys = profile.start
    return Sample(
        name=look_up_text(start, keys.sample_name),
        uid=look_up_text(start, keys.sample_uid),
        composition=look_up_text(start, keys.sample_composition),
    )


def _element(run: CollectedRun, profile: Profile) -> str:
    return look_up_text(run.start, profile.start.element)


def _channels(run: CollectedRun, profile: Profile, element: str) -> _Channels:
    """Find the stream that holds an energy axis, and its channels."""
    for stream in _streams(run, profile):
        keys = [
            key for key in stream.columns if not re.fullmatch(profile.absorption.ignore, key, re.IGNORECASE)
        ]
        keys.sort(key=lambda key, hints=stream.hints: (key not in hints, len(key), key))  # type: ignore[misc]
        energy = _energy_key(run, stream, keys, profile)
        if energy:
            return _assigned(stream, energy, [key for key in keys if key != energy], profile, element)
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


def _assigned(stream: Stream, energy: str, keys: list[str], profile: Profile, element: str) -> _Channels:
    single: dict[str, str] = {}
    remarks = []
    for channel in ("i0", "it", "ir", "mu"):
        found = matching(getattr(profile.absorption, channel), keys, element)
        if found:
            single[channel] = found[0]
        if len(found) > 1:
            remarks.append(f"{', '.join(found)} are all called like {channel}; {found[0]} was taken")
    rest = [key for key in keys if key not in single.values()]
    fluorescence = tuple(matching(profile.absorption.fluorescence, rest, element))
    return _Channels(stream, energy, single, fluorescence, tuple(remarks))


def _sum_of(stream: Stream, keys: tuple[str, ...]) -> FloatArray | None:
    if not keys:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        total: FloatArray = np.sum([stream.column(key) for key in keys], axis=0, dtype=np.float64)
    return total


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


def _completeness(run: CollectedRun, profile: Profile, stream: Stream, key: str) -> tuple[float, Quality]:
    """Return the measured fraction of the plan, by points and by range, and what there is to say of it."""
    planned = look_up(run.start, profile.start.planned_points)
    fractions = {}
    if isinstance(planned, int) and not isinstance(planned, bool) and planned > 0:
        fractions[f"{stream.n_events} of {planned} planned points were measured"] = stream.n_events / planned
    fractions |= _covered_range(run, stream.column(key))
    if not fractions:
        return 1.0, Quality().note("the run does not say how many points it planned")
    said, fraction = min(fractions.items(), key=lambda item: item[1])
    return (1.0, Quality()) if fraction >= 1.0 else (fraction, Quality().suspect(said))


def _covered_range(run: CollectedRun, energy: FloatArray) -> dict[str, float]:
    """Return the fraction of the planned range that was reached, where the plan was one straight scan."""
    pattern = run.start.get("plan_pattern_args")
    args = pattern.get("args") if isinstance(pattern, Mapping) else None
    known = energy[np.isfinite(energy)]
    if not isinstance(args, list | tuple) or len(args) != 3 or known.size == 0:
        return {}
    first, last = args[1], args[2]
    if not all(isinstance(end, int | float) and np.isfinite(end) for end in (first, last)) or first == last:
        return {}
    low, high = sorted((float(first), float(last)))
    covered = max(min(float(known.max()), high) - max(float(known.min()), low), 0.0) / (high - low)
    # A motor stops within its tolerance, not at the planned number.
    if covered >= 0.98:
        return {}
    return {f"{float(known.min()):g} to {float(known.max()):g} of {low:g} to {high:g} was scanned": covered}


def said_before(run: CollectedRun, profile: Profile) -> tuple[str, ...]:
    """Return the remarks that the start document brings along.

    Parameters
    ----------
    run
        The collected run.
    profile
        Which key means what.
    """
    remarks = look_up(run.start, profile.start.remarks)
    return (
        tuple(text for text in remarks if isinstance(text, str)) if isinstance(remarks, list | tuple) else ()
    )


def exit_remarks(run: CollectedRun) -> tuple[str, ...]:
    """Return what the stop document says against the run.

    Parameters
    ----------
    run
        The collected run.
    """
    if run.stop is None:
        return ("the run has no stop document",)
    status, reason = run.stop.get("exit_status"), run.stop.get("reason")
    if isinstance(status, str) and status == "success":
        return ()
    because = f": {reason}" if isinstance(reason, str) and reason else ""
    return (f"the run ended with exit status {str(status)[:40]}{because[:200]}",)
