"""The simulated total-scattering beamline: sample changer, shutter, and an area detector."""

import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ophyd import Component, Device, Kind
from ophyd.status import Status

from bluesky_xpdml.demo.beamline.detector import Frame, Sensor, beam_stop_shadow, detector_geometry
from bluesky_xpdml.demo.beamline.image_files import Document, ImageFormat, ImageStore, open_store
from bluesky_xpdml.demo.beamline.samples import PowderMixture, ScatteringSample, load_scattering_samples
from bluesky_xpdml.demo.beamline.scattering_physics import Illumination
from bluesky_xpdml.demo.beamline.xas import OVERHEAD, Clock, UnitSignal, finished
from bluesky_xpdml.errors import BeamlineError
from bluesky_xpdml.records import Calibration, FloatArray

EMPTY = "empty capillary"
"""Position of the changer for background runs."""
Q_STEP = 0.005
"""Spacing of computed patterns [1/angstrom]."""
BEAM_STOP, ARM = 4e-3, 1.6e-3
"""Radius of the beam stop and width of its arm [m]."""
SIDE = 0.4096
"""Height and width of the detector [m]: 2048 pixels of 200 micrometres."""


class SampleChanger(Device):  # type: ignore[misc]
    """Capillaries, moved into the beam by the name of the sample; one is empty."""

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
        """Move a capillary into the beam; a `BeamlineError` if none has that name."""
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
        """Whether photons reach the sample."""
        return bool(self.state.get() == "open")

    def set(self, state: str) -> Status:
        """Open or close; a `BeamlineError` for any other state."""
        if state not in {"open", "closed"}:
            raise BeamlineError(f"expected the shutter to be 'open' or 'closed', found {state!r}")
        self.state.put(state)
        return finished(self)


class BadPixels(Device):  # type: ignore[misc]
    """The detector's own mask: one for pixels that fail or are behind the beam stop."""

    def __init__(self, *, name: str, mask: NDArray[np.bool_]) -> None:
        super().__init__(name=name)
        self.mask = mask

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return the data key of the mask."""
        key = {"source": "simulation", "dtype": "array", "shape": list(self.mask.shape), "dtype_numpy": "|u1"}
        return OrderedDict({f"{self.name}_mask": key})

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the mask, one for bad pixels, (rows, columns)."""
        return OrderedDict(
            {f"{self.name}_mask": {"value": self.mask.astype(np.uint8), "timestamp": time.time()}}
        )


class AreaDetector(Device):  # type: ignore[misc]
    """A flat area detector that counts the photons scattered by the sample; its frames are `<name>_image`."""

    exposure = Component(UnitSignal, value=1.0, units="s", kind=Kind.config)

    def __init__(
        self,
        *,
        name: str,
        calibration: Calibration,
        changer: SampleChanger,
        shutter: Shutter,
        clock: Clock,
        seed: int,
        illumination: Illumination,
        sensor: Sensor,
        image_format: ImageFormat,
        folder: Path | None,
    ) -> None:
        super().__init__(name=name)
        self.calibration, self.illumination = calibration, illumination
        self._changer, self._shutter, self._clock = changer, shutter, clock
        self._format, self._folder = image_format, folder
        self._geometry = detector_geometry(calibration)
        self._pixels = sensor.pixels(self._geometry.q.shape, seed=seed)
        self.shadow = beam_stop_shadow(self._geometry, calibration, radius=BEAM_STOP, arm=ARM)
        self._random = np.random.default_rng([seed, 2])
        self._rate: tuple[ScatteringSample | PowderMixture | None, NDArray[np.float32]] | None = None
        self._store: tuple[bool, ImageStore] | None = None
        self._reading: object = None

    @property
    def image_key(self) -> str:
        """Data key of the frames."""
        return f"{self.name}_image"

    @property
    def bad_pixels(self) -> NDArray[np.bool_]:
        """True for pixels that fail or are behind the beam stop, (rows, columns)."""
        return np.asarray(self._pixels.faulty | self.shadow)

    def rate(self) -> NDArray[np.float32]:
        """Return the rate of photons from the sample in the beam [1/s per pixel], (rows, columns)."""
        sample = self._changer.sample
        if self._rate is None or self._rate[0] is not sample:
            self._rate = sample, self._image(self._pattern(sample))
        return self._rate[1]

    def expose(self) -> Frame:
        """Take one frame in the present state of the shutter, (rows, columns)."""
        rate = self.rate() if self._shutter.is_open else None
        return self._pixels.expose(rate, float(self.exposure.get()), self._random)

    def stage(self) -> list[object]:
        """Prepare for a run: the next frame starts a new series."""
        self._store = None
        return list(super().stage())

    def trigger(self) -> Status:
        """Take one frame. A series ends when the shutter moves: dark frames are a series of their own."""
        store = self._current_store()
        self._reading = store.take(self.expose())
        self._clock.now += float(self.exposure.get()) + OVERHEAD
        return finished(self)

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return the data key of the frames."""
        key = self._current_store().describe(self._geometry.q.shape)
        return OrderedDict({self.image_key: key})

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the last frame, or its name in the documents; nothing for stream files."""
        if self._reading is None:
            return OrderedDict()
        return OrderedDict({self.image_key: {"value": self._reading, "timestamp": time.time()}})

    def collect_asset_docs(self) -> Iterator[Document]:
        """Yield the documents of new files since the last call."""
        if self._store is not None:
            yield from self._store[1].documents()

    def _current_store(self) -> ImageStore:
        is_open = self._shutter.is_open
        if self._store is None or self._store[0] != is_open:
            self._store = (is_open, open_store(self._format, self._folder, self.image_key))
        return self._store[1]

    def _pattern(self, sample: ScatteringSample | PowderMixture | None) -> FloatArray:
        q_top = float(self._geometry.q.max()) + 0.5
        if isinstance(sample, PowderMixture):
            # Each part's pattern contains the whole container, and the fractions add up to one.
            parts = [share * pattern(self.illumination, part, q_top) for share, part in sample.parts]
            return np.asarray(np.sum(parts, axis=0))
        return pattern(self.illumination, sample, q_top)

    def _image(self, rates: FloatArray) -> NDArray[np.float32]:
        """Interpolate a pattern, which has an even grid, at the pixels."""
        place = self._geometry.q / np.float32(Q_STEP) - np.float32(1.0)
        np.maximum(place, 0.0, out=place)
        whole = place.astype(np.int32)
        place -= whole
        rate = rates.astype(np.float32)
        image = rate[whole] + place * np.diff(rate)[whole]
        image *= self._geometry.response
        image[self.shadow] = 0.0
        return image


