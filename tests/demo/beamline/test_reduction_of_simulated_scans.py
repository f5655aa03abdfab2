"""The analysis finds what the beamline hides."""

from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine

from bluesky_xpdml.demo.beamline import AxisError, XasBeamline, scan_sample
from bluesky_xpdml.documents import absorption_scan
from bluesky_xpdml.records import AxisSource, DetectionMode, Verdict, Xanes
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes


def reduced(beamline: XasBeamline, name: str, settings: XanesSettings | None = None) -> Xanes:
    rows: list[dict[str, Any]] = []
    engine = RunEngine({})
    engine.subscribe(lambda _, document: rows.append(document["data"]), name="event")
    engine(scan_sample(beamline, name))
    column = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    scan = absorption_scan(
        energy=column["mono_energy"],
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
