"""A simulated XAS beamline of ophyd devices, physically modelled."""

from bluesky_xpdml.beamline.devices import AxisError, Detectors, Monochromator, SampleWheel, XasBeamline
from bluesky_xpdml.beamline.foils import foil_absorption
from bluesky_xpdml.beamline.physics import Detection, Source
from bluesky_xpdml.beamline.plans import energy_grid, scan_sample, xanes_scan
from bluesky_xpdml.beamline.samples import SimulatedSample, held_out_formulas, load_samples

__all__ = [
    "AxisError",
    "Detection",
    "Detectors",
    "Monochromator",
    "SampleWheel",
    "SimulatedSample",
    "Source",
    "XasBeamline",
    "energy_grid",
    "foil_absorption",
    "held_out_formulas",
    "load_samples",
    "scan_sample",
    "xanes_scan",
]
