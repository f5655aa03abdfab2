import numpy as np
import pytest

from bluesky_xpdml.errors import ReductionError, SimulationError
from bluesky_xpdml.simulation.measured_curve import MARGIN, measured_curve
from bluesky_xpdml.simulation.pair_distribution import Instrument, curve
from bluesky_xpdml.simulation.pair_histogram import pair_histogram
from bluesky_xpdml.simulation.structure import Structure

HALITE = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]])


def halite(cation: str, anion: str) -> Structure:
    return Structure(
        lattice=4.2 * np.eye(3),
        fractional=np.concatenate([HALITE, HALITE + np.array([0.5, 0.0, 0.0])]),
        species=(cation,) * 4 + (anion,) * 4,
    )


@pytest.mark.parametrize("u_iso", [0.004, {"Ni": 0.01}])
def test_one_element_has_the_same_weight_at_every_q(u_iso: float | dict[str, float]) -> None:
    pairs = pair_histogram(halite("Ni", "Ni"), reach=20.0 + MARGIN)
    settings = Instrument(q_min=0.8, q_max=24.0, q_damp=0.03)
    r, measured = measured_curve(pairs, r_max=20.0, instrument=settings, u_iso=u_iso)
    same_r, ordinary = curve(pairs, r_max=20.0, instrument=settings, u_iso=u_iso)
    assert np.array_equal(r, same_r)
    # Both cut the band on a grid of their own.
    assert np.abs(measured - ordinary)[r > 1.0].max() < 0.02 * np.abs(ordinary).max()


def test_pairs_of_light_atoms_have_less_weight_than_by_forward_scattering() -> None:
    structure = Structure(
        lattice=np.diag([3.9, 3.9, 3.9]),
        fractional=np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.0]]),
        species=("Sr", "Ti", "O"),
    )
    pairs = pair_histogram(structure, reach=8.0 + MARGIN)
    settings = Instrument(q_min=0.5, q_max=25.0)
    r, measured = measured_curve(pairs, r_max=8.0, instrument=settings, u_iso=0.005)
    _, ordinary = curve(pairs, r_max=8.0, instrument=settings, u_iso=0.005)
    first_shell, metals = np.abs(r - 1.95) < 0.2, np.abs(r - 3.9 * np.sqrt(0.75)) < 0.2
    assert measured[first_shell].max() / measured[metals].max() < (
        0.9 * ordinary[first_shell].max() / ordinary[metals].max()
    )


def test_pairs_that_end_too_early_are_refused() -> None:
    pairs = pair_histogram(halite("Ni", "O"), reach=12.0)
    with pytest.raises(SimulationError, match=r"up to 12\.00 angstrom: expected 20\.00 or more"):
        measured_curve(pairs, r_max=10.0, instrument=Instrument(q_max=20.0), u_iso=0.005)


def test_factors_beyond_their_table_are_refused() -> None:
    pairs = pair_histogram(halite("Ni", "O"), reach=5.0 + MARGIN)
    with pytest.raises(ReductionError, match="known for Q from 0 to 75"):
        measured_curve(pairs, r_max=5.0, instrument=Instrument(q_max=90.0), u_iso=0.005)
