"""The table of modality advice: means over simulated materials, by element and predicted class.

It is a small JSON file with the recipe and the hashes of the data that were counted. The factory writes it
(`factory.training.advice_count`), `planning.advice` reads it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.vocabulary import Descriptor, Technique

FORMAT = 1
SHIPPED = Path(__file__).with_name("advice.json")
"""The table of the package."""
ALL_ELEMENTS = "all"
"""Element of the cells that are counted over all elements."""
ALL_CLASSES = "all"
"""Name of the cell that is counted over all predicted classes."""
BINNED_BY: Mapping[Descriptor, Descriptor] = {
    Descriptor.OXIDATION_STATE: Descriptor.OXIDATION_STATE,
    Descriptor.COORDINATION_NUMBER: Descriptor.COORDINATION_NUMBER,
    Descriptor.BOND_LENGTH: Descriptor.COORDINATION_NUMBER,
}
"""By descriptor: the descriptor whose predicted class its materials are sorted by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Means over the materials of one element and predicted class."""

    n: int
    """Materials."""
    formulas: int
    now: float
    """By the measured technique: mean size of the 90 % set [classes] or width of the interval [angstrom]."""
    after: float
    """The same with both modalities."""
    error_now: float
    """Mean absolute error of the value [unit of the descriptor]."""
    error_after: float
    standard_error: float
    """Of the gain; materials of one formula count as one draw."""

    @property
    def gain(self) -> float:
        """Return the share by which the set or the interval is narrowed, -1 to 1."""
        return gain_of(self.now, self.after)


Key = tuple[str, str, str, str]
"""Element or `all`, measured technique, technique to be measured, descriptor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviceTable:
    """Cells by element, measured technique, technique to be measured and descriptor, then by class."""

    cells: Mapping[Key, Mapping[str, Cell]]
    """The classes are named as in `probabilities`: `"2"`, `"3"`; `"all"` is counted over all of them."""
    recipe: Mapping[str, Any]
    """How the materials were cross-validated."""
    data: Mapping[str, str]
    """SHA-256 of the counted files, by name."""

    @property
    def elements(self) -> tuple[str, ...]:
        """Return the elements of the table."""
        return tuple(dict.fromkeys(key[0] for key in self.cells if key[0] != ALL_ELEMENTS))

    def others(self, element: str, measured: str) -> tuple[Technique, ...]:
        """Return the techniques that can be measured in addition, for an element of the table."""
        return tuple(dict.fromkeys(Technique(key[2]) for key in self.cells if key[:2] == (element, measured)))

    def write(self, path: Path) -> None:
        """Write the table, one line per group of cells."""
        columns = list(Cell.__dataclass_fields__)
        head = {"format": FORMAT, "columns": columns, "recipe": dict(self.recipe), "data": dict(self.data)}
        lines = []
        for key, by_class in self.cells.items():
            classes = {name: _rounded(cell) for name, cell in by_class.items()}
            names = ("element", "measured", "other", "descriptor")
            lines.append(json.dumps({**dict(zip(names, key, strict=True)), "classes": classes}))
        cells = ",\n".join(lines)
        text = f'{json.dumps(head, indent=1)[:-2]},\n "cells": [\n{cells}\n ]\n}}\n'
        path.write_text(text, encoding="utf-8")


@lru_cache(maxsize=4)
def load_table(path: Path = SHIPPED) -> AdviceTable:
    """Read a table, by default that of the package; a `PlanningError` if the file holds none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise PlanningError(f"{path} has format {document['format']}: this version reads {FORMAT}")
        return AdviceTable(
            cells={
                (entry["element"], entry["measured"], entry["other"], entry["descriptor"]): {
                    name: Cell(**dict(zip(document["columns"], numbers, strict=True)))
                    for name, numbers in entry["classes"].items()
                }
                for entry in document["cells"]
            },
            recipe=document["recipe"],
            data=document["data"],
        )
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        msg = (
            f"expected a table of modality advice in {path}, found {type(error).__name__}: {error}; "
            "`xpdml build-advice` makes one"
        )
        raise PlanningError(msg) from error


def gain_of(now: float, after: float) -> float:
    """Return the share by which a width is narrowed: 1 - after / now, and now / after - 1 if it widens.

    The second form keeps widening above -1, as the first keeps narrowing below 1.
    """
    widest = max(now, after)
    return (now - after) / widest if widest > 0.0 else 0.0


def _rounded(cell: Cell) -> list[float]:
    means = (cell.now, cell.after, cell.error_now, cell.error_after, cell.standard_error)
    return [cell.n, cell.formulas, *(float(f"{mean:.4g}") for mean in means)]
