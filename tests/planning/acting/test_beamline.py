"""The simulated beamline, the callback and a planner: the whole way."""

from uuid import uuid4

import pytest
from bluesky_adaptive.plans import optimize
from bluesky_adaptive.protocols import OptimizationProblem

from bluesky_xpdml import BundleStore, TiledPublisher, XpdmlCallback
from bluesky_xpdml.demo.beamline import XasBeamline, scan_sample, xanes_scan
from bluesky_xpdml.planning.acquisition import Acquire
from bluesky_xpdml.planning.count import CountOptimizer
from bluesky_xpdml.planning.evaluation import DescriptorEvaluation
from bluesky_xpdml.planning.stubs import Ended, MeasurementSetup, measure_until
from bluesky_xpdml.publish.predictions import PredictionCatalog
from bluesky_xpdml.settings import SeriesSettings


@pytest.fixture(scope="module")
def place(tiled_server):
    """Return a callback that publishes, and the catalog that it publishes to."""
    publisher = TiledPublisher.from_uri(tiled_server.uri, path=f"beamline-{uuid4().hex[:8]}")
    callback = XpdmlCallback(publisher, store=BundleStore.default())
    yield callback, PredictionCatalog(publisher.container)
    callback.close()


@pytest.fixture
def watched(engine, place):
    token = engine.subscribe(place[0])
    yield engine
    engine.unsubscribe(token)


@pytest.fixture(scope="module")
def beamline():
    return XasBeamline()


def test_samples_are_counted_on_the_simulated_beamline(watched, place, beamline):
    callback, catalog = place
    wheel = beamline.wheel

    def measure(suggestion, md):
        return (yield from xanes_scan(beamline, md=md))

    evaluation = DescriptorEvaluation(catalog, timeout=300.0, campaign="count")
    samples = [{wheel.name: "LaFeO3"}, {wheel.name: "NaFeO2"}]
    optimizer = CountOptimizer(samples, "oxidation_state", width=0.01, at_most=1)
    task = OptimizationProblem(
        optimizer=optimizer,
        actuators=[wheel],
        sensors=[],
        evaluation_function=evaluation,
        acquisition_plan=Acquire(measure, campaign="count", wait_with=evaluation),
    )
    watched(optimize(task, iterations=None))
    assert optimizer.n_measured == 2
    assert optimizer.n_failed == 0, evaluation.reasons
    assert callback.drain(timeout=300.0)
    assert {
        each.point[wheel.name]: round(each.outcomes[0]["oxidation_state"]) for each in optimizer.progress
    } == {
        "LaFeO3": 3,
        "NaFeO2": 3,
    }
    # The run of the optimization itself is of no technique, and nothing is predicted of it.
    statistics = callback.statistics
    assert statistics.predicted == optimizer.n_measured
    assert statistics.failed == 0


def test_a_sample_is_repeated_on_the_simulated_beamline(watched, place, beamline):
    def measure(sample, md):
        return (yield from scan_sample(beamline, sample, md=md))

    by = MeasurementSetup(plans={"xanes": measure}, catalog=place[1], timeout=300.0)
    found = watched(measure_until("LaFeO3", "oxidation_state", 5.0, by=by, at_most=3)).plan_result
    assert found.ended is Ended.NARROW
    assert found.prediction.sample.name == "LaFeO3"
    assert len(found.raw_uids) == 1


@pytest.mark.slow
def test_the_answer_of_merged_repeats_is_the_one_that_counts(engine, tiled_server, beamline):
    def measure(sample, md):
        return (yield from scan_sample(beamline, sample, exposure=0.02, md=md))

    publisher = TiledPublisher.from_uri(tiled_server.uri, path=f"repeats-{uuid4().hex[:8]}")
    callback = XpdmlCallback(publisher, store=BundleStore.default(), repeats=SeriesSettings())
    catalog = PredictionCatalog(publisher.container)
    by = MeasurementSetup(plans={"xanes": measure}, catalog=catalog, timeout=300.0, merged_within=20.0)
    token = engine.subscribe(callback)
    plan = measure_until("LaFeO3", "oxidation_state", 0.01, by=by, at_most=3)
    found = engine(plan).plan_result
    engine.unsubscribe(token)
    assert found.ended is Ended.REPEATS
    assert found.prediction.raw_uids == found.raw_uids
    assert len(found.raw_uids) == 3
    callback.close()
