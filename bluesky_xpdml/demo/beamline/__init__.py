"""Simulated beamlines of ophyd devices with modelled physics: one for XAS, one for total scattering."""

from bluesky_xpdml.demo.beamline.detector import Sensor
from bluesky_xpdml.demo.beamline.front import Axis, ReactionCell, ReactionFront
from bluesky_xpdml.demo.beamline.image_files import ImageFormat
from bluesky_xpdml.demo.beamline.physics import Detection, Source, foil_absorption
from bluesky_xpdml.demo.beamline.samples import (
    PowderMixture,
    ScatteringSample,
    SimulatedSample,
    held_out_formulas,
    held_out_scattering_formulas,
    load_samples,
    load_scattering_samples,
)
from bluesky_xpdml.demo.beamline.scattering import (
    EMPTY,
    AreaDetector,
    SampleChanger,
    ScatteringBeamline,
    Shutter,
    flat_panel,
)
from bluesky_xpdml.demo.beamline.scattering_physics import Illumination
from bluesky_xpdml.demo.beamline.scattering_plans import Dark, background_scan, dark_scan, scattering_scan
from bluesky_xpdml.demo.beamline.xas import (
    AxisError,
    Detectors,
    Monochromator,
    SampleWheel,
    XasBeamline,
    energy_grid,
    scan_sample,
    xanes_scan,
)

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
