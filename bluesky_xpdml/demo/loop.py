"""An experiment that steers itself: a reaction front found through Tiled, beside a raster and random choice.

One furnace stands in two simulated beamlines. A planner suggests position and temperature, and a plan
measures XANES there. Where the answer leaves open on which side of the front the point lies, it measures
PDF as well, and the callback publishes a joint answer. The planner reads these answers, and nothing else.
One scan in twenty loses its beam, and the planner is started anew on the way.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from types import TracebackType
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
from bluesky_xpdml.demo.loop_baselines import Answers
from bluesky_xpdml.demo.loop_front import ACROSS, DESCRIPTOR, FAILING, SPACE, TOLERANCE, distance, line
from bluesky_xpdml.pairing.pairing import PairingSettings
from bluesky_xpdml.planning.acquisition import Acquire, Measure
from bluesky_xpdml.planning.answers import wait_in_plan
from bluesky_xpdml.planning.boundary import BoundaryOptimizer
from bluesky_xpdml.planning.evaluation import DescriptorEvaluation, restore
from bluesky_xpdml.publish.predictions import PredictionCatalog
from bluesky_xpdml.records import FloatArray

UNDECIDED = 0.25
"""PDF is measured as well where the answer to XANES lies so near to the value at the front [e]."""
SOURCE = Source(flux=1e7)
"""Weak, so that there is noise."""
XAS_EXPOSURE, PDF_EXPOSURE = 0.02, 2.0
"""Of a point and of an image [s]."""
REGIONS = (
    (-120.0, -30.0, 15.0),
    (-30.0, -10.0, 4.0),
    (-10.0, 24.0, 0.5),
    (24.0, 44.0, 1.0),
    (44.0, 240.0, 7.0),
)
"""Start, end and step of a quick scan [eV above the foil]."""
STATES = (0.002, 0.998, 0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85)
"""Fractions at which the models are asked for the raster and random choice; the ends first."""
TIMEOUT = 60.0
"""A prediction that has not come after this long is a failed trial [s]."""

Plan = Generator[Any, Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """What a search has to bear, and when it ends."""

    failing: float = FAILING
    """Share of the scans that lose their beam."""
    restart_after: int = 15
    """Measurements after which the planner is started anew."""
    at_most: int = 100
    """Measurements after which the search ends in any case: a quarter of the raster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What one search found."""

    seed: int
    found: FloatArray
    """Temperature of the found front at each of the positions [K], (41,)."""
    truth: FloatArray
    """Temperature of the true front [K], (41,)."""
    measurements: int
    """Points that were measured by XANES, failed ones with them."""
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
        return distance(self.found, self.truth)


class LoopSession:
    """A RunEngine and the callback, at a Tiled server; closed by leaving it as a context manager.

    Parameters
    ----------
    uri
        Of the server, with its key.
    path
        Container of the predictions.
    """

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the callback and all connections."""
        self._resources.close()

    def catalog(self) -> PredictionCatalog:
        """Return the predictions as a new planner reads them, over a connection of its own."""
        opened = PredictionCatalog.from_uri(self._uri, path=self._path)
        self._resources.callback(opened.close)
        return opened


class Measuring:
    """The plan of one measurement: XANES of what stands in the beam, PDF where that leaves the side open.

    Parameters
    ----------
    cell
        Furnace and beamlines.
    failing
        Share of the scans that lose their beam.
    seed
        Of which scans these are.
    progress
        Called with the number of measurements.
    """

    def __init__(
        self, *, cell: ReactionCell, failing: float, seed: int, progress: Callable[[int], object]
    ) -> None:
        self.n_measured = 0
        self.n_pdfs = 0
        self._cell, self._failing, self._progress = cell, failing, progress
        self._chance = np.random.default_rng([seed, 5])

    def planned_by(self, level: Callable[[], float], spectra: DescriptorEvaluation) -> Measure:
        """Return the plan for a planner that knows the value at the front.

        Parameters
        ----------
        level
            Gives that value [unit of the descriptor], NaN while it is not known.
        spectra
            Reads the answers to XANES.
        """

        def measure(suggestion: Mapping[str, Any], md: Mapping[str, Any]) -> Plan:
            self.n_measured += 1
            self._progress(self.n_measured)
            spectrum = yield from self._xanes(md)
            yield from wait_in_plan(spectra.wait(spectrum, [suggestion]))
            (outcome,) = spectra(spectrum, [suggestion])
            # NaN, of a failed answer or of no level yet, is not near.
            if not abs(outcome[DESCRIPTOR] - level()) <= UNDECIDED:
                return spectrum
            self.n_pdfs += 1
            return spectrum, (yield from self._pdf(md))

        return measure

    def _xanes(self, md: Mapping[str, Any]) -> Plan:
        xas = self._cell.xas
        energies = xas.wheel.sample.edge_energy + np.concatenate([np.arange(*region) for region in REGIONS])
        return (yield from scan_sample(xas, NAME, energies=energies, exposure=self._lit(XAS_EXPOSURE), md=md))

    def _pdf(self, md: Mapping[str, Any]) -> Plan:
        scattering, exposure = self._cell.scattering, self._lit(PDF_EXPOSURE)
        return (yield from scattering_scan(scattering, NAME, exposure=exposure, background=EMPTY, md=md))

    def _lit(self, exposure: float) -> float:
        """Return how long the beam is there [s]."""
        return 0.0 if self._chance.random() < self._failing else exposure


