"""Plans that look at predictions repeat, choose, and end with a reason whatever happens."""

from collections import Counter

import pytest

from bluesky_xpdml.errors import PlanningError
from bluesky_xpdml.planning.advice import advise
from bluesky_xpdml.planning.count import WidthKind
from bluesky_xpdml.planning.stubs import Ended, MeasurementSetup, choose_modality, measure_until

LONG = 300.0


@pytest.fixture
def by(catalog, analysis):
    """Return how samples are measured: one plan a technique, which says so in its start document."""

    def plan(technique):
        def measure(sample, md):
            said = {"sample_name": sample, "technique": technique, **md}
            return (yield from analysis.measured(said))

        return measure

    plans = {technique: plan(technique) for technique in ("xanes", "pdf")}
    return MeasurementSetup(plans=plans, catalog=catalog, timeout=LONG)


def narrowing(analysis, halves, state=2.5):
    """Return a rule whose answers have one half width after the other; None is a failure."""
    left = iter(halves)

    def rule(start):
        half = next(left)
        technique = start["technique"]
        if half is None:
            return [analysis.failure(start, technique=technique)]
        return [analysis.answer(start, state, half, technique=technique)]

    return rule


def test_a_sample_is_repeated_until_it_is_narrow(measuring, analysis, by):
    analysis.rule = narrowing(analysis, [0.5, None, 0.4, 0.2, 0.1])
    found = measuring(measure_until("LFP", "oxidation_state", 0.5, by=by, at_most=9)).plan_result
    assert found.ended is Ended.NARROW
    assert found.width == pytest.approx(0.4)
    assert found.reason == "the width is 0.4 after 4 repeats, 0.5 was asked"
    assert found.failures == ("xanes failed: no edge step",)
    assert found.raw_uids == tuple(analysis.starts)
    assert found.prediction.raw_uids == (found.raw_uids[-1],)
    assert found.prediction.sample.name == "LFP"


def test_no_more_repeats_than_allowed(measuring, analysis, by):
    analysis.rule = narrowing(analysis, [0.5, 0.4, 0.3])
    found = measuring(measure_until("LFP", "oxidation_state", 0.1, by=by, at_most=2)).plan_result
    assert found.ended is Ended.REPEATS
    assert len(found.raw_uids) == 2


def test_the_scatter_of_repeats_ends_it_too(measuring, analysis, by):
    analysis.rule = narrowing(analysis, [0.5] * 5)
    found = measuring(
        measure_until("LFP", "oxidation_state", 0.1, by=by, at_most=5, judged=WidthKind.SCATTER)
    ).plan_result
    assert (found.ended, len(found.raw_uids)) == (Ended.NARROW, 2)


def test_failures_end_it(measuring, analysis, by):
    analysis.rule = narrowing(analysis, [None, None])
    found = measuring(measure_until("LFP", "oxidation_state", 0.1, by=by, at_most=2)).plan_result
    assert found.ended is Ended.FAILED
    assert found.prediction is None
    assert found.reason == "none of 2 repeats gave an answer: xanes failed: no edge step"


def test_silence_ends_it(measuring, analysis, by, catalog):
    analysis.rule = lambda _: []
    quick = MeasurementSetup(plans=by.plans, catalog=catalog, timeout=0.3)
    found = measuring(measure_until("LFP", "oxidation_state", 0.1, by=quick, at_most=1)).plan_result
    assert found.ended is Ended.FAILED
    assert "no xanes in 0.3 s" in found.reason


def gain_of(analysis, state):
    start = {"uid": "asked", "time": 0.0}
    gains = advise(analysis.answer(start, state, technique="pdf")).gains
    return next(gain for gain in gains if gain.descriptor == "oxidation_state" and gain.modality == "xanes")


def test_the_other_modality_is_measured_where_it_pays(measuring, analysis, by):
    expected = gain_of(analysis, 3.0).gain
    analysis.rule = narrowing(analysis, [0.5, 0.2], state=3.0)
    plan = choose_modality(
        "LFP", descriptor="oxidation_state", first="pdf", least_gain=expected - 0.01, by=by
    )
    chosen = measuring(plan).plan_result
    assert (chosen.first.technique, chosen.second.technique) == ("pdf", "xanes")
    assert chosen.gain.gain == expected
    assert Counter(start["technique"] for start in analysis.starts.values()) == {"pdf": 1, "xanes": 1}


def test_and_is_not_where_it_does_not(measuring, analysis, by):
    expected = gain_of(analysis, 3.0).gain
    analysis.rule = narrowing(analysis, [0.5], state=3.0)
    plan = choose_modality(
        "LFP", descriptor="oxidation_state", first="pdf", least_gain=expected + 0.01, by=by
    )
    chosen = measuring(plan).plan_result
    assert chosen.first is not None
    assert chosen.second is None
    assert "xanes is expected to narrow it by" in chosen.reason
    assert len(chosen.raw_uids) == len(analysis.starts) == 1


def test_a_failed_first_measurement_is_a_reason(measuring, analysis, by):
    analysis.rule = narrowing(analysis, [None])
    plan = choose_modality("LFP", descriptor="oxidation_state", first="pdf", least_gain=0.1, by=by)
    chosen = measuring(plan).plan_result
    assert (chosen.first, chosen.second, chosen.gain) == (None, None, None)
    assert chosen.reason == "pdf failed: no edge step"


def test_what_cannot_be_measured_is_refused(measuring, by, catalog):
    with pytest.raises(PlanningError, match="expected a plan for dpdf, found those for xanes, pdf"):
        measuring(measure_until("LFP", "oxidation_state", 0.5, by=by, at_most=1, technique="dpdf"))
    with pytest.raises(PlanningError, match="positive width"):
        measuring(measure_until("LFP", "oxidation_state", 0.5, by=by, at_most=0))
    with pytest.raises(PlanningError, match="plans by technique"):
        MeasurementSetup(plans={}, catalog=catalog, timeout=1.0)
