"""Every joint bundle that comes with the package stands on single ones, and says no less than they do."""

import numpy as np
import pytest

from bluesky_xpdml.models.golden import check_golden
from bluesky_xpdml.models.joint import STACKS
from bluesky_xpdml.models.store import SHIPPED, BundleStore
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.vocabulary import Modality

NAMES = [name for name in BundleStore.default().names() if name.split("-")[1] in Modality.joint()]


def test_every_element_has_a_bundle_of_every_modality() -> None:
    found = {tuple(name.split("-")[:2]) for name in NAMES}
    assert found == {(element, str(modality)) for element in FOIL_ENERGIES for modality in Modality.joint()}


@pytest.mark.parametrize("name", NAMES)
def test_bundle_is_small_and_its_single_bundles_are_shipped(name: str) -> None:
    store = BundleStore.default()
    bundle = store.load(name)
    assert sum(path.stat().st_size for path in (SHIPPED / name).iterdir()) <= 1_000_000
    for said in bundle.manifest[STACKS].values():
        assert store.load(f"{said['name']}-{said['version']}").sha256 == said["sha256"]
    check = check_golden(bundle)
    assert check.checked
    assert check.ok


@pytest.mark.parametrize("modality", Modality.joint())
@pytest.mark.parametrize(
    ("target", "metric"),
    [
        ("oxidation_state", "accuracy"),
        ("coordination_number", "accuracy"),
        ("geometry", "accuracy"),
        ("bond_length", "r2"),
    ],
)
def test_joint_scores_match_the_better_single(modality: Modality, target: str, metric: str) -> None:
    def of(rows: list[dict[str, object]]) -> float:
        for row in rows:
            if (row["target"], row["metric"]) == (target, metric):
                return float(str(row["value"]))
        return np.nan

    tables = [
        BundleStore.default().find(element, "K", modality).manifest["metrics"] for element in FOIL_ENERGIES
    ]
    both = np.nanmean([of(table["simulated"]) for table in tables])
    alone = [np.nanmean([of(table["alone"][part]) for table in tables]) for part in ("xanes", "pdf")]
    assert both >= max(alone) - 0.01
