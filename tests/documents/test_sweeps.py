"""Several sweeps in one run are told apart where the energy turns, and nowhere else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.documents.xas import sweeps

UP = np.linspace(7000.0, 7200.0, 41)
DOWN = UP[::-1]


@pytest.mark.parametrize(
    ("energy", "ends"),
    [
        (UP, [41]),
        (DOWN, [41]),
        (np.concatenate([UP, DOWN, UP]), [41, 82, 123]),
        (np.concatenate([UP, UP, UP]), [41, 82, 123]),
        # A way back of five points belongs to the sweep that follows.
        (np.concatenate([UP, UP[-8::-8][:5], UP]), [41, 87]),
    ],
)
def test_sweeps_end_where_the_energy_turns(energy, ends):
    assert [part.stop for part in sweeps(energy)] == ends


@pytest.mark.parametrize(
    ("energy", "parts"),
    [
        (np.concatenate([UP, DOWN[:15]]), [slice(0, 41)]),
        (np.concatenate([UP[:15], DOWN[26:], UP]), [slice(30, 71)]),
        (np.concatenate([UP, DOWN, UP[:12]]), [slice(0, 41), slice(41, 82)]),
    ],
)
def test_aborted_sweeps_are_left_out(energy, parts):
    assert list(sweeps(energy)) == parts


@pytest.mark.parametrize(
    "energy",
    [
        np.array([]),
        np.full(20, np.nan),
        np.full(20, 7000.0),
        np.array([7000.0, np.inf, -np.inf]),
        np.random.default_rng(1).permutation(UP),
    ],
)
def test_an_axis_without_sweeps_stays_whole(energy):
    assert sweeps(energy) == (slice(0, energy.size),)


def test_unknown_energies_do_not_end_a_sweep():
    energy = np.concatenate([UP, DOWN])
    energy[[5, 40, 41, 60]] = np.nan
    assert [part.stop for part in sweeps(energy)] == [40, 82]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    n_sweeps=st.integers(1, 5), jitter=st.floats(0.0, 4.0), seed=st.integers(0, 1000), sawtooth=st.booleans()
)
def test_jitter_does_not_matter(n_sweeps, jitter, seed, sawtooth):
    legs = [UP if sawtooth or i % 2 == 0 else DOWN for i in range(n_sweeps)]
    energy = np.concatenate(legs) + np.random.default_rng(seed).uniform(-jitter, jitter, 41 * n_sweeps)
    found = sweeps(energy)
    assert len(found) == n_sweeps
    assert all(abs(part.stop - 41 * (i + 1)) <= 2 for i, part in enumerate(found))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60))
def test_any_numbers_give_parts_in_order(values):
    found = sweeps(np.array(values, dtype=float))
    ends = [0, *(end for part in found for end in (part.start, part.stop)), len(values)]
    assert ends == sorted(ends)
    assert found
