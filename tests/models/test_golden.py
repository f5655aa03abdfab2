"""Golden predictions notice what hashes cannot: that the same files give other answers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_xpdml.errors import BundleError, FeatureError
from bluesky_xpdml.factory.training.forests import CLASS_LEVELS, LENGTH_LEVELS
from bluesky_xpdml.models.bundle import load_bundle, write_bundle
from bluesky_xpdml.models.forest import Forest
from bluesky_xpdml.models.golden import ROWS, check_golden, golden_answers

Write = Callable[..., Path]
ROW_TABLE = np.random.default_rng(3).random((50, 2))


@pytest.fixture
def stored(small_forests: dict[str, Forest]) -> dict[str, Any]:
    return {
        target: forest.quantised(levels=LENGTH_LEVELS if target == "bond_length" else CLASS_LEVELS)
        for target, forest in small_forests.items()
    }


@pytest.fixture
def golden_folder(stored: dict[str, Any], tmp_path: Path) -> Path:
    tables, golden = golden_answers(stored, ROW_TABLE)
    folder = tmp_path / "Fe-xanes-4"
    manifest = {"name": "Fe-xanes", "version": 4, "element": "Fe", "edge": "K", "golden": golden}
    write_bundle(folder, manifest, stored, "# A card\n", tables)
    return folder


def test_a_bundle_gives_its_golden_answers_after_it_was_written_and_read(golden_folder: Path) -> None:
    bundle = load_bundle(golden_folder)
    check = check_golden(bundle)
    assert (check.n_rows, check.checked, check.ok) == (8, True, True)
    assert check.deviation <= 5.1e-7
    # The rows are those that were given, evenly spaced, and each answer is the mean over the trees' leaves.
    rows = bundle.tables[ROWS]
    assert {tuple(row) for row in rows} <= {tuple(row) for row in ROW_TABLE.astype(np.float32).astype(float)}
    np.testing.assert_array_equal(rows[[0, -1]], ROW_TABLE.astype(np.float32)[[0, -1]])
    forest = bundle.forests["oxidation_state"]
    for row, golden in zip(rows, bundle.manifest["golden"]["oxidation_state"], strict=True):
        leaves = []
        for root in forest.roots:
            node = root
            while forest.left[node] != node:
                node = forest.left[node] + (row[forest.feature[node]] > forest.threshold[node])
            leaves.append(forest.value[node])
        assert golden == pytest.approx(np.mean(leaves, axis=0), abs=1e-6)


def test_an_answer_that_moved_is_reported_with_its_size_and_target(golden_folder: Path) -> None:
    bundle = load_bundle(golden_folder)
    length = bundle.forests["bond_length"]
    moved = replace(length, value=length.value + np.float32(0.003))
    check = check_golden(replace(bundle, forests={**bundle.forests, "bond_length": moved}))
    assert not check.ok
    assert check.target == "bond_length"
    assert check.deviation == pytest.approx(0.003, rel=1e-3)


def test_a_bundle_without_golden_predictions_is_reported_as_unchecked(write_small: Write) -> None:
    check = check_golden(load_bundle(write_small()))
    assert (check.checked, check.ok, check.n_rows, check.target) == (False, True, 0, "")


@pytest.mark.parametrize(
    "golden",
    [
        {},
        {"bond_length": [[1.0]] * 8},
        {"bond_length": [[1.0]] * 8, "oxidation_state": "many", "coordination_number": [[0.5, 0.5]] * 8},
        {
            "bond_length": [[1.0]] * 7,
            "oxidation_state": [[1.0, 0.0]] * 8,
            "coordination_number": [[1, 0]] * 8,
        },
    ],
    ids=["empty", "targets missing", "no numbers", "rows missing"],
)
def test_inconsistent_golden_predictions_are_refused(golden_folder: Path, golden: object) -> None:
    bundle = load_bundle(golden_folder)
    altered = replace(bundle, manifest={**bundle.manifest, "golden": golden})
    with pytest.raises(BundleError, match=r"golden predictions of Fe-xanes-4 cannot be compared: expected"):
        check_golden(altered)
    with pytest.raises(BundleError, match="expected answers for every forest"):
        check_golden(replace(bundle, tables={}))


@pytest.mark.parametrize(
    "rows", [np.empty((0, 2)), np.array([[np.nan, 1.0]]), np.ones(4), np.ones((3, 1))], ids=str
)
def test_invalid_rows_are_refused(stored: dict[str, Any], rows: Any) -> None:
    with pytest.raises(FeatureError, match="expected"):
        golden_answers(stored, rows)


def test_few_rows_are_all_stored_and_narrow_forests_read_the_first_columns(stored: dict[str, Any]) -> None:
    tables, golden = golden_answers(stored, ROW_TABLE[:3])
    wider, same = golden_answers(stored, np.hstack([ROW_TABLE[:3], np.full((3, 4), 9.0)]))
    assert golden == same
    assert (tables[ROWS].shape, wider[ROWS].shape) == ((3, 2), (3, 6))
