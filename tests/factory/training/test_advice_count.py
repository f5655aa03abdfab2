"""Gains are counted as they would be by hand, and come true on materials that were not counted."""

import numpy as np
import pytest

from bluesky_xpdml.factory.bench.advice import calibration_rows, choice_rows, held_out
from bluesky_xpdml.factory.training.advice import UnseenAnswers, count_table, gain_error
from bluesky_xpdml.factory.training.advice_data import AdviceRecipe

RECIPE = AdviceRecipe()


@pytest.fixture(scope="session")
def answers() -> UnseenAnswers:
    """Return answers about 400 materials: xanes and xanes+pdf guess classes, dpdf knows them."""
    random = np.random.default_rng(5)
    m = 400
    truth = 2.0 + np.arange(m) % 2
    sure = np.stack([truth == 2.0, truth == 3.0], axis=1) * 0.98 + 0.01
    guess = np.clip(0.5 + random.uniform(-0.3, 0.3, m), 0.0, 1.0)
    guessed = np.stack([guess, 1.0 - guess], axis=1)
    half_sure = np.where(truth[:, None] == 2.0, sure, guessed)
    length = 2.0 + 0.1 * random.normal(size=m)
    spread = np.full(m, 0.02)
    chances = {"xanes": guessed, "pdf": half_sure, "dpdf": sure, "xanes+pdf": guessed, "xanes+dpdf": sure}
    noise = {"xanes": 0.04, "pdf": 0.08, "dpdf": 0.01}
    return UnseenAnswers(
        element="Fe",
        material=np.array([f"m{row}" for row in range(m)]),
        formula=np.array([f"f{row // 2}" for row in range(m)]),
        fold=(np.arange(m) // 2) % 5,
        truth={"oxidation_state": truth, "coordination_number": truth + 2.0, "bond_length": length},
        classes={"oxidation_state": np.array([2.0, 3.0]), "coordination_number": np.array([4.0, 5.0])},
        probabilities={
            (name, descriptor): found
            for name, found in chances.items()
            for descriptor in ("oxidation_state", "coordination_number")
        },
        length={name: length + size * random.normal(size=m) for name, size in noise.items()},
        spread=dict.fromkeys(noise, spread),
    )


@pytest.fixture(scope="module")
def table(answers):
    return count_table([answers], {"Fe": np.ones(answers.fold.size, dtype=bool)}, RECIPE, {"sites": "0"})


def test_what_tells_the_classes_narrows_and_what_adds_nothing_does_not(table):
    def cell(measured, other, descriptor, name="all"):
        return table.cells["Fe", measured, other, descriptor][name]

    # A guess among two classes must name both nearly always to be right in nine cases of ten.
    guess = cell("xanes", "dpdf", "oxidation_state")
    assert guess.now == pytest.approx(1.9, abs=0.1)
    assert guess.after == 1.0
    assert guess.error_after == pytest.approx(0.01)
    assert cell("dpdf", "xanes", "oxidation_state").gain == 0.0
    assert cell("xanes", "pdf", "oxidation_state").gain == 0.0
    assert -1.0 < cell("pdf", "xanes", "oxidation_state").gain < -0.3
    # 0.04 and 0.01 angstrom of error weigh 1 to 16: the combination is 3 % better than the better one.
    assert cell("dpdf", "xanes", "bond_length").gain == pytest.approx(0.03, abs=0.15)
    assert cell("xanes", "dpdf", "bond_length").gain == pytest.approx(0.75, abs=0.1)


def test_members_are_counted_once_in_each_class(table):
    for by_class in (cells for key, cells in table.cells.items() if key[0] == "Fe"):
        assert by_class["all"].n == 400
        assert sum(cell.n for name, cell in by_class.items() if name != "all") == 400
    assert table.data == {"sites": "0"}
    assert table.recipe["trees"] == RECIPE.trees


def test_copies_and_materials_of_one_formula_do_not_make_a_gain_surer():
    random = np.random.default_rng(2)
    now, after = random.uniform(1.0, 3.0, 200), random.uniform(1.0, 2.0, 200)
    formula = np.arange(200).astype(str)
    once = gain_error(now, after, formula)
    assert gain_error(np.tile(now, 3), np.tile(after, 3), np.tile(formula, 3)) == pytest.approx(once)
    draws = [random.integers(0, 200, 200) for _ in range(2000)]
    bootstrap = np.std([1.0 - after[rows].mean() / now[rows].mean() for rows in draws])
    assert once == pytest.approx(bootstrap, rel=0.1)


def test_predicted_gains_come_true_on_the_fold_that_was_not_counted(answers):
    realised = held_out([answers], RECIPE)
    assert len(realised) == 12
    for step, found in realised.items():
        rated = found.rated
        assert rated.now.size == answers.fold.size, step
        now, after = rated.now.mean(), rated.after.mean()
        got = (now - after) / max(now, after)
        assert found.predicted.mean() == pytest.approx(got, abs=0.1), step
    chosen = {row["descriptor"]: row for row in choice_rows(realised)}
    assert chosen["oxidation_state"]["advised"] == chosen["oxidation_state"]["always_dpdf"]
    assert chosen["oxidation_state"]["always_pdf"] < chosen["oxidation_state"]["always_dpdf"]
    rows = calibration_rows(realised)
    assert len(rows) == 4 * len(realised)
    assert all(-1.0 <= row[name] <= 1.0 for row in rows for name in ("predicted", "realised"))
