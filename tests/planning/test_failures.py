"""Wrapped optimizers learn from good trials only, and keep their abilities."""

from math import nan

import pytest
from bluesky_adaptive.protocols import (
    CanRegisterSuggestions,
    Checkpointable,
    Optimizer,
    SupportsStoppingCriteria,
    TrialFaultAware,
)

from bluesky_xpdml.planning.failures import FailedTrials
from bluesky_xpdml.records import Verdict

GOOD = {"oxidation_state": 2.5, "oxidation_state_low": 2.0, "oxidation_state_high": 3.0, "novelty": 0.1}


class Plain:
    """An optimizer that can do no more than it must; it counts its ids, as those of others do."""

    def __init__(self):
        self.learned = []
        self.n = 0

    def suggest(self, num_points=None):
        self.n += num_points or 1
        return [{"_id": self.n - 1, "x": 0.5}]

    def ingest(self, points):
        self.learned += [dict(point) for point in points]

    def get_best_points(self):
        return [(0, {"x": 0.5}, {"oxidation_state": 2.5})]


class Able(Plain):
    """One that can do all."""

    def __init__(self):
        super().__init__()
        self.failures = []
        self.written = 0

    def register_failures(self, suggestions):
        self.failures += [dict(each) for each in suggestions]

    def should_stop(self):
        return self.n >= 1, "enough"

    def checkpoint(self):
        self.written += 1

    def register_suggestions(self, suggestions):
        return [{**each, "_id": 40 + n} for n, each in enumerate(suggestions)]


ABILITIES = (SupportsStoppingCriteria, Checkpointable, CanRegisterSuggestions)


@pytest.mark.parametrize(("optimizer", "can"), [(Plain(), False), (Able(), True)])
def test_the_wrapper_has_the_abilities_of_the_wrapped_optimizer(optimizer, can):
    wrapped = FailedTrials(optimizer, learn=("oxidation_state",))
    assert isinstance(wrapped, FailedTrials)
    assert isinstance(wrapped, Optimizer)
    assert isinstance(wrapped, TrialFaultAware)
    assert [isinstance(wrapped, ability) for ability in ABILITIES] == [can] * 3


def test_abilities_are_passed_on():
    able = Able()
    wrapped = FailedTrials(able, learn=("oxidation_state",))
    (given,) = wrapped.register_suggestions([{"x": 0.1}])
    wrapped.ingest([{**GOOD, "_id": given["_id"], "quality": "good"}])
    wrapped.checkpoint()
    assert wrapped.should_stop() == (False, "enough")
    assert able.learned == [{"_id": 40, "oxidation_state": 2.5}]
    assert able.written == 1


@pytest.mark.parametrize(
    "outcome",
    [
        {**GOOD, "quality": "failed"},
        {**GOOD, "quality": "good", "oxidation_state": nan},
        {"bond_length": 2.0, "quality": "good"},
        {**GOOD, "quality": "suspect"},
    ],
)
def test_numbers_of_failed_trials_are_not_learned(outcome):
    able = Able()
    wrapped = FailedTrials(able, learn=("oxidation_state",), accept=(Verdict.GOOD,))
    (trial,) = wrapped.suggest()
    wrapped.ingest([{**outcome, "_id": trial["_id"]}])
    assert able.learned == []
    assert able.failures == [{"_id": 0, "x": 0.5}]
    assert (wrapped.n_failed, wrapped.n_measured) == (1, 1)


def test_an_optimizer_without_register_failures_gets_none():
    plain = Plain()
    wrapped = FailedTrials(plain, learn=("oxidation_state",))
    (trial,) = wrapped.suggest(1)
    wrapped.register_failures([trial])
    assert plain.learned == []
    assert wrapped.n_failed == 1


def test_ids_are_unique_and_map_to_those_of_the_wrapped_optimizer():
    first, second = (FailedTrials(Plain(), learn=("oxidation_state",)) for _ in range(2))
    (one,), (other,) = first.suggest(), second.suggest()
    assert one["_id"] != other["_id"]
    assert first.get_best_points()[0][0] == one["_id"]


def test_a_trial_counts_once_and_points_chosen_elsewhere_have_no_id():
    plain = Plain()
    wrapped = FailedTrials(plain, learn=("oxidation_state",))
    outcome = {**GOOD, "_id": "before", "x": 0.3, "quality": "good"}
    wrapped.ingest([outcome, outcome])
    assert plain.learned == [{"x": 0.3, "oxidation_state": 2.5}]


def test_scipy_repeats_a_suggestion_after_a_failure():
    from bluesky_adaptive.scipy.configs import Objective, RangeDOF, ScipyCFG
    from bluesky_adaptive.scipy.inverter import InteractiveOptimizer
    from bluesky_adaptive.scipy.normalizers import Minimize

    config = ScipyCFG(
        dofs=[RangeDOF(name="x", bounds=(0.0, 1.0), parameter_type="float")],
        objective=Objective(name="oxidation_state", minimize=True),
        initial=[0.5],
        max_iter=None,
    )
    with InteractiveOptimizer(Minimize(config), config, timeout=120) as inner:
        wrapped = FailedTrials(inner, learn=("oxidation_state",))
        (first,) = wrapped.suggest()
        wrapped.ingest([{"_id": first["_id"], "oxidation_state": nan, "quality": "failed"}])
        (again,) = wrapped.suggest()
        assert again["x"] == first["x"]
        assert again["_id"] != first["_id"]
