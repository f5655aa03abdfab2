"""The experiment that steers itself, and what it is compared with."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from bluesky_xpdml.demo.beamline import ReactionFront
from bluesky_xpdml.demo.loop import LoopSession, LoopSettings, steer
from bluesky_xpdml.demo.loop_baselines import (
    ACROSS,
    ModelAnswers,
    front_distance,
    random_search,
    raster_front,
)
from bluesky_xpdml.publish import Query

CLEAR = ModelAnswers(fractions=np.array([0.0, 1.0]), values=np.array([3.0, 4.0]), noise=0.02)


@pytest.fixture(scope="module")
def session(tiled_server: Any) -> Iterator[LoopSession]:
    with LoopSession(tiled_server.uri, path=f"loop-{uuid4().hex[:8]}") as opened:
        yield opened


def test_a_restarted_planner_goes_on_where_the_first_one_was(session: LoopSession) -> None:
    settings = LoopSettings(failing=0.15, restart_after=5, at_most=8)
    counted: list[int] = []
    search = steer(session, 7, settings, progress=counted.append)
    assert counted == list(range(1, 9))
    assert search.measurements == 8
    assert search.failed >= 1
    assert len(search.answered) + search.failed == 8
    published = session.catalog().find(Query(campaign="front-7"), limit=100)
    assert len({each.origin.trial["id"] for each in published}) == 8
    both = [each for each in published if each.technique == "xanes+pdf"]
    assert len(both) == search.pdfs
    assert all(len(each.raw_uids) == 2 for each in both)
    where, heat = (
        np.array([point[name] for point in search.answered]) for name in ("position", "temperature")
    )
    reacted = ReactionFront.random(7).fraction(where, heat)
    assert search.values[reacted > 0.9].min() > search.values[reacted < 0.1].max() + 0.5


@pytest.mark.parametrize("seed", range(5))
def test_a_raster_finds_the_front_to_a_part_of_its_step(seed: int) -> None:
    front = ReactionFront.random(seed)
    found = raster_front(front, CLEAR, np.random.default_rng(seed))
    assert front_distance(found, front.temperature(ACROSS)) < 0.5 / 19


def test_chance_needs_more_than_a_few_points_and_fewer_than_the_raster() -> None:
    front = ReactionFront.random(3)
    found = random_search(front, CLEAR, np.random.default_rng(3), seed=3, measurements=100)
    assert found.needed is not None
    assert 12 < found.needed < 400
    assert found.error < 0.05


@pytest.mark.slow
def test_the_front_is_found_to_two_percent_with_a_quarter_of_the_raster(tmp_path: Path) -> None:
    picture = tmp_path / "loop.png"
    xpdml = Path(sys.executable).with_name("xpdml")
    command = [xpdml, "demo", "loop", "--seeds", "1", "--json"]
    done = subprocess.run([*command, "--plot", str(picture)], capture_output=True, check=True, text=True)
    said = json.loads(done.stdout)
    (one,) = said["seeds"]
    assert one["error"] <= 0.02
    assert one["measurements"] <= one["raster"] / 4
    assert said["median_saving"] >= 0.75
    assert len(one["found"]) == len(one["truth"]) == len(one["position"])
    assert picture.stat().st_size > 20_000
