"""Small functions of the models, each with one example that can be checked by hand."""

import numpy as np
import pytest

from bluesky_xpdml.demo.simulated_scan import simulated_scan
from bluesky_xpdml.models.bundle import upgrade_manifest
from bluesky_xpdml.models.comparison import compare_bundles
from bluesky_xpdml.models.edge_model import EdgeModel, Standard, class_probabilities, fit_edge_models
from bluesky_xpdml.models.explain import edge_share
from bluesky_xpdml.models.forest import expand, likeliest_polyhedron, mean_of_classes, prediction_set
from bluesky_xpdml.models.golden import golden_answers
from bluesky_xpdml.models.novelty import NoveltyReference, novelty
from bluesky_xpdml.models.partial import continue_scan, widening
from bluesky_xpdml.models.repeats import RepeatProgress, RepeatSeries, with_noise
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.tree_shap import shapley_values
from bluesky_xpdml.models.xanes import bond_valence_length, input_description
from bluesky_xpdml.records import AbsorptionScan, Estimate, Prediction, Quality
from bluesky_xpdml.reduction.repeats import RepeatSettings
from bluesky_xpdml.reduction.xanes import reduce_xanes
from bluesky_xpdml.vocabulary import Descriptor, Modality, Technique


def test_old_manifests_are_upgraded():
    old = {"format": 1, "edge_model": {"edge": [14.0]}, "targets": {}}
    assert upgrade_manifest(old)["edge_model"]["pre_edge_shift"] == 0.0
    assert input_description("Fe")["foil_energy"] == 7110.75


def test_a_bundle_has_the_recipe_of_itself():
    bundle = BundleStore.default().find("Fe", "K", Modality.XANES)
    assert compare_bundles(bundle, bundle).recipe == ()


def test_the_edge_is_corrected_for_the_pre_edge_peak():
    model = EdgeModel(valence=np.ones(1), edge=np.ones(1), sigma=np.ones(1), pre_edge_shift=7.0)
    assert model.corrected(17.0, 0.3) == pytest.approx(19.1)


def test_edge_and_shape_are_combined():
    grid, one = np.linspace(2.0, 4.0, 41), np.ones(1)
    model = EdgeModel(valence=grid, edge=4.0 * grid, sigma=np.full(41, 0.5))
    valence, weight = model.posterior(12.0 * one, one, expected=3.2 * one, expected_sigma=0.35)
    assert float(valence @ weight) == pytest.approx(3.02, abs=0.005)
    shares = class_probabilities(np.array([2.0, 2.5]), np.array([0.4, 0.6]), [2, 3])
    assert shares == pytest.approx({"2": 0.7, "3": 0.3})


def test_elements_without_standards_get_the_common_curve():
    known = [Standard(element="Fe", compound=str(v), valence=v, edge=4.0 + 3.2 * v) for v in (2, 3, 4, 5)]
    model = fit_edge_models(known, ["Fe", "Co"])["Co"]
    assert np.interp(3.0, model.valence, model.edge) == pytest.approx(13.7, abs=0.5)


def test_the_share_of_the_edge():
    fused = Prediction(
        technique=Technique.XANES,
        element="Fe",
        edge="K",
        quality=Quality(),
        descriptors={Descriptor.OXIDATION_STATE: Estimate(value=2.9, low=2.5, high=3.3, unit="e")},
        diagnostics={"edge_curve_oxidation_state": 3.0, "forest_oxidation_state": 2.5},
    )
    assert edge_share(fused) == pytest.approx(0.8)


def test_classes():
    chosen = prediction_set(np.array([0.7, 0.25, 0.05]), np.array([0.5, 0.8, 0.9]))
    assert chosen.tolist() == [True, True, False]
    numbered = {"classes": [2.0, 3.0, 4.0], "thresholds": [0.85, 0.85, 0.85], "unit": "e"}
    mean = mean_of_classes(numbered, np.array([0.2, 0.75, 0.05]))
    assert (mean.value, mean.low, mean.high) == (pytest.approx(2.85), 2.0, 3.0)
    polyhedra = {"classes": ["T4", "S5", "O6"], "thresholds": [0.5, 0.5, 0.5], "unit": "1"}
    assert likeliest_polyhedron(polyhedra, np.array([0.1, 0.2, 0.7])).value == 6.0


def test_a_stump():
    stump = {"feature": np.array([0, -1, -1]), "threshold": np.array([0.5]), "size": np.array([3])}
    stump |= {"value": np.array([[0], [3]]), "scale": np.array([0, 1])}
    _, golden = golden_answers({"bond_length": stump}, np.array([[0.2], [0.7]]))
    assert golden == {"bond_length": [[0.0], [3.0]]}

    forest = expand(stump | {"feature": np.array([1, -1, -1]), "value": np.array([[0.0], [8.0]])})
    background = np.array([[0.0, 0.0], [0.0, 1.0]])
    values, base = shapley_values(forest, np.array([0.0, 1.0]), background, np.ones(1))
    assert (values.tolist(), base) == ([0.0, 4.0], 4.0)


def test_an_unlike_row_is_novel():
    reference = NoveltyReference(
        centre=np.zeros(2),
        scale=np.ones(2),
        components=np.eye(1, 2),
        deviations=np.ones(1),
        rows=np.zeros((3, 1)),
        residual_unit=0.5,
        distance_unit=2.0,
        simulated=np.linspace(0.1, 1.1, 99),
        measured=np.empty(0),
    )
    found = novelty(reference, np.array([5.0, 0.0]))
    assert (found.score, found.p_value, found.p_value_measured) == (2.5, 0.01, None)


def test_unfinished_scans():
    energy = np.arange(7000.0, 7136.0)
    scan = AbsorptionScan(energy=energy, mu=np.arctan(energy - 7120.0), element="Fe", edge="K")
    longer = continue_scan(scan)
    assert longer.energy[-1] == 7171.0
    assert longer.mu[-1] == scan.mu[-4:].mean()
    added = [widening(Descriptor.OXIDATION_STATE, reach) for reach in (20.0, 29.0, 60.0)]
    assert added == pytest.approx([0.91, 0.14, 0.0], abs=0.005)


def test_repeats():
    progress = RepeatProgress(n_repeats=4, n_kept=4, noise=0.1, width=1.2, model_width=1.0)
    assert progress.left_to_gain == pytest.approx(1 / 6)
    assert (progress.enough, progress.n_needed) == (False, 17)
    wide = with_noise(Estimate(value=3.0, low=2.6, high=3.3, unit="e"), 0.4 / 1.645)
    assert (wide.low, wide.high) == pytest.approx((2.434, 3.5), abs=0.001)
    series = RepeatSeries(BundleStore.default(), RepeatSettings())
    answer = [series.add(reduce_xanes(simulated_scan(seed=seed))) for seed in (1, 2)][-1]
    assert answer.progress.n_repeats == 2
    assert round(answer.prediction.descriptors[Descriptor.OXIDATION_STATE].value) == 3


def test_the_bond_valence_sum():
    assert bond_valence_length({"2": 1.734, "3": 1.759}, 2.0, 6.0) == pytest.approx(2.14, abs=0.0005)
