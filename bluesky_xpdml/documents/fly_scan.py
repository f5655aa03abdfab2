r"""Continuous scans: currents, encoder and triggers are recorded side by side, each with its own times.

================  ==========================================================================
current           I = (raw [uV] - 1000 offset [mV]) / 10^6 / 10^gain, which may be negative
angle             theta = -(counts / counts_per_degree + angle_offset)
energy            E = hc / (2 d sin theta)
sample            the energy between two readings of the encoder, at the time of each current
exposure          energy and currents averaged from the rise to the fall of its trigger
================  ==========================================================================

The samples are neither smoothed nor binned here: the reduction needs their scatter.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.documents.arrays import WHOLE_ARRAY, Table
from bluesky_xpdml.documents.columns import real_number
from bluesky_xpdml.documents.profile import FlyKeys, Profile, look_up, matching
from bluesky_xpdml.documents.run import CollectedRun, Readings, Stream
from bluesky_xpdml.documents.scan import bragg_energy
from bluesky_xpdml.errors import DocumentError, MissingDataError
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import Reason, ReasonCode

_Indices: TypeAlias = NDArray[np.intp]

_FIRST_TIME = 1.0
"""Rows before this time were never filled [s since 1970]."""


def describes_fly_scan(run: CollectedRun, profile: Profile) -> bool:
    """Return whether a run describes a table of digitised currents."""
    return any(_keys(stream, profile.fly.analog) for stream in run.streams.values())


def fly_readings(run: CollectedRun, profile: Profile) -> Readings:
    """Return the energies and currents of a continuous scan, at the times of the currents.

    If a detector was triggered during the scan, there is one row per exposure instead: its counts, and the
    mean energy and currents. A DocumentError is raised if tables or the angle offset are missing, or have no
    time in common.
    """
    keys = profile.fly
    analog_key, analog = _required(run, keys.analog, keys.analog_fields, "currents")
    encoder_key, encoder = _required(run, keys.encoder, keys.encoder_fields, "the encoder")
    time = _column(analog, keys.analog_fields[0], analog_key)
    energy_time, energy = _energies(run, keys, encoder, encoder_key)
    during = _within(time, energy_time)
    time = time[during]
    currents, remarks = _currents(run, keys, analog, analog_key)
    samples = Readings(
        energy=np.interp(time, energy_time, energy),
        unit="eV",
        channels={name: values[during] for name, values in currents.items()},
        names={
            "energy": f"{encoder_key}, at the times of {analog_key}",
            **{name: f"{keys.channels[name]} of {analog_key}" for name in currents},
        },
        remarks=remarks,
    )
    exposures = _exposures(run, keys)
    return samples if exposures is None else _during(exposures, time, samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exposures:
    """Counts of a triggered detector, and when they were taken. Arrays have the shape (n,)."""

    stream: str
    rises: FloatArray
    falls: FloatArray
    counts: Mapping[str, FloatArray]
    remarks: tuple[Reason, ...]


def _keys(stream: Stream, patterns: tuple[str, ...]) -> list[str]:
    return matching(patterns, [*stream.data_keys, *stream.arrays])


def _required(
    run: CollectedRun, patterns: tuple[str, ...], fields: tuple[str, ...], what: str
) -> tuple[str, Table]:
    for stream in run.streams.values():
        for key in matching(patterns, list(stream.arrays)):
            return key, _named(stream.arrays[key], fields, key)
    held = ", ".join(key for stream in run.streams.values() for key in stream.arrays) or "no table"
    why = "; ".join(run.remarks())
    raise MissingDataError(
        f"expected a table of {what} ({' or '.join(patterns)}), found {held}{f' ({why})' if why else ''}"
    )


def _named(table: Table, fields: tuple[str, ...], key: str) -> Table:
    """Return a table with names for its columns, if the data name none."""
    if all(name.isdigit() for name in table):
        if len(table) > len(fields):
            raise DocumentError(
                f"expected the columns {', '.join(fields)} in {key}, found {len(table)} columns"
            )
        return {fields[int(number)]: values for number, values in table.items()}
    return table


def _column(table: Table, name: str, key: str) -> FloatArray:
    if name not in table:
        raise MissingDataError(f"expected a column {name} in {key}, found {', '.join(table)}")
    return table[name]


def _energies(run: CollectedRun, keys: FlyKeys, encoder: Table, key: str) -> tuple[FloatArray, FloatArray]:
    """Return the times of the encoder [s], ascending, and its energies [eV]."""
    offset = real_number(look_up(run.start, keys.angle_offset))
    if offset is None:
        raise MissingDataError(
            f"expected the offset of the encoder's angle [deg] in the start document "
            f"({' or '.join(keys.angle_offset)}), found none: counts give no energy without it"
        )
    seconds = _column(encoder, "ts_s", key)
    with np.errstate(over="ignore", invalid="ignore"):
        time = seconds + 1e-9 * _column(encoder, "ts_ns", key)
        counts = _unwrapped(_column(encoder, "encoder", key), keys.encoder_bits)
        angle = -(counts / keys.counts_per_degree + offset)
        energy = bragg_energy(np.deg2rad(angle), keys.plane_distance)
    good = np.isfinite(time) & np.isfinite(energy) & (seconds > 0.0)
    time, energy = time[good], energy[good]
    order = np.argsort(time, kind="stable")
    return time[order], energy[order]


def _unwrapped(counts: FloatArray, bits: int) -> FloatArray:
    """Return signed counts: the encoder writes negative numbers as positive ones of this many bits."""
    return counts if bits == 0 else np.where(counts > 0.0, counts - 2.0**bits, counts)


def _within(time: FloatArray, energy_time: FloatArray) -> NDArray[np.bool_]:
    """Return which currents were measured while the encoder was read; energies are not extrapolated."""
    if energy_time.size < 2:
        raise MissingDataError(f"expected readings of the encoder, found {energy_time.size} with a time")
    during: NDArray[np.bool_] = (time >= energy_time[0]) & (time <= energy_time[-1]) & (time > _FIRST_TIME)
    if not during.any():
        raise DocumentError(
            f"expected currents while the encoder was read ({energy_time[0]:.3f} to {energy_time[-1]:.3f} s),"
            " found none: check that the clocks of both agree"
        )
    return during


def _currents(
    run: CollectedRun, keys: FlyKeys, analog: Table, key: str
) -> tuple[dict[str, FloatArray], tuple[Reason, ...]]:
    """Return the current of each channel [A], with remarks on missing gains and offsets."""
    currents, remarks = {}, []
    for channel, column in keys.channels.items():
        if column not in analog:
            continue
        number = keys.analog_fields.index(column) if column in keys.analog_fields else 0
        values = [real_number(run.start.get(name.format(n=number))) for name in (keys.offset, keys.gain)]
        for what, name, value in zip(("offset", "gain"), (keys.offset, keys.gain), values, strict=True):
            if value is None:
                text = f"{name.format(n=number)} is not given: {column} of {key} has no known {what}"
                remarks.append(Reason(text, ReasonCode.MISSING_DATA))
        offset, gain = (value or 0.0 for value in values)
        with np.errstate(over="ignore", invalid="ignore"):
            currents[channel] = (analog[column] - offset * 1e3) / 1e6 / 10.0 ** min(max(gain, -30.0), 30.0)
    return currents, tuple(remarks)


def _exposures(run: CollectedRun, keys: FlyKeys) -> _Exposures | None:
    """Return the counts of the first triggered detector that has any; None if there is none."""
    for detector, trigger in keys.triggers.items():
        for stream in run.streams.values():
            if not re.fullmatch(detector, stream.name, re.IGNORECASE):
                continue
            counts = _counts(stream, keys.elements)
            if counts:
                name, table = _required(run, (trigger,), keys.trigger_fields, f"triggers of {stream.name}")
                return _matched(stream.name, counts, *_windows(table, name))
    return None


def _counts(stream: Stream, patterns: tuple[str, ...]) -> dict[str, FloatArray]:
    """Return the counts of each detector element, be they single values, lists, or columns of a table."""
    single = {key: stream.column(key) for key in matching(patterns, list(stream.columns))}
    lists = {
        key: stream.arrays[key][WHOLE_ARRAY]
        for key in matching(patterns, list(stream.arrays))
        if WHOLE_ARRAY in stream.arrays[key]
    }
    columns = {
        name: table[name] for table in stream.arrays.values() for name in matching(patterns, list(table))
    }
    return lists or columns or single


def _windows(table: Table, key: str) -> tuple[FloatArray, FloatArray]:
    """Return when exposures began and ended [s]: each rise with the fall that follows it."""
    time, level = _column(table, "timestamp", key), _column(table, "transition", key)
    good = np.isfinite(time) & (time > _FIRST_TIME)
    order = np.argsort(time[good], kind="stable")
    time, level = time[good][order], level[good][order]
    pairs = np.flatnonzero((level[:-1] == 1.0) & (level[1:] == 0.0)) if time.size > 1 else np.array([], int)
    return time[pairs], time[pairs + 1]


def _matched(
    stream: str, counts: Mapping[str, FloatArray], rises: FloatArray, falls: FloatArray
) -> _Exposures:
    n_counted = min(values.size for values in counts.values())
    n = min(n_counted, rises.size)
    remarks = [f"{stream} was triggered: energy and currents were averaged over each of {n} exposures"]
    if n_counted != rises.size:
        remarks.append(
            f"{stream} holds {n_counted} exposures, its trigger {rises.size}; the first {n} were taken"
        )
    first = {name: values[:n] for name, values in counts.items()}
    return _Exposures(
        stream=stream, rises=rises[:n], falls=falls[:n], counts=first, remarks=_interpreted(*remarks)
    )


def _during(exposures: _Exposures, time: FloatArray, samples: Readings) -> Readings:
    """Return one row per exposure; NaN if no sample lies in it."""
    order = np.argsort(time, kind="stable")
    first, last = (np.searchsorted(time[order], at) for at in (exposures.rises, exposures.falls))
    channels = {
        name: _means(values[order], first, last)
        for name, values in samples.channels.items()
        if name != "fluorescence"
    }
    # Beside positive counts a current must be positive too, whatever the sign of its amplifier.
    negative = [name for name, values in channels.items() if _is_negative(values)]
    channels |= {name: -channels[name] for name in negative}
    turned = (f"{', '.join(negative)} are negative currents; their signs were turned",) if negative else ()
    return Readings(
        energy=_means(samples.energy[order], first, last),
        unit=samples.unit,
        channels=channels,
        elements=exposures.counts,
        names={**samples.names, "fluorescence": f"{', '.join(exposures.counts)} of {exposures.stream}"},
        remarks=(*samples.remarks, *exposures.remarks, *_interpreted(*turned)),
    )


def _interpreted(*remarks: str) -> tuple[Reason, ...]:
    return tuple(Reason(text, ReasonCode.INTERPRETED_INPUT) for text in remarks)


def _is_negative(values: FloatArray) -> bool:
    known = values[np.isfinite(values)]
    return bool(known.size and np.median(known) < 0.0)


def _means(values: FloatArray, first: _Indices, last: _Indices) -> FloatArray:
    """Return the mean of the finite values of each interval; NaN if there is none."""
    known = np.isfinite(values)
    shift = float(values[known][0]) if known.any() else 0.0
    # Sums of differences from one value keep their digits.
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values - shift, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return np.asarray(shift + (sums[last] - sums[first]) / (counts[last] - counts[first]))
