"""Modality advice: how much a second measurement of a sample would narrow each descriptor.

The answer is an expectation for samples of the element that were answered alike, counted beforehand on
simulated materials (`planning.advice_count`). It says which measurement is worth its time on average; it
knows nothing of what is peculiar to this sample.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, sqrt
from pathlib import Path
from typing import Any

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.advice_table import (
    ALL_CLASSES,
    ALL_ELEMENTS,
    BINNED_BY,
    SHIPPED,
    AdviceTable,
    Cell,
    Key,
    gain_of,
    load_table,
)
from bluesky_xpdml.records import Prediction

BORROWED = 20.0
"""Materials that a class borrows from its element, and an element from all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What one more modality is expected to do for one descriptor."""

    modality: str
    """To be measured: `xanes`, `pdf` or `dpdf`."""
    descriptor: str
    predicted: str
    """Class by which the sample was looked up; `all` where the prediction gives none."""
    now: float
    """Expected size of the 90 % set [classes], or width of the 90 % interval of a bond length [angstrom]."""
    after: float
    """The same once the modality is measured too."""
    error_now: float
    """Expected absolute error of the value [unit of the descriptor]."""
    error_after: float
    """The same once the modality is measured too."""
    n: int
    """Materials of the element that were predicted alike; where they are few, most is borrowed."""
    standard_error: float
    """Of the gain."""

    @property
    def gain(self) -> float:
        """Return 1 - after / now, negative where the answer is expected to widen; -1 to 1."""
        return gain_of(self.now, self.after)

    @property
    def error_change(self) -> float:
        """Return the expected change of the absolute error, negative where it falls."""
        return self.error_after - self.error_now

    def as_json(self) -> dict[str, Any]:
        """Return the gain as plain JSON values."""
        names = ("modality", "descriptor", "predicted", "now", "after", "gain", "standard_error")
        rest = ("error_now", "error_after", "error_change", "n")
        return {name: getattr(self, name) for name in (*names, *rest)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What is left to measure of a sample, and what it would be worth."""

    element: str
    technique: str
    """What was measured."""
    descriptors: tuple[str, ...]
    """Those of the prediction that advice is given about."""
    gains: tuple[Gain, ...]
    """One a modality and descriptor; empty where both kinds of data are there already."""

    def best(self, descriptor: str) -> Gain | None:
        """Return the modality that narrows a descriptor most; None where nothing is left to measure.

        Its gain may be zero or negative: then no measurement is expected to help.

        Parameters
        ----------
        descriptor
            `oxidation_state`, `coordination_number` or `bond_length`.

        Raises
        ------
        PlanningError
            If the prediction does not hold the descriptor.
        """
        if descriptor not in self.descriptors:
            msg = f"no advice about {descriptor!r}: the prediction holds {', '.join(self.descriptors)}"
            raise PlanningError(msg)
        wanted = [gain for gain in self.gains if gain.descriptor == descriptor]
        return max(wanted, key=lambda gain: gain.gain) if wanted else None

    def as_json(self) -> dict[str, Any]:
        """Return the advice as plain JSON values."""
        return {
            "element": self.element,
            "technique": self.technique,
            "descriptors": list(self.descriptors),
            "gains": [gain.as_json() for gain in self.gains],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What advice depends on."""

    element: str
    technique: str
    edge: str
    values: Mapping[str, float]
    """Descriptors by name."""


def advise(prediction: Prediction | Mapping[str, Any], table: AdviceTable | Path = SHIPPED) -> Advice:
    """Say how much each other modality is expected to narrow each descriptor.

    Parameters
    ----------
    prediction
        A prediction, or the start document of its derived run, as Tiled gives it back.
    table
        What gains are read from; by default the table that comes with the package.

    Raises
    ------
    PlanningError
        If the prediction failed, is of an element, edge or technique without table, or is no such document.

    Examples
    --------
    >>> answer = {"value": 2.9, "low": 2.4, "high": 3.4, "unit": "e"}
    >>> start = {"element": "Fe", "technique": "pdf", "descriptors": {"oxidation_state": answer}}
    >>> best = advise(start).best("oxidation_state")
    >>> best.modality, best.predicted, best.gain > 0.1
    ('xanes', '3', True)
    """
    asked = _asked(prediction)
    known = load_table(table) if isinstance(table, Path) else table
    if asked.element not in known.elements:
        msg = (
            f"no advice for {asked.element or 'a prediction without element'}: the table holds "
            f"{', '.join(known.elements) or 'no element'}"
        )
        raise PlanningError(msg)
    descriptors = tuple(name for name in BINNED_BY if name in asked.values)
    others = () if "+" in asked.technique else _others(asked, known)
    return Advice(
        element=asked.element,
        technique=asked.technique,
        descriptors=descriptors,
        gains=tuple(_gain(asked, other, descriptor, known) for other in others for descriptor in descriptors),
    )


def _asked(prediction: Prediction | Mapping[str, Any]) -> Asked:
    if isinstance(prediction, Prediction):
        values = {name: found.value for name, found in prediction.descriptors.items()}
        reasons = prediction.quality.reasons
        technique, element, edge = prediction.technique, prediction.element, prediction.edge
    else:
        values, reasons = _published(prediction)
        technique, element = str(prediction["technique"]), str(prediction["element"])
        edge = str(prediction.get("edge", ""))
    usable = {name: float(value) for name, value in values.items() if name in BINNED_BY and isfinite(value)}
    if not usable:
        said = "; ".join(reasons) or "no reason is given"
        msg = f"expected a prediction of {', '.join(BINNED_BY)}, found none of them ({said}): measure again"
        raise PlanningError(msg)
    return Asked(element=element, technique=technique, edge=edge, values=usable)


def _published(start: Mapping[str, Any]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return descriptors and reasons of a derived run's start document."""
    missing = [name for name in ("technique", "element", "descriptors") if name not in start]
    if missing:
        msg = f"expected the start document of a derived run, found one without {', '.join(missing)}"
        raise PlanningError(msg)
    try:
        values = {name: float(found["value"]) for name, found in start["descriptors"].items()}
        reasons = tuple(str(reason) for reason in start.get("quality", {}).get("reasons", ()))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"expected descriptors with a value each, found {start['descriptors']!r}"
        raise PlanningError(msg) from error
    return values, reasons


def _others(asked: Asked, table: AdviceTable) -> tuple[str, ...]:
    """Return what can be measured besides; anomalous differences and other edges are not in the table."""
    counted_edge = ("", "K") if asked.technique == "xanes" else ("",)
    others = table.others(asked.element, asked.technique)
    if not others or asked.edge not in counted_edge:
        known = dict.fromkeys(key[1] for key in table.cells if key[0] == asked.element)
        msg = (
            f"no advice after {asked.technique} {asked.edge}".rstrip()
            + f" of {asked.element}: the table was counted on {', '.join(known)} (xanes at the K edge, dpdf "
            "of a range that needs no absorption edge)"
        )
        raise PlanningError(msg)
    return others


def _gain(asked: Asked, other: str, descriptor: str, table: AdviceTable) -> Gain:
    key = (asked.element, asked.technique, other, descriptor)
    name = predicted_class(asked.values, descriptor, table.cells[key])
    cell = expected(table, key, name)
    return Gain(
        modality=other,
        descriptor=descriptor,
        predicted=name,
        now=cell.now,
        after=cell.after,
        error_now=cell.error_now,
        error_after=cell.error_after,
        n=cell.n,
        standard_error=cell.standard_error,
    )


def predicted_class(values: Mapping[str, float], descriptor: str, cells: Mapping[str, Cell]) -> str:
    """Return the class of the table that a prediction is nearest to, `all` where it does not say.

    Parameters
    ----------
    values
        Descriptors by name.
    descriptor
        That advice is wanted about.
    cells
        By class.

    Examples
    --------
    >>> cell = Cell(n=9, formulas=9, now=2.0, after=1.0, error_now=0.3, error_after=0.2, standard_error=0.1)
    >>> predicted_class({"oxidation_state": 2.67}, "oxidation_state", {"2": cell, "3": cell, "all": cell})
    '3'
    """
    names = [name for name in cells if name != ALL_CLASSES]
    value = values.get(BINNED_BY[descriptor])
    if value is None or not names:
        return ALL_CLASSES
    return min(names, key=lambda name: (abs(float(name) - value), float(name)))


def expected(table: AdviceTable, key: Key, name: str) -> Cell:
    """Return what is expected of a class: its counts, shrunk to its element's, and these to all elements'.

    Parameters
    ----------
    table
        Counts.
    key
        Element, measured, to be measured, descriptor.
    name
        Class, or `all`.
    """
    everything = table.cells.get((ALL_ELEMENTS, *key[1:]), {}).get(ALL_CLASSES)
    cells = table.cells[key]
    element = cells[ALL_CLASSES]
    if everything is not None:
        siblings = [
            found[ALL_CLASSES]
            for other, found in table.cells.items()
            if other[1:] == key[1:] and other[0] != ALL_ELEMENTS
        ]
        element = _shrunk(element, everything, siblings)
    if name == ALL_CLASSES or name not in cells:
        return element
    return _shrunk(cells[name], element, [cell for each, cell in cells.items() if each != ALL_CLASSES])


def _shrunk(cell: Cell, parent: Cell, siblings: list[Cell]) -> Cell:
    """Return a weighted mean of counts; what is borrowed is as uncertain as siblings differ."""
    own = cell.n / (cell.n + BORROWED)
    total = sum(each.n for each in siblings)
    differ = sum(each.n * (each.gain - parent.gain) ** 2 for each in siblings) / max(total, 1)
    names = ("now", "after", "error_now", "error_after")
    mixed = {name: own * getattr(cell, name) + (1.0 - own) * getattr(parent, name) for name in names}
    variance = (own * cell.standard_error) ** 2 + (1.0 - own) ** 2 * (parent.standard_error**2 + differ)
    return Cell(n=cell.n, formulas=cell.formulas, standard_error=sqrt(variance), **mixed)
