"""Nothing of a compound reaches the models that answer for it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.factory.dataset.library import SiteSpectra
from bluesky_xpdml.factory.training.leave_one_out import (
    calibrate_intervals,
    conformal_quantile,
    leave_one_compound_out,
    left_out_folds,
    left_out_sources,
    state_score,
)
from bluesky_xpdml.factory.training.xanes import XanesRecipe
from bluesky_xpdml.models.edge_model import fit_edge_models
from bluesky_xpdml.models.standards import CompoundAnswer, MeasuredSpectrum, by_compound, edge_standards


def answered(
    standards: Sequence[MeasuredSpectrum], sites: SiteSpectra, recipe: XanesRecipe
) -> dict[str, CompoundAnswer]:
    """Return the answers on each compound's own axis."""
    answers = leave_one_compound_out(standards, {"Fe": sites}, recipe)
    return {answer.compound: answer for answer in reversed(answers)}


@pytest.fixture(scope="module")
def answers(
    standards: list[MeasuredSpectrum], iron_sites: SiteSpectra, tiny_recipe: XanesRecipe
) -> dict[str, CompoundAnswer]:
    return answered(standards, iron_sites, tiny_recipe)


@pytest.mark.parametrize("compound", ["FeO", "Fe2O3", "SrFeO3"])
def test_labels_of_a_compound_do_not_change_its_own_answer(
    compound: str,
    answers: dict[str, CompoundAnswer],
    standards: list[MeasuredSpectrum],
    iron_sites: SiteSpectra,
    tiny_recipe: XanesRecipe,
) -> None:
    """Wrong labels of one compound: its answer stays to the last bit, those of others do not."""
    wrong = [
        replace(item, valence=item.valence + 1.5, coordination_number=1.0, bond_length=9.0)
        if item.compound == compound
        else item
        for item in standards
    ]
    after = answered(wrong, iron_sites, tiny_recipe)
    before_own, after_own = asdict(answers[compound]), asdict(after[compound])
    assert before_own.pop("truth") != after_own.pop("truth")
    assert before_own == after_own
    for other in answers.keys() - {compound}:
        assert asdict(after[other])["value"] != asdict(answers[other])["value"], other


def test_spectra_of_a_compound_do_not_change_the_models_that_answer_it(
    standards: list[MeasuredSpectrum],
    iron_sites: SiteSpectra,
    tiny_recipe: XanesRecipe,
    measured: Callable[..., MeasuredSpectrum],
) -> None:
    """Both spectra of FeO are elsewhere: its bundle is the same, the others are not."""
    elsewhere = [
        measured("FeO", 2.0, error=item.observation.edge / 10) if item.compound == "FeO" else item
        for item in standards
    ]
    sites = {"Fe": iron_sites}
    before, after = (
        {
            members[0].compound: bundle.sha256
            for members, bundle in left_out_folds(spectra, sites, tiny_recipe)
        }
        for spectra in (standards, elsewhere)
    )
    unchanged = {compound for compound in before if before[compound] == after[compound]}
    assert unchanged == {"FeO"}


def test_each_compound_is_answered_once_by_a_bundle_that_says_so(
    standards: list[MeasuredSpectrum], iron_sites: SiteSpectra, tiny_recipe: XanesRecipe
) -> None:
    steps: list[tuple[int, int]] = []
    folds = list(
        left_out_folds(
            standards, {"Fe": iron_sites}, tiny_recipe, lambda done, total: steps.append((done, total))
        )
    )
    assert [len(members) for members, _ in folds] == [1, 1, 1, 2, 1, 1]
    assert sum(len(members) for members, _ in folds) == len(standards)
    assert steps == [(done, 6) for done in range(1, 7)]
    for members, bundle in folds:
        assert {member.compound for member in members} == {bundle.manifest["left_out"]}
    assert len({bundle.sha256 for _, bundle in folds}) >= 5, "leaving out changes nothing"


def test_the_recipe_learns_what_the_library_shows(answers: dict[str, CompoundAnswer]) -> None:
    for answer in answers.values():
        assert abs(answer.value["oxidation_state"] - answer.truth["oxidation_state"]) < 0.6, answer
        assert abs(answer.value["bond_length"] - answer.truth["bond_length"]) < 0.12, answer
        assert answer.state_sigma > 0.05
        assert answer.number_low <= answer.value["coordination_number"] <= answer.number_high
    tetrahedral, octahedral = (answers[name].value["coordination_number"] for name in ("FePO4", "Fe2O3"))
    assert tetrahedral < octahedral - 0.5
    assert not answers["FePO4"].calibrated
    assert answers["FePO4"].state_sigma > answers["Fe2O3"].state_sigma
    assert answers["FeO"].n_spectra == 2


