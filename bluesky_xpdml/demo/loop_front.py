"""Fronts as lines over position: what the search, a raster and random choice are compared by."""

import numpy as np

from bluesky_xpdml.demo.beamline.front import POSITIONS, TEMPERATURES
from bluesky_xpdml.planning.boundary import BoundaryOptimizer
from bluesky_xpdml.planning.space import Parameter, Space
from bluesky_xpdml.records import FloatArray

DESCRIPTOR = "oxidation_state"
SPACE = Space(
    parameters=(
        Parameter(name="position", low=POSITIONS[0], high=POSITIONS[1], unit="mm"),
        Parameter(name="temperature", low=TEMPERATURES[0], high=TEMPERATURES[1], unit="K"),
    )
)
ACROSS = np.linspace(*POSITIONS, 41)
"""Positions at which fronts are compared [mm]."""
TOLERANCE = 0.02
"""Mean distance of the found front from the true one that is asked for [range of temperatures]."""
FAILING = 0.05
"""Share of the scans that lose their beam."""


def line(optimizer: BoundaryOptimizer) -> FloatArray:
    """Return the temperature at which an optimizer sees the front, at each of the positions [K], (41,).

    Parameters
    ----------
    optimizer
        With answers on both sides.
    """
    heat = np.linspace(*TEMPERATURES, 401)
    points = [{"position": where, "temperature": each} for where in ACROSS for each in heat]
    above = optimizer.is_above(points).reshape(ACROSS.size, heat.size)
    # Half a step below the first point that is above; where none is, the end of the range.
    first = np.where(above.any(axis=1), above.argmax(axis=1), heat.size - 1)
    return np.asarray(np.clip(heat[first] - 0.5 * (heat[1] - heat[0]), *TEMPERATURES))


def distance(found: FloatArray, truth: FloatArray) -> float:
    """Return the mean distance of two fronts [range of temperatures].

    Parameters
    ----------
    found, truth
        Temperatures at the same positions [K], (n,).

    Examples
    --------
    >>> distance(np.array([500.0, 520.0]), np.array([510.0, 520.0]))
    0.01
    """
    return float(np.mean(np.abs(found - truth)) / (TEMPERATURES[1] - TEMPERATURES[0]))
