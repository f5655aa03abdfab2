"""What differs between two bundles is said, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bluesky_xpdml.errors import BundleError
from bluesky_xpdml.models.bundle import load_bundle
from bluesky_xpdml.models.comparison import Comparison, Pair, compare_bundles

Write = Callable[..., Path]


def manifest(**changes: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "modality": "xanes",
        "training": {"files": {"a.npz": "11"}, "n_sites": 1000, "held_out_formulas": ["FeO", "MnO"]},
        "recipe": {"trees": 150, "augmentation": {"noise": 0.01, "widths": [0.3, 1.0]}, "seed": 0},
        "packages": {"numpy": "2.4.6", "scipy": "1.17.1"},
        "metrics": {
            "simulated": [
                {"target": "oxidation_state", "metric": "accuracy", "value": 0.8, "n_test": 20},
                {"target": "bond_length", "metric": "rmse", "value": 0.03, "n_test": 20},
            ],
            "measured": [
                {"compound": "FeO", "truth": {"oxidation_state": 2.0}, "value": {"oxidation_state": 2.5}},
                {"compound": "Fe2O3", "truth": {"oxidation_state": 3.0}, "value": {"oxidation_state": 2.9}},
                {"compound": "Fe3O4", "truth": {"oxidation_state": 2.67}, "value": {"oxidation_state": 2.0}},
            ],
            "interval_coverage": {"2": 0.9},
        },
    }
    return told | changes


@pytest.fixture
def compared(write_small: Write) -> Callable[..., Comparison]:
    def compare(first: dict[str, Any], second: dict[str, Any]) -> Comparison:
        bundles = [
            load_bundle(write_small("Fe", n, **told)) for n, told in enumerate((first, second), start=1)
        ]
        return compare_bundles(*bundles)

    return compare


def values(pairs: tuple[Pair, ...]) -> dict[str, tuple[Any, Any]]:
    return {pair.name: (pair.first, pair.second) for pair in pairs}


def test_the_same_manifest_differs_only_in_its_version(compared: Callable[..., Comparison]) -> None:
    found = compared(manifest(), manifest())
    assert found.names == ("Fe-xanes-1", "Fe-xanes-2")
    assert found.hashes[0] != found.hashes[1]
    assert (found.training, found.recipe, found.other) == ((), (), ())
    assert values(found.packages) == {"numpy": ("2.4.6", "2.4.6"), "scipy": ("1.17.1", "1.17.1")}
    assert [pair.difference for pair in found.simulated] == [0.0, 0.0]


def test_what_differs_is_named_by_its_path(compared: Callable[..., Comparison]) -> None:
    second = manifest(
        training={"files": {"a.npz": "22"}, "n_sites": 1000, "held_out_formulas": ["FeO"], "copies": 4},
        recipe={"trees": 100, "augmentation": {"noise": 0.01, "widths": [0.3, 2.0]}, "seed": 0},
    )
    found = compared(manifest(), second)
    assert values(found.training) == {
        "files.a.npz": ("11", "22"),
        "held_out_formulas": ("FeO, MnO", "FeO"),
        "copies": (None, 4),
    }
    assert values(found.recipe) == {"trees": (150, 100), "augmentation.widths": ("0.3, 1.0", "0.3, 2.0")}
    differences = {pair.name: pair.difference for pair in (*found.recipe, *found.training)}
    assert {name: number for name, number in differences.items() if number is not None} == {"trees": -50}


def test_scores_are_paired_and_measured_errors_count_shared_compounds(
    compared: Callable[..., Comparison],
) -> None:
    metrics = {
        "simulated": [
            {"target": "bond_length", "metric": "rmse", "value": 0.02, "n_test": 20},
            {"target": "oxidation_state", "metric": "accuracy", "value": 0.9, "n_test": 20},
            {"target": "oxidation_state", "metric": "macro_f1", "value": 0.7, "n_test": 20},
        ],
        "measured": [
            {"compound": "FeO", "truth": {"oxidation_state": 2.0}, "value": {"oxidation_state": 2.1}},
            {"compound": "Fe2O3", "truth": {"oxidation_state": 3.0}, "value": {"oxidation_state": 3.0}},
        ],
        "interval_coverage": {"2": 0.8},
    }
    found = compared(manifest(), manifest(metrics=metrics))
    assert values(found.simulated) == {
        "oxidation_state accuracy": (0.8, 0.9),
        "bond_length rmse": (0.03, 0.02),
        "oxidation_state macro_f1": (None, 0.7),
    }
    # FeO is off by 0.5 and Fe2O3 by 0.1 with the first, by 0.1 and 0 with the second; Fe3O4 was not asked.
    assert found.n_compounds == 2
    (pair,) = found.measured
    assert (pair.name, pair.first, pair.second) == (
        "oxidation_state",
        pytest.approx(0.3),
        pytest.approx(0.05),
    )
    assert values(found.other) == {"interval_coverage.2": (0.9, 0.8)}


def test_bundles_for_different_questions_are_not_compared(write_small: Write) -> None:
    iron, manganese = (load_bundle(write_small(element)) for element in ("Fe", "Mn"))
    with pytest.raises(BundleError, match="expected two bundles of the same element, found Fe and Mn"):
        compare_bundles(iron, manganese)
    pdf = load_bundle(write_small("Fe", 2, modality="pdf"))
    with pytest.raises(BundleError, match="the same modality, found none and pdf"):
        compare_bundles(iron, pdf)


def test_bundles_with_few_entries_can_be_compared(write_small: Write) -> None:
    found = compare_bundles(*(load_bundle(write_small("Fe", version)) for version in (1, 2)))
    assert (found.simulated, found.measured, found.n_compounds, found.packages) == ((), (), 0, ())
