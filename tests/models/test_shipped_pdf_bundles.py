"""Every PDF bundle that comes with the package is whole, small, and honest about what it was trained on."""

import pytest

from bluesky_xpdml.demo.beamline import held_out_scattering_formulas
from bluesky_xpdml.models.store import SHIPPED, BundleStore
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.vocabulary import Modality

MODALITIES = tuple(str(modality) for modality in Modality.curves())
NAMES = [name for name in BundleStore.default().names() if name.split("-")[1] in MODALITIES]


def test_every_element_has_a_bundle_of_every_modality() -> None:
    found = {tuple(name.split("-")[:2]) for name in NAMES}
    assert found == {(element, modality) for element in FOIL_ENERGIES for modality in MODALITIES}


@pytest.mark.parametrize("name", NAMES)
def test_bundle_is_small_and_fits_together(name: str) -> None:
    bundle = BundleStore.default().load(name)
    assert sum(path.stat().st_size for path in (SHIPPED / name).iterdir()) <= 1_600_000
    assert bundle.forests.keys() == bundle.manifest["targets"].keys()
    assert set(held_out_scattering_formulas()) <= set(bundle.manifest["training"]["held_out_formulas"])


@pytest.mark.parametrize("element", FOIL_ENERGIES)
def test_pairs_with_the_metal_predict_better_than_all_pairs(element: str) -> None:
    store = BundleStore.default()
    rmse = {}
    for modality in ("pdf", "dpdf"):
        scores = store.find(element, "", modality).manifest["metrics"]["simulated"]
        rmse[modality] = next(
            score["value"]
            for score in scores
            if (score["target"], score["metric"]) == ("bond_length", "rmse")
        )
    assert rmse["dpdf"] < rmse["pdf"]
