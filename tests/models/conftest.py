"""A small bundle of the test's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from bluesky_xpdml.factory.training.forests import CLASS_LEVELS, LENGTH_LEVELS, compact_forest
from bluesky_xpdml.models.bundle import write_bundle
from bluesky_xpdml.models.forest import Forest


@pytest.fixture(scope="session")
def small_forests() -> dict[str, Forest]:
    """Forests of two features for the three targets."""
    random = np.random.default_rng(5)
    rows, labels = random.random((60, 2)), random.integers(2, 4, 60)
    classes = compact_forest(RandomForestClassifier(3, random_state=0).fit(rows, labels))
    lengths = compact_forest(RandomForestRegressor(3, random_state=0).fit(rows, 0.1 * labels))
    return {"oxidation_state": classes, "coordination_number": classes, "bond_length": lengths}


@pytest.fixture
def write_small(small_forests: dict[str, Forest], tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes `<Element>-xanes-<version>` and returns its folder."""

    def write(element: str = "Fe", version: int = 1, **manifest: Any) -> Path:
        folder = tmp_path / f"{element}-xanes-{version}"
        arrays = {
            target: forest.quantised(levels=LENGTH_LEVELS if target == "bond_length" else CLASS_LEVELS)
            for target, forest in small_forests.items()
        }
        edge_model = {"valence": [2.0, 3.0], "edge": [10.5, 13.7], "sigma": [0.7, 0.7], "pre_edge_shift": 0.0}
        named = {"name": f"{element}-xanes", "version": version, "element": element, "edge": "K"}
        write_bundle(folder, {**named, "edge_model": edge_model, **manifest}, arrays, "# A card\n")
        return folder

    return write
