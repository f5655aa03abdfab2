import numpy as np
import pytest

from bluesky_xpdml.demo.beamline import foil_absorption
from bluesky_xpdml.demo.beamline.physics import resolution
from bluesky_xpdml.errors import BeamlineError
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES


@pytest.mark.parametrize("element", FOIL_ENERGIES)
def test_steepest_point_is_the_tabulated_energy(element: str) -> None:
    energy = FOIL_ENERGIES[element] + np.arange(-40.0, 60.0, 0.005)
    slope = np.gradient(foil_absorption(element, energy), energy)
    assert energy[np.argmax(slope)] == pytest.approx(FOIL_ENERGIES[element], abs=0.01)


@pytest.mark.parametrize("element", FOIL_ENERGIES)
def test_resolution_of_the_monochromator_hardly_moves_it(element: str) -> None:
    energy = FOIL_ENERGIES[element] + np.arange(-40.0, 60.0, 0.005)
    blurred = foil_absorption(element, energy, resolution(FOIL_ENERGIES[element]))
    steepest = energy[np.argmax(np.gradient(blurred, energy))]
    assert steepest == pytest.approx(FOIL_ENERGIES[element], abs=0.05)


@pytest.mark.parametrize("element", FOIL_ENERGIES)
def test_foil_looks_like_a_metal(element: str) -> None:
    x = np.arange(-150.0, 300.0, 0.1)
    foil = foil_absorption(element, FOIL_ENERGIES[element] + x)
    assert foil.max() < 1.2
    assert 0.25 < foil[np.searchsorted(x, 3.0)] < 0.7, "the shoulder stands before the main edge"
    assert foil[0] == pytest.approx(0.0, abs=1e-9)
    assert foil[-1] == pytest.approx(1.0, abs=1e-6)


def test_unknown_foil_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BeamlineError, match=r"no foil of 'Zn'.*Ti, V"):
        foil_absorption("Zn", np.array([9659.0]))
