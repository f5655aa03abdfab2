"""Strange rows score high, familiar ones as often as their p-value says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.training.novelty import COMPONENTS, fit_novelty
from bluesky_xpdml.models.bundle import load_bundle, write_bundle
from bluesky_xpdml.models.novelty import from_tables, novelty, novelty_scores, p_value

WIDTH = 72


def familiar(n: int, seed: int) -> np.ndarray:
    """Return rows that five smooth curves span, with a little noise."""
    random = np.random.default_rng(seed)
    x = np.linspace(0.0, 1.0, WIDTH)
    curves = np.stack([np.sin((k + 1) * np.pi * x) for k in range(5)])
    return 3.0 + random.normal(size=(n, 5)) @ curves + random.normal(scale=0.05, size=(n, WIDTH))


@pytest.fixture(scope="module")
def fitted():
    return fit_novelty(familiar(1200, 1), familiar(400, 2), familiar(30, 3) * 1.02)


@pytest.fixture(scope="module")
def reference(fitted):
    return from_tables(*fitted)


def test_five_percent_of_familiar_rows_exceed_each_unit(reference):
    scores = novelty_scores(reference, familiar(2000, 4))
    assert 0.04 < (scores > 1.0).mean() < 0.13


def test_p_values_of_familiar_rows_are_uniform(reference):
    values = np.array([novelty(reference, row).p_value for row in familiar(500, 5)])
    for level in (0.1, 0.5, 0.9):
        assert (values <= level).mean() == pytest.approx(level, abs=0.08)


@pytest.mark.parametrize("kind", ["spike", "far away", "another shape"])
def test_unlike_rows_score_high(reference, kind):
    rows = familiar(50, 6)
    if kind == "spike":
        rows[:, 40] += 2.0
    elif kind == "far away":
        rows = 3.0 + 8.0 * (rows - 3.0)
    else:
        rows += 2.0 * np.sign(np.sin(np.arange(WIDTH)))
    found = [novelty(reference, row) for row in rows]
    assert np.mean([item.score > 1.5 for item in found]) > 0.9
    assert np.median([item.p_value for item in found]) < 0.01
    assert np.median([item.p_value_measured for item in found]) < 0.05


def test_scores_are_those_of_the_formula(reference):
    row = familiar(1, 7)[0]
    standard = (row - reference.centre) / reference.scale
    place = reference.components @ standard
    again = reference.components.T @ (place * reference.deviations**2)
    residual = np.sqrt(np.mean((standard - again) ** 2))
    distance = np.sort(np.linalg.norm(reference.rows - place[:20], axis=1))[:3].mean()
    expected = max(residual / reference.residual_unit, distance / reference.distance_unit)
    assert novelty(reference, row).score == pytest.approx(expected)


def test_a_reference_survives_a_bundle(tmp_path, fitted):
    tables, entry = fitted
    write_bundle(tmp_path / "b", {"name": "b", "version": 1, "novelty": entry}, {}, "card", tables)
    bundle = load_bundle(tmp_path / "b")
    rows = familiar(20, 8)
    before, after = from_tables(tables, entry), from_tables(bundle.tables, bundle.manifest["novelty"])
    assert np.array_equal(novelty_scores(before, rows), novelty_scores(after, rows))
    assert sum(values.nbytes for values in tables.values()) < 60_000
    assert len(entry["deviations"]) == COMPONENTS


def test_without_measured_rows_there_is_no_p_value_of_them():
    found = novelty(from_tables(*fit_novelty(familiar(50, 1), familiar(50, 2))), familiar(1, 3)[0])
    assert found.p_value_measured is None
    assert 0.0 < found.p_value <= 1.0


@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=40), st.floats(0.0, 6.0), st.floats(0.0, 6.0))
def test_a_higher_score_never_has_a_higher_p_value(scores, one, other):
    ordered = np.sort(np.array(scores))
    low, high = sorted((one, other))
    assert p_value(ordered, high) <= p_value(ordered, low)
    assert 0.0 < p_value(ordered, high) <= 1.0


def test_too_few_rows_are_refused():
    with pytest.raises(TrainingError, match="at least 20"):
        fit_novelty(familiar(5, 1), familiar(50, 2))
    with pytest.raises(TrainingError, match="as many in both"):
        fit_novelty(familiar(50, 1), familiar(50, 2)[:, :5])
