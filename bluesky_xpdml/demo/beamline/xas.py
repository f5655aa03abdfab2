"""The simulated absorption beamline: ophyd devices and plans.

Nothing sleeps: the beamline has a clock of its own, which exposures advance.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bluesky import plan_stubs, preprocessors
from ophyd import Component, Device, Kind, Signal
from ophyd.status import Status

from bluesky_xpdml.demo.beamline.physics import Detection, Source, foil_absorption, resolution, victoreen
from bluesky_xpdml.demo.beamline.samples import SimulatedSample, load_samples
from bluesky_xpdml.errors import BeamlineError
from bluesky_xpdml.records import FloatArray

ENERGY_LIMITS = (4500.0, 9500.0)
"""Range of the monochromator [eV]."""
FOIL_STEP, FOIL_BACKGROUND = 0.7, 0.4
"""Edge step and background of the reference foils, mu t."""
OVERHEAD = 0.2
"""Time between two exposures [s]."""
WAVENUMBER = 0.2624684
"""Square of the photoelectron's wavenumber per energy above the edge [1/A^2/eV]."""
PRE_EDGE = ((-150.0, -20.0, 5.0), (-20.0, -10.0, 1.0), (-10.0, 40.0, 0.25))
"""Start, end and step of the regions below and over the edge [eV relative to the edge]."""
END = 330.0
"""End of a scan [eV above the edge]."""
WAVENUMBER_STEP = 0.05
"""Step beyond the last region [1/A]."""

Plan = Generator[Any, Any, Any]


class UnitSignal(Signal):  # type: ignore[misc]
    """A signal whose description has a unit."""

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
    """Difference of the photon energy and the monochromator's readback."""

    offset: float = 1.2
    """At 7000 eV [eV]."""
    slope: float = 1.5e-4
    """Per eV of energy above 7000 eV."""

    def at(self, energy: float) -> float:
        """Return photon energy minus readback [eV] at a readback [eV]."""
        return self.offset + self.slope * (energy - 7000.0)


def finished(device: Device) -> Status:
    """Return the finished status of a motion or an exposure, which takes no time."""
    status = Status(obj=device)
    status.set_finished()
    status.wait()
    return status


class Monochromator(Device):  # type: ignore[misc]
    """A Si(111) monochromator whose readback is slightly wrong."""

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
        """True energy of the photons [eV], which no readback shows."""
        return self.position + self.axis_error.at(self.position)

    def set(self, energy: float) -> Status:
        """Move to a nominal energy [eV]; a `BeamlineError` if it is out of range."""
        low, high = ENERGY_LIMITS
        if not low <= energy <= high:
            msg = f"the monochromator goes from {low:.0f} to {high:.0f} eV and was sent to {energy:.1f} eV"
            raise BeamlineError(msg)
        self.setpoint.put(float(energy))
        self.energy.put(float(energy))
        return finished(self)


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
        """Move a sample into the beam; a `BeamlineError` if no sample has that name."""
        if name not in self.samples:
            msg = f"no sample {name!r} on the wheel: expected one of {', '.join(self.samples)}"
            raise BeamlineError(msg)
        self.sample_name.put(name)
        return finished(self)


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
        """Return the current mean counting rates of I0, It, Ir and If [counts/s], (4,)."""
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
        return finished(self)


@dataclass(slots=True, kw_only=True, init=False)
class XasBeamline:
    """A simulated beamline: monochromator, sample wheel, ion chambers and fluorescence detector.

    Parameters
    ----------
    seed
        Of the counting statistics: the same seed and the same plans give the same counts.
    axis_error
        Difference of the photon energy and the monochromator's readback.
    samples
        On the wheel; the package's samples by default.
    source, detection
        Flux and efficiencies.
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


def energy_grid(edge_energy: float) -> FloatArray:
    """Return the energies of a XANES step scan [eV]: coarse, fine over the edge, then even in wavenumber."""
    regions = [np.arange(start, end, step) for start, end, step in PRE_EDGE]
    first = np.sqrt(WAVENUMBER * PRE_EDGE[-1][1])
    wavenumbers = np.arange(first, np.sqrt(WAVENUMBER * END), WAVENUMBER_STEP)
    return np.asarray(edge_energy + np.concatenate([*regions, wavenumbers**2 / WAVENUMBER]))


def xanes_scan(
    beamline: XasBeamline,
    *,
    energies: FloatArray | None = None,
    exposure: float = 1.0,
    md: Mapping[str, object] | None = None,
) -> Plan:
    """Scan the energy over the K edge of the sample in the beam.

    Parameters
    ----------
    beamline
        The beamline.
    energies
        Nominal energies [eV]; `energy_grid` of the sample's element by default.
    exposure
        Counting time per point [s], in the simulation's time.
    md
        More for the start document.
    """
    sample = beamline.wheel.sample
    grid = energy_grid(sample.edge_energy) if energies is None else energies
    metadata = {
        "plan_name": "xanes_scan",
        "technique": "xas",
        "element": sample.element,
        "edge": "K",
        "sample": {"name": sample.name, "composition": sample.formula},
        "motors": [beamline.mono.name],
        "detectors": [beamline.detectors.name],
        "num_points": len(grid),
        "num_intervals": len(grid) - 1,
        "exposure": exposure,
        "hints": {"dimensions": [([beamline.mono.energy.name], "primary")]},
        **(md or {}),
    }

    measured = preprocessors.run_wrapper(_step_scan(beamline, grid, exposure), md=metadata)
    return (yield from preprocessors.stage_wrapper(measured, [beamline.detectors, beamline.mono]))


def scan_sample(
    beamline: XasBeamline,
    name: str,
    *,
    energies: FloatArray | None = None,
    exposure: float = 1.0,
    md: Mapping[str, object] | None = None,
) -> Plan:
    """Move a sample of the wheel into the beam and scan over its edge, as `xanes_scan`."""
    yield from plan_stubs.abs_set(beamline.wheel, name, wait=True)
    return (yield from xanes_scan(beamline, energies=energies, exposure=exposure, md=md))


def _step_scan(beamline: XasBeamline, energies: FloatArray, exposure: float) -> Plan:
    yield from plan_stubs.abs_set(beamline.detectors.exposure, exposure, wait=True)
    for energy in energies:
        yield from plan_stubs.abs_set(beamline.mono, float(energy), wait=True)
        yield from plan_stubs.trigger_and_read([beamline.detectors, beamline.mono])
