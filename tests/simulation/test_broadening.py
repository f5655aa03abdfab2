"""Broadening widens what lies above the edge more, and changes nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.simulation.broadening import LEVEL_STEP, broaden, width

X = np.arange(0.0, 70.0, 0.25)
ONE = np.ones(1)

half_edges = st.floats(5.0, 20.0)
lows = st.floats(0.0, 2.0)
highs = st.floats(0.0, 6.0)


def one(mu: np.ndarray, half: float, low: float, high: float) -> np.ndarray:
    return np.asarray(broaden(X, mu[None, :], half * ONE, low * ONE, high * ONE)[0])


@settings(max_examples=50, deadline=None)
@given(half=half_edges, low=lows, high=highs, level=st.floats(-10.0, 10.0))
def test_a_constant_stays(half: float, low: float, high: float, level: float) -> None:
    np.testing.assert_allclose(one(np.full(X.size, level), half, low, high), level, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(
    half=half_edges,
    low=lows,
    extra=st.floats(0.0, 4.0),
    values=st.lists(st.floats(0.0, 2.0), min_size=X.size, max_size=X.size),
)
def test_no_new_extremes_arise(half: float, low: float, extra: float, values: list[float]) -> None:
    mu = np.array(values)
    broad = one(mu, half, low, low + extra)
    assert mu.min() - 1e-9 <= broad.min()
    assert broad.max() <= mu.max() + 1e-9


def test_zero_width_changes_nothing() -> None:
    mu = np.random.default_rng(0).random(X.size)
    np.testing.assert_array_equal(one(mu, 12.0, 0.0, 0.0), mu)


@pytest.mark.parametrize("sigma", [1.0, 1.25, 2.5])
def test_a_constant_width_is_a_gaussian(sigma: float) -> None:
    line = np.exp(-0.5 * ((X - 35.0) / 2.0) ** 2)
    broad = one(line, 12.0, sigma, sigma)
    assert broad.sum() == pytest.approx(line.sum(), rel=1e-6)
    second = np.sqrt((broad @ (X - 35.0) ** 2) / broad.sum())
    assert second == pytest.approx(np.hypot(2.0, sigma), abs=0.02 + 0.5 * (sigma % LEVEL_STEP))


def test_lines_far_above_the_edge_are_widened_more() -> None:
    heights = [
        one(np.exp(-0.5 * ((X - centre) / 1.0) ** 2), 12.0, 0.5, 4.0).max()
        for centre in (3.0, 10.0, 16.0, 30.0, 50.0)
    ]
    assert heights == sorted(heights, reverse=True)
    assert heights[0] > 2.0 * heights[-1]


def test_the_width_is_halfway_two_electron_volts_above_the_half_edge() -> None:
    sigma = width(X, np.array([10.0, 20.0]), np.array([0.5, 1.0]), np.array([3.0, 5.0]))
    assert sigma.shape == (2, X.size)
    assert np.all(np.diff(sigma, axis=1) > 0.0)
    assert sigma[0, X == 12.0][0] == pytest.approx(1.75)
    assert sigma[1, X == 22.0][0] == pytest.approx(3.0)
    assert sigma[0].min() > 0.5
    assert sigma[0].max() < 3.0


def test_rows_keep_their_order_and_their_own_widths() -> None:
    mu = np.random.default_rng(1).random((4, X.size))
    half, low, high = np.array([8.0, 12.0, 16.0, 9.0]), np.array([0.3, 1.0, 0.0, 0.6]), np.arange(1.0, 5.0)
    together = broaden(X, mu, half, low, high)
    for row in range(4):
        np.testing.assert_allclose(together[row], one(mu[row], half[row], low[row], high[row]), atol=1e-12)
