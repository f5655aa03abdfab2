"""Answers and tables small enough to count by hand."""

from collections.abc import Callable

import pytest

from bluesky_xpdml.planning.advice_table import BINNED_BY, AdviceTable, Cell
from bluesky_xpdml.records import Estimate, Prediction, Quality

# The startup profile of the RE manager, which runs it in a process of its own.
collect_ignore = ["queue_profile"]

STEPS = [("xanes", "pdf"), ("xanes", "dpdf"), ("pdf", "xanes"), ("dpdf", "xanes")]


def cell(now: float, after: float, *, n: int = 100, error: float = 0.05) -> Cell:
    return Cell(n=n, formulas=n, now=now, after=after, error_now=0.3, error_after=0.2, standard_error=error)


@pytest.fixture
def table() -> AdviceTable:
    """Return a table of Fe and Ni: dpdf narrows by half, pdf not at all, xanes by a quarter."""
    after = {"pdf": 2.0, "dpdf": 1.0, "xanes": 1.5}
    cells = {}
    for element in ("Fe", "Ni", "all"):
        for measured, other in STEPS:
            for descriptor in BINNED_BY:
                names = ("all",) if element == "all" else ("all", "2", "3")
                cells[element, measured, other, descriptor] = {
                    name: cell(2.0, after[other]) for name in names
                }
    return AdviceTable(cells=cells, recipe={"folds": 5}, data={"sites": "0"})


@pytest.fixture
def prediction() -> Callable[..., Prediction]:
    """Return a function that makes a prediction of Fe."""

    def make(technique: str = "xanes", element: str = "Fe", edge: str = "K", raw: str = "raw") -> Prediction:
        descriptors = {
            "oxidation_state": Estimate(
                value=2.67, low=2.2, high=3.1, unit="e", probabilities={"2": 0.33, "3": 0.67}
            ),
            "coordination_number": Estimate(value=5.4, low=4.0, high=6.0, unit="1"),
            "bond_length": Estimate(value=2.03, low=1.98, high=2.08, unit="angstrom"),
        }
        return Prediction(
            technique=technique,
            element=element,
            edge=edge if "xanes" in technique else "",
            quality=Quality(),
            descriptors=descriptors,
            raw_uids=(raw,),
        )

    return make
