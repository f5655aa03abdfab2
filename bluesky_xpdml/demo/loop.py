"""An experiment that steers itself: a reaction front found through Tiled, compared with raster and random.

One furnace is in the beam of two simulated beamlines. A planner suggests position and temperature, and a plan
measures XANES there. If the answer does not tell on which side of the front the point lies, the plan measures
PDF as well, and the callback publishes a joint answer. The planner reads nothing but these answers. One scan
in twenty loses its beam, and the planner is restarted on the way.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.util import Finalize
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np

from bluesky_xpdml.callbacks.callback import XpdmlCallback
from bluesky_xpdml.demo.beamline import (
    EMPTY,
    ReactionCell,
    ReactionFront,
    Source,
    background_scan,
    scan_sample,
    scattering_scan,
)
from bluesky_xpdml.demo.beamline.front import NAME
from bluesky_xpdml.demo.loop_baselines import (
    ACROSS,
    DESCRIPTOR,
    FAILING,
    RASTER,
    SPACE,
    TOLERANCE,
    ModelAnswers,
    RandomSearch,
    found_front,
    front_distance,
    random_search,
    raster_front,
)
from bluesky_xpdml.errors import needs_extra
from bluesky_xpdml.planning.acquisition import Acquire, Measure
from bluesky_xpdml.planning.answers import wait_in_plan
from bluesky_xpdml.planning.boundary import BoundaryOptimizer
from bluesky_xpdml.planning.evaluation import DescriptorEvaluation, restore
from bluesky_xpdml.publish.predictions import PredictionCatalog
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.settings import PairingSettings
from bluesky_xpdml.vocabulary import Technique

UNDECIDED = 0.25
"""PDF is measured as well if the answer to XANES is so near to the value at the front [e]."""
SOURCE = Source(flux=1e7)
"""Weak, for noise."""
XAS_EXPOSURE, PDF_EXPOSURE = 0.02, 2.0
"""Of a point, and of an image [s]."""
REGIONS = (
    (-120.0, -30.0, 15.0),
    (-30.0, -10.0, 4.0),
    (-10.0, 24.0, 0.5),
    (24.0, 44.0, 1.0),
    (44.0, 240.0, 7.0),
)
"""Start, end and step of a quick scan [eV above the foil]."""
STATES = (0.002, 0.998, 0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85)
"""Fractions at which the models answer for raster and random points; the ends first."""
TIMEOUT = 120.0
"""Longest wait for a prediction before a trial has failed [s]."""

Plan = Generator[Any, Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """Disturbances of a search, and its end."""

    failing: float = FAILING
    """Share of the scans that lose their beam."""
    restart_after: int = 15
    """Measurements after which the planner is restarted."""
    at_most: int = 100
    """Measurements after which the search always ends: a quarter of the raster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """The result of one search."""

    seed: int
    found: FloatArray
    """Temperature of the found front at each of the positions [K], (41,)."""
    truth: FloatArray
    """Temperature of the true front [K], (41,)."""
    measurements: int
    """Points that were measured by XANES, including failed ones."""
    pdfs: int
    """Of these, points that were measured by PDF as well."""
    failed: int
    """Of these, points without an answer."""
    reason: str
    """Why the search ended."""
    answered: Sequence[Mapping[str, float]]
    """Position [mm] and temperature [K] of each point with an answer, in order."""
    values: FloatArray
    """Answer at each [unit of the descriptor], (n,)."""

    @property
    def error(self) -> float:
        """Mean distance of the found front from the true one [range of temperatures]."""
        return front_distance(self.found, self.truth)


