"""What a raster and random choice find of a reaction front, with answers like those of the steered search.

To measure rasters on the simulated beamlines would take hours. So the models are asked about a few states of
reaction, measured as the search measures, and what a raster or random points would be told is read from
there: the answer at their state of reaction, with noise as large, and as many failures.
"""

from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.demo.beamline import ReactionFront
from bluesky_xpdml.demo.beamline.front import POSITIONS, TEMPERATURES
from bluesky_xpdml.demo.loop_front import ACROSS, DESCRIPTOR, FAILING, SPACE, TOLERANCE, distance, line
from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.boundary import BoundaryOptimizer
from bluesky_xpdml.records import FloatArray

RASTER = 20
"""Rows and columns of the raster."""
NUMBERS = tuple(round(12.0 * 1.15**n) for n in range(26))
"""Random choice is judged at these numbers of points, from 12 to 395."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the models say of the powder as it reacts."""

    fractions: FloatArray
    """States of reaction, ascending from 0 to 1, (n,)."""
    values: FloatArray
    """Mean answer at each [unit of the descriptor], (n,)."""
    noise: float
    """Standard deviation of repeated answers [unit of the descriptor]."""

    def measured(self, front: ReactionFront, rows: FloatArray, chance: np.random.Generator) -> FloatArray:
        """Return what points would be told, NaN where a scan fails, (m,).

        Parameters
        ----------
        front
            The true one.
        rows
            Position [mm] and temperature [K], (m, 2).
        chance
            Of noise and failures.
        """
        found = np.interp(front.fraction(rows[:, 0], rows[:, 1]), self.fractions, self.values)
        found = found + self.noise * chance.normal(size=len(rows))
        return np.where(chance.random(len(rows)) < FAILING, np.nan, found)


def raster_line(front: ReactionFront, answers: Answers, chance: np.random.Generator) -> FloatArray:
    """Return the front that a raster finds, at each of the positions [K], (41,).

    In each column the answers are interpolated to half way between the plateaus, and the columns to the
    positions; failed points are left out.

    Parameters
    ----------
    front
        The true one.
    answers
        What points are told.
    chance
        Of noise and failures.
    """
    where, heat = np.linspace(*POSITIONS, RASTER), np.linspace(*TEMPERATURES, RASTER)
    rows = np.stack(np.meshgrid(where, heat, indexing="ij"), axis=-1).reshape(-1, 2)
    values = answers.measured(front, rows, chance).reshape(RASTER, RASTER)
    level = 0.5 * (np.nanpercentile(values, 10) + np.nanpercentile(values, 90))
    columns = [_crossing(heat, column, level) for column in values]
    return np.asarray(np.interp(ACROSS, where, columns))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """What random points find, read by the same process as those of the search."""

    needed: int | None
    """Points that find the front as near as is asked for; None where as many as in the raster do not.

    Counted to the first time that it is near enough, which only the truth tells: in favour of chance.
    """
    error: float
    """Mean distance with as many points as the search took [range of temperatures]."""


def random_choice(
    front: ReactionFront, answers: Answers, chance: np.random.Generator, *, seed: int, measurements: int
) -> Chance:
    """Return what random points find of a front.

    Parameters
    ----------
    front
        The true one.
    answers
        What points are told.
    chance
        Of places, noise and failures.
    seed
        Of the optimizer that reads them.
    measurements
        As many as the search took.
    """
    low, high = np.array([POSITIONS, TEMPERATURES]).T
    rows = low + (high - low) * chance.random((RASTER**2, 2))
    values = answers.measured(front, rows, chance)
    outcomes = [
        {"_id": str(n), "position": row[0], "temperature": row[1], DESCRIPTOR: value}
        for n, (row, value) in enumerate(zip(rows, values, strict=True))
    ]
    truth = front.temperature(ACROSS)

    def error(n: int) -> float:
        optimizer = BoundaryOptimizer(SPACE, DESCRIPTOR, seed=seed)
        optimizer.ingest(outcomes[:n])
        try:
            return distance(line(optimizer), truth)
        except PlanningError:
            # All of these points lie on one side.
            return 1.0

    return Chance(needed=next((n for n in NUMBERS if error(n) <= TOLERANCE), None), error=error(measurements))


def _crossing(heat: FloatArray, column: FloatArray, level: float) -> float:
    """Return where a column of answers first rises through the level [K]; an end where it does not."""
    known = np.isfinite(column)
    heat, column = heat[known], column[known]
    above = column > level
    first = int(np.argmax(above)) if above.any() else heat.size
    if first in {0, heat.size}:
        return float(heat[min(first, heat.size - 1)])
    return float(np.interp(level, column[first - 1 : first + 1], heat[first - 1 : first + 1]))
