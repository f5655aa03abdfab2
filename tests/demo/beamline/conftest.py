"""Fixtures of the simulated beamlines."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from bluesky_xpdml.demo.beamline import ScatteringSample
from bluesky_xpdml.documents import CollectedRun, collector_for
from bluesky_xpdml.simulation.structure import Structure

Documents = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="session")
def collected() -> Callable[[Iterable[tuple[str, dict[str, Any]]]], list[CollectedRun]]:
    """Return a function that collects the documents of runs one after the other."""

    def collect(documents: Iterable[tuple[str, dict[str, Any]]]) -> list[CollectedRun]:
        runs, collector = [], None
        for name, document in documents:
            if name == "start":
                collector = collector_for(document)
                continue
            assert collector is not None
            collector.feed(name, document)
            if name == "stop":
                runs.append(collector.finish())
        return runs

    return collect


@pytest.fixture(scope="session")
def nickel() -> ScatteringSample:
    """Return fcc nickel, whose lines everybody knows."""
    corners = np.array([[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
    structure = Structure(lattice=3.524 * np.eye(3), fractional=corners, species=("Ni",) * 4)
    return ScatteringSample(
        name="nickel",
        element="Ni",
        formula="Ni",
        material="",
        oxidation_state=0.0,
        coordination_number=12.0,
        bond_length=2.492,
        structure=structure,
    )
