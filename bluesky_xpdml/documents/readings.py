"""What was read off a run before it is a scan: energies and channels in the order of their measurement."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

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
