"""The optimizers steer real plans of bluesky-adaptive through Tiled, past failures and pauses."""

import threading
from math import isnan
from uuid import uuid4

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from bluesky_adaptive.plans import optimize, sample_suggestions
from bluesky_adaptive.protocols import AcquisitionPlan, OptimizationProblem
from bluesky_tiled_plugins import TiledWriter
from ophyd.sim import SynAxis

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.acquisition import Acquire
from bluesky_xpdml.planning.answers import query_answers
from bluesky_xpdml.planning.boundary import BoundaryOptimizer
from bluesky_xpdml.planning.evaluation import DescriptorEvaluation, restore
from bluesky_xpdml.planning.space import Parameter, Space
from bluesky_xpdml.planning.uncertainty import UncertaintyOptimizer
from bluesky_xpdml.publish import open_container

SPACE = Space(parameters=(Parameter(name="x", low=0.0, high=10.0),))


@pytest.fixture
def campaign():
    return uuid4().hex[:8]


@pytest.fixture
def evaluation(catalog, campaign):
    return DescriptorEvaluation(catalog, timeout=300.0, campaign=campaign)


def steps(analysis):
    """Return a rule: a step at x = 4.2, and every fourth measurement fails."""
    seen = []

    def rule(start):
        seen.append(start["uid"])
        if len(seen) % 4 == 2:
            return [analysis.failure(start)]
        x = start["xpdml_trial"]["parameters"]["x"]
        return [analysis.answer(start, 2.0 if x < 4.2 else 3.0)]

    return rule


def acquire(analysis, campaign, evaluation=None, runs=1):
    def measure(suggestion, md):
        uids = ()
        for _ in range(runs):
            uids += ((yield from analysis.measured(md)),)
        return uids

    return Acquire(measure, campaign=campaign, wait_with=evaluation)


def problem(optimizer, evaluation, plan):
    motor = SynAxis(name="x")
    return motor, OptimizationProblem(
        optimizer=optimizer,
        actuators=[motor],
        sensors=[],
        evaluation_function=evaluation,
        acquisition_plan=plan,
    )


@pytest.mark.parametrize("in_plan", [False, True])
def test_failures_give_no_numbers_and_the_stream_keeps_its_columns(
    measuring, analysis, evaluation, publisher, in_plan
):
    campaign = evaluation.criteria.campaign
    analysis.rule = steps(analysis)
    optimizer = UncertaintyOptimizer(SPACE, "oxidation_state", width=0.1)
    plan = acquire(analysis, campaign, evaluation if in_plan else None, runs=2 if in_plan else 1)
    assert isinstance(plan, AcquisitionPlan)
    motor, task = problem(optimizer, evaluation, plan)
    raw = open_container(publisher.container.parent, f"raw-{campaign}")
    token = measuring.subscribe(TiledWriter(raw))
    try:
        result = measuring(optimize(task, iterations=3))
    finally:
        measuring.unsubscribe(token)
    table = raw[result.run_start_uids[0]]["primary"].read()
    assert optimizer.n_measured == 3
    failed = [isnan(value) for value in table["oxidation_state"].values]
    assert optimizer.n_failed == sum(failed) == (0 if in_plan else 1)
    assert failed == [quality == "failed" for quality in table["quality"].values]
    uids = [uid for joined in table["acquisition_uid"].values for uid in str(joined).split(",")]
    assert uids == list(result.run_start_uids[1:])
    assert motor.position == pytest.approx(table["x"].values[-1])


@pytest.mark.slow
def test_a_boundary_is_found_with_a_restart_in_the_middle(measuring, analysis, evaluation, campaign):
    analysis.rule = steps(analysis)
    first = BoundaryOptimizer(SPACE, "oxidation_state", at_most=60)
    _, task = problem(first, evaluation, acquire(analysis, campaign))
    measuring(optimize(task, iterations=5, n_points=2))
    second = BoundaryOptimizer(SPACE, "oxidation_state", at_most=60)
    restored = restore(second, evaluation)
    assert {each.id: each.value for each in first.answered} == {
        each.id: each.value for each in second.answered
    }
    assert len(restored.failed) == first.n_failed == second.n_failed > 0
    _, task = problem(second, evaluation, acquire(analysis, campaign))
    measuring(optimize(task, iterations=None, n_points=2))
    x = np.linspace(0.0, 10.0, 501)
    found = x[np.argmax(second.is_above([{"x": value} for value in x]))]
    assert found == pytest.approx(4.2, abs=0.2)


def test_points_chosen_by_the_user_are_measured_too(measuring, analysis, evaluation, campaign):
    analysis.rule = steps(analysis)
    optimizer = UncertaintyOptimizer(SPACE, "oxidation_state", width=0.1)
    _, task = problem(optimizer, evaluation, acquire(analysis, campaign))
    measuring(sample_suggestions(task, [{"x": 7.0}]))
    assert [(each.point, each.value) for each in optimizer.answered] == [((0.7,), 3.0)]


def test_errors_of_a_plan_are_raised_and_the_trial_has_failed(engine, evaluation, campaign):
    def broken(suggestion, md):
        raise RuntimeError("the shutter is stuck")
        yield

    optimizer = UncertaintyOptimizer(SPACE, "oxidation_state", width=0.1)
    _, task = problem(optimizer, evaluation, Acquire(broken, campaign=campaign, wait_with=None))
    with pytest.raises(RuntimeError, match="the shutter is stuck"):
        engine(optimize(task))
    assert optimizer.n_failed == 1


def test_a_plan_without_uid_is_refused(engine, campaign):
    def silent(suggestion, md):
        yield from ()

    with pytest.raises(PlanningError, match="end it with `return uid`"):
        engine(Acquire(silent, campaign=campaign, wait_with=None)([{"_id": "a", "x": 1.0}], []))


def test_the_run_engine_can_be_paused_while_a_plan_waits(analysis, campaign, catalog, monkeypatch):
    engine = RunEngine({}, call_returns_result=True)
    engine.subscribe(analysis)
    queried = threading.Event()

    def query_and_pause(*arguments):
        if not queried.is_set():
            queried.set()
            threading.Thread(target=engine.request_pause).start()
        return query_answers(*arguments)

    monkeypatch.setattr("bluesky_xpdml.planning.evaluation.query_answers", query_and_pause)
    analysis.rule = lambda _: []
    evaluation = DescriptorEvaluation(catalog, timeout=300.0, campaign=campaign)
    optimizer = UncertaintyOptimizer(SPACE, "oxidation_state", width=0.1)
    _, task = problem(optimizer, evaluation, acquire(analysis, campaign, evaluation))
    with pytest.raises(RunEngineInterrupted):
        engine(optimize(task))
    (start,) = [each for each in analysis.starts.values() if each.get("plan_name") == "measured"]
    analysis.publish(analysis.answer(start))
    engine.resume()
    assert len(optimizer.answered) == 1
