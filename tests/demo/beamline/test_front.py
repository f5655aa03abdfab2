"""A reacting powder: both beamlines see what position and temperature make of it."""

import numpy as np
import pytest

from bluesky_xpdml.demo.beamline import ReactionCell, ReactionFront
from bluesky_xpdml.demo.beamline.front import NAME, POSITIONS, TEMPERATURES
from bluesky_xpdml.errors import BeamlineError


@pytest.fixture(scope="module")
def cell() -> ReactionCell:
    return ReactionCell(front=ReactionFront.random(seed=4), seed=4, pixels=128)


def test_every_front_lies_within_the_furnaces_range() -> None:
    across = np.linspace(*POSITIONS, 101)
    for seed in range(200):
        found = ReactionFront.random(seed).temperature(across)
        assert TEMPERATURES[0] + 50.0 < found.min()
        assert found.max() < TEMPERATURES[1] - 50.0


def test_the_spectrum_is_the_sum_of_the_phases_by_their_fractions(cell: ReactionCell) -> None:
    energy = np.linspace(6500.0, 6700.0, 400)
    curves = []
    for heat in (TEMPERATURES[0], TEMPERATURES[1]):
        cell.temperature.set(heat)
        curves.append(cell.xas.wheel.sample.edge_absorption(energy))
    cell.position.set(5.0)
    cell.temperature.set(float(cell.front.temperature(np.array([5.0]))[0]) + 2.0)
    share = cell.fraction
    assert 0.5 < share < 0.7
    expected = (1.0 - share) * curves[0] + share * curves[1]
    np.testing.assert_allclose(cell.xas.wheel.sample.edge_absorption(energy), expected, atol=1e-6)
    assert cell.xas.wheel.sample.oxidation_state == pytest.approx(3.0 + share)


def test_the_image_is_the_sum_of_the_phases_by_their_fractions(cell: ReactionCell) -> None:
    assert cell.scattering.changer.position == NAME
    cell.position.set(5.0)
    images = []
    for heat in (TEMPERATURES[0], TEMPERATURES[1]):
        cell.temperature.set(heat)
        images.append(cell.scattering.detector.rate().astype(float))
    cell.temperature.set(float(cell.front.temperature(np.array([5.0]))[0]) - 2.0)
    share = cell.fraction
    expected = (1.0 - share) * images[0] + share * images[1]
    np.testing.assert_allclose(cell.scattering.detector.rate(), expected, rtol=1e-4, atol=1e-3)
    assert cell.scattering.changer.sample.composition == {"Ca": 1.0, "La": 1.0, "Mn": 2.0, "O": 6.0}


def test_axes_keep_to_their_limits(cell: ReactionCell) -> None:
    with pytest.raises(BeamlineError, match="from 300 to 800 K and was sent to 900"):
        cell.temperature.set(900.0)


@pytest.mark.parametrize(
    ("phases", "expected"),
    [(("LaMnO3", "Unobtainium"), "no sample Unobtainium"), (("LaMnO3", "LaFeO3"), "phases of one metal")],
)
def test_phases_have_to_be_there_and_of_one_metal(phases: tuple[str, str], expected: str) -> None:
    with pytest.raises(BeamlineError, match=expected):
        ReactionCell(front=ReactionFront.random(seed=1), before=phases[0], after=phases[1])
