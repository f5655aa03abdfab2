"""Ophyd devices around the simulated area detector: sample changer, shutter, and the detector's mask."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ophyd import Component, Device, Kind
from ophyd.status import Status

from bluesky_xpdml.demo.beamline.devices import UnitSignal
from bluesky_xpdml.demo.beamline.scattering_samples import PowderMixture, ScatteringSample
from bluesky_xpdml.errors import BeamlineError

EMPTY = "empty capillary"
"""Position of the changer for background runs."""


class SampleChanger(Device):  # type: ignore[misc]
    """Capillaries, moved into the beam by the name of the sample; one of them is empty."""

    sample_name = Component(UnitSignal, value=EMPTY, units="", kind=Kind.config)

    def __init__(self, *, name: str, samples: Sequence[ScatteringSample]) -> None:
        super().__init__(name=name)
        self.samples: dict[str, ScatteringSample | PowderMixture] = {
            sample.name: sample for sample in samples
        }

    @property
    def position(self) -> str:
        """Name of the sample in the beam."""
        return str(self.sample_name.get())

    @property
    def sample(self) -> ScatteringSample | PowderMixture | None:
        """The sample in the beam; None for the empty capillary."""
        return self.samples.get(self.position)

    def set(self, name: str) -> Status:
        """Move a capillary into the beam.

        Raises
        ------
        BeamlineError
            If no capillary has that name.
        """
        if name != EMPTY and name not in self.samples:
            msg = f"no capillary {name!r}: expected one of {', '.join([EMPTY, *self.samples])}"
            raise BeamlineError(msg)
        self.sample_name.put(name)
        return finished(self)


class Shutter(Device):  # type: ignore[misc]
    """A fast shutter in front of the sample, `open` or `closed`."""

    state = Component(UnitSignal, value="closed", units="", kind=Kind.config)

    @property
    def is_open(self) -> bool:
        """Whether photons arrive."""
        return bool(self.state.get() == "open")

    def set(self, state: str) -> Status:
        """Open or close.

        Raises
        ------
        BeamlineError
            If the state is neither.
        """
        if state not in {"open", "closed"}:
            raise BeamlineError(f"expected the shutter to be 'open' or 'closed', found {state!r}")
        self.state.put(state)
        return finished(self)


class BadPixels(Device):  # type: ignore[misc]
    """The detector's own mask: one where a pixel fails or stands behind the beam stop."""

    def __init__(self, *, name: str, mask: NDArray[np.bool_]) -> None:
        super().__init__(name=name)
        self.mask = mask

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return the data key of the mask."""
        key = {"source": "simulation", "dtype": "array", "shape": list(self.mask.shape), "dtype_numpy": "|u1"}
        return OrderedDict({f"{self.name}_mask": key})

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the mask, one where a pixel is bad, (rows, columns)."""
        return OrderedDict(
            {f"{self.name}_mask": {"value": self.mask.astype(np.uint8), "timestamp": time.time()}}
        )


def finished(device: Device) -> Status:
    """Return the status of a motion or an exposure that takes no time, already done.

    Parameters
    ----------
    device
        What moved or counted.
    """
    status = Status(obj=device)
    status.set_finished()
    status.wait()
    return status