class LoopSession:
    """A context manager with a RunEngine and the callback, for a Tiled server (URI with key) and a path."""

    def __init__(self, uri: str, path: str = "xpdml") -> None:
        from bluesky import RunEngine

        self._resources = ExitStack()
        self._uri, self._path = uri, path
        self.callback = self._resources.enter_context(
            XpdmlCallback.from_uri(uri, path=path, pairing=PairingSettings())
        )
        self.engine: Any = RunEngine({}, call_returns_result=True)
        self.engine.subscribe(self.callback)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the callback and all connections."""
        self._resources.close()

    def catalog(self) -> PredictionCatalog:
        """Return the predictions, over a connection of its own as a new planner has."""
        opened = PredictionCatalog.from_uri(self._uri, path=self._path)
        self._resources.callback(opened.close)
        return opened


class MeasurementPlan:
    """The plan of one measurement: XANES, and PDF if that leaves open on which side the point lies.

    A share `failing` of the scans loses its beam, chosen by the seed; `progress` is called with the number of
    measurements.
    """

    def __init__(
        self, *, cell: ReactionCell, failing: float, seed: int, progress: Callable[[int], object]
    ) -> None:
        self.n_measured = 0
        self.n_pdfs = 0
        self._cell, self._failing, self._progress = cell, failing, progress
        self._random = np.random.default_rng([seed, 5])

    def for_planner(self, level: Callable[[], float], spectra: DescriptorEvaluation) -> Measure:
        """Return the plan for a planner, which estimates the value at the front (NaN while not known)."""

        def measure(suggestion: Mapping[str, Any], md: Mapping[str, Any]) -> Plan:
            self.n_measured += 1
            self._progress(self.n_measured)
            spectrum = yield from self._xanes(md)
            yield from wait_in_plan(spectra.wait(spectrum, [suggestion]))
            (outcome,) = spectra(spectrum, [suggestion])
            # NaN, of a failed answer or an unknown level, is not near.
            if not abs(outcome[DESCRIPTOR] - level()) <= UNDECIDED:
                return spectrum
            self.n_pdfs += 1
            return spectrum, (yield from self._pdf(md))

        return measure

    def _xanes(self, md: Mapping[str, Any]) -> Plan:
        xas = self._cell.xas
        energies = xas.wheel.sample.edge_energy + np.concatenate([np.arange(*region) for region in REGIONS])
        return (
            yield from scan_sample(xas, NAME, energies=energies, exposure=self._exposure(XAS_EXPOSURE), md=md)
        )

    def _pdf(self, md: Mapping[str, Any]) -> Plan:
        scattering, exposure = self._cell.scattering, self._exposure(PDF_EXPOSURE)
        return (yield from scattering_scan(scattering, NAME, exposure=exposure, background=EMPTY, md=md))

    def _exposure(self, exposure: float) -> float:
        """Return the exposure [s], zero for scans that lose their beam."""
        return 0.0 if self._random.random() < self._failing else exposure


def evaluations(
    catalog: PredictionCatalog, campaign: str
) -> tuple[DescriptorEvaluation, DescriptorEvaluation]:
    """Return the evaluation of the answer that counts, joint if there is one, and that of XANES alone."""
    counting = DescriptorEvaluation(
        catalog,
        (DESCRIPTOR,),
        technique=Technique.XANES_PDF,
        alone=Technique.XANES,
        timeout=TIMEOUT,
        campaign=campaign,
    )
    return counting, DescriptorEvaluation(catalog, (DESCRIPTOR,), timeout=TIMEOUT, campaign=campaign)


def steer(
    session: LoopSession, seed: int, settings: LoopSettings, *, progress: Callable[[int], object]
) -> Search:
    """Let a planner find the front of one furnace; `progress` is called with the number of measurements."""
    with needs_extra("plan"):
        from bluesky_adaptive.plans import optimize
        from bluesky_adaptive.protocols import OptimizationProblem

    cell = ReactionCell(front=ReactionFront.random(seed), seed=seed, source=SOURCE)
    session.engine(background_scan(cell.scattering, exposure=PDF_EXPOSURE))
    plan = MeasurementPlan(cell=cell, failing=settings.failing, seed=seed, progress=progress)
    for iterations in (settings.restart_after, None):
        # Each time a new planner, which learns from Tiled.
        evaluation, spectra = evaluations(session.catalog(), f"front-{seed}")
        optimizer = BoundaryOptimizer(
            SPACE, DESCRIPTOR, tolerance=TOLERANCE, at_most=settings.at_most, seed=seed
        )
        restore(optimizer, evaluation)
        measure = plan.for_planner(partial(getattr, optimizer, "level"), spectra)
        problem = OptimizationProblem(
            optimizer=optimizer,
            actuators=[cell.position, cell.temperature],
            sensors=[],
            evaluation_function=evaluation,
            acquisition_plan=Acquire(measure, campaign=f"front-{seed}", wait_with=evaluation),
        )
        session.engine(optimize(problem, iterations=iterations))
    return Search(
        seed=seed,
        found=found_front(optimizer),
        truth=cell.front.temperature(ACROSS),
        measurements=plan.n_measured,
        pdfs=plan.n_pdfs,
        failed=optimizer.n_failed,
        reason=optimizer.should_stop()[1] or "",
        answered=SPACE.from_unit(np.array([each.point for each in optimizer.answered])),
        values=np.array([each.value for each in optimizer.answered]),
    )


def measure_states(session: LoopSession) -> ModelAnswers:
    """Return the models' answers at some states of reaction, measured as in the search."""
    cell = ReactionCell(front=ReactionFront.random(0), seed=1_000_003, source=SOURCE)
    session.engine(background_scan(cell.scattering, exposure=PDF_EXPOSURE))
    evaluation, spectra = evaluations(session.catalog(), "states of reaction")
    plan = MeasurementPlan(cell=cell, failing=0.0, seed=0, progress=lambda _: None)
    values: dict[float, list[float]] = {}

    def level() -> float:
        known = [value for repeats in values.values() for value in repeats]
        return 0.5 * (min(known) + max(known)) if len(known) > 1 else float("nan")

    measure = plan.for_planner(level, spectra)
    acquire = Acquire(measure, campaign="states of reaction", wait_with=None)
    for n, fraction in enumerate([*STATES, *STATES]):
        heat = cell.front.temperature_of(fraction, position=5.0)
        suggestion = {"_id": str(n), "position": 5.0, "temperature": heat}
        uid = session.engine(acquire([suggestion], [cell.position, cell.temperature])).plan_result
        (outcome,) = evaluation(uid, [suggestion])
        values.setdefault(cell.fraction, []).append(outcome[DESCRIPTOR])
    fractions = np.array(sorted(values))
    pairs = np.array([values[fraction] for fraction in fractions])
    return ModelAnswers(
        fractions=fractions,
        values=pairs.mean(axis=1),
        # The variance is half the mean square of the differences of two repeats.
        noise=float(np.sqrt(0.5 * np.mean((pairs[:, 0] - pairs[:, 1]) ** 2))),
    )


