from importlib.resources import files

import pytest

from bluesky_xpdml.demo.beamline import (
    ScatteringSample,
    held_out_formulas,
    held_out_scattering_formulas,
    load_samples,
    load_scattering_samples,
)
from bluesky_xpdml.reduction.composition import atom_fractions

SAMPLES = {sample.name: sample for sample in load_scattering_samples()}


def test_samples_are_those_of_the_absorption_beamline() -> None:
    """So that one sample can be measured in both ways."""
    for sample in load_samples():
        both = SAMPLES[sample.name]
        assert (both.element, both.material) == (sample.element, sample.material)
        assert both.truth == sample.truth
    assert len(SAMPLES) == len(load_samples())


def test_formulas_are_held_out() -> None:
    assert set(held_out_scattering_formulas()) == {sample.formula for sample in SAMPLES.values()}
    assert set(held_out_scattering_formulas()) <= set(held_out_formulas())


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_formula_is_that_of_the_structure(sample: ScatteringSample) -> None:
    assert atom_fractions(sample.formula) == pytest.approx(atom_fractions(sample.composition))
    density = len(sample.structure.species) / sample.structure.volume
    assert 0.04 < density < 0.12, "atoms a cubic angstrom of an oxide"


def test_file_of_the_structures_names_its_source() -> None:
    text = files("bluesky_xpdml.demo.beamline").joinpath("structures.json").read_text(encoding="utf-8")
    assert "Materials Project, CC BY 4.0" in text
    assert len(text) < 50_000