@lru_cache(maxsize=32)
def pattern(illumination: Illumination, sample: ScatteringSample | None, q_top: float) -> FloatArray:
    """Return the scattering of sample, container and air [photons/s per pixel, before geometry], (n,).

    The grid goes from 0.005 to `q_top` in steps of 0.005 [1/angstrom]; the sample is None for the empty
    capillary.
    """
    q: FloatArray = Q_STEP * np.arange(1, int(q_top / Q_STEP) + 1, dtype=np.float64)
    total = illumination.background_rate(q)
    return total if sample is None else total + illumination.sample_rate(sample, q)


def flat_panel(*, pixels: int = 2048, wavelength: float = Illumination().wavelength) -> Calibration:
    """Return the calibration of the detector, slightly tilted, for a wavelength [angstrom]."""
    return Calibration(
        distance=0.2,
        poni1=0.5 * SIDE + 1.1e-3,
        poni2=0.5 * SIDE - 1.7e-3,
        rot1=0.004,
        rot2=-0.006,
        rot3=0.0,
        wavelength=wavelength * 1e-10,
        pixel1=SIDE / pixels,
        pixel2=SIDE / pixels,
        shape=(pixels, pixels),
    )


@dataclass(slots=True, kw_only=True, init=False)
class ScatteringBeamline:
    """A simulated beamline: sample changer, shutter and area detector.

    Parameters
    ----------
    seed
        Of noise and failing pixels: the same seed and the same plans give the same frames.
    pixels
        Rows and columns of the detector.
    calibration
        Of the detector, for the X-rays of the illumination; `flat_panel` by default.
    samples
        In the changer; the package's samples by default.
    illumination, sensor
        Intensities and noise.
    image_format, folder
        How frames are stored, and the folder of their files.
    """

    changer: SampleChanger
    shutter: Shutter
    detector: AreaDetector
    mask: BadPixels
    clock: Clock = field(repr=False)

    def __init__(
        self,
        *,
        seed: int = 0,
        pixels: int = 2048,
        calibration: Calibration | None = None,
        samples: Sequence[ScatteringSample] | None = None,
        illumination: Illumination | None = None,
        sensor: Sensor | None = None,
        image_format: ImageFormat = ImageFormat.EVENT,
        folder: Path | None = None,
    ) -> None:
        light = illumination or Illumination()
        place = calibration or flat_panel(pixels=pixels, wavelength=light.wavelength)
        if abs(place.wavelength * 1e10 - light.wavelength) > 1e-6 * light.wavelength:
            msg = f"calibrated at {place.wavelength * 1e10}, lit at {light.wavelength} angstrom: expected one"
            raise BeamlineError(msg)
        self.clock = Clock()
        stock = load_scattering_samples() if samples is None else samples
        self.changer = SampleChanger(name="changer", samples=stock)
        self.shutter = Shutter(name="shutter")
        self.detector = AreaDetector(
            name="pe1",
            calibration=place,
            changer=self.changer,
            shutter=self.shutter,
            clock=self.clock,
            seed=seed,
            illumination=light,
            sensor=sensor or Sensor(),
            image_format=image_format,
            folder=folder,
        )
        self.mask = BadPixels(name="pe1", mask=self.detector.bad_pixels)
