"""Importances: zero for what a forest does not need, most for what the labels follow."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.metrics import r2_score

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.training.forests import compact_forest
from bluesky_xpdml.factory.training.supplement import (
    HeldOut,
    PermutationSettings,
    forest_importances,
    impurity_importances,
    pdf_places,
    permutation_importances,
    xanes_places,
)

RANDOM = np.random.default_rng(7)
ROWS = RANDOM.random((240, 4))
LABELS = np.where(ROWS[:, 2] > 0.5, 3.0, 2.0)
LENGTHS = 2.0 + 0.3 * ROWS[:, 1] + 0.02 * ROWS[:, 3]


@pytest.fixture(scope="module")
def classes() -> ExtraTreesClassifier:
    return ExtraTreesClassifier(20, random_state=0).fit(ROWS[:160], LABELS[:160])


@pytest.fixture(scope="module")
def unseen(classes: ExtraTreesClassifier) -> HeldOut:
    return HeldOut(
        forest=compact_forest(classes),
        rows=ROWS[160:],
        labels=LABELS[160:],
        classes=np.array([2.0, 3.0]),
        places=10 * np.arange(4),
    )


def test_the_feature_that_decides_is_the_important_one(
    classes: ExtraTreesClassifier, unseen: HeldOut
) -> None:
    found = forest_importances(classes, np.arange(4), unseen, PermutationSettings())
    assert [len(values) for values in found.values()] == [4, 4]
    assert {name: int(np.argmax(values)) for name, values in found.items()} == {
        "impurity": 2,
        "permutation": 2,
    }
    assert sum(found["impurity"]) == pytest.approx(1.0, abs=1e-4)
    # Shuffled among two equally frequent classes, half of the answers are wrong.
    assert found["permutation"][2] == pytest.approx(0.5, abs=0.15)


def test_repeated_columns_are_counted_for_their_feature(classes: ExtraTreesClassifier) -> None:
    columns = np.array([0, 1, 2, 3, 2, 2])
    repeated = ExtraTreesClassifier(10, random_state=0).fit(ROWS[:, columns], LABELS)
    found = impurity_importances(repeated, columns, 4)
    own = repeated.feature_importances_
    np.testing.assert_allclose(found, [own[0], own[1], own[2] + own[4] + own[5], own[3]])
    with pytest.raises(TrainingError, match="expected 4 features below 4"):
        impurity_importances(classes, columns, 4)


def test_a_regression_loses_r2() -> None:
    fitted = ExtraTreesRegressor(20, random_state=0).fit(ROWS[:160], LENGTHS[:160])
    held_out = HeldOut(
        forest=compact_forest(fitted),
        rows=ROWS[160:],
        labels=LENGTHS[160:],
        classes=np.empty(0),
        places=10 * np.arange(4),
    )
    assert held_out.score(ROWS[160:], LENGTHS[160:]) == pytest.approx(
        r2_score(LENGTHS[160:], fitted.predict(ROWS[160:])), abs=1e-3
    )
    lost = permutation_importances(held_out, PermutationSettings(repeats=4))
    assert int(np.argmax(lost)) == 1
    assert lost[1] > 0.5 > abs(lost[0])


def test_the_same_seed_gives_the_same_numbers(unseen: HeldOut) -> None:
    settings = PermutationSettings(most_rows=30, seed=3)
    np.testing.assert_array_equal(
        permutation_importances(unseen, settings), permutation_importances(unseen, settings)
    )


def test_one_row_cannot_be_shuffled(unseen: HeldOut) -> None:
    alone = replace(unseen, rows=unseen.rows[:1], labels=unseen.labels[:1])
    with pytest.raises(TrainingError, match="expected rows to shuffle, found 1"):
        permutation_importances(alone, PermutationSettings())


def test_neighbours_are_shuffled_together() -> None:
    # Two copies of one column: alone neither is missed as much as both together.
    rows = np.column_stack([ROWS[:, 2], ROWS[:, 2], ROWS[:, 0]])
    fitted = ExtraTreesClassifier(20, random_state=0).fit(rows[:160], LABELS[:160])
    apart = HeldOut(
        forest=compact_forest(fitted),
        rows=rows[160:],
        labels=LABELS[160:],
        classes=np.array([2.0, 3.0]),
        places=np.array([0, 10, 20]),
    )
    together = replace(apart, places=np.array([0, 2, 20]))
    settings = PermutationSettings(repeats=30)
    alone, both = (permutation_importances(each, settings) for each in (apart, together))
    assert both[:2].min() > alone[:2].max() + 0.05
    assert both[:2] == pytest.approx(np.full(2, 0.5), abs=0.15)


def test_places_follow_the_features() -> None:
    assert np.bincount(xanes_places(75)).tolist() == [*[2] * 36, *[0] * 36, 3]
    assert np.bincount(pdf_places()).tolist() == [*[1] * 86, *[0] * 86, 6]
