"""The edge is found at the rise of the spectrum, whatever precedes it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.reduction.edge_position import LEVELS, SMOOTHING, edge_shape, pre_edge_line, smooth

X = np.arange(-160.0, 100.0, 0.25)


def edge_position(x, mu):
    shape = edge_shape(x, mu)
    return shape.edge, shape.half_edge


def step(x: np.ndarray, centre: float, width: float = 2.0) -> np.ndarray:
    return np.asarray(ndtr((x - centre) / width))


@pytest.mark.parametrize("centre", [7.0, 10.25, 13.7, 19.0])
@pytest.mark.parametrize("width", [0.5, 1.5, 2.5])
def test_an_error_function_is_found_at_its_quantiles(centre: float, width: float) -> None:
    edge, half = edge_position(X, step(X, centre, width))
    spread = np.hypot(width, SMOOTHING)
    assert half == pytest.approx(centre, abs=0.02)
    assert edge == pytest.approx(centre + spread * ndtri(LEVELS).mean(), abs=0.02)


def test_a_white_line_is_no_higher_step() -> None:
    white_line = 0.8 * np.exp(-0.5 * ((X - 17.0) / 1.5) ** 2)
    bare, crowned = (edge_position(X, step(X, 13.0) + extra)[1] for extra in (0.0, white_line))
    assert crowned == pytest.approx(bare, abs=1.0)


@pytest.mark.parametrize("height", [0.1, 0.3, 0.6, 0.8])
def test_a_pre_edge_peak_is_not_mistaken_for_the_edge(height: float) -> None:
    """The largest first derivative sits on the flank of the peak, as in chromates and Ti(4+)."""
    peak = height * np.exp(-0.5 * ((X - 4.0) / 0.7) ** 2)
    edge, half = edge_position(X, step(X, 16.0, 3.0) + peak)
    assert half == pytest.approx(16.0, abs=0.3)
    assert edge == pytest.approx(edge_position(X, step(X, 16.0, 3.0))[0], abs=0.3)
    if height > 0.3:
        assert X[np.argmax(np.gradient(step(X, 16.0, 3.0) + peak))] < 5.0


@settings(max_examples=60, deadline=None)
@given(offset=st.floats(-20.0, 20.0), slope=st.floats(-0.02, 0.02), scale=st.floats(1e-3, 1e4))
def test_scale_and_pre_edge_line_do_not_matter(offset: float, slope: float, scale: float) -> None:
    bare = np.where(X > -11.0, step(X, 13.7), 0.0)
    expected = edge_position(X, bare)
    found = edge_position(X, scale * (bare + offset + slope * X))
    assert found == pytest.approx(expected, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(offset=st.floats(-1e3, 1e3), slope=st.floats(-10.0, 10.0))
def test_a_straight_pre_edge_is_removed_exactly(offset: float, slope: float) -> None:
    line = offset + slope * X
    np.testing.assert_allclose(pre_edge_line(X, line), line, atol=1e-9 * (abs(offset) + 160 * abs(slope) + 1))


def test_a_short_pre_edge_is_taken_as_a_constant_and_none_as_zero() -> None:
    short, none = X[X >= -25.0], X[X >= -5.0]
    assert np.unique(pre_edge_line(short, 2.0 + 0.01 * short)).size == 1
    assert pre_edge_line(short, 0 * short + 2.0)[0] == pytest.approx(2.0)
    np.testing.assert_array_equal(pre_edge_line(none, 2.0 + 0.0 * none), 0.0)
    for x in (short, none):
        assert edge_position(x, step(x, 13.0))[1] == pytest.approx(13.0, abs=0.05)


@settings(max_examples=40, deadline=None)
@given(centre=st.floats(7.0, 19.0), shift=st.floats(0.05, 2.0))
def test_the_edge_moves_smoothly_with_the_spectrum(centre: float, shift: float) -> None:
    there, further = (edge_position(X, step(X, position))[0] for position in (centre, centre + shift))
    assert further - there == pytest.approx(shift, abs=0.02)


def test_the_grid_of_the_scan_hardly_matters() -> None:
    random = np.random.default_rng(2)
    uneven = np.sort(np.concatenate([X[X < 0][::8], X[(X > 0) & (X < 30)][::2], X[X > 30][::6]]))
    uneven = uneven + random.uniform(-0.1, 0.1, uneven.size)
    assert edge_position(uneven, step(uneven, 13.0))[0] == pytest.approx(
        edge_position(X, step(X, 13.0))[0], abs=0.1
    )


@pytest.mark.parametrize(("low", "high"), [(3.5, 60.0), (-100.0, 24.0)])
def test_a_scan_that_misses_the_edge_is_refused(low: float, high: float) -> None:
    x = np.arange(low, high, 0.25)
    with pytest.raises(ReductionError, match=r"finding the edge needs at least \+3 to \+25 eV"):
        edge_position(x, step(x, 13.0))


@pytest.mark.parametrize(
    "mu", [np.zeros_like(X), 1.0 - step(X, 13.0), 0.3 - 0.001 * X], ids=["flat", "falling", "only a line"]
)
def test_what_does_not_rise_has_no_edge(mu: np.ndarray) -> None:
    with pytest.raises(ReductionError, match=r"expected an absorption edge|never falls below"):
        edge_position(X, mu)


def test_an_edge_before_the_scan_is_refused() -> None:
    x = X[X >= -2.0]
    with pytest.raises(ReductionError, match="the scan starts above the edge, or the axis is far off"):
        edge_position(x, step(x, -20.0))


def test_smoothing_keeps_constants_and_the_area() -> None:
    np.testing.assert_allclose(smooth(np.full((2, 50), 3.0), 4.0), 3.0)
    spike = np.zeros(101)
    spike[50] = 1.0
    smoothed = smooth(spike, 3.0)
    assert smoothed.sum() == pytest.approx(1.0)
    assert np.sqrt(smoothed @ (np.arange(101) - 50.0) ** 2) == pytest.approx(3.0, rel=0.01)
