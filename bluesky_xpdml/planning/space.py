"""The parameters that a planner may change, with their ranges, and the unit cube that optimizers work in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.records import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of the experiment, with a finite range: a motor position, a temperature."""

    name: str
    """Key of suggestions; an actuator of the same name is moved to the value."""
    low: float
    """Lower end of the range [unit]."""
    high: float
    """Upper end of the range [unit]."""
    unit: str = ""

    def __post_init__(self) -> None:
        if not (isfinite(self.low) and isfinite(self.high) and self.low < self.high):
            msg = f"expected a range of {self.name} from low to high, found {self.low:g} to {self.high:g}"
            raise PlanningError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The parameters of a campaign.

    Raises
    ------
    PlanningError
        If there is no parameter, or two have the same name.

    Examples
    --------
    >>> space = Space(
    ...     parameters=(
    ...         Parameter(name="position", low=0.0, high=10.0, unit="mm"),
    ...         Parameter(name="temperature", low=300.0, high=800.0, unit="K"),
    ...     )
    ... )
    >>> space.to_unit([{"position": 2.5, "temperature": 800.0}]).tolist()
    [[0.25, 1.0]]
    >>> space.from_unit(np.array([[0.5, 0.0]]))
    [{'position': 5.0, 'temperature': 300.0}]
    """

    parameters: tuple[Parameter, ...]

    def __post_init__(self) -> None:
        names = self.names
        if not names or len(set(names)) < len(names):
            raise PlanningError(f"expected parameters with a name each, found {', '.join(names) or 'none'}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return tuple(parameter.name for parameter in self.parameters)

    def to_unit(self, points: Sequence[Mapping[str, object]]) -> FloatArray:
        """Return points, with a value for each parameter by name [its unit], in the unit cube, (n, d).

        Further entries are ignored; a `PlanningError` is raised if a value is missing or not a finite number.
        """
        low = np.array([parameter.low for parameter in self.parameters])
        high = np.array([parameter.high for parameter in self.parameters])
        rows = [[self._value(point, name) for name in self.names] for point in points]
        return np.asarray((np.array(rows, dtype=float).reshape(-1, low.size) - low) / (high - low))

    def from_unit(self, rows: FloatArray) -> list[dict[str, float]]:
        """Return points of the unit cube, (n, d), by name [unit of each parameter]."""
        return [
            {
                parameter.name: float(parameter.low + value * (parameter.high - parameter.low))
                for parameter, value in zip(self.parameters, row, strict=True)
            }
            for row in np.reshape(rows, (-1, len(self.parameters)))
        ]

    @staticmethod
    def _value(point: Mapping[str, object], name: str) -> float:
        value = point.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not isfinite(value):
            raise PlanningError(f"expected a number for {name}, found {value!r} in {dict(point)}")
        return float(value)
