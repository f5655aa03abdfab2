from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine

from bluesky_xpdml.demo.beamline import XasBeamline, energy_grid, scan_sample, xanes_scan
from bluesky_xpdml.errors import BeamlineError
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES

Documents = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def measure() -> Callable[..., Documents]:
    """Run a plan on a real RunEngine and return its documents."""

    def run(plan: Any) -> Documents:
        documents: Documents = []
        engine = RunEngine({})
        engine.subscribe(lambda name, document: documents.append((name, document)))
        engine(plan)
        return documents

    return run


def column(documents: Documents, key: str) -> np.ndarray:
    return np.array([document["data"][key] for name, document in documents if name == "event"])


def test_start_document_describes_the_measurement_but_not_the_answer(
    measure: Callable[..., Documents],
) -> None:
    energies = np.linspace(7100.0, 7200.0, 11)
    documents = measure(scan_sample(XasBeamline(), "LaFeO3", energies=energies, md={"proposal": 7}))
    (start,) = (document for name, document in documents if name == "start")
    assert start["plan_name"] == "xanes_scan"
    assert (start["element"], start["edge"], start["technique"]) == ("Fe", "K", "xas")
    assert start["sample"] == {"name": "LaFeO3", "composition": "LaFeO3"}
    assert start["hints"]["dimensions"] == [(["mono_energy"], "primary")]
    assert start["num_points"] == len(column(documents, "I0")) == 11
    assert start["proposal"] == 7
    assert not {"oxidation_state", "coordination_number", "truth"} & set(start)


@pytest.mark.parametrize("name", ["Na2TiSiO5", "LaFeO3", "La2NiWO6"])
def test_axis_error_shows_in_the_reference_channel(measure: Callable[..., Documents], name: str) -> None:
    beamline = XasBeamline(seed=2)
    tabulated = FOIL_ENERGIES[beamline.wheel.samples[name].element]
    grid = energy_grid(tabulated)
    documents = measure(scan_sample(beamline, name, energies=grid[np.abs(grid - tabulated) < 7.0]))
    energy = column(documents, "mono_energy")
    foil = np.log(column(documents, "It") / column(documents, "Ir"))
    near = np.abs(energy - tabulated) < 5.0
    steepest = energy[near][np.argmax(np.gradient(foil[near], energy[near]))]
    assert tabulated - steepest == pytest.approx(beamline.mono.axis_error.at(tabulated), abs=0.3)


def test_same_seed_gives_the_same_run(measure: Callable[..., Documents]) -> None:
    energies = np.linspace(6530.0, 6560.0, 11)
    first, again, other = (
        measure(scan_sample(XasBeamline(seed=seed), "MnCO3", energies=energies)) for seed in (1, 1, 2)
    )
    assert np.array_equal(column(first, "It"), column(again, "It"))
    assert not np.array_equal(column(first, "It"), column(other, "It"))


def test_scan_uses_the_given_energies(measure: Callable[..., Documents]) -> None:
    energies = np.array([7200.0, 7150.0, 7100.0])
    documents = measure(xanes_scan(XasBeamline(), energies=energies, exposure=0.5))
    assert np.array_equal(column(documents, "mono_energy"), energies)
    (descriptor,) = (document for name, document in documents if name == "descriptor")
    assert descriptor["configuration"]["detectors"]["data"]["detectors_exposure"] == 0.5


def test_time_is_simulated(measure: Callable[..., Documents]) -> None:
    beamline = XasBeamline()
    documents = measure(xanes_scan(beamline, energies=np.array([7000.0, 7100.0]), exposure=600.0))
    times = [document["time"] for name, document in documents if name in {"start", "stop"}]
    assert beamline.clock.now > 1200.0
    assert times[1] - times[0] < 600.0


def test_unknown_sample_stops_the_plan_before_a_run_is_opened() -> None:
    documents = []
    engine = RunEngine({})
    engine.subscribe(lambda *pair: documents.append(pair))
    with pytest.raises(BeamlineError, match="no sample 'gold'"):
        engine(scan_sample(XasBeamline(), "gold"))
    assert documents == []


@pytest.mark.parametrize("element", FOIL_ENERGIES)
def test_grid_ascends_and_is_fine_over_the_edge(element: str) -> None:
    x = energy_grid(FOIL_ENERGIES[element]) - FOIL_ENERGIES[element]
    assert 250 <= x.size <= 400
    assert all(after > before for before, after in pairwise(x))
    assert x[0] == pytest.approx(-150.0)
    assert x[-1] > 290.0
    assert np.diff(x[(x > -10.0) & (x < 40.0)]).max() < 0.26
