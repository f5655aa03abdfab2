"""Ophyd devices of the simulated absorption beamline.

Nothing sleeps: the beamline has a clock of its own, which each exposure and each motion moves on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from ophyd import Component, Device, Kind, Signal
from ophyd.status import Status

from bluesky_xpdml.demo.beamline.foils import foil_absorption
from bluesky_xpdml.demo.beamline.physics import Detection, Source, resolution, victoreen
from bluesky_xpdml.demo.beamline.samples import SimulatedSample, load_samples
from bluesky_xpdml.errors import BeamlineError

ENERGY_LIMITS = (4500.0, 9500.0)
"""Range of the monochromator [eV]."""
FOIL_STEP, FOIL_BACKGROUND = 0.7, 0.4
"""Edge step and background of the reference foils, mu t."""
OVERHEAD = 0.2
"""Time between two exposures [s]."""


class UnitSignal(Signal):  # type: ignore[misc]
    """A signal whose description names its unit."""

    def __init__(self, *, units: str, name: str, value: float | str = 0.0, **settings: object) -> None:
        super().__init__(name=name, value=value, **settings)
        self._units = units

    def describe(self) -> dict[str, dict[str, object]]:
        """Return the data key of the signal, with its unit."""
        description: dict[str, dict[str, object]] = super().describe()
        description[self.name]["units"] = self._units
        return description


@dataclass(slots=True, kw_only=True)
class Clock:
    """Time of the simulation."""

    now: float = 0.0
    """Since the beamline was built [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisError:
    """How far the photon energy lies above what the monochromator reads."""

    offset: float = 1.2
    """At 7000 eV [eV]."""
    slope: float = 1.5e-4
    """Per eV of energy above 7000 eV."""

    def at(self, energy: float) -> float:
        """Return photon energy minus readback [eV] at a readback [eV].

        Examples
        --------
        >>> round(AxisError().at(8000.0), 2)
        1.35
        """
        return self.offset + self.slope * (energy - 7000.0)


class Monochromator(Device):  # type: ignore[misc]
    """A Si(111) monochromator whose readback is a little wrong."""

    energy = Component(UnitSignal, value=7000.0, units="eV", kind=Kind.hinted)
    setpoint = Component(UnitSignal, value=7000.0, units="eV", kind=Kind.normal)

    def __init__(self, *, name: str, axis_error: AxisError) -> None:
        super().__init__(name=name)
        self.axis_error = axis_error

    @property
    def position(self) -> float:
        """Readback [eV]."""
        return float(self.energy.get())

    @property
    def photon_energy(self) -> float:
        """Energy of the photons [eV], which no readback shows."""
        return self.position + self.axis_error.at(self.position)

    def set(self, energy: float) -> Status:
        """Move to a nominal energy [eV].

        Raises
        ------
        BeamlineError
            If the energy is out of range.
        """
        low, high = ENERGY_LIMITS
        if not low <= energy <= high:
            msg = f"the monochromator goes from {low:.0f} to {high:.0f} eV and was sent to {energy:.1f} eV"
            raise BeamlineError(msg)
        self.setpoint.put(float(energy))
        self.energy.put(float(energy))
        return _done(self)


class SampleWheel(Device):  # type: ignore[misc]
    """A wheel of samples, moved by the name of the sample."""

    sample_name = Component(UnitSignal, value="", units="", kind=Kind.config)

    def __init__(self, *, name: str, samples: Sequence[SimulatedSample]) -> None:
        super().__init__(name=name)
        if not samples:
            raise BeamlineError("the sample wheel is empty: expected at least one sample")
        self.samples = {sample.name: sample for sample in samples}
        self.sample_name.put(samples[0].name)

    @property
    def position(self) -> str:
        """Name of the sample in the beam."""
        return str(self.sample_name.get())

    @property
    def sample(self) -> SimulatedSample:
        """The sample in the beam."""
        return self.samples[self.position]

    def set(self, name: str) -> Status:
        """Turn a sample into the beam.

        Raises
        ------
        BeamlineError
            If no sample has that name.
        """
        if name not in self.samples:
            msg = f"no sample {name!r} on the wheel: expected one of {', '.join(self.samples)}"
            raise BeamlineError(msg)
        self.sample_name.put(name)
        return _done(self)


class Detectors(Device):  # type: ignore[misc]
    """Three ion chambers and a fluorescence detector that count photons."""

    i0 = Component(UnitSignal, units="counts", kind=Kind.hinted)
    it = Component(UnitSignal, units="counts", kind=Kind.hinted)
    ir = Component(UnitSignal, units="counts", kind=Kind.hinted)
    fluorescence = Component(UnitSignal, units="counts", kind=Kind.hinted)
    exposure = Component(UnitSignal, value=1.0, units="s", kind=Kind.config)

    def __init__(
        self,
        *,
        name: str,
        mono: Monochromator,
        wheel: SampleWheel,
        clock: Clock,
        seed: int,
        source: Source,
        detection: Detection,
    ) -> None:
        super().__init__(name=name)
        self._mono, self._wheel, self._clock = mono, wheel, clock
        self._source, self._detection = source, detection
        self._random = np.random.default_rng(seed)
        self._channels = (self.i0, self.it, self.ir, self.fluorescence)
        for signal, key in zip(self._channels, ("I0", "It", "Ir", "If"), strict=True):
            signal.name = key

    def rates(self) -> np.ndarray:
        """Return the mean counting rates of I0, It, Ir and If now [counts/s], (4,)."""
        photon, sample = self._mono.photon_energy, self._wheel.sample
        energy = np.array([photon])
        foil = foil_absorption(sample.element, energy, resolution(photon))
        foil_mu = (FOIL_BACKGROUND + FOIL_STEP * foil) * victoreen(energy, sample.edge_energy)
        return self._detection.rates(
            self._source.at(photon, self._clock.now),
            sample=float(sample.absorption(energy)[0]),
            edge=float(sample.edge_absorption(energy)[0]),
            foil=float(foil_mu[0]),
        )

    def trigger(self) -> Status:
        """Count for one exposure."""
        exposure = float(self.exposure.get())
        counts = self._random.poisson(self.rates() * exposure)
        for signal, count in zip(self._channels, counts, strict=True):
            signal.put(float(count))
        self._clock.now += exposure + OVERHEAD
        return _done(self)


@dataclass(slots=True, kw_only=True, init=False)
class XasBeamline:
    """A simulated beamline: monochromator, sample wheel, ion chambers and fluorescence detector.

    Parameters
    ----------
    seed
        Of the counting statistics: the same seed and the same plans give the same counts.
    axis_error
        How far the photon energy lies above the monochromator's readback.
    samples
        What stands on the wheel; the samples that come with the package by default.
    source, detection
        Flux and efficiencies.

    Examples
    --------
    >>> beamline = XasBeamline(seed=1)
    >>> beamline.mono.set(7200.0).done, beamline.wheel.set("LaFeO3").done
    (True, True)
    >>> beamline.mono.photon_energy
    7201.23
    """

    mono: Monochromator
    wheel: SampleWheel
    detectors: Detectors
    clock: Clock = field(repr=False)

    def __init__(
        self,
        *,
        seed: int = 0,
        axis_error: AxisError | None = None,
        samples: Sequence[SimulatedSample] | None = None,
        source: Source | None = None,
        detection: Detection | None = None,
    ) -> None:
        self.clock = Clock()
        self.mono = Monochromator(name="mono", axis_error=axis_error or AxisError())
        self.wheel = SampleWheel(name="wheel", samples=load_samples() if samples is None else samples)
        self.detectors = Detectors(
            name="detectors",
            mono=self.mono,
            wheel=self.wheel,
            clock=self.clock,
            seed=seed,
            source=source or Source(),
            detection=detection or Detection(),
        )


def _done(device: Device) -> Status:
    status = Status(obj=device)
    status.set_finished()
    status.wait()
    return status