_SESSION: list[LoopSession] = []
"""The session of this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult:
    """A search, compared with a raster and random points for the same front."""

    search: Search
    random: RandomSearch
    raster_error: float
    """Mean distance of the front that the whole raster finds [range of temperatures]."""

    @property
    def saving(self) -> float:
        """Share of the raster's measurements that were saved."""
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
            "random": self.random.needed,
            "random_error": self.random.error,
            "saving": self.saving,
            "reason": search.reason,
        }


def run_loops(seeds: Sequence[int], *, jobs: int, found: Callable[[Search], object]) -> list[LoopResult]:
    """Search the fronts of some seeds in `jobs` processes, and return the results in the order of the seeds.

    Each process has a Tiled server and a RunEngine of its own. `found` is called with each search when it
    ends.
    """
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_open_session) as pool:
        searches = [pool.submit(_search, seed) for seed in seeds]
        states = pool.submit(_measure_states)
        for ended in as_completed(searches):
            found(ended.result())
        comparisons = [pool.submit(compare, search.result(), states.result()) for search in searches]
        return [comparison.result() for comparison in comparisons]


def compare(search: Search, answers: ModelAnswers) -> LoopResult:
    """Compare a search with a raster and random points of the same front."""
    front = ReactionFront.random(search.seed)
    random = np.random.default_rng([search.seed, 6])
    raster = raster_front(front, answers, random)
    return LoopResult(
        search=search,
        raster_error=front_distance(raster, search.truth),
        random=random_search(front, answers, random, seed=search.seed, measurements=search.measurements),
    )


def _open_session() -> None:
    """Start the server and the RunEngine of a process, on one core."""
    with needs_extra("demo"):
        from threadpoolctl import threadpool_limits
        from tiled.server.simple import SimpleTiledServer

    threadpool_limits(1)
    resources = ExitStack()
    folder = resources.enter_context(TemporaryDirectory(prefix="xpdml-"))
    server: Any = resources.enter_context(SimpleTiledServer(folder))
    _SESSION.append(resources.enter_context(LoopSession(server.uri)))
    # Processes of the pool do not run exit handlers, but they run these.
    Finalize(None, resources.close, exitpriority=10)


def _search(seed: int) -> Search:
    return steer(_SESSION[0], seed, LoopSettings(), progress=lambda _: None)


def _measure_states() -> ModelAnswers:
    return measure_states(_SESSION[0])
