from importlib.resources import files

import numpy as np
import pytest

from bluesky_xpdml.demo.beamline import SimulatedSample, held_out_formulas, load_samples

SAMPLES = {sample.name: sample for sample in load_samples()}


def test_samples_span_elements_valences_and_coordination_numbers() -> None:
    assert {sample.element for sample in SAMPLES.values()} == {"Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni"}
    assert {sample.oxidation_state for sample in SAMPLES.values()} == {2.0, 3.0, 4.0, 5.0, 6.0}
    assert {sample.coordination_number for sample in SAMPLES.values()} == {4.0, 5.0, 6.0}
    assert all(1.6 < sample.bond_length < 2.4 for sample in SAMPLES.values())


def test_names_are_unique_and_formulas_are_held_out() -> None:
    assert len(SAMPLES) == len(load_samples())
    assert set(held_out_formulas()) == {sample.formula for sample in SAMPLES.values()}


def test_file_of_the_samples_stays_small_and_names_its_sources() -> None:
    text = files("bluesky_xpdml.demo.beamline").joinpath("samples.json").read_text(encoding="utf-8")
    assert len(text) < 200_000
    assert "Materials Project, CC BY 4.0" in text


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_spectrum_is_a_smooth_edge_of_the_stated_height(sample: SimulatedSample) -> None:
    energy = sample.edge_energy + np.arange(-150.0, 300.0, 0.25)
    spectrum = sample.edge_absorption(energy) / sample.edge_step
    assert np.abs(spectrum[energy < sample.edge_energy - 15.0]).max() < 0.005
    assert 0.6 < spectrum[-1] < 1.05, "falls as Victoreen's curve from one"
    assert spectrum.min() > -0.01
    assert spectrum.max() < 2.0
    jumps = np.abs(np.diff(spectrum, 2))
    assert jumps.max() < 0.05, "no kink where the computed window begins or ends"


def test_edges_of_one_element_stand_in_the_order_of_their_valence() -> None:
    def half_rise(name: str) -> float:
        sample = SAMPLES[name]
        energy = sample.edge_energy + np.arange(-20.0, 40.0, 0.1)
        return float(energy[np.argmax(sample.edge_absorption(energy) > 0.5 * sample.edge_step)])

    assert half_rise("MnCO3") + 2.0 < half_rise("LaMnO3") < half_rise("CaMnO3") - 2.0
    assert half_rise("FeNb2O6") + 2.0 < half_rise("LaFeO3")


def test_absorption_is_background_and_edge() -> None:
    sample = SAMPLES["LaFeO3"]
    energy = np.array([sample.edge_energy - 100.0, sample.edge_energy])
    background = sample.absorption(energy) - sample.edge_absorption(energy)
    assert background[1] == pytest.approx(sample.background)
    assert background[0] > background[1]
