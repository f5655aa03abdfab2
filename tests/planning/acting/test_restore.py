"""After a restart an optimizer learns from Tiled what its campaign has answered, each trial once."""

from dataclasses import replace
from uuid import uuid4

import pytest

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.count import CountOptimizer
from bluesky_xpdml.planning.evaluation import DescriptorEvaluation, restore
from bluesky_xpdml.planning.space import Parameter, Space
from bluesky_xpdml.planning.trials import trial_metadata
from bluesky_xpdml.planning.uncertainty import UncertaintyOptimizer

SPACE = Space(parameters=(Parameter(name="x", low=0.0, high=10.0),))


def start_of(campaign, trial, **point):
    return {"uid": uuid4().hex, "time": 5.0, **trial_metadata(campaign, {"_id": trial, **point})}


@pytest.fixture
def campaign(analysis):
    """Return the name of a campaign: two answers, of which one was given anew, and a failure."""
    name = uuid4().hex[:8]
    one, two, three = (start_of(name, trial, x=x) for trial, x in (("a", 1.0), ("b", 4.0), ("c", 9.0)))
    analysis.publish(analysis.answer(one, 2.0), analysis.answer(two, 3.0), analysis.failure(three))
    analysis.publish(replace(analysis.answer(one, 2.25), settings={"profile": "newer"}))
    analysis.publish(analysis.answer(start_of(name + "-other", "d", x=2.0)))
    return name


def test_a_new_optimizer_knows_what_the_old_one_had_learned(catalog, campaign):
    evaluation = DescriptorEvaluation(catalog, timeout=1.0, campaign=campaign)
    optimizer = UncertaintyOptimizer(SPACE, "oxidation_state", width=0.5)
    restored = restore(optimizer, evaluation)
    assert set(restored.answered) == {"a", "b"}
    assert restored.failed == ("c",)
    assert {each.id: (each.point, each.value) for each in optimizer.answered} == {
        "a": ((0.1,), 2.25),
        "b": ((0.4,), 3.0),
    }
    assert optimizer.n_failed == 1
    assert restore(optimizer, evaluation) == restored
    assert optimizer.n_measured == 3


def test_what_was_answered_meanwhile_is_taken_in(catalog, analysis, campaign):
    evaluation = DescriptorEvaluation(catalog, timeout=1.0, campaign=campaign)
    optimizer = UncertaintyOptimizer(SPACE, "oxidation_state", width=0.5)
    (trial,) = optimizer.suggest()
    analysis.publish(analysis.answer(start_of(campaign, trial["_id"], x=trial["x"]), 2.6))
    restore(optimizer, evaluation)
    assert trial["_id"] in {each.id for each in optimizer.answered}
    assert optimizer.n_measured == 4


def test_a_trial_at_no_known_place_is_named_and_left_out(catalog, analysis, campaign):
    analysis.publish(analysis.answer(start_of(campaign, "odd", y=2.0)))
    evaluation = DescriptorEvaluation(catalog, timeout=1.0, campaign=campaign)
    restored = restore(UncertaintyOptimizer(SPACE, "oxidation_state", width=0.5), evaluation)
    assert "expected a number for x" in restored.unusable["odd"]
    assert set(restored.answered) == {"a", "b"}


def test_repeats_of_samples_are_known_again(catalog, analysis):
    name = uuid4().hex[:8]
    analysis.publish(*(analysis.answer(start_of(name, n, sample="A"), 2.0, 0.4) for n in ("1", "2")))
    optimizer = CountOptimizer([{"sample": "A"}, {"sample": "B"}], "oxidation_state", width=0.5, at_most=2)
    restore(optimizer, DescriptorEvaluation(catalog, timeout=1.0, campaign=name))
    assert optimizer.progress[0].finished
    assert optimizer.suggest()[0]["sample"] == "B"


def test_a_half_answered_pair_is_left_open(catalog, analysis):
    name = uuid4().hex[:8]
    analysis.publish(
        analysis.answer(start_of(name, "half", x=1.0)),
        analysis.failure(start_of(name, "lost", x=2.0), technique="pdf"),
    )
    evaluation = DescriptorEvaluation(catalog, timeout=1.0, campaign=name, technique="xanes+pdf")
    restored = restore(UncertaintyOptimizer(SPACE, "oxidation_state", width=0.5), evaluation)
    assert (restored.answered, restored.failed) == ((), ("lost",))


def test_a_campaign_is_needed(catalog):
    with pytest.raises(PlanningError, match="name it"):
        restore(
            UncertaintyOptimizer(SPACE, "oxidation_state", width=0.5),
            DescriptorEvaluation(catalog, timeout=1.0),
        )