def evaluations(
    catalog: PredictionCatalog, campaign: str
) -> tuple[DescriptorEvaluation, DescriptorEvaluation]:
    """Return what a planner reads: the answer that counts, joint where there is one, and that to XANES.

    Parameters
    ----------
    catalog
        Where predictions are.
    campaign
        Name of the campaign.
    """
    counts = DescriptorEvaluation(
        catalog, (DESCRIPTOR,), technique="xanes+pdf", alone="xanes", timeout=TIMEOUT, campaign=campaign
    )
    return counts, DescriptorEvaluation(catalog, (DESCRIPTOR,), timeout=TIMEOUT, campaign=campaign)


def steer(
    session: LoopSession, seed: int, settings: LoopSettings, *, progress: Callable[[int], object]
) -> Search:
    """Let a planner find the front of one furnace, and return what it found.

    Parameters
    ----------
    session
        RunEngine and callback.
    seed
        Of the front, of the noise and of the failures.
    settings
        What the search has to bear.
    progress
        Called with the number of measurements.
    """
    from bluesky_adaptive.plans import optimize
    from bluesky_adaptive.protocols import OptimizationProblem

    cell = ReactionCell(front=ReactionFront.random(seed), seed=seed, source=SOURCE)
    session.engine(background_scan(cell.scattering, exposure=PDF_EXPOSURE))
    measuring = Measuring(cell=cell, failing=settings.failing, seed=seed, progress=progress)
    for iterations in (settings.restart_after, None):
        # Each time round another planner, which knows what Tiled knows.
        evaluation, spectra = evaluations(session.catalog(), f"front-{seed}")
        optimizer = BoundaryOptimizer(
            SPACE, DESCRIPTOR, tolerance=TOLERANCE, at_most=settings.at_most, seed=seed
        )
        restore(optimizer, evaluation)
        measure = measuring.planned_by(partial(getattr, optimizer, "level"), spectra)
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
        found=line(optimizer),
        truth=cell.front.temperature(ACROSS),
        measurements=measuring.n_measured,
        pdfs=measuring.n_pdfs,
        failed=optimizer.n_failed,
        reason=optimizer.should_stop()[1] or "",
        answered=SPACE.from_unit(np.array([each.point for each in optimizer.answered])),
        values=np.array([each.value for each in optimizer.answered]),
    )


def ask_models(session: LoopSession) -> Answers:
    """Return what the models say of the powder at some states of reaction, measured as the search measures.

    Parameters
    ----------
    session
        RunEngine and callback.
    """
    cell = ReactionCell(front=ReactionFront.random(0), seed=1_000_003, source=SOURCE)
    session.engine(background_scan(cell.scattering, exposure=PDF_EXPOSURE))
    evaluation, spectra = evaluations(session.catalog(), "states of reaction")
    measuring = Measuring(cell=cell, failing=0.0, seed=0, progress=lambda _: None)
    values: dict[float, list[float]] = {}

    def level() -> float:
        known = [value for repeats in values.values() for value in repeats]
        return 0.5 * (min(known) + max(known)) if len(known) > 1 else float("nan")

    measure = measuring.planned_by(level, spectra)
    acquire = Acquire(measure, campaign="states of reaction", wait_with=None)
    for n, fraction in enumerate([*STATES, *STATES]):
        heat = cell.front.temperature_of(fraction, position=5.0)
        suggestion = {"_id": str(n), "position": 5.0, "temperature": heat}
        uid = session.engine(acquire([suggestion], [cell.position, cell.temperature])).plan_result
        (outcome,) = evaluation(uid, [suggestion])
        values.setdefault(cell.fraction, []).append(outcome[DESCRIPTOR])
    fractions = np.array(sorted(values))
    pairs = np.array([values[fraction] for fraction in fractions])
    return Answers(
        fractions=fractions,
        values=pairs.mean(axis=1),
        # Of two repeats each: half the mean square of their differences is the variance.
        noise=float(np.sqrt(0.5 * np.mean((pairs[:, 0] - pairs[:, 1]) ** 2))),
    )
