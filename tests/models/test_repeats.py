"""The answer after each repeat, and when there are enough."""

from dataclasses import replace

import numpy as np
import pytest

from bluesky_xpdml.demo.simulated_scan import simulated_scan
from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.models.repeats import RepeatProgress, predict_repeats, with_noise
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.xanes import predict_xanes
from bluesky_xpdml.records import Estimate
from bluesky_xpdml.reduction.xanes import XanesSettings, reduce_xanes

STORE = BundleStore.default()


def noisy(seed, noise):
    """Return a scan of LaFeO3 whose absorption has noise of its own, and the foil not."""
    scan = simulated_scan(seed=1)
    factor = np.exp(np.random.default_rng(seed).normal(scale=noise, size=scan.energy.size))
    return replace(scan, it=scan.it * factor, ir=scan.ir * factor, source=f"scan {seed}")


@pytest.fixture(scope="module")
def answers():
    return predict_repeats([noisy(seed, 0.03) for seed in range(6)], STORE, XanesSettings())


def test_every_repeat_is_answered_and_the_noise_falls(answers):
    assert [answer.progress.n_repeats for answer in answers] == list(range(1, 7))
    noise = [answer.progress.noise for answer in answers]
    assert noise[0] > 0.01
    assert noise[5] < 0.75 * noise[0]
    state = answers[-1].prediction.descriptors["oxidation_state"]
    assert state.low < 3.0 < state.high
    diagnostics = answers[-1].prediction.diagnostics
    assert diagnostics["repeat_count"] == 6.0
    assert diagnostics["repeat_interval_width"] == state.high - state.low
    assert diagnostics["repeats_enough"] == float(answers[-1].progress.enough)


def test_the_interval_holds_the_noise(answers):
    for answer in answers:
        progress = answer.progress
        assert progress.width > progress.model_width
        assert progress.left_to_gain == pytest.approx(1.0 - progress.model_width / progress.width)


@pytest.mark.slow
def test_the_stated_noise_matches_the_scatter_of_answers():
    several = [
        predict_xanes(reduce_xanes(noisy(seed, 0.02), XanesSettings()), STORE) for seed in range(100, 200)
    ]
    scatter = np.std([answer.descriptors["oxidation_state"].value for answer in several], ddof=1)
    stated = [
        predict_repeats([noisy(seed, 0.02)], STORE, XanesSettings())[0].progress.noise for seed in range(4)
    ]
    # What is drawn anew has its own noise already: the stated one is rather too large.
    assert 0.7 < np.median(stated) / scatter < 2.5


def test_a_scan_with_little_noise_is_enough():
    (answer,) = predict_repeats([simulated_scan(seed=1)], STORE, XanesSettings())
    assert answer.progress.enough
    assert answer.progress.n_needed == 1


def test_a_scan_that_cannot_be_reduced_is_left_out_with_a_note():
    good, dead = simulated_scan(seed=1), simulated_scan(seed=2)
    dead = replace(dead, it=np.zeros(dead.energy.size))
    answers = predict_repeats([dead, good, good], STORE, XanesSettings())
    assert [answer.progress.n_repeats for answer in answers] == [1, 2]
    assert "a repeat left out: transmission not used: It is constant" in " ".join(
        answers[0].prediction.quality.reasons
    )
    with pytest.raises(XpdmlError, match="constant"):
        predict_repeats([dead], STORE, XanesSettings())


def test_the_answers_are_reproducible():
    scans = [noisy(seed, 0.02) for seed in range(3)]
    first, again = (predict_repeats(scans, STORE, XanesSettings()) for _ in range(2))
    assert [a.prediction.descriptors for a in first] == [a.prediction.descriptors for a in again]


def test_intervals_add_in_quadrature_and_do_not_cross_zero():
    wide = with_noise(Estimate(value=1.0, low=0.4, high=1.3, unit="e"), 2.0)
    assert wide.low == 0.0
    assert wide.high == pytest.approx(1.0 + np.hypot(0.3, 1.645 * 2.0))


def test_the_number_of_repeats_needed_is_enough_if_noise_falls_as_it_should():
    for noise in (0.02, 0.1, 0.5, 2.0):
        width = 2.0 * np.hypot(0.5, 1.645 * noise)
        progress = RepeatProgress(n_repeats=3, n_kept=3, noise=noise, width=width, model_width=1.0)
        n = progress.n_needed
        later = 2.0 * np.hypot(0.5, 1.645 * noise * np.sqrt(3 / n))
        after = RepeatProgress(n_repeats=n, n_kept=n, noise=0.0, width=later, model_width=1.0)
        assert after.left_to_gain <= 0.05 + 1e-9
