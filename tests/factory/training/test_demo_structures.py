from pathlib import Path

import numpy as np
import pytest

from bluesky_xpdml.demo.beamline import load_scattering_samples
from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.training import demo_samples
from bluesky_xpdml.factory.training.demo_samples import DemoSite


def test_committed_structures_are_what_the_builder_makes(shared_data: Path) -> None:
    built = demo_samples.build_demo_structures(shared_data / "simulation")["samples"]
    committed = {sample.name: sample for sample in load_scattering_samples()}
    assert [entry["name"] for entry in built] == list(committed)
    for entry in built:
        sample = committed[entry["name"]]
        assert entry["truth"] == sample.truth
        assert entry["formula"] == sample.formula
        assert tuple(entry["species"]) == sample.structure.species
        assert np.allclose(entry["positions"], sample.structure.fractional, atol=1e-6)
        assert np.allclose(entry["lattice"], sample.structure.lattice, atol=1e-6)


def test_material_that_is_not_there_is_named(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_samples, "DEMO_SITES", (DemoSite("Nothing", "V", "mp-0", 1, 1.0),))
    with pytest.raises(TrainingError, match="expected a structure of mp-0"):
        demo_samples.build_demo_structures(shared_data / "simulation")
