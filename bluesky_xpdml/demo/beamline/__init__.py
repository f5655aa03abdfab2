"""Simulated beamlines of ophyd devices with modelled physics: one for XAS, one for total scattering."""

from bluesky_xpdml.demo.beamline.detector import Sensor
from bluesky_xpdml.demo.beamline.front import ReactionCell, ReactionFront
from bluesky_xpdml.demo.beamline.image_files import ImageFormat
from bluesky_xpdml.demo.beamline.physics import Detection, Source, foil_absorption
from bluesky_xpdml.demo.beamline.samples import (
    ScatteringSample,
    SimulatedSample,
    held_out_formulas,
    held_out_scattering_formulas,
    load_samples,
    load_scattering_samples,
)
from bluesky_xpdml.demo.beamline.scattering import (
    EMPTY,
    ScatteringBeamline,
    flat_panel,
)
from bluesky_xpdml.demo.beamline.scattering_physics import Illumination
from bluesky_xpdml.demo.beamline.scattering_plans import Dark, background_scan, dark_scan, scattering_scan
from bluesky_xpdml.demo.beamline.xas import (
    AxisError,
    XasBeamline,
    energy_grid,
    scan_sample,
    xanes_scan,
)

__all__ = [
    "EMPTY",
    "AxisError",
    "Dark",
    "Detection",
    "Illumination",
    "ImageFormat",
    "ReactionCell",
    "ReactionFront",
    "ScatteringBeamline",
    "ScatteringSample",
    "Sensor",
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
