"""One Bluesky run after its documents have been collected, and how complete it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bluesky_xpdml.documents.arrays import Table
from bluesky_xpdml.documents.columns import float_column
from bluesky_xpdml.documents.images import ImageMean
from bluesky_xpdml.documents.profile import Profile, look_up
from bluesky_xpdml.errors import MissingDataError
from bluesky_xpdml.files import FileAccess
from bluesky_xpdml.records import FloatArray, Quality
from bluesky_xpdml.vocabulary import Reason, ReasonCode

MOST_REMARKS = 100
"""Further remarks on one run are counted, not listed."""
REMARK_CODES = "remark_codes"
"""Key of start documents with the codes of their remarks."""
LONGEST_REMARK = 500
"""Longer remarks of a start document are cut [characters]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Energies and channels, one row per point or sample. All arrays have the shape (n,)."""

    energy: FloatArray
    """[unit]"""
    unit: str
    """`eV` or `keV`."""
    channels: Mapping[str, FloatArray]
    """By name: i0, it, ir, mu, electron_yield, and fluorescence if only a sum is known."""
    elements: Mapping[str, FloatArray] = field(default_factory=dict)
    """Fluorescence by detector element, corrected for dead time [counts]."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Source of the energy and of each channel, for people."""
    n_points: int | None = None
    """Points of a step scan; None for a continuous one, whose samples are not planned one by one."""
    remarks: tuple[Reason, ...] = ()

    def part(self, rows: slice) -> "Readings":
        """Return a part of the rows."""
        return Readings(
            energy=self.energy[rows],
            unit=self.unit,
            channels={name: values[rows] for name, values in self.channels.items()},
            elements={name: values[rows] for name, values in self.elements.items()},
            names=self.names,
            n_points=self.n_points,
            remarks=self.remarks,
        )

    def gives_absorption(self) -> bool:
        """Return whether an absorption can be computed from the channels."""
        return bool(self.elements or {"it", "mu", "fluorescence", "electron_yield"} & set(self.channels))

    def moves(self, smallest: float) -> bool:
        """Return whether the energy was scanned over more than this fraction of its value."""
        known = self.energy[np.isfinite(self.energy)]
        with np.errstate(over="ignore"):
            return bool(known.size and np.ptp(known) > smallest * np.max(np.abs(known)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The events of one stream as a table, in the order of their sequence numbers."""

    name: str
    data_keys: Mapping[str, Mapping[str, object]]
    """Units, dtype, shape, external, ... of each key, as in the descriptor."""
    hints: tuple[str, ...] = ()
    """Keys that the devices hint at, in the order of the descriptor."""
    columns: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    """Single values by key, (n,); None if an event does not hold the key."""
    n_events: int = 0
    arrays: Mapping[str, Table] = field(default_factory=dict)
    """Tables that the profile names, by key: those of all events, one below the other."""
    configuration: Mapping[str, object] = field(default_factory=dict)
    """Configuration of the devices, as in the descriptor, by key."""
    images: Mapping[str, ImageMean] = field(default_factory=dict)
    """Averages of the images that the profile names, by key."""

    def column(self, key: str) -> FloatArray:
        """Return the values of a key as floats, NaN if an event does not hold it, (n,).

        If no event holds it, a MissingDataError is raised; a DocumentError if the values are not numbers.
        """
        if key not in self.columns:
            held = ", ".join(sorted(self.columns)) or "nothing"
            raise MissingDataError(f"expected {key} in the events of stream {self.name}; they hold {held}")
        return float_column(np.array(self.columns[key], dtype=object), key)

    def unit(self, key: str) -> str:
        """Return the unit that the descriptor gives for a key; empty if it gives none."""
        unit = self.data_keys.get(key, {}).get("units")
        return unit.strip() if isinstance(unit, str) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectedRun:
    """One run: its start and stop, one table per stream, and what was odd about its documents."""

    uid: str
    start: Mapping[str, object]
    streams: Mapping[str, Stream] = field(default_factory=dict)
    stop: Mapping[str, object] | None = None
    """None if no stop document was received."""
    anomalies: Mapping[str, int] = field(default_factory=dict)
    """How often each odd thing happened; a `Reason` as key brings its own code."""
    given_up: Reason | None = None
    """Why the run was closed before its stop document; empty if it was not."""
    profile: Profile | None = None
    """Profile by which the run was collected; None if it was collected without one."""
    access: FileAccess = field(default_factory=FileAccess)
    """Which files its documents may name."""

    def remarks(self) -> tuple[Reason, ...]:
        """Return the anomalies as reasons for a quality record.

        Examples
        --------
        >>> CollectedRun(uid="a", start={}, anomalies={"events came twice": 2}).remarks()
        ('events came twice (2)',)
        """
        remarks = [
            Reason(f"{what} ({count})", what.code if isinstance(what, Reason) else ReasonCode.DOCUMENTS_LOST)
            for what, count in self.anomalies.items()
        ]
        left_out = len(remarks) - MOST_REMARKS
        more = f"{left_out} more remarks on documents and files were left out"
        return (*remarks[:MOST_REMARKS], *([incomplete(more)] if left_out > 0 else []))


_MOTOR_TOLERANCE = 0.98
"""A motor stops within its tolerance, not at the planned number."""


def completeness(
    run: CollectedRun, profile: Profile, energy: FloatArray, n_points: int | None
) -> tuple[float, Quality]:
    """Return the measured fraction of the plan, by points and by energy range, with a remark.

    Stop documents are ignored: those of runs that were stopped early report success all the same. Energies
    are in the unit of the plan, (n,); `n_points` is None if the plan did not count them.
    """
    planned = planned_points(run, profile)
    fractions = {}
    if planned is not None and n_points is not None:
        fractions[f"{n_points} of {planned} planned points were measured"] = n_points / planned
    fractions |= _covered_range(run, energy)
    if not fractions:
        return 1.0, Quality().note(plan_unknown())
    text, fraction = min(fractions.items(), key=lambda item: item[1])
    return (1.0, Quality()) if fraction >= 1.0 else (fraction, Quality().suspect(incomplete(text)))


def plan_unknown() -> Reason:
    """Return the remark on a run that does not state its size."""
    return Reason("the run does not say how many points it planned", ReasonCode.PLAN_UNKNOWN)


def incomplete(text: str) -> Reason:
    """Return a remark on a run that measured less than it planned."""
    return Reason(text, ReasonCode.INCOMPLETE)


def planned_points(run: CollectedRun, profile: Profile) -> int | None:
    """Return the number of points that a run planned; None if it does not state it."""
    planned = look_up(run.start, profile.start.planned_points)
    return planned if isinstance(planned, int) and not isinstance(planned, bool) and planned > 0 else None


def _covered_range(run: CollectedRun, energy: FloatArray) -> dict[str, float]:
    """Return the fraction of the planned range that was reached, if the plan was one straight scan."""
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
    if covered >= _MOTOR_TOLERANCE:
        return {}
    return {f"{float(known.min()):g} to {float(known.max()):g} of {low:g} to {high:g} was scanned": covered}


def earlier_remarks(run: CollectedRun, profile: Profile) -> tuple[Reason, ...]:
    """Return the remarks that the start document holds, such as those of a reader of files.

    Their codes stand in a list of the same length under `REMARK_CODES`; unknown ones mean interpreted input.
    """
    remarks, codes = look_up(run.start, profile.start.remarks), run.start.get(REMARK_CODES)
    if not isinstance(remarks, list | tuple):
        return ()
    if not isinstance(codes, list | tuple) or len(codes) != len(remarks):
        codes = [""] * len(remarks)
    pairs = [(text, code) for text, code in zip(remarks, codes, strict=True) if isinstance(text, str)]
    return tuple(Reason(text[:LONGEST_REMARK], _remark_code(code)) for text, code in pairs[:MOST_REMARKS])


def _remark_code(code: object) -> ReasonCode:
    known = isinstance(code, str) and code in set(ReasonCode)
    return ReasonCode(str(code)) if known else ReasonCode.INTERPRETED_INPUT


def exit_remarks(run: CollectedRun) -> tuple[Reason, ...]:
    """Return why the stop document makes a run suspect; empty for a run that succeeded."""
    if run.stop is None:
        return (Reason("the run has no stop document", ReasonCode.NO_STOP),)
    status, reason = run.stop.get("exit_status"), run.stop.get("reason")
    if isinstance(status, str) and status == "success":
        return ()
    because = f": {reason}" if isinstance(reason, str) and reason else ""
    return (incomplete(f"the run ended with exit status {str(status)[:40]}{because[:200]}"),)
