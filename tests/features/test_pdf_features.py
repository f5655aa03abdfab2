"""PDF features: what they keep, what they ignore, and what they refuse."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bluesky_xpdml.errors import FeatureError
from bluesky_xpdml.features.pdf import BALANCED, FEATURE_NAMES, GRID, SHELL_NAMES, pdf_features
from bluesky_xpdml.records import FloatArray

R = np.arange(0.0, 12.0, 0.01)


def peaks(*places: tuple[float, float, float]) -> FloatArray:
    """Sum of Gaussians (position, width, height) on a falling baseline."""
    lines = [height * np.exp(-0.5 * ((R - place) / width) ** 2) for place, width, height in places]
    return np.sum(lines, axis=0) - 0.1


def shell(row: FloatArray) -> dict[str, float]:
    return dict(zip(SHELL_NAMES, row[GRID.size :].tolist(), strict=True))


@settings(deadline=None, max_examples=50)
@given(scale=st.floats(1e-6, 1e6), place=st.floats(1.6, 2.8), width=st.floats(0.06, 0.3))
def test_scale_is_of_no_account(scale: float, place: float, width: float) -> None:
    g = peaks((place, width, 2.0), (4.2, 0.2, 1.5), (7.0, 0.3, 1.0))
    np.testing.assert_allclose(pdf_features(R, scale * g), pdf_features(R, g), rtol=1e-6, atol=1e-9)


@settings(deadline=None, max_examples=50)
@given(place=st.floats(1.7, 2.6), width=st.floats(0.06, 0.12))
def test_first_shell_is_where_the_peak_is(place: float, width: float) -> None:
    found = shell(pdf_features(R, peaks((place, width, 3.0), (4.2, 0.2, 2.0))))
    assert found["position"] == pytest.approx(place, abs=0.005)
    assert found["centroid"] == pytest.approx(place, abs=0.01)
    assert 0.7 * width < found["width"] < 1.05 * width


def test_small_ripples_before_the_first_shell_are_no_shell() -> None:
    g = peaks((1.6, 0.05, 0.6), (2.0, 0.1, 3.0))
    assert shell(pdf_features(R, g))["position"] == pytest.approx(2.0, abs=0.01)


@settings(deadline=None, max_examples=60)
@given(
    start=st.floats(0.0, 3.0), stop=st.floats(8.0, 14.0), step=st.floats(0.005, 0.2), seed=st.integers(0, 99)
)
def test_grid_is_covered_or_refused(start: float, stop: float, step: float, seed: int) -> None:
    r = np.arange(start, stop, step)
    assume(abs(r[-1] - GRID[-1]) > 1e-6 and abs(step - 0.1) > 1e-6 and abs(r[0] - GRID[0]) > 1e-6)
    g = np.random.default_rng(seed).normal(size=r.size)
    if r[0] <= GRID[0] and r[-1] >= GRID[-1] and step < 0.1:
        assert np.all(np.isfinite(pdf_features(r, g)))
    else:
        with pytest.raises(FeatureError, match="the curve"):
            pdf_features(r, g)


def hole(g: FloatArray) -> tuple[FloatArray, FloatArray]:
    return R, np.where(np.abs(R - 3.0) < 0.05, np.nan, g)


def gap(g: FloatArray) -> tuple[FloatArray, FloatArray]:
    kept = np.abs(R - 3.0) > 0.3
    return R[kept], g[kept]


REFUSED: dict[str, tuple[Callable[[FloatArray], tuple[FloatArray, FloatArray]], str]] = {
    "hole": (hole, "not finite"),
    "gap": (gap, "transform it finer"),
    "zero": (lambda g: (R, 0.0 * g), "no signal"),
    "descending": (lambda g: (R[::-1], g), "do not ascend"),
    "lengths": (lambda g: (R[1:], g), "as many of both"),
    "short": (lambda g: (R[:800], g[:800]), "transform it further"),
    "late": (lambda g: (R[200:], g[200:]), "the model needs"),
    "empty": (lambda g: (R[:0], g[:0]), "as many of both"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_with_the_reason(case: str) -> None:
    spoil, reason = REFUSED[case]
    with pytest.raises(FeatureError, match=reason):
        pdf_features(*spoil(peaks((2.0, 0.1, 2.0))))


def test_values_beyond_the_grid_do_not_matter() -> None:
    g = peaks((2.0, 0.1, 2.0))
    spoilt = np.where((R < 1.0) | (R > 11.0), np.nan, g)
    np.testing.assert_array_equal(pdf_features(R, spoilt), pdf_features(R, g))


def test_blocks_have_equal_numbers_of_columns() -> None:
    n_shell = len([column for column in BALANCED if column >= GRID.size])
    assert set(BALANCED) == set(range(len(FEATURE_NAMES)))
    assert GRID.size - len(SHELL_NAMES) < n_shell <= GRID.size