def test_edges_of_a_compound_are_averaged_and_uncalibrated_ones_left_out(
    standards: list[MeasuredSpectrum],
) -> None:
    found = {standard.compound: standard for standard in edge_standards(standards, 0.0)}
    assert set(found) == {"FeO", "Fe2SiO4", "Fe3O4", "Fe2O3", "SrFeO3"}
    edges = [item.observation.edge for item in standards if item.compound == "FeO"]
    assert found["FeO"].edge == pytest.approx(np.mean(edges))
    assert edges[1] - edges[0] == pytest.approx(0.3, abs=0.02)


def test_edges_are_corrected_for_pre_edge_peaks(standards: list[MeasuredSpectrum]) -> None:
    peaked = [
        replace(item, observation=replace(item.observation, pre_edge_peak=0.4))
        if item.compound == "FeO"
        else item
        for item in standards
    ]
    plain, corrected = (
        {standard.compound: standard.edge for standard in edge_standards(peaked, shift)}
        for shift in (0.0, 8.0)
    )
    assert corrected["FeO"] - plain["FeO"] == pytest.approx(3.2)
    assert corrected["Fe2O3"] == plain["Fe2O3"]


def test_a_source_is_left_out_with_its_compounds_wherever_they_were_measured(
    standards: list[MeasuredSpectrum], iron_sites: SiteSpectra, tiny_recipe: XanesRecipe
) -> None:
    elsewhere = [replace(item, source="a laboratory") for item in standards if item.compound == "FeO"]
    folds = left_out_sources([*standards, *elsewhere], {"Fe": iron_sites}, tiny_recipe)
    members, bundle = next(folds)
    assert {(item.source, item.compound) for item in members} == {("a laboratory", "FeO")}
    # FeO of the other source does not count either: only the other compounds fix the curve.
    without = [item for item in standards if item.compound != "FeO"]
    expected = fit_edge_models(
        edge_standards(without, tiny_recipe.pre_edge_shift),
        ["Fe"],
        pre_edge_shift=tiny_recipe.pre_edge_shift,
    )["Fe"]
    known = np.interp(bundle.edge_model.valence, expected.valence, expected.edge)
    np.testing.assert_allclose(bundle.edge_model.edge, known, atol=1e-4)


def test_the_same_formula_of_another_element_is_another_compound(standards: list[MeasuredSpectrum]) -> None:
    mixed = [*standards, replace(standards[0], element="Mn")]
    assert len(by_compound(mixed)) == len(by_compound(standards)) + 1


@settings(max_examples=100, deadline=None)
@given(
    scores=st.lists(st.floats(0.0, 100.0), min_size=1, max_size=60),
    coverage=st.floats(0.05, 0.99),
)
def test_enough_scores_lie_below_the_conformal_quantile(scores: list[float], coverage: float) -> None:
    quantile = conformal_quantile(scores, coverage)
    assert quantile in scores
    below = sum(score <= quantile for score in scores)
    assert below >= min(len(scores), coverage * (len(scores) + 1) - 1e-6)
    assert quantile <= conformal_quantile(scores, 0.99)
    assert quantile == conformal_quantile(sorted(scores, reverse=True), coverage)
    assert conformal_quantile([2.0 * score for score in scores], coverage) == 2.0 * quantile


def test_the_quantile_covers_the_next_score() -> None:
    """Drawn often, the next score stays below in at least the wanted share of cases, and not in all."""
    draws = np.random.default_rng(4).exponential(size=(4000, 31))
    held = np.mean([draw[-1] <= conformal_quantile(draw[:-1], 0.9) for draw in draws])
    assert 0.88 < held < 0.93


def test_no_scores_give_no_quantile() -> None:
    with pytest.raises(TrainingError, match="no compound"):
        conformal_quantile([])


def test_intervals_hold_the_compounds_that_they_were_chosen_on(answers: dict[str, CompoundAnswer]) -> None:
    intervals = calibrate_intervals(list(answers.values()))
    for factor, calibrated in ((intervals.state_factor, True), (intervals.uncalibrated_factor, False)):
        scores = [state_score(answer) for answer in answers.values() if answer.calibrated is calibrated]
        assert factor == pytest.approx(max(scores), abs=1e-4)
    for answer in (answer for answer in answers.values() if answer.calibrated):
        error = abs(answer.value["bond_length"] - answer.truth["bond_length"])
        assert error <= intervals.length_half_width + 1e-4
    unknown = [replace(answer, truth={**answer.truth, "bond_length": np.nan}) for answer in answers.values()]
    one_known = [*unknown[1:], next(iter(answers.values()))]
    assert np.isfinite(calibrate_intervals(one_known).length_half_width)
