"""Explanations add up to what was predicted, and name the part of the curve that led to it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bluesky_xpdml.demo.beamline import load_samples
from bluesky_xpdml.errors import BundleError, ModelError
from bluesky_xpdml.features.xanes import FEATURE_NAMES, GRID
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.explain import edge_share, explain, explain_pdf, explain_xanes, with_explanation
from bluesky_xpdml.models.pdf import predict_pdf
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.tree_shap import shapley_values
from bluesky_xpdml.models.xanes import observe, predict_xanes
from bluesky_xpdml.records import (
    AbsorptionScan,
    Estimate,
    PairDistribution,
    Prediction,
    Quality,
)
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes

X = np.concatenate([np.arange(-150.0, -20, 5), np.arange(-20.0, 60, 0.5), np.arange(60.0, 400, 4)])
R = np.arange(1.0, 12.0, 0.02)
TARGETS = ("oxidation_state", "coordination_number", "bond_length")


@pytest.fixture(scope="module")
def store(explainable: Path) -> BundleStore:
    return BundleStore(explainable)


@pytest.fixture(scope="module")
def iron(store: BundleStore) -> Prediction:
    sample = next(sample for sample in load_samples() if sample.element == "Fe")
    energy = sample.edge_energy + X
    scan = AbsorptionScan(energy=energy, mu=sample.absorption(energy), element="Fe", edge="K", source="iron")
    return predict_xanes(reduce_xanes(scan, XanesSettings(energy_offset=0.0)), store)


@pytest.fixture(scope="module")
def nickel(store: BundleStore) -> Prediction:
    g = np.exp(-(((R - 2.08) / 0.12) ** 2)) + 1.4 * np.exp(-(((R - 2.95) / 0.15) ** 2)) - 0.1
    curve = PairDistribution(r=R, g=g, settings={"q_max": 22.0}, source="nickel")
    return replace(predict_pdf(curve, store, "pdf", element="Ni"), pdf=curve)


def total(prediction: Prediction, target: str, store: BundleStore) -> float:
    found = explain(prediction, store).attributions[target]
    return found.base + float(found.features.sum()) + sum(found.others.values())


@pytest.mark.parametrize("target", TARGETS)
def test_parts_add_up_to_the_answer(
    target: str, iron: Prediction, nickel: Prediction, store: BundleStore
) -> None:
    for prediction in (iron, nickel):
        answer = prediction.descriptors[target].value
        assert total(prediction, target, store) == pytest.approx(answer, abs=1e-9)


def test_regions_hold_every_feature_once(iron: Prediction, nickel: Prediction, store: BundleStore) -> None:
    for prediction, names in (
        (iron, ["pre-edge", "edge", "white line", "post-edge"]),
        (nickel, ["first shell", "second shell", "further shells"]),
    ):
        found = explain(prediction, store)
        assert [region.name for region in found.regions] == names
        assert [one.high for one in found.regions[:-1]] == [one.low for one in found.regions[1:]]
        for target, attribution in found.attributions.items():
            sums = [
                sum(getattr(r, kind)[target] for r in found.regions) for kind in ("attribution", "importance")
            ]
            assert sums == pytest.approx([attribution.features.sum(), attribution.importance.sum()])


def test_attributions_are_the_shapley_values_of_the_forest(iron: Prediction, store: BundleStore) -> None:
    bundle = store.find("Fe", "K", "xanes")
    assert iron.xanes is not None
    observation = observe(iron.xanes)
    row = observation.features[observation.shifts == 0.0][0]
    classes = np.array(bundle.manifest["targets"]["coordination_number"]["classes"])
    forest = bundle.forests["coordination_number"]
    values, base = shapley_values(forest, row, bundle.tables["background"], classes)
    found = explain_xanes(iron, bundle, targets=["coordination_number"])
    assert list(found.attributions) == ["coordination_number"]
    np.testing.assert_array_equal(found.attributions["coordination_number"].features, values)
    assert found.attributions["coordination_number"].base == base
    assert (found.features, found.unit) == (FEATURE_NAMES, "eV")
    assert found.grid.tolist() == [*GRID, *GRID]
    shown = bundle.manifest["importances"]["coordination_number"]
    assert found.attributions["coordination_number"].importance.tolist() == shown["impurity"]
    assert found.attributions["coordination_number"].permutation.tolist() == shown["permutation"]


def test_edge_position_and_shape_are_attributed_separately(iron: Prediction, store: BundleStore) -> None:
    found = explain(iron, store)
    others = found.attributions["oxidation_state"].others
    moved = iron.descriptors["oxidation_state"].value - iron.diagnostics["forest_oxidation_state"]
    assert others["edge position"] == pytest.approx(moved)
    assert found.edge_share == edge_share(iron)
    assert set(found.attributions["bond_length"].others) == {
        "oxidation state",
        "coordination number",
        "coordination number in the forest",
        "axis shifts",
    }


@pytest.mark.parametrize(
    ("by_edge", "by_shape", "answer", "share"),
    [
        (3.0, 2.0, 2.75, 0.75),
        (3.0, 2.0, 3.0, 1.0),
        (3.0, 2.0, 3.01, 1.0),
        (3.0, 2.0, 1.99, 0.0),
        (3.0, 2.95, 2.97, None),
        (3.0, 2.0, 1.9, None),
    ],
)
def test_the_share_of_the_edge(by_edge: float, by_shape: float, answer: float, share: float | None) -> None:
    said = Prediction(
        technique="xanes",
        element="Fe",
        edge="K",
        quality=Quality(),
        descriptors={"oxidation_state": Estimate(value=answer, low=1.0, high=4.0, unit="e")},
        diagnostics={"edge_curve_oxidation_state": by_edge, "forest_oxidation_state": by_shape},
    )
    assert edge_share(said) == share
    assert edge_share(replace(said, diagnostics={})) is None


def test_the_first_shell_is_where_its_peak_is(nickel: Prediction, store: BundleStore) -> None:
    found = explain(nickel, store)
    first, second, _ = found.regions
    # Between peaks at 2.08 and 2.95 the curve crosses zero where the first one has fallen to 0.1.
    assert first.high == pytest.approx(2.08 + 0.12 * np.sqrt(np.log(10.0)), abs=0.03)
    assert second.high == pytest.approx(2 * 2.08, abs=0.02)
    assert found.grid[-6:] == pytest.approx(2.08, abs=0.01)
    assert found.edge_share is None


def test_bundles_of_the_older_format_are_refused_with_the_command(
    iron: Prediction, nickel: Prediction, store: BundleStore
) -> None:
    bundle = store.find("Fe", "K", "xanes")
    older = replace(bundle, tables={})
    with pytest.raises(BundleError, match=r"table 'background'.*xpdml train --element Fe --mod"):
        explain_xanes(iron, older)
    manifest = {key: value for key, value in bundle.manifest.items() if key != "importances"}
    with pytest.raises(BundleError, match="expected importances of oxidation_state"):
        explain_xanes(iron, replace(bundle, manifest=manifest))
    pdf = store.find("Ni", "", "pdf")
    with pytest.raises(ModelError, match="xpdml train --element Ni --modality pdf"):
        explain_pdf(nickel, replace(pdf, tables={}))


def test_what_cannot_be_explained_is_refused(
    iron: Prediction, nickel: Prediction, store: BundleStore
) -> None:
    with pytest.raises(ModelError, match="cannot explain colour: expected some of oxidation_state"):
        explain(iron, store, targets=["colour"])
    with pytest.raises(ModelError, match="cannot explain nothing"):
        explain(iron, store, targets=[])
    other = replace(iron, models=(replace(iron.models[0], sha256="0"),))
    with pytest.raises(ModelError, match="is not the bundle that answered"):
        explain(other, store)
    failed = replace(iron, descriptors={}, quality=Quality().failed("no model for Zn"))
    with pytest.raises(ModelError, match="found none for iron: no model for Zn"):
        explain(failed, store)
    for prediction, ask in ((nickel, explain_xanes), (iron, explain_pdf)):
        with pytest.raises(ModelError, match="in the prediction for"):
            ask(prediction, store.find("Fe", "K", "xanes"))


def test_a_prediction_survives_what_cannot_be_explained(iron: Prediction, store: BundleStore) -> None:
    whole = with_explanation(iron, store)
    assert whole.explanation is not None
    assert (whole.descriptors, whole.quality) == (iron.descriptors, iron.quality)
    shipped = store.find("Fe", "K", "xanes")
    older: Bundle = replace(shipped, tables={})
    without = with_explanation(iron, BundleStore(store.folder, [older]))
    assert without.explanation is None
    assert without.quality.verdict is iron.quality.verdict
    assert without.quality.reasons[-1].startswith("not explained: Fe-xanes")
    failed = replace(iron, descriptors={})
    assert with_explanation(failed, store) is failed
