from pathlib import Path

import numpy as np
import pytest

from bluesky_xpdml.demo.beamline import load_samples, load_scattering_samples
from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.library import load_site_spectra
from bluesky_xpdml.factory.training import demo_samples


def test_committed_samples_are_what_the_builder_makes(shared_data: Path) -> None:
    built = demo_samples.build_demo_samples(shared_data / "simulation")
    committed = {sample.name: sample for sample in load_samples()}
    assert [entry["name"] for entry in built] == list(committed)
    for entry in built:
        sample = committed[entry["name"]]
        assert entry["truth"]["oxidation_state"] == sample.oxidation_state
        assert entry["truth"]["bond_length"] == sample.bond_length
        assert entry["energy_shift"] == pytest.approx(sample.energy_shift, abs=1e-3)
        assert entry["energy_start"] + entry["energy_shift"] == pytest.approx(sample.energy[0], abs=2e-3)


def test_only_spectra_that_may_be_published_are_chosen(shared_data: Path) -> None:
    for site in demo_samples.DEMO_SITES:
        spectra = load_site_spectra(shared_data / "simulation", site.element)
        rows = (spectra.material == site.material) & (spectra.site == site.site)
        assert "feff10" in spectra.source[rows]
        assert np.unique(spectra.valence[spectra.material == site.material]).size == 1


def test_site_that_is_not_there_is_named(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = demo_samples.DemoSite("Nothing", "Fe", "mp-0", 1, 1.0)
    monkeypatch.setattr(demo_samples, "DEMO_SITES", (wrong,))
    with pytest.raises(TrainingError, match="expected one FEFF10 spectrum of site 1 of mp-0, found 0"):
        demo_samples.build_demo_samples(library)


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
    monkeypatch.setattr(demo_samples, "DEMO_SITES", (demo_samples.DemoSite("Nothing", "V", "mp-0", 1, 1.0),))
    with pytest.raises(TrainingError, match="expected a structure of mp-0"):
        demo_samples.build_demo_structures(shared_data / "simulation")
