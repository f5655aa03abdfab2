"""One scan of the simulated beamline as a record, for examples, tests and benchmarks."""

import numpy as np

from bluesky_xpdml.demo.beamline import XasBeamline, energy_grid
from bluesky_xpdml.records import AbsorptionScan

SAMPLE = "LaFeO3"
"""Sample that is scanned."""


def simulated_scan(seed: int = 0) -> AbsorptionScan:
    """Return counts of one sample of the simulated beamline; the seed is that of their noise."""
    beamline = XasBeamline(seed=seed)
    beamline.wheel.set(SAMPLE)
    energy = energy_grid(beamline.wheel.sample.edge_energy)
    counts: dict[str, list[float]] = {"i0": [], "it": [], "ir": []}
    for value in energy:
        beamline.mono.set(float(value))
        beamline.detectors.trigger()
        reading = beamline.detectors.read()
        for name, column in counts.items():
            column.append(next(v["value"] for key, v in reading.items() if key.lower().endswith(name)))
    i0, it, ir = (np.array(column, dtype=float) for column in counts.values())
    return AbsorptionScan(energy=energy, i0=i0, it=it, ir=ir, element="Fe", edge="K")
