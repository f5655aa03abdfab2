"""The same seed gives the same bundles, another does not; what is written says what it was made of."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.library import SITES_TABLE, SiteSpectra, load_site_spectra, spectra_file
from bluesky_xpdml.factory.training.build import MODALITIES, Training, build_bundles
from bluesky_xpdml.factory.training.joint import JointRecipe
from bluesky_xpdml.factory.training.leave_one_out import UNIT_INTERVALS
from bluesky_xpdml.factory.training.scores import score_split
from bluesky_xpdml.factory.training.xanes import XanesRecipe, train_bundle, usable_sites
from bluesky_xpdml.models.bundle import CARD, FORESTS, MANIFEST
from bluesky_xpdml.models.edge_model import EdgeModel
from bluesky_xpdml.models.standards import MeasuredSpectrum
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.xanes import expected_states, predict_descriptors
from bluesky_xpdml.vocabulary import Modality

HELD_OUT = ("Fe3O", "Fe7O", "not there")

Build = Callable[..., Path]


@pytest.fixture(scope="module")
def build(
    library: Path,
    standards: list[MeasuredSpectrum],
    tiny_recipe: XanesRecipe,
    tmp_path_factory: pytest.TempPathFactory,
) -> Build:
    def run(seed: int, held_out: tuple[str, ...] = HELD_OUT) -> Path:
        output = tmp_path_factory.mktemp("bundles")
        training = Training(
            folder=library,
            output=output,
            elements=["Fe"],
            version=3,
            recipe=JointRecipe(seed=seed, xanes=replace(tiny_recipe, seed=seed)),
            cache=output / "cache",
            standards=standards,
            held_out_spectra=held_out,
        )
        assert build_bundles(training, [Modality.XANES]) == [output / "Fe-xanes-3"]
        return output

    return run


@pytest.fixture(scope="module")
def built(build: Build) -> Path:
    return build(0)


def hashes(output: Path) -> dict[str, str]:
    return {
        name: hashlib.sha256((output / "Fe-xanes-3" / name).read_bytes()).hexdigest()
        for name in (MANIFEST, FORESTS, CARD)
    }


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(build: Build, built: Path) -> None:
    assert hashes(build(0)) == hashes(built)
    other = hashes(build(1))
    assert all(other[name] != hashes(built)[name] for name in (MANIFEST, FORESTS))


def test_held_out_formulas_enter_nothing(build: Build, built: Path, library: Path) -> None:
    training = BundleStore(built).find("Fe", "K", "xanes").manifest["training"]
    assert training["held_out_formulas"] == sorted(HELD_OUT)
    assert (training["n_sites"], training["n_formulas"]) == (56, 28)
    everything = build(0, ())
    assert hashes(everything)[FORESTS] != hashes(built)[FORESTS]
    assert BundleStore(everything).find("Fe", "K", "xanes").manifest["training"]["n_sites"] == 60


def test_the_manifest_says_what_the_bundle_was_made_of(
    built: Path, library: Path, tiny_recipe: XanesRecipe
) -> None:
    manifest = json.loads((built / "Fe-xanes-3" / MANIFEST).read_text())
    assert (manifest["name"], manifest["version"], manifest["modality"]) == ("Fe-xanes", 3, "xanes")
    for name in (spectra_file("Fe"), SITES_TABLE):
        expected = hashlib.sha256((library / name).read_bytes()).hexdigest()
        assert manifest["training"]["files"][name] == expected
    assert manifest["recipe"]["trees"] == tiny_recipe.trees
    assert manifest["training"]["edge_standards"] == 5
    measured = manifest["metrics"]["measured"]
    assert {row["compound"] for row in measured} == {"FeO", "Fe2SiO4", "Fe3O4", "Fe2O3", "FePO4", "SrFeO3"}
    card = (built / "Fe-xanes-3" / CARD).read_text()
    for row in measured:
        assert f"| {row['compound']} | {row['n_spectra']} |" in card
    assert "Left out on purpose: Fe3O, Fe7O, not there." in card


def test_a_written_bundle_answers_the_standards(built: Path, standards: list[MeasuredSpectrum]) -> None:
    bundle = BundleStore(built).find("Fe", "K", "xanes")
    for item in standards:
        answer = predict_descriptors(bundle, item.observation, expected_states(bundle, item.observation))
        assert answer["oxidation_state"].value == pytest.approx(item.valence, abs=0.6)
        assert answer["oxidation_state"].low <= item.valence <= answer["oxidation_state"].high
        if item.observation.calibrated:
            assert answer["coordination_number"].value == pytest.approx(item.coordination_number, abs=0.9)


def test_every_modality_has_a_way_to_be_trained() -> None:
    assert list(MODALITIES) == list(Modality)


def with_labels(sites: SiteSpectra, **labels: np.ndarray) -> SiteSpectra:
    return replace(sites, **labels)


def test_only_sites_with_known_and_common_labels_are_used(library: Path, tiny_recipe: XanesRecipe) -> None:
    sites = load_site_spectra(library, "Fe")
    valence, length, oxygen = sites.valence.copy(), sites.bond_length.copy(), sites.only_oxygen.copy()
    number = sites.coordination_number.copy()
    valence[0], length[1], oxygen[2], number[3:6] = np.nan, np.nan, False, 12.0
    changed = replace(
        sites, valence=valence, bond_length=length, only_oxygen=oxygen, coordination_number=number
    )
    used = usable_sites(changed, tiny_recipe)
    assert used.material.tolist() == sites.material[6:].tolist()
    assert len(usable_sites(sites, tiny_recipe)) == 60


def test_more_sites_than_wanted_are_drawn_by_the_seed(library: Path, tiny_recipe: XanesRecipe) -> None:
    sites = load_site_spectra(library, "Fe")
    first, again, other = (
        usable_sites(sites, replace(tiny_recipe, most_sites=30, seed=seed)).material.tolist()
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert len(set(first)) == 30


def test_one_valence_alone_cannot_be_trained_on(library: Path, tiny_recipe: XanesRecipe) -> None:
    sites = load_site_spectra(library, "Fe")
    with pytest.raises(
        TrainingError, match=r"20 of 20 sites of Fe can be trained on .* fewer than two valences"
    ):
        usable_sites(sites.select(sites.valence == 3.0), tiny_recipe)


def test_scores_beat_the_trivial_answer_and_keep_formulas_apart(
    iron_sites: SiteSpectra, tiny_recipe: XanesRecipe
) -> None:
    recipe = replace(tiny_recipe, trees=30, length_trees=30)
    scores = {(score.target, score.metric): score for score in score_split(iron_sites, recipe, "formula", 0)}
    assert scores["oxidation_state", "accuracy"].value > scores["oxidation_state", "accuracy"].majority + 0.3
    assert scores["coordination_number", "macro_f1"].value > 0.8
    assert scores["bond_length", "rmse"].value < 0.7 * scores["bond_length", "rmse"].majority
    assert {(score.n_train, score.n_test) for score in scores.values()} == {(48, 12)}
    assert score_split(iron_sites, recipe, "formula", 0) == list(scores.values())


def test_a_formula_split_does_not_profit_from_twins(
    iron_sites: SiteSpectra, tiny_recipe: XanesRecipe
) -> None:
    """Labels without any relation to the spectrum, shared by the two sites of a formula, are twins' talk."""
    random = np.random.default_rng(8)
    pairs = np.repeat(np.arange(30), 2)
    x = iron_sites.energy - iron_sites.energy[0]
    fingerprints = 1.0 + 0.5 * np.sin(np.linspace(0.1, 1.5, 30)[:, None] * x)
    twins = replace(
        iron_sites,
        mu=fingerprints[pairs],
        formula=iron_sites.formula[2 * pairs],
        bond_length=random.permutation(np.linspace(1.8, 2.2, 30))[pairs],
    )
    recipe = replace(tiny_recipe, trees=5, length_trees=60)

    def r2(split: str) -> float:
        values = [
            score.value
            for seed in range(3)
            for score in score_split(twins, recipe, split, seed)  # type: ignore[arg-type]
            if score.metric == "r2"
        ]
        return float(np.mean(values))

    assert r2("record") > r2("formula") + 0.2
    assert r2("formula") < 0.2


@pytest.mark.slow
def test_threads_do_not_change_the_last_bit(shared_data: Path) -> None:
    """The order in which threads add up many trees would show in the forest that is trained on the sums."""
    grid = np.linspace(2.0, 5.0, 61)
    model = EdgeModel(valence=grid, edge=13.0 + 2.4 * (grid - 3.0), sigma=np.full(grid.size, 0.7))
    recipe = XanesRecipe()
    sites = usable_sites(load_site_spectra(shared_data / "simulation", "V"), recipe)
    first, second = (
        train_bundle(sites, model, recipe, UNIT_INTERVALS).forests["bond_length"] for _ in range(2)
    )
    for name in ("feature", "threshold", "value"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
