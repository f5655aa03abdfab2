"""Outcomes come from predictions, in time, with the same entries whatever happens."""

from dataclasses import replace
from math import isnan
from uuid import uuid4

import pytest
from bluesky_adaptive.protocols import EvaluationFunction

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.evaluation import DescriptorEvaluation
from bluesky_xpdml.planning.trials import trial_metadata

LONG = 300.0
"""A test that waits so long has failed [s]."""
KEYS = ["_id", "oxidation_state", "oxidation_state_low", "oxidation_state_high", "novelty", "quality"]


def start_of(trial=None, campaign="front"):
    said = trial_metadata(campaign, {"_id": trial, "x": 1.0}) if trial else {}
    return {"uid": uuid4().hex, "time": 5.0, **said}


def is_failed(outcome):
    numbers = [value for key, value in outcome.items() if key not in ("_id", "quality")]
    return outcome["quality"] == "failed" and all(isnan(value) for value in numbers)


def test_an_outcome_holds_interval_novelty_and_quality(catalog, analysis):
    start = start_of("t1")
    analysis.publish(analysis.answer(start, 2.25, 0.5))
    evaluation = DescriptorEvaluation(catalog, timeout=LONG, campaign="front", element="Fe")
    assert isinstance(evaluation, EvaluationFunction)
    (outcome,) = evaluation(start["uid"], [{"_id": "t1", "x": 1.0}])
    assert list(outcome) == KEYS
    assert list(outcome.values()) == ["t1", 2.25, 1.75, 2.75, 0.5, "good"]


def test_trials_are_assigned_by_their_ids_in_any_order(catalog, analysis):
    starts = [start_of(name) for name in ("a", "b", "c")]
    analysis.publish(*(analysis.answer(start, state) for start, state in zip(starts, (1, 2, 3), strict=True)))
    uids = ",".join(start["uid"] for start in reversed(starts))
    outcomes = DescriptorEvaluation(catalog, timeout=LONG)(uids, [{"_id": name} for name in ("b", "a", "c")])
    assert [(each["_id"], each["oxidation_state"]) for each in outcomes] == [("b", 2), ("a", 1), ("c", 3)]


def test_a_measurement_without_trial_belongs_to_a_single_suggestion(catalog, analysis):
    start = start_of()
    analysis.publish(analysis.answer(start, 2.75))
    (outcome,) = DescriptorEvaluation(catalog, timeout=LONG)([start["uid"]], [{"_id": 7}])
    assert (outcome["_id"], outcome["oxidation_state"]) == (7, 2.75)


def test_a_failed_prediction_is_a_failed_trial(catalog, analysis):
    start = start_of("f")
    analysis.publish(analysis.failure(start, "no edge step"))
    evaluation = DescriptorEvaluation(catalog, timeout=LONG, element="Fe")
    (outcome,) = evaluation(start["uid"], [{"_id": "f"}])
    assert list(outcome) == KEYS
    assert is_failed(outcome)
    assert evaluation.reasons == {"f": "xanes failed: no edge step"}


def test_no_prediction_in_time_is_a_failed_trial(catalog, query_clock):
    evaluation = DescriptorEvaluation(catalog, timeout=2.0)
    (outcome,) = evaluation(uuid4().hex, [{"_id": "n"}])
    assert is_failed(outcome)
    assert "no xanes in 2 s: the runs were not analysed" in evaluation.reasons["n"]


def both(analysis, trial, *, pdf):
    """Publish the answer to a spectrum and the result of the PDF, and return the uids of both runs."""
    first, second = start_of(trial), start_of(trial)
    answers = [analysis.answer(first, 2.0)]
    if pdf == "failed":
        failed = analysis.failure(second, "no sample", technique="pdf")
        answers += [failed, replace(failed, technique="xanes+pdf", raw_uids=(first["uid"], second["uid"]))]
    if pdf in ("good", "paired"):
        answers.append(analysis.answer(second, 3.0, technique="pdf"))
    if pdf == "paired":
        uids = (first["uid"], second["uid"])
        answers.append(analysis.answer(first, 2.5, technique="xanes+pdf", raw_uids=uids))
    analysis.publish(*answers)
    return [first["uid"], second["uid"]]


@pytest.mark.parametrize(("pdf", "state"), [("paired", 2.5), ("failed", 2.0)])
def test_one_part_counts_alone_where_the_other_failed(catalog, analysis, pdf, state):
    evaluation = DescriptorEvaluation(catalog, technique="xanes+pdf", alone="xanes", timeout=LONG)
    (outcome,) = evaluation(both(analysis, f"both-{pdf}", pdf=pdf), [{"_id": f"both-{pdf}"}])
    assert outcome["oxidation_state"] == state


@pytest.mark.parametrize("pdf", ["good", "missing"])
def test_one_part_does_not_count_alone_while_the_joint_answer_may_come(catalog, analysis, query_clock, pdf):
    evaluation = DescriptorEvaluation(catalog, technique="xanes+pdf", alone="xanes", timeout=1.0)
    (outcome,) = evaluation(both(analysis, f"both-{pdf}", pdf=pdf), [{"_id": f"both-{pdf}"}])
    assert is_failed(outcome) == (pdf == "good")


def test_one_part_counts_where_nothing_else_was_measured(catalog, analysis):
    start = start_of("single")
    analysis.publish(analysis.answer(start, 2.0))
    evaluation = DescriptorEvaluation(catalog, technique="xanes+pdf", alone="xanes", timeout=LONG)
    (outcome,) = evaluation(start["uid"], [{"_id": "single"}])
    assert outcome["oxidation_state"] == 2.0


