"""The analysis finds the hidden errors of the simulated beamline."""

import numpy as np
import pytest

from bluesky_xpdml.demo.beamline import AxisError, XasBeamline, energy_grid
from bluesky_xpdml.documents import absorption_scan
from bluesky_xpdml.records import AxisSource, DetectionMode, Verdict, Xanes
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes


def reduced(beamline: XasBeamline, name: str, settings: XanesSettings | None = None) -> Xanes:
    beamline.wheel.set(name)
    energies = energy_grid(beamline.wheel.sample.edge_energy)
    rows = []
    for energy in energies:
        beamline.mono.set(float(energy))
        beamline.detectors.trigger()
        rows.append({key: each["value"] for key, each in beamline.detectors.read().items()})
    column = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    scan = absorption_scan(
        energy=energies,
        energy_unit="eV",
        i0=column["I0"],
        it=column["It"],
        ir=column["Ir"],
        fluorescence=column["If"],
        element=beamline.wheel.sample.element,
        edge="K",
    )
    return reduce_xanes(scan, settings or XanesSettings())


@pytest.mark.parametrize(("name", "error"), [("Na2TiSiO5", -2.0), ("MnCO3", 0.0), ("La2NiWO6", 2.5)])
def test_axis_error_and_edge_step_are_found(name: str, error: float) -> None:
    beamline = XasBeamline(seed=3, axis_error=AxisError(offset=error, slope=0.0))
    xanes = reduced(beamline, name)
    assert xanes.axis.source is AxisSource.REFERENCE
    assert xanes.axis.offset == pytest.approx(error, abs=0.15)
    assert xanes.edge_step == pytest.approx(beamline.wheel.sample.edge_step, rel=0.03)
    assert xanes.quality.verdict is Verdict.GOOD, xanes.quality.reasons


def test_fluorescence_of_a_thin_sample_has_the_shape_of_the_transmission() -> None:
    settings = XanesSettings(mode=DetectionMode.FLUORESCENCE)
    transmission = reduced(XasBeamline(seed=3), "LaFeO3")
    fluorescence = reduced(XasBeamline(seed=3), "LaFeO3", settings)
    assert fluorescence.mode is DetectionMode.FLUORESCENCE
    near = np.abs(transmission.energy - transmission.e0) < 40.0
    assert np.abs(fluorescence.norm - transmission.norm)[near].max() < 0.05
