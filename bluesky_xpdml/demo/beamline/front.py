"""A reacting sample on both beamlines: position and temperature determine how much of it has reacted.

The sample is a powder of two phases of one metal: below the reaction front the first, above it the second,
and within the front's width both. Its signal is the sum of the phases' signals, weighted by their fractions.
The front is smooth, crosses the whole range of positions, and is unknown to the planner.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

import numpy as np
from ophyd import Component, Device, Kind
from ophyd.status import Status

from bluesky_xpdml.demo.beamline.physics import Source
from bluesky_xpdml.demo.beamline.samples import (
    PowderMixture,
    ScatteringSample,
    SimulatedSample,
    load_samples,
    load_scattering_samples,
)
from bluesky_xpdml.demo.beamline.scattering import ScatteringBeamline
from bluesky_xpdml.demo.beamline.xas import UnitSignal, XasBeamline, finished
from bluesky_xpdml.errors import BeamlineError
from bluesky_xpdml.records import FloatArray

POSITIONS = (0.0, 10.0)
"""Range of positions on the sample [mm]."""
TEMPERATURES = (300.0, 800.0)
"""Range of the furnace [K]."""
NAME = "reacting powder"
"""Name of the sample on both beamlines."""

Phase = TypeVar("Phase", SimulatedSample, ScatteringSample)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactionFront:
    """The temperature at which half of the sample has reacted, as a function of position."""

    middle: float
    """Mean temperature of the front [K]."""
    slope: float
    """[K/mm]"""
    waves: tuple[tuple[float, float, float], ...]
    """Amplitude [K], waves over the range of positions, and phase [rad] of each."""
    width: float
    """Half of the powder reacts within 1.1 times this on either side of the front [K]."""

    @classmethod
    def random(cls, seed: int) -> Self:
        """Return a random front in the middle of the furnace's range; the same seed gives the same front."""
        chance = np.random.default_rng([seed, 11])
        waves = (
            (chance.uniform(15.0, 60.0), chance.uniform(0.4, 0.9), chance.uniform(0.0, 2.0 * np.pi)),
            (chance.uniform(5.0, 20.0), chance.uniform(1.0, 1.8), chance.uniform(0.0, 2.0 * np.pi)),
        )
        return cls(
            middle=float(chance.uniform(500.0, 600.0)),
            slope=float(chance.uniform(-10.0, 10.0)),
            waves=waves,
            width=float(chance.uniform(3.0, 15.0)),
        )

    def temperature(self, position: FloatArray) -> FloatArray:
        """Return the temperature of the front [K], (n,), at positions on the sample [mm], (n,)."""
        low, high = POSITIONS
        found = self.middle + self.slope * (position - 0.5 * (low + high))
        for amplitude, waves, phase in self.waves:
            found = found + amplitude * np.sin(2.0 * np.pi * waves * (position - low) / (high - low) + phase)
        return np.asarray(found)

    def temperature_of(self, fraction: float, *, position: float) -> float:
        """Return the temperature [K] at which a fraction between 0 and 1 has reacted, at a position [mm]."""
        halfway = float(self.temperature(np.array([position]))[0])
        return halfway + self.width * float(np.log(fraction / (1.0 - fraction)))

    def fraction(self, position: FloatArray, temperature: FloatArray) -> FloatArray:
        """Return the reacted fraction 1 / (1 + exp((T_front - T) / width)), (n,), at [mm] and T [K], (n,)."""
        return np.asarray(1.0 / (1.0 + np.exp((self.temperature(position) - temperature) / self.width)))


class Axis(Device):  # type: ignore[misc]
    """An actuator with a range: a motor, a furnace."""

    value = Component(UnitSignal, value=0.0, units="", kind=Kind.hinted)

    def __init__(
        self, *, name: str, limits: tuple[float, float], units: str, moved: Callable[[], object]
    ) -> None:
        super().__init__(name=name)
        self.limits = limits
        self._units, self._moved = units, moved
        self.value.name = name
        self.value.put(limits[0])

    @property
    def position(self) -> float:
        """Readback [its unit]."""
        return float(self.value.get())

    def set(self, value: float) -> Status:
        """Move to a value [its unit]; a `BeamlineError` if it is out of range."""
        low, high = self.limits
        if not low <= value <= high:
            msg = f"{self.name} goes from {low:g} to {high:g} {self._units} and was sent to {value:g}"
            raise BeamlineError(msg)
        self.value.put(float(value))
        self._moved()
        return finished(self)


