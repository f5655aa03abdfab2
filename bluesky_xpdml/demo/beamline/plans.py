"""Bluesky plans of the simulated absorption beamline."""

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
from bluesky import plan_stubs, preprocessors

from bluesky_xpdml.demo.beamline.devices import XasBeamline
from bluesky_xpdml.records import FloatArray

WAVENUMBER = 0.2624684
"""Square of the photoelectron's wavenumber per energy above the edge [1/A^2/eV]."""
PRE_EDGE = ((-150.0, -20.0, 5.0), (-20.0, -10.0, 1.0), (-10.0, 40.0, 0.25))
"""Start, end and step of the regions below and over the edge [eV relative to the edge]."""
END = 330.0
"""End of a scan [eV above the edge]."""
WAVENUMBER_STEP = 0.05
"""Step beyond the last region [1/A]."""

Plan = Generator[Any, Any, Any]


def energy_grid(edge_energy: float) -> FloatArray:
    """Return the energies of a XANES step scan [eV]: coarse, fine over the edge, then even in wavenumber.

    Parameters
    ----------
    edge_energy
        Tabulated edge of the element [eV].

    Examples
    --------
    >>> grid = energy_grid(7110.75)
    >>> len(grid), float(grid[0]), round(float(grid[-1]), 1)
    (358, 6960.75, 7439.6)
    """
    regions = [np.arange(start, end, step) for start, end, step in PRE_EDGE]
    first = np.sqrt(WAVENUMBER * PRE_EDGE[-1][1])
    wavenumbers = np.arange(first, np.sqrt(WAVENUMBER * END), WAVENUMBER_STEP)
    return np.asarray(edge_energy + np.concatenate([*regions, wavenumbers**2 / WAVENUMBER]))


def xanes_scan(
    beamline: XasBeamline,
    *,
    energies: FloatArray | None = None,
    exposure: float = 1.0,
    md: Mapping[str, object] | None = None,
) -> Plan:
    """Scan the energy over the K edge of the sample in the beam.

    Parameters
    ----------
    beamline
        Where to measure.
    energies
        Nominal energies [eV]; `energy_grid` of the sample's element by default.
    exposure
        Counting time a point [s], of the simulation: nothing waits for it.
    md
        More for the start document.

    Examples
    --------
    >>> from bluesky import RunEngine
    >>> documents = []
    >>> engine = RunEngine({})
    >>> token = engine.subscribe(lambda name, document: documents.append(name))
    >>> beamline = XasBeamline()
    >>> uids = engine(xanes_scan(beamline, energies=np.array([7000.0, 7200.0])))
    >>> documents
    ['start', 'descriptor', 'event', 'event', 'stop']
    """
    sample = beamline.wheel.sample
    grid = energy_grid(sample.edge_energy) if energies is None else energies
    metadata = {
        "plan_name": "xanes_scan",
        "technique": "xas",
        "element": sample.element,
        "edge": "K",
        "sample": {"name": sample.name, "composition": sample.formula},
        "motors": [beamline.mono.name],
        "detectors": [beamline.detectors.name],
        "num_points": len(grid),
        "num_intervals": len(grid) - 1,
        "exposure": exposure,
        "hints": {"dimensions": [([beamline.mono.energy.name], "primary")]},
        **(md or {}),
    }

    measured = preprocessors.run_wrapper(_step_scan(beamline, grid, exposure), md=metadata)
    return (yield from preprocessors.stage_wrapper(measured, [beamline.detectors, beamline.mono]))


def scan_sample(
    beamline: XasBeamline,
    name: str,
    *,
    energies: FloatArray | None = None,
    exposure: float = 1.0,
    md: Mapping[str, object] | None = None,
) -> Plan:
    """Turn a sample into the beam and scan over its edge.

    Parameters
    ----------
    beamline
        Where to measure.
    name
        Name of a sample on the wheel.
    energies, exposure, md
        As for `xanes_scan`.

    Raises
    ------
    BeamlineError
        If no sample has that name.
    """
    yield from plan_stubs.abs_set(beamline.wheel, name, wait=True)
    return (yield from xanes_scan(beamline, energies=energies, exposure=exposure, md=md))


def _step_scan(beamline: XasBeamline, energies: FloatArray, exposure: float) -> Plan:
    yield from plan_stubs.abs_set(beamline.detectors.exposure, exposure, wait=True)
    for energy in energies:
        yield from plan_stubs.abs_set(beamline.mono, float(energy), wait=True)
        yield from plan_stubs.trigger_and_read([beamline.detectors, beamline.mono])
