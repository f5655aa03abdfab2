"""The area detector of the simulated total-scattering beamline, an ophyd device."""

import time
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ophyd import Component, Device, Kind
from ophyd.status import Status

from bluesky_xpdml.demo.beamline.devices import OVERHEAD, Clock, UnitSignal
from bluesky_xpdml.demo.beamline.geometry import beam_stop_shadow, detector_geometry
from bluesky_xpdml.demo.beamline.image_files import Document, ImageFormat, ImageStore, open_store
from bluesky_xpdml.demo.beamline.scattering import Illumination
from bluesky_xpdml.demo.beamline.scattering_devices import SampleChanger, Shutter, finished
from bluesky_xpdml.demo.beamline.scattering_samples import PowderMixture, ScatteringSample
from bluesky_xpdml.demo.beamline.sensor import Frame, Sensor
from bluesky_xpdml.records import Calibration, FloatArray

Q_STEP = 0.005
"""Spacing of computed patterns [1/angstrom]."""
BEAM_STOP, ARM = 4e-3, 1.6e-3
"""Radius of the beam stop and width of its arm [m]."""


class AreaDetector(Device):  # type: ignore[misc]
    """A flat area detector that counts what the sample in the beam scatters.

    Parameters
    ----------
    name
        Of the device; its frames are `<name>_image`.
    calibration
        Where it stands.
    changer, shutter, clock
        The rest of the beamline.
    seed
        Of noise and of pixels that fail.
    illumination, sensor
        Physics.
    image_format, folder
        How frames leave the detector, and where their files go.
    """

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
        """True where a pixel fails or stands behind the beam stop, (rows, columns)."""
        return np.asarray(self._pixels.faulty | self.shadow)

    def rate(self) -> NDArray[np.float32]:
        """Return the photons that arrive from what is in the beam [1/s a pixel], (rows, columns)."""
        sample = self._changer.sample
        if self._rate is None or self._rate[0] is not sample:
            self._rate = sample, self._image(self._pattern(sample))
        return self._rate[1]

    def expose(self) -> Frame:
        """Take one frame with the shutter as it stands, (rows, columns)."""
        rate = self.rate() if self._shutter.is_open else None
        return self._pixels.expose(rate, float(self.exposure.get()), self._random)

    def stage(self) -> list[object]:
        """Prepare for a run: the next frame begins a new series."""
        self._store = None
        return list(super().stage())

    def trigger(self) -> Status:
        """Take one frame; a series ends where the shutter moves: dark frames have one of their own."""
        store = self._current_store()
        self._reading = store.take(self.expose())
        self._clock.now += float(self.exposure.get()) + OVERHEAD
        return finished(self)

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return the data key of the frames."""
        key = self._current_store().describe(self._geometry.q.shape)
        return OrderedDict({self.image_key: key})

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the last frame, or the name under which documents know it; nothing for stream files."""
        if self._reading is None:
            return OrderedDict()
        return OrderedDict({self.image_key: {"value": self._reading, "timestamp": time.time()}})

    def collect_asset_docs(self) -> Iterator[Document]:
        """Yield the documents of files that are new since the last call."""
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
            # Each part's pattern has the whole container in it, and the fractions add up to one.
            parts = [share * pattern(self.illumination, part, q_top) for share, part in sample.parts]
            return np.asarray(np.sum(parts, axis=0))
        return pattern(self.illumination, sample, q_top)

    def _image(self, rates: FloatArray) -> NDArray[np.float32]:
        """Put a pattern on the pixels, by interpolation on its even grid."""
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
    """Return what sample, container and air scatter [photons/s a pixel, before geometry], (n,).

    Parameters
    ----------
    illumination
        Physics.
    sample
        In the beam; None for the empty capillary.
    q_top
        The grid goes from 0.005 in steps of 0.005 to there [1/angstrom].
    """
    q: FloatArray = Q_STEP * np.arange(1, int(q_top / Q_STEP) + 1, dtype=np.float64)
    total = illumination.background_rate(q)
    return total if sample is None else total + illumination.sample_rate(sample, q)
