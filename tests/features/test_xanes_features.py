"""Features see the spectrum on the foil's scale, and nothing that was not measured."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.errors import FeatureError
from bluesky_xpdml.features.xanes import (
    FEATURE_NAMES,
    FINE_GRID,
    GRID,
    LARGEST_SHIFT,
    TAIL,
    features_of_shifts,
    fine_signal,
    foil_scale,
)
from bluesky_xpdml.records import AbsorptionScan
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes

NONE = np.zeros(1)


def absorption(x: np.ndarray) -> np.ndarray:
    """Return an edge at 13 eV with a white line and a pre-edge peak."""
    return (
        0.5
        + np.arctan((x - 13.0) / 1.5) / np.pi
        + 0.4 * np.exp(-(((x - 18.0) / 3.0) ** 2))
        + 0.1 * np.exp(-(((x - 3.0) / 1.0) ** 2))
    )


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.floats(0.01, 3.0), min_size=FINE_GRID.size, max_size=FINE_GRID.size),
    shift=st.floats(-LARGEST_SHIFT, LARGEST_SHIFT),
    scale=st.floats(1e-3, 1e5),
)
def test_features_are_the_curve_and_its_integral_over_a_tail_of_one(
    values: list[float], shift: float, scale: float
) -> None:
    signal = np.array(values)
    rows = features_of_shifts(signal, np.array([shift]))
    mu, integral = rows[0, : GRID.size], rows[0, GRID.size :] * 10.0
    assert rows.shape == (1, len(FEATURE_NAMES))
    assert integral[0] == 0.0
    assert np.all(np.diff(integral) > 0.0)
    mean_of_tail = (integral[-1] - np.interp(GRID[-1] - TAIL, GRID, integral)) / TAIL
    # The integral is read between points of the grid, where it is no line.
    assert mean_of_tail == pytest.approx(1.0, abs=0.5 * mu.max() / TAIL)
    np.testing.assert_allclose(features_of_shifts(scale * signal, np.array([shift])), rows, rtol=1e-6)


def test_a_constant_gives_ones_and_a_straight_integral() -> None:
    mu, integral = np.split(features_of_shifts(np.full(FINE_GRID.size, 5.0), NONE)[0], 2)
    np.testing.assert_allclose(mu, 1.0)
    np.testing.assert_allclose(integral, GRID / 10.0)


def test_the_mean_of_the_tail_is_one() -> None:
    rows = features_of_shifts(absorption(FINE_GRID), np.array([-2.0, 0.0, 2.0]))
    for row in rows:
        values = np.interp(np.linspace(GRID[-1] - TAIL, GRID[-1], 400), GRID, row[: GRID.size])
        assert values.mean() == pytest.approx(1.0, abs=5e-3)


@pytest.mark.parametrize("shift", [-4.0, -0.5, 0.25, 3.0])
def test_a_moved_spectrum_moved_back_has_the_same_features(shift: float) -> None:
    """The axis reads `shift` too high; adding `-shift` makes it right."""
    here = features_of_shifts(absorption(FINE_GRID), NONE)[0]
    moved = absorption(FINE_GRID - shift)
    back = features_of_shifts(moved, np.array([-shift]))[0]
    inside = slice(5, 31)
    np.testing.assert_allclose(back[: GRID.size][inside], here[: GRID.size][inside], atol=2e-3)
    wrong = features_of_shifts(moved, np.array([shift]))[0]
    assert np.abs(wrong - here).max() > 0.05


def test_features_follow_the_axis_through_the_edge() -> None:
    """Adding to the energies moves the edge up: fewer electron volts of the grid lie behind it."""
    rows = features_of_shifts(absorption(FINE_GRID), np.array([-1.0, 0.0, 1.0]))
    rising = FEATURE_NAMES.index("mu(+13 eV)")
    assert rows[0, rising] > rows[1, rising] > rows[2, rising]


def test_a_stack_of_signals_is_treated_row_by_row() -> None:
    signals = np.stack([absorption(FINE_GRID), absorption(FINE_GRID - 1.0)])
    shifts = np.array([-1.0, 0.5])
    stacked = features_of_shifts(signals, shifts)
    assert stacked.shape == (2, 2, len(FEATURE_NAMES))
    for row, signal in zip(stacked, signals, strict=True):
        np.testing.assert_array_equal(row, features_of_shifts(signal, shifts))


def test_a_signal_without_a_step_is_refused() -> None:
    with pytest.raises(FeatureError, match="expected a positive absorption step"):
        features_of_shifts(-absorption(FINE_GRID), NONE)


@pytest.mark.parametrize(("low", "high"), [(0.1, 60.0), (-20.0, 29.9), (100.0, 200.0), (-90.0, -20.0)])
def test_nothing_is_extrapolated(low: float, high: float) -> None:
    x = np.linspace(low, high, 200)
    with pytest.raises(FeatureError, match=r"the scan covers .* the model needs \+0 to \+30 eV"):
        fine_signal(x, absorption(x))


def test_a_scan_that_ends_within_the_window_goes_on_with_its_mean() -> None:
    x = np.arange(-20.0, 31.0, 0.25)
    signal = fine_signal(x, absorption(x))
    inside = x[-1] >= FINE_GRID
    np.testing.assert_allclose(signal[inside], absorption(FINE_GRID[inside]), atol=1e-12)
    np.testing.assert_allclose(signal[~inside], absorption(x[x >= x[-1] - 4.0]).mean())


@pytest.mark.parametrize("element", ["Ti", "Fe", "Cu"])
def test_the_foil_of_the_element_is_the_origin(element: str) -> None:
    x = np.arange(-150.0, 300.0, 0.5)
    scan = AbsorptionScan(
        energy=FOIL_ENERGIES[element] + x,
        mu=3.0 * absorption(x) + 2.0 - 0.004 * x,
        element=element,
        edge="K",
    )
    found, signal = foil_scale(reduce_xanes(scan, XanesSettings(energy_offset=0.0)))
    np.testing.assert_allclose(found, x, atol=1e-9)
    expected = features_of_shifts(fine_signal(x, absorption(x)), NONE)
    np.testing.assert_allclose(features_of_shifts(fine_signal(found, signal), NONE), expected, atol=0.02)


@pytest.mark.parametrize("element", ["Zn", ""])
def test_elements_without_a_foil_are_refused(element: str) -> None:
    energy = np.arange(9500.0, 10100.0, 1.0)
    scan = AbsorptionScan(energy=energy, mu=absorption(energy - 9659.0), element=element, edge="K")
    with pytest.raises(FeatureError, match=r"no foil energy .* expected one of Ti, V, Cr"):
        foil_scale(reduce_xanes(scan))
