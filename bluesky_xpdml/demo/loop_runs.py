"""Many searches side by side, each process with a Tiled server and a RunEngine of its own."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.util import Finalize
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bluesky_xpdml.demo.beamline import ReactionFront
from bluesky_xpdml.demo.loop import LoopSession, LoopSettings, Search, ask_models, steer
from bluesky_xpdml.demo.loop_baselines import RASTER, Answers, Chance, random_choice, raster_line
from bluesky_xpdml.demo.loop_front import ACROSS, distance

_SESSION: list[LoopSession] = []
"""That of this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult:
    """A search, and what a raster and random choice need for the same front."""

    search: Search
    chance: Chance
    """What random choice finds."""
    raster_error: float
    """Mean distance of the front that the whole raster finds [range of temperatures]."""

    @property
    def saving(self) -> float:
        """Share of the raster's measurements that were not needed."""
        return 1.0 - self.search.measurements / RASTER**2

    def as_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values; temperatures [K] at the positions [mm]."""
        search = self.search
        return {
            "seed": search.seed,
            "position": ACROSS.tolist(),
            "found": search.found.tolist(),
            "truth": search.truth.tolist(),
            "error": search.error,
            "measurements": search.measurements,
            "pdfs": search.pdfs,
            "failed": search.failed,
            "raster": RASTER**2,
            "raster_error": self.raster_error,
            "random": self.chance.needed,
            "random_error": self.chance.error,
            "saving": self.saving,
            "reason": search.reason,
        }


def run_loops(seeds: Sequence[int], *, jobs: int, found: Callable[[Search], object]) -> list[LoopResult]:
    """Search the fronts of some seeds, and return what was found, in the order of the seeds.

    Parameters
    ----------
    seeds
        One a front.
    jobs
        Processes.
    found
        Called with each search as it ends.
    """
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_open) as pool:
        searching = [pool.submit(_search, seed) for seed in seeds]
        asking = pool.submit(_ask)
        for ended in as_completed(searching):
            found(ended.result())
        comparing = [pool.submit(compare, search.result(), asking.result()) for search in searching]
        return [compared.result() for compared in comparing]


def compare(search: Search, answers: Answers) -> LoopResult:
    """Return a search beside a raster and random choice of the same front.

    Parameters
    ----------
    search
        What was found.
    answers
        What the models say of each state of reaction.
    """
    front = ReactionFront.random(search.seed)
    chance = np.random.default_rng([search.seed, 6])
    raster = raster_line(front, answers, chance)
    return LoopResult(
        search=search,
        raster_error=distance(raster, search.truth),
        chance=random_choice(front, answers, chance, seed=search.seed, measurements=search.measurements),
    )


def _open() -> None:
    """Start the server and the RunEngine of a process, on one core."""
    from threadpoolctl import threadpool_limits
    from tiled.server.simple import SimpleTiledServer

    threadpool_limits(1)
    resources = ExitStack()
    folder = resources.enter_context(TemporaryDirectory(prefix="xpdml-"))
    server: Any = resources.enter_context(SimpleTiledServer(folder))
    _SESSION.append(resources.enter_context(LoopSession(server.uri)))
    # The exit handlers of a process of the pool are not run, these are.
    Finalize(None, resources.close, exitpriority=10)


def _search(seed: int) -> Search:
    return steer(_SESSION[0], seed, LoopSettings(), progress=lambda _: None)


def _ask() -> Answers:
    return ask_models(_SESSION[0])
