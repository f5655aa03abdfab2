"""Every bundle that comes with the package is whole, small, and honest about what it was trained on."""

import hashlib
import json

import numpy as np
import pytest

from bluesky_xpdml.demo.beamline import held_out_formulas
from bluesky_xpdml.features.xanes import FEATURE_NAMES
from bluesky_xpdml.models.bundle import CARD, FORESTS, MANIFEST
from bluesky_xpdml.models.store import SHIPPED, BundleStore
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES

NAMES = [name for name in BundleStore.default().names() if "-xanes-" in name]
ELEMENTS = ("Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu")


def test_every_element_of_the_foils_has_a_bundle() -> None:
    store = BundleStore.default()
    assert {store.find(element, "K", "xanes").element for element in ELEMENTS} == set(FOIL_ENERGIES)


@pytest.mark.parametrize("name", NAMES)
def test_bundle_is_whole_and_small(name: str) -> None:
    folder = SHIPPED / name
    bundle = BundleStore.default().load(name)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 2_000_000
    assert {path.name for path in folder.iterdir()} == {MANIFEST, FORESTS, CARD}
    for file, expected in json.loads((folder / MANIFEST).read_text())["files"].items():
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == expected
    assert f"{bundle.reference.name}-{bundle.reference.version}" == name
    assert f"# {name}\n" in (folder / CARD).read_text()


@pytest.mark.parametrize("name", NAMES)
def test_forests_and_manifest_fit_together(name: str) -> None:
    bundle = BundleStore.default().load(name)
    targets = bundle.manifest["targets"]
    assert bundle.manifest["edge"] == "K"
    assert bundle.manifest["modality"] == "xanes"
    assert bundle.forests.keys() == targets.keys()
    classes = {target: targets[target]["classes"] for target in ("oxidation_state", "coordination_number")}
    for target, names in classes.items():
        forest = bundle.forests[target]
        assert names == sorted(set(names))
        assert forest.value.shape[1] == len(names)
        assert forest.feature.max() < len(FEATURE_NAMES)
        leaves = forest.value[forest.left == np.arange(forest.left.size)]
        np.testing.assert_allclose(leaves.sum(axis=1), 1.0, atol=len(names) * 0.5 / 255 + 1e-6)
    length = bundle.forests["bond_length"]
    assert length.value.shape[1] == 1
    assert length.feature.max() < len(FEATURE_NAMES) + len(classes["coordination_number"])
    model = bundle.edge_model
    assert np.all(np.diff(model.valence) > 0)
    assert np.all(model.sigma > 0.3)
    # The curve may know valences that no simulated site has, as Mn7+.
    assert model.valence[0] <= classes["oxidation_state"][0]
    assert model.valence[-1] >= classes["oxidation_state"][-1]
    assert targets["oxidation_state"]["interval_factor"] > 1.0
    assert 0.02 < targets["bond_length"]["half_width"] < 0.3


@pytest.mark.parametrize("name", NAMES)
def test_compounds_of_the_demonstration_were_held_out(name: str) -> None:
    training = BundleStore.default().load(name).manifest["training"]
    assert set(held_out_formulas()) <= set(training["held_out_formulas"])
    assert training["n_sites"] > 100


@pytest.mark.parametrize("name", NAMES)
def test_forests_beat_the_trivial_answer_on_unseen_formulas(name: str) -> None:
    for row in BundleStore.default().load(name).manifest["metrics"]["simulated"]:
        if row["metric"] in {"weighted_f1", "macro_f1", "r2"}:
            assert row["value"] > row["majority"] + 0.05, row
        elif row["metric"] == "rmse":
            assert row["value"] < row["majority"], row


def test_measured_compounds_left_out_are_answered() -> None:
    """A recipe that ignores the energy axis, or learns nothing, misses the floor by far."""
    bundles = [BundleStore.default().load(name) for name in NAMES]
    rows = [row for bundle in bundles for row in bundle.manifest["metrics"]["measured"]]
    assert len(rows) >= 20
    error = np.array([row["value"]["oxidation_state"] - row["truth"]["oxidation_state"] for row in rows])
    truth = np.array([row["truth"]["oxidation_state"] for row in rows])
    assert np.abs(error).mean() < 0.45
    assert np.abs(error).mean() < 0.6 * np.abs(truth - np.median(truth)).mean()
    known = [row for row in rows if "bond_length" in row["truth"]]
    length = np.array([row["value"]["bond_length"] - row["truth"]["bond_length"] for row in known])
    assert np.abs(length).mean() < 0.08
