"""Rows of the simulated benchmark, cells and rivals, on rows that are made up."""

import numpy as np
import pytest

from bluesky_xpdml.factory.bench.rivals import MIXTURES, learners, score_rivals
from bluesky_xpdml.factory.bench.samples import (
    COPIES,
    Curves,
    Samples,
    Spectra,
    joint_samples,
    material_samples,
    site_samples,
)
from bluesky_xpdml.factory.bench.scoring import CellRecipe, score_cell, split_samples
from bluesky_xpdml.factory.dataset.library import load_site_spectra
from bluesky_xpdml.factory.training.materials import load_materials

SMALL = CellRecipe(trees=20, number_trees=20, surroundings_trees=10, fold_trees=10, threads=1)


def made_up(n: int = 120) -> Samples:
    """Return rows whose spectra tell the valence, and whose curves tell the bond length."""
    random = np.random.default_rng(5)
    valence, length = random.integers(2, 4, n).astype(float), random.uniform(1.8, 2.2, n)
    x = np.arange(141) * 0.25
    window = 1.0 / (1.0 + np.exp(-(x - 4.0 - 3.0 * (valence[:, None] - 2.0)) / 1.5))
    features = random.normal(scale=0.1, size=(COPIES, n, 92))
    features[:, :, :30] += 5.0 * (length[:, None] - 2.0)
    labels = {"oxidation_state": valence, "coordination_number": valence, "bond_length": length}
    labels |= {name: np.where(np.arange(n) % 5, length, np.nan) for name in ("ocn", "nnrs", "mood")}
    labels["geometry"] = np.where(np.arange(n) % 3, valence + 2.0, np.nan)
    return Samples(
        element="Fe",
        modality="xanes+dpdf",
        formula=np.array([f"f{number // 3}" for number in range(n)]),
        labels=labels,
        blocks=[Spectra(window=window, step=0.25), Curves(features=features)],
    )


def test_formulas_stay_on_one_side_and_records_do_not():
    samples = made_up()
    by_formula, by_record = (split_samples(samples, split, 0) for split in ("formula", "record"))
    assert not set(samples.formula[by_formula.train]) & set(samples.formula[by_formula.test])
    assert set(samples.formula[by_record.train]) & set(samples.formula[by_record.test])
    assert by_formula.test.size + by_formula.train.size == len(samples)


def test_rows_without_a_label_are_left_out_of_every_copy():
    samples = made_up()
    split = split_samples(samples, "formula", 1)
    known = split.known(samples.labels["geometry"])
    expected = samples.labels["geometry"][split.train]
    expected = expected[np.isfinite(expected)]
    assert np.array_equal(known.labels, expected)
    assert [block.shape for block in known.blocks] == [(COPIES * expected.size, w) for w in (282, 170)]
    for part, rows in known.folds(SMALL):
        assert not set(part.formula) & set(known.formula[rows])
        assert np.array_equal(part.unseen[1], known.blocks[1][rows])


def test_a_combination_takes_each_label_from_the_part_that_tells_it():
    result = score_cell(made_up(), "formula", 0, SMALL, calibrated=True)
    assert result["oxidation_state"]["metrics"]["accuracy"][0] == 1.0
    assert result["oxidation_state"]["importance"][0] > 0.8
    assert result["bond_length"]["metrics"]["r2"][0] > 0.9
    assert result["bond_length"]["weights"][1] > 0.9
    assert sum(counts[0] for counts in result["oxidation_state"]["held"].values()) == 24
    assert result["ocn"]["n_test"] < 24
    assert score_cell(made_up(), "formula", 0, SMALL, calibrated=True) == result


@pytest.mark.slow
def test_every_rival_learns_what_is_easy():
    samples = made_up(60)
    single = Samples(
        element="Fe",
        modality="dpdf",
        formula=samples.formula,
        labels=samples.labels,
        blocks=samples.blocks[1:],
    )
    known = split_samples(single, "formula", 0).known(single.labels["bond_length"])
    found = score_rivals("bond_length", known, 1)
    assert set(found) == {*learners(classes=False), *MIXTURES}
    best = {name: result["metrics"]["r2"][0] for name, result in found.items()}
    assert min(best["extra trees"], best["support vectors"], best["random forest"]) > 0.8


def test_materials_and_sites_meet_on_shared_rows(shared_data):
    folder = shared_data / "simulation"
    sites, materials = load_site_spectra(folder, "Cr"), load_materials(folder, "Cr")
    sites = sites.select(np.isfinite(sites.valence) & np.isfinite(sites.bond_length))
    features = {"dpdf": np.zeros((COPIES, len(materials), 92))}
    joint = joint_samples(sites, materials, features, 5)
    alone = material_samples(materials, features, 5)
    assert set(joint) == {"xanes", "dpdf", "xanes+dpdf"}
    assert len({len(samples) for samples in joint.values()}) == 1
    assert len(joint["dpdf"]) < len(alone["dpdf"])
    assert set(site_samples(sites).labels) == set(alone["dpdf"].labels)
    row = 7
    name = materials.identifier[np.isin(materials.formula, joint["xanes"].formula[row])]
    means = [sites.mu[sites.material == one][:, :141].mean(axis=0) for one in name if one in sites.material]
    spectra = joint["xanes"].blocks[0]
    assert any(np.allclose(spectra.window[row], mean) for mean in means)
    geometry = joint["xanes"].labels["geometry"]
    assert set(np.unique(geometry[np.isfinite(geometry)])) <= {4.0, 5.0, 6.0}
    assert joint["xanes"].labels["nnrs"].min() == pytest.approx(0.0, abs=0.05)