def test_an_unknown_technique_is_refused_with_the_known_ones(catalog):
    with pytest.raises(PlanningError, match=r"expected a technique, one of xanes, pdf, .* found 'raman'"):
        DescriptorEvaluation(catalog, technique="raman")


def test_alone_has_to_be_a_part_of_the_technique(catalog):
    with pytest.raises(PlanningError, match="part of a joint technique"):
        DescriptorEvaluation(catalog, technique="xanes", alone="xanes")


@pytest.mark.parametrize("how", ["cut", "fall_silent"])
def test_an_unreachable_server_is_a_failed_trial(proxied_catalog, proxy, analysis, how):
    start = start_of("s")
    analysis.publish(analysis.answer(start))
    (here,) = DescriptorEvaluation(proxied_catalog, timeout=LONG)(start["uid"], [{"_id": "s"}])
    evaluation = DescriptorEvaluation(proxied_catalog, timeout=0.5)
    getattr(proxy, how)()
    (away,) = evaluation(start["uid"], [{"_id": "s"}])
    assert here["quality"] == "good"
    assert is_failed(away)
    assert "the server of the predictions" in evaluation.reasons["s"]


def test_a_missing_descriptor_is_a_failed_trial(catalog, analysis):
    start = start_of("m")
    analysis.publish(analysis.answer(start))
    evaluation = DescriptorEvaluation(catalog, ("oxidation_state", "bond_length"), timeout=LONG)
    (outcome,) = evaluation(start["uid"], [{"_id": "m"}])
    assert is_failed(outcome)
    assert "bond_length_high" in outcome
    assert evaluation.reasons["m"] == "the prediction holds no bond_length"


def test_the_joint_answer_is_waited_for(catalog, analysis):
    spectrum, pattern = start_of("j"), start_of("j")
    both = (spectrum["uid"], pattern["uid"])
    analysis.publish(
        analysis.answer(spectrum, 2.0),
        analysis.answer(pattern, 2.2, technique="pdf"),
        analysis.answer(spectrum, 2.1, technique="xanes+pdf", raw_uids=both),
    )
    evaluation = DescriptorEvaluation(catalog, technique="xanes+pdf", timeout=LONG)
    (outcome,) = evaluation(both, [{"_id": "j"}])
    assert outcome["oxidation_state"] == 2.1


def test_without_one_of_its_parts_no_joint_answer_is_waited_for(catalog, analysis):
    spectrum, pattern = start_of("k"), start_of("k")
    analysis.publish(analysis.answer(spectrum), analysis.failure(pattern, "no calibration", technique="pdf"))
    evaluation = DescriptorEvaluation(catalog, technique="xanes+pdf", timeout=LONG)
    (outcome,) = evaluation((spectrum["uid"], pattern["uid"]), [{"_id": "k"}])
    assert is_failed(outcome)
    assert evaluation.reasons["k"] == "pdf failed: no calibration"


def test_the_merged_answer_counts_if_requested(catalog, analysis):
    first, second = start_of("r1"), start_of("r2")
    series = analysis.answer(second, 2.5, 0.1, raw_uids=(first["uid"], second["uid"]))
    analysis.publish(analysis.answer(first), analysis.answer(second, 2.6, 0.4), series)
    own = DescriptorEvaluation(catalog, timeout=LONG)
    merged = DescriptorEvaluation(catalog, timeout=LONG, merged_within=5.0)
    assert own(second["uid"], [{"_id": "r2"}])[0]["oxidation_state"] == 2.6
    assert merged(second["uid"], [{"_id": "r2"}])[0]["oxidation_state"] == 2.5


def test_a_newer_answer_replaces_the_earlier(catalog, analysis):
    start = start_of("u")
    analysis.publish(analysis.answer(start, 2.0))
    analysis.publish(replace(analysis.answer(start, 3.0), settings={"profile": "newer"}))
    (outcome,) = DescriptorEvaluation(catalog, timeout=LONG)(start["uid"], [{"_id": "u"}])
    assert outcome["oxidation_state"] == 3.0


def test_trials_of_another_campaign_do_not_count(catalog, analysis, query_clock):
    start = start_of("c1", campaign="other")
    analysis.publish(analysis.answer(start))
    (outcome,) = DescriptorEvaluation(catalog, timeout=0.3, campaign="front")(start["uid"], [{"_id": "c1"}])
    assert is_failed(outcome)


def test_a_name_alone_is_no_list_of_descriptors(catalog):
    with pytest.raises(PlanningError, match="expected names of descriptors"):
        DescriptorEvaluation(catalog, "oxidation_state", timeout=1.0)


def test_a_planner_requests_neither_raw_documents_nor_streams(catalog, analysis):
    asked = []
    hooks = catalog.container.context.http_client.event_hooks
    hooks["request"] = [*hooks["request"], lambda request: asked.append(str(request.url))]
    start = start_of("w")
    analysis.publish(analysis.answer(start))
    before = len(asked)
    evaluation = DescriptorEvaluation(catalog, timeout=LONG)
    assert evaluation(start["uid"], [{"_id": "w"}])[0]["quality"] == "good"
    of_planner = asked[before:]
    hooks["request"] = hooks["request"][:-1]
    catalog.container.context.http_client.event_hooks = hooks
    path = "/".join(catalog.container.path_parts)
    assert of_planner
    allowed = (f"/metadata/{path}", f"/search/{path}")
    assert [url for url in of_planner if not any(f"{part}?" in f"{url}?" for part in allowed)] == []
