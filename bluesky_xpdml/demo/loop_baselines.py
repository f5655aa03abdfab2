"""Reaction fronts found by a raster and by random points, with answers like those of the steered search.

Measuring rasters on the simulated beamlines would take hours. Instead, the models answer at a few states of
reaction, measured as in the search, and the answers of raster and random points are interpolated from these,
with the same noise and the same share of failures.
"""

from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.demo.beamline import ReactionFront
from bluesky_xpdml.demo.beamline.front import POSITIONS, TEMPERATURES
from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.boundary import BoundaryOptimizer
from bluesky_xpdml.planning.space import Parameter, Space
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import Descriptor

DESCRIPTOR = Descriptor.OXIDATION_STATE
SPACE = Space(
    parameters=(
        Parameter(name="position", low=POSITIONS[0], high=POSITIONS[1], unit="mm"),
        Parameter(name="temperature", low=TEMPERATURES[0], high=TEMPERATURES[1], unit="K"),
    )
)
ACROSS = np.linspace(*POSITIONS, 41)
"""Positions at which fronts are compared [mm]."""
TOLERANCE = 0.02
"""Requested mean distance of the found front from the true one [range of temperatures]."""
FAILING = 0.05
"""Share of the scans that lose their beam."""
RASTER = 20
"""Rows and columns of the raster."""
NUMBERS = tuple(round(12.0 * 1.15**n) for n in range(26))
"""Numbers of random points that are tried, from 12 to 395."""


def found_front(optimizer: BoundaryOptimizer) -> FloatArray:
    """Return the temperature of an optimizer's front at each of the positions [K], (41,)."""
    heat = np.linspace(*TEMPERATURES, 401)
    points = [{"position": where, "temperature": each} for where in ACROSS for each in heat]
    above = optimizer.is_above(points).reshape(ACROSS.size, heat.size)
    # Half a step below the first point above the front; the end of the range if there is none.
    first = np.where(above.any(axis=1), above.argmax(axis=1), heat.size - 1)
    return np.asarray(np.clip(heat[first] - 0.5 * (heat[1] - heat[0]), *TEMPERATURES))


def front_distance(found: FloatArray, truth: FloatArray) -> float:
    """Return the mean distance of two fronts [range of temperatures], from temperatures [K], (n,) each."""
    return float(np.mean(np.abs(found - truth)) / (TEMPERATURES[1] - TEMPERATURES[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnswers:
    """Answers of the models about the powder as a function of its state of reaction."""

    fractions: FloatArray
    """States of reaction, ascending from 0 to 1, (n,)."""
    values: FloatArray
    """Mean answer at each [unit of the descriptor], (n,)."""
    noise: float
    """Standard deviation of repeated answers [unit of the descriptor]."""

    def at(self, front: ReactionFront, rows: FloatArray, random: np.random.Generator) -> FloatArray:
        """Return noisy answers for a true front, NaN for failed scans, (m,), at [mm] and [K], (m, 2)."""
        answers = np.interp(front.fraction(rows[:, 0], rows[:, 1]), self.fractions, self.values)
        answers = answers + self.noise * random.normal(size=len(rows))
        return np.where(random.random(len(rows)) < FAILING, np.nan, answers)


def raster_front(front: ReactionFront, answers: ModelAnswers, random: np.random.Generator) -> FloatArray:
    """Return the front that a raster finds, at each of the positions [K], (41,).

    In each column the answers are interpolated to half way between the plateaus, and the columns to the
    positions; failed points are left out.
    """
    where, heat = np.linspace(*POSITIONS, RASTER), np.linspace(*TEMPERATURES, RASTER)
    rows = np.stack(np.meshgrid(where, heat, indexing="ij"), axis=-1).reshape(-1, 2)
    values = answers.at(front, rows, random).reshape(RASTER, RASTER)
    level = 0.5 * (np.nanpercentile(values, 10) + np.nanpercentile(values, 90))
    columns = [_crossing(heat, column, level) for column in values]
    return np.asarray(np.interp(ACROSS, where, columns))


def _crossing(heat: FloatArray, column: FloatArray, level: float) -> float:
    """Return where a column of answers first rises through the level [K]; an end if it does not."""
    known = np.isfinite(column)
    heat, column = heat[known], column[known]
    above = column > level
    first = int(np.argmax(above)) if above.any() else heat.size
    if first in {0, heat.size}:
        return float(heat[min(first, heat.size - 1)])
    return float(np.interp(level, column[first - 1 : first + 1], heat[first - 1 : first + 1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomSearch:
    """The front found by random points, read by the same process as that of the search."""

    needed: int | None
    """Number of points that reach the requested distance; None if as many as in the raster do not.

    Counted to the first time, which only the truth reveals: this favours the random points.
    """
    error: float
    """Mean distance with as many points as the search took [range of temperatures]."""


def random_search(
    front: ReactionFront,
    answers: ModelAnswers,
    random: np.random.Generator,
    *,
    seed: int,
    measurements: int,
) -> RandomSearch:
    """Find a true front with random points; the seed is that of the optimizer that reads the answers.

    `measurements` is the number of points that the steered search took.
    """
    low, high = np.array([POSITIONS, TEMPERATURES]).T
    rows = low + (high - low) * random.random((RASTER**2, 2))
    values = answers.at(front, rows, random)
    outcomes = [
        {"_id": str(n), "position": row[0], "temperature": row[1], DESCRIPTOR: value}
        for n, (row, value) in enumerate(zip(rows, values, strict=True))
    ]
    truth = front.temperature(ACROSS)

    def error(n: int) -> float:
        optimizer = BoundaryOptimizer(SPACE, DESCRIPTOR, seed=seed)
        optimizer.ingest(outcomes[:n])
        try:
            return front_distance(found_front(optimizer), truth)
        except PlanningError:
            # All these points lie on one side.
            return 1.0

    needed = next((n for n in NUMBERS if error(n) <= TOLERANCE), None)
    return RandomSearch(needed=needed, error=error(measurements))
