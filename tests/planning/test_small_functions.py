"""Small functions of the planning, each with one example that can be checked by hand."""

import numpy as np
import pytest

from bluesky_xpdml.planning.advice_table import gain_of
from bluesky_xpdml.planning.count import WidthKind, answer_width
from bluesky_xpdml.planning.evaluation import split_uids
from bluesky_xpdml.planning.queue.campaign import QueuedPlan
from bluesky_xpdml.planning.search import fit_surrogate
from bluesky_xpdml.planning.suspenders import is_novel


@pytest.mark.parametrize("uid", ["a,b", ["a", "b"], "a, b,a"])
def test_uids_of_an_acquisition_are_split(uid):
    assert split_uids(uid) == ("a", "b")
    assert split_uids("") == ()


def test_a_score_above_its_threshold_is_novel():
    assert is_novel({"novelty_score": 3.1, "novelty_threshold": 1.8})
    assert not is_novel({})


def test_a_gain_is_a_share_of_the_wider_answer():
    assert [gain_of(2.0, 1.5), gain_of(1.5, 2.0), gain_of(0.0, 0.0)] == [0.25, -0.25, 0.0]


def test_a_width_is_the_last_interval_or_that_of_the_mean():
    assert answer_width([2.1, 2.3], [0.8, 0.6], WidthKind.INTERVAL) == 0.6
    scatter = answer_width([2.1, 2.3, 2.2], [0.8, 0.6, 0.7], WidthKind.SCATTER)
    assert scatter == pytest.approx(2 * 2.919986 * 0.1 / 3**0.5, rel=1e-6)


def test_a_surrogate_interpolates_between_answers():
    points = np.linspace(0.0, 1.0, 9)[:, None]
    mean, deviation = fit_surrogate(points, np.sin(3.0 * points[:, 0])).predict(np.array([[0.55]]))
    assert mean[0] == pytest.approx(np.sin(1.65), abs=0.02)
    assert deviation[0] < 0.1


def test_a_queued_plan_measures_a_suggestion():
    plan = QueuedPlan(name="measure", kwargs={"sample": "LFP"}, keywords={"temperature": "kelvin"})
    item = plan.item("front-7", {"_id": "a1", "temperature": 512.0})
    assert item["kwargs"] == {"sample": "LFP", "kelvin": 512.0}
    trial = {"campaign": "front-7", "id": "a1", "parameters": {"temperature": 512.0}}
    assert item["meta"] == {"xpdml_trial": trial}
