"""Modality advice: how much a second measurement of a sample would narrow each descriptor.

The advice is an expectation over samples of the element with the same predicted class, counted beforehand on
simulated materials (`factory.training.advice_count`). It says which measurement is worth its time on average,
and does not know the peculiarities of this sample.
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
from bluesky_xpdml.vocabulary import Descriptor, Technique

PRIOR_WEIGHT = 20.0
"""Weight of the parent's counts [materials]: an element's for its classes, all elements' for an element."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """The expected effect of one more modality on one descriptor."""

    modality: Technique
    """To be measured: `xanes`, `pdf` or `dpdf`."""
    descriptor: Descriptor
    predicted: str
    """Class under which the sample was looked up; `all` if the prediction gives none."""
    now: float
    """Expected size of the 90 % set [classes], or width of the 90 % interval of a bond length [angstrom]."""
    after: float
    """The same after measuring the modality too."""
    error_now: float
    """Expected absolute error of the value [unit of the descriptor]."""
    error_after: float
    """The same after measuring the modality too."""
    n: int
    """Materials of the element with this predicted class; if they are few, all materials weigh more."""
    standard_error: float
    """Of the gain."""

    @property
    def gain(self) -> float:
        """Return 1 - after / now, negative if the answer is expected to widen; -1 to 1."""
        return gain_of(self.now, self.after)

    @property
    def error_change(self) -> float:
        """Return the expected change of the absolute error, negative if it falls."""
        return self.error_after - self.error_now

    def as_json(self) -> dict[str, Any]:
        """Return the gain as plain JSON values."""
        names = ("modality", "descriptor", "predicted", "now", "after", "gain", "standard_error")
        rest = ("error_now", "error_after", "error_change", "n")
        return {name: getattr(self, name) for name in (*names, *rest)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The modalities that are left to measure of a sample, and what they are worth."""

    element: str
    technique: str
    """What was measured."""
    descriptors: tuple[Descriptor, ...]
    """Those of the prediction that advice is given about."""
    gains: tuple[Gain, ...]
    """One per modality and descriptor; empty if both kinds of data were measured."""

    def best(self, descriptor: str) -> Gain | None:
        """Return the modality that narrows a descriptor most; None if nothing is left to measure.

        Its gain may be zero or negative: then no measurement is expected to help. A `PlanningError` is raised
        if the prediction does not hold the descriptor.
        """
        if descriptor not in self.descriptors:
            msg = f"no advice about {str(descriptor)!r}: the prediction holds {', '.join(self.descriptors)}"
            raise PlanningError(msg)
        gains = [gain for gain in self.gains if gain.descriptor == descriptor]
        return max(gains, key=lambda gain: gain.gain) if gains else None

    def as_json(self) -> dict[str, Any]:
        """Return the advice as plain JSON values."""
        return {
            "element": self.element,
            "technique": self.technique,
            "descriptors": list(self.descriptors),
            "gains": [gain.as_json() for gain in self.gains],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """The parts of a prediction that advice depends on."""

    element: str
    technique: str
    edge: str
    values: Mapping[Descriptor, float]


def advise(prediction: Prediction | Mapping[str, Any], table: AdviceTable | Path = SHIPPED) -> Advice:
    """Estimate how much each other modality would narrow each descriptor.

    Parameters
    ----------
    prediction
        A prediction, or the start document of its derived run, as Tiled returns it.
    table
        Counted gains; by default the table of the package.

    Raises
    ------
    PlanningError
        If the prediction failed, if its element, edge or technique is not in the table, or if the document is
        not that of a derived run.

    Examples
    --------
    >>> answer = {"value": 2.9, "low": 2.4, "high": 3.4, "unit": "e"}
    >>> start = {"element": "Fe", "technique": "pdf", "descriptors": {"oxidation_state": answer}}
    >>> best = advise(start).best("oxidation_state")
    >>> str(best.modality), best.predicted, best.gain > 0.1
    ('xanes', '3', True)
    """
    measured = _measured(prediction)
    counted = load_table(table) if isinstance(table, Path) else table
    if measured.element not in counted.elements:
        known = ", ".join(counted.elements) or "no element"
        asked = measured.element or "a prediction without element"
        raise PlanningError(f"no advice for {asked}: the table holds {known}")
    descriptors = tuple(name for name in BINNED_BY if name in measured.values)
    return Advice(
        element=measured.element,
        technique=measured.technique,
        descriptors=descriptors,
        gains=tuple(
            _gain(measured, modality, descriptor, counted)
            for modality in _other_modalities(measured, counted)
            for descriptor in descriptors
        ),
    )


def _measured(prediction: Prediction | Mapping[str, Any]) -> _Measured:
    if isinstance(prediction, Prediction):
        values = {str(name): estimate.value for name, estimate in prediction.descriptors.items()}
        reasons: tuple[str, ...] = prediction.quality.reasons
        technique, element, edge = str(prediction.technique), prediction.element, prediction.edge
    else:
        values, reasons = _values_of_document(prediction)
        technique, element = str(prediction["technique"]), str(prediction["element"])
        edge = str(prediction.get("edge", ""))
    usable = {name: float(values[name]) for name in BINNED_BY if isfinite(values.get(name, float("nan")))}
    if not usable:
        why = "; ".join(reasons) or "no reason is given"
        msg = f"expected a prediction of {', '.join(BINNED_BY)}, found none of them ({why}): measure again"
        raise PlanningError(msg)
    return _Measured(element=element, technique=technique, edge=edge, values=usable)


def _values_of_document(start: Mapping[str, Any]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return descriptors and reasons of a derived run's start document."""
    missing = [name for name in ("technique", "element", "descriptors") if name not in start]
    if missing:
        msg = f"expected the start document of a derived run, found one without {', '.join(missing)}"
        raise PlanningError(msg)
    try:
        values = {name: float(entry["value"]) for name, entry in start["descriptors"].items()}
        reasons = tuple(str(reason) for reason in start.get("quality", {}).get("reasons", ()))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"expected descriptors with a value each, found {start['descriptors']!r}"
        raise PlanningError(msg) from error
    return values, reasons


def _other_modalities(measured: _Measured, table: AdviceTable) -> tuple[Technique, ...]:
    """Return the modalities left to measure; anomalous differences and other edges are not in the table."""
    if measured.technique in {Technique.XANES_PDF, Technique.XANES_DPDF}:
        return ()
    counted_edge = ("", "K") if measured.technique == Technique.XANES else ("",)
    others = table.others(measured.element, measured.technique)
    if not others or measured.edge not in counted_edge:
        counted = dict.fromkeys(key[1] for key in table.cells if key[0] == measured.element)
        msg = (
            f"no advice after {measured.technique} {measured.edge}".rstrip()
            + f" of {measured.element}: the table was counted on {', '.join(counted)} (xanes at the K edge, "
            "dpdf of a range that needs no absorption edge)"
        )
        raise PlanningError(msg)
    return others


def _gain(measured: _Measured, modality: Technique, descriptor: Descriptor, table: AdviceTable) -> Gain:
    key = (measured.element, measured.technique, modality, descriptor)
    name = predicted_class(measured.values, descriptor, table.cells[key])
    cell = expected(table, key, name)
    return Gain(
        modality=modality,
        descriptor=descriptor,
        predicted=name,
        now=cell.now,
        after=cell.after,
        error_now=cell.error_now,
        error_after=cell.error_after,
        n=cell.n,
        standard_error=cell.standard_error,
    )


def predicted_class(
    values: Mapping[Descriptor, float], descriptor: Descriptor, cells: Mapping[str, Cell]
) -> str:
    """Return the class of the table that is nearest to a prediction, `all` if it has none."""
    names = [name for name in cells if name != ALL_CLASSES]
    value = values.get(BINNED_BY[descriptor])
    if value is None or not names:
        return ALL_CLASSES
    return min(names, key=lambda name: (abs(float(name) - value), float(name)))


def expected(table: AdviceTable, key: Key, name: str) -> Cell:
    """Return the expectation for a class: its counts, shrunk to its element's, and these to all elements'."""
    all_elements = table.cells.get((ALL_ELEMENTS, *key[1:]), {}).get(ALL_CLASSES)
    cells = table.cells[key]
    element = cells[ALL_CLASSES]
    if all_elements is not None:
        siblings = [
            by_class[ALL_CLASSES]
            for other, by_class in table.cells.items()
            if other[1:] == key[1:] and other[0] != ALL_ELEMENTS
        ]
        element = _shrunk(element, all_elements, siblings)
    if name == ALL_CLASSES or name not in cells:
        return element
    return _shrunk(cells[name], element, [cell for each, cell in cells.items() if each != ALL_CLASSES])


def _shrunk(cell: Cell, parent: Cell, siblings: list[Cell]) -> Cell:
    """Return the mean of cell and parent with weights w = n / (n + 20) and 1 - w.

    Its variance is (w s)^2 + (1 - w)^2 (s_parent^2 + d^2), with d^2 the variance of the siblings' gains
    around the parent's.
    """
    weight = cell.n / (cell.n + PRIOR_WEIGHT)
    total = sum(sibling.n for sibling in siblings)
    spread = sum(sibling.n * (sibling.gain - parent.gain) ** 2 for sibling in siblings) / max(total, 1)
    names = ("now", "after", "error_now", "error_after")
    mixed = {name: weight * getattr(cell, name) + (1.0 - weight) * getattr(parent, name) for name in names}
    variance = (weight * cell.standard_error) ** 2
    variance += (1.0 - weight) ** 2 * (parent.standard_error**2 + spread)
    return Cell(n=cell.n, formulas=cell.formulas, standard_error=sqrt(variance), **mixed)