@dataclass(slots=True, kw_only=True, init=False)
class ReactionCell:
    """A furnace with a reacting powder in the beam of both beamlines.

    Parameters
    ----------
    front
        Of the reaction.
    before, after
        Names of the phases: samples of the package, of one metal, else a `BeamlineError` is raised.
    seed
        Of counting statistics and failing pixels.
    pixels
        Rows and columns of the area detector.
    source
        Flux at the absorption beamline; its own by default.
    """

    front: ReactionFront
    position: Axis
    temperature: Axis
    xas: XasBeamline
    scattering: ScatteringBeamline
    _spectra: tuple[SimulatedSample, SimulatedSample] = field(repr=False)
    _powders: tuple[ScatteringSample, ScatteringSample] = field(repr=False)

    def __init__(
        self,
        *,
        front: ReactionFront,
        before: str = "LaMnO3",
        after: str = "CaMnO3",
        seed: int = 0,
        pixels: int = 256,
        source: Source | None = None,
    ) -> None:
        self.front = front
        self._spectra = _phases(load_samples(), before, after)
        self._powders = _phases(load_scattering_samples(), before, after)
        self.xas = XasBeamline(seed=seed, samples=[self._spectra[0]], source=source)
        self.scattering = ScatteringBeamline(seed=seed, pixels=pixels, samples=[self._powders[0]])
        self.position = Axis(name="position", limits=POSITIONS, units="mm", moved=self._react)
        self.temperature = Axis(name="temperature", limits=TEMPERATURES, units="K", moved=self._react)
        self._react()
        self.xas.wheel.set(NAME)
        self.scattering.changer.set(NAME)

    @property
    def fraction(self) -> float:
        """Reacted fraction of the powder in the beam, 0 to 1."""
        where, heat = np.array([self.position.position]), np.array([self.temperature.position])
        return float(self.front.fraction(where, heat)[0])

    def _react(self) -> None:
        """Update the samples of both beamlines to the present state of the powder."""
        fraction = self.fraction
        before, after = self._powders
        powder = PowderMixture(name=NAME, parts=((1.0 - fraction, before), (fraction, after)))
        self.scattering.changer.samples[NAME] = powder
        spectrum = _mixed_spectrum(*self._spectra, fraction)
        self.xas.wheel.samples[NAME] = replace(spectrum, formula=powder.formula)


def _phases(samples: Sequence[Phase], before: str, after: str) -> tuple[Phase, Phase]:
    named = {sample.name: sample for sample in samples}
    missing = [name for name in (before, after) if name not in named]
    if missing:
        raise BeamlineError(f"no sample {', '.join(missing)}: expected two of {', '.join(named)}")
    first, second = named[before], named[after]
    if first.element != second.element:
        metals = f"{before} with {first.element} and {after} with {second.element}"
        raise BeamlineError(f"expected phases of one metal, found {metals}")
    return first, second


def _mixed_spectrum(before: SimulatedSample, after: SimulatedSample, fraction: float) -> SimulatedSample:
    """Return the spectrum of a powder with a fraction of the metal's atoms in the second phase."""
    share = np.array([1.0 - fraction, fraction])
    mu = np.array([before.mu, np.interp(before.energy, after.energy, after.mu, left=0.0)])
    return replace(
        before,
        name=NAME,
        oxidation_state=float(share @ [before.oxidation_state, after.oxidation_state]),
        coordination_number=float(share @ [before.coordination_number, after.coordination_number]),
        bond_length=float(share @ [before.bond_length, after.bond_length]),
        mu=np.asarray(share @ mu),
    )
