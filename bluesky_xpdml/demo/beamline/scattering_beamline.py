"""The simulated total-scattering beamline: sample changer, shutter, and an area detector in one place."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bluesky_xpdml.demo.beamline.area_detector import AreaDetector
from bluesky_xpdml.demo.beamline.devices import Clock
from bluesky_xpdml.demo.beamline.image_files import ImageFormat
from bluesky_xpdml.demo.beamline.scattering import Illumination
from bluesky_xpdml.demo.beamline.scattering_devices import BadPixels, SampleChanger, Shutter
from bluesky_xpdml.demo.beamline.scattering_samples import ScatteringSample, load_scattering_samples
from bluesky_xpdml.demo.beamline.sensor import Sensor
from bluesky_xpdml.errors import BeamlineError
from bluesky_xpdml.records import Calibration

SIDE = 0.4096
"""Height and width of the detector [m]: 2048 pixels of 200 micrometres."""


def flat_panel(*, pixels: int = 2048, wavelength: float = Illumination().wavelength) -> Calibration:
    """Return where the detector of the simulated beamline stands: 0.2 m behind the sample, a little tilted.

    Parameters
    ----------
    pixels
        Rows and columns; fewer are larger.
    wavelength
        Of the X-rays [angstrom].

    Examples
    --------
    >>> flat_panel().pixel1, flat_panel(pixels=512).shape
    (0.0002, (512, 512))
    """
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
        Where the detector stands; `flat_panel` by default.
    samples
        What stands in the changer; the samples that come with the package by default.
    illumination, sensor
        Intensities and noise.
    image_format, folder
        How frames leave the detector, and the folder of their files.

    Raises
    ------
    BeamlineError
        If the calibration is for other X-rays than the illumination.

    Examples
    --------
    >>> beamline = ScatteringBeamline(seed=1, pixels=128)
    >>> beamline.changer.set("LaFeO3").done, beamline.shutter.set("open").done
    (True, True)
    >>> beamline.detector.expose().shape
    (128, 128)
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
