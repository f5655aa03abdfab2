"""Simulated beamlines of ophyd devices, physically modelled: one for XAS, one for total scattering."""

from bluesky_xpdml.demo.beamline.area_detector import AreaDetector
from bluesky_xpdml.demo.beamline.devices import AxisError, Detectors, Monochromator, SampleWheel, XasBeamline
from bluesky_xpdml.demo.beamline.foils import foil_absorption
from bluesky_xpdml.demo.beamline.front import Axis, ReactionCell, ReactionFront
from bluesky_xpdml.demo.beamline.image_files import ImageFormat
from bluesky_xpdml.demo.beamline.physics import Detection, Source
from bluesky_xpdml.demo.beamline.plans import energy_grid, scan_sample, xanes_scan
from bluesky_xpdml.demo.beamline.samples import SimulatedSample, held_out_formulas, load_samples
from bluesky_xpdml.demo.beamline.scattering import Illumination
from bluesky_xpdml.demo.beamline.scattering_beamline import ScatteringBeamline, flat_panel
from bluesky_xpdml.demo.beamline.scattering_devices import EMPTY, SampleChanger, Shutter
from bluesky_xpdml.demo.beamline.scattering_plans import Dark, background_scan, dark_scan, scattering_scan
from bluesky_xpdml.demo.beamline.scattering_samples import (
    PowderMixture,
    ScatteringSample,
    held_out_scattering_formulas,
    load_scattering_samples,
)
from bluesky_xpdml.demo.beamline.sensor import Sensor

__all__ = [
    "EMPTY",
    "AreaDetector",
    "Axis",
    "AxisError",
    "Dark",
    "Detection",
    "Detectors",
    "Illumination",
    "ImageFormat",
    "Monochromator",
    "PowderMixture",
    "ReactionCell",
    "ReactionFront",
    "SampleChanger",
    "SampleWheel",
    "ScatteringBeamline",
    "ScatteringSample",
    "Sensor",
    "Shutter",
    "SimulatedSample",
    "Source",
    "XasBeamline",
    "background_scan",
    "dark_scan",
    "energy_grid",
    "flat_panel",
    "foil_absorption",
    "held_out_formulas",
    "held_out_scattering_formulas",
    "load_samples",
    "load_scattering_samples",
    "scan_sample",
    "scattering_scan",
    "xanes_scan",
]
