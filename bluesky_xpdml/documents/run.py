"""What one Bluesky run amounts to once its documents have been collected."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bluesky_xpdml.documents.arrays import Table
from bluesky_xpdml.documents.columns import float_column
from bluesky_xpdml.documents.images import ImageMean
from bluesky_xpdml.errors import MissingDataError
from bluesky_xpdml.records import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Energies and channels, one row a point or sample. All arrays have the shape (n,)."""

    energy: FloatArray
    """[unit]"""
    unit: str
    """`eV` or `keV`."""
    channels: Mapping[str, FloatArray]
    """By name: i0, it, ir, mu, electron_yield, and fluorescence where only a sum is known."""
    elements: Mapping[str, FloatArray] = field(default_factory=dict)
    """Fluorescence by detector element, corrected for dead time [counts]."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Where the energy and each channel came from, for people."""
    n_points: int | None = None
    """Points of a step scan; None for a continuous one, whose samples nobody plans one by one."""
    remarks: tuple[str, ...] = ()

    def part(self, where: slice) -> "Readings":
        """Return a part of the rows."""
        return Readings(
            energy=self.energy[where],
            unit=self.unit,
            channels={name: values[where] for name, values in self.channels.items()},
            elements={name: values[where] for name, values in self.elements.items()},
            names=self.names,
            n_points=self.n_points,
            remarks=self.remarks,
        )

    def gives_absorption(self) -> bool:
        """Return whether there is a channel that an absorption can be read from."""
        return bool(self.elements or {"it", "mu", "fluorescence", "electron_yield"} & set(self.channels))

    def moves(self, smallest: float) -> bool:
        """Return whether the energy was scanned: over more than this fraction of its value.

        Parameters
        ----------
        smallest
            The fraction.
        """
        known = self.energy[np.isfinite(self.energy)]
        with np.errstate(over="ignore"):
            return bool(known.size and np.ptp(known) > smallest * np.max(np.abs(known)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The events of one stream as a table, in the order of their sequence numbers."""

    name: str
    data_keys: Mapping[str, Mapping[str, object]]
    """What the descriptor says of each key: units, dtype, shape, external, ..."""
    hints: tuple[str, ...] = ()
    """Keys that the devices hint at, in the order of the descriptor."""
    columns: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    """Single values by key, (n,); None where an event does not hold the key."""
    n_events: int = 0
    arrays: Mapping[str, Table] = field(default_factory=dict)
    """Tables that the profile asks for, by key: those of all events, one below the other."""
    configuration: Mapping[str, object] = field(default_factory=dict)
    """What the descriptor says of how the devices were set, by key."""
    images: Mapping[str, ImageMean] = field(default_factory=dict)
    """Averages of the images that were asked for, by key."""

    def column(self, key: str) -> FloatArray:
        """Return the values of a key as floats, NaN where an event does not hold it, (n,).

        Raises
        ------
        MissingDataError
            If no event holds the key.
        DocumentError
            If the values are not numbers.

        Examples
        --------
        >>> Stream(name="primary", data_keys={"i0": {}}, columns={"i0": (1, None)}, n_events=2).column("i0")
        array([ 1., nan])
        """
        if key not in self.columns:
            held = ", ".join(sorted(self.columns)) or "nothing"
            raise MissingDataError(f"expected {key} in the events of stream {self.name}; they hold {held}")
        return float_column(np.array(self.columns[key], dtype=object), key)

    def unit(self, key: str) -> str:
        """Return the unit that the descriptor gives for a key; an empty string where it gives none."""
        unit = self.data_keys.get(key, {}).get("units")
        return unit.strip() if isinstance(unit, str) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectedRun:
    """One run: its start and stop, a table a stream, and what was odd about its documents."""

    uid: str
    start: Mapping[str, object]
    streams: Mapping[str, Stream] = field(default_factory=dict)
    stop: Mapping[str, object] | None = None
    """None where the run never stopped, as far as was seen."""
    anomalies: Mapping[str, int] = field(default_factory=dict)
    """What was odd, and how often."""
    given_up: str = ""
    """Why the run was given up before its stop; empty for a run that came to its end."""

    def remarks(self) -> tuple[str, ...]:
        """Return the anomalies as sentences for a quality record.

        Examples
        --------
        >>> CollectedRun(uid="a", start={}, anomalies={"events came twice": 2}).remarks()
        ('events came twice (2)',)
        """
        return tuple(f"{what} ({count})" for what, count in self.anomalies.items())
