"""An experiment that steers itself: a reaction front found through Tiled, beside a raster and random choice.

One furnace stands in two simulated beamlines. A planner suggests position and temperature, a plan measures
XANES and PDF there, the callback publishes both answers and the joint one, and the planner reads that one:
it sees nothing else. One scan in twenty loses its beam, and the planner is started anew on the way.
"""

import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from bluesky_xpdml.beamline import (
    EMPTY,
    ReactionCell,
    ReactionFront,
    Source,
    background_scan,
    scan_sample,
    scattering_scan,
)
from bluesky_xpdml.beamline.front import NAME
from bluesky_xpdml.bench.loop_baselines import Answers
from bluesky_xpdml.bench.loop_front import ACROSS, DESCRIPTOR, FAILING, SPACE, TOLERANCE, distance, line
from bluesky_xpdml.callbacks.callback import XpdmlCallback
from bluesky_xpdml.callbacks.pairing import PairingSettings
from bluesky_xpdml.planning.acquisition import Acquire
from bluesky_xpdml.planning.boundary import BoundaryOptimizer
from bluesky_xpdml.planning.evaluation import DescriptorEvaluation
from bluesky_xpdml.planning.restore import restore
from bluesky_xpdml.publish.predictions import PredictionCatalog
from bluesky_xpdml.records import FloatArray

TECHNIQUE = "xanes+pdf"
SOURCE = Source(flux=1e7)
"""Weak, so that there is noise."""
XAS_EXPOSURE, PDF_EXPOSURE = 0.02, 2.0
"""Of a point and of an image [s]."""
REGIONS = ((-120.0, -30.0, 15.0), (-30.0, -12.0, 3.0), (-12.0, 40.0, 0.5), (40.0, 240.0, 5.0))
"""Start, end and step of a quick scan [eV above the foil]."""
STATES = (0.002, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.998)
"""Fractions at which the models are asked for the raster and random choice."""
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
    """Points that were measured, each by XANES and PDF, failed ones with them."""
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
    """An embedded Tiled server, a RunEngine and the callback; closed by leaving it as a context manager."""

    def __init__(self) -> None:
        from bluesky import RunEngine
        from tiled.server.simple import SimpleTiledServer

        self._resources = ExitStack()
        folder = self._resources.enter_context(tempfile.TemporaryDirectory(prefix="xpdml-"))
        self.server: Any = self._resources.enter_context(SimpleTiledServer(folder))
        pairing = PairingSettings()
        self.callback = self._resources.enter_context(
            XpdmlCallback.from_uri(self.server.uri, path="xpdml", pairing=pairing)
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
        """Close the callback and the server."""
        self._resources.close()

    def evaluation(self, campaign: str) -> DescriptorEvaluation:
        """Return what a new planner of a campaign reads: predictions, over a connection of its own.

        Parameters
        ----------
        campaign
            Name of the campaign.
        """
        catalog = PredictionCatalog.from_uri(self.server.uri, path="xpdml")
        self._resources.callback(catalog.container.context.http_client.close)
        return DescriptorEvaluation(
            catalog, (DESCRIPTOR,), technique=TECHNIQUE, timeout=TIMEOUT, campaign=campaign
        )


class Measuring:
    """The plan of one measurement: XANES and PDF of what stands in the beam, some scans without a beam.

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
        self._cell, self._failing, self._progress = cell, failing, progress
        self._chance = np.random.default_rng([seed, 5])

    def __call__(self, suggestion: Mapping[str, Any], md: Mapping[str, Any]) -> Plan:  # noqa: ARG002
        """Measure and return the uids of both runs."""
        xas, scattering = self._cell.xas, self._cell.scattering
        energies = xas.wheel.sample.edge_energy + np.concatenate([np.arange(*region) for region in REGIONS])
        spectrum = yield from scan_sample(
            xas, NAME, energies=energies, exposure=self._lit(XAS_EXPOSURE), md=md
        )
        image = yield from scattering_scan(
            scattering, NAME, exposure=self._lit(PDF_EXPOSURE), background=EMPTY, md=md
        )
        self.n_measured += 1
        self._progress(self.n_measured)
        return spectrum, image

    def _lit(self, exposure: float) -> float:
        """Return how long the beam is there [s]."""
        return 0.0 if self._chance.random() < self._failing else exposure


def steer(
    session: LoopSession, seed: int, settings: LoopSettings, *, progress: Callable[[int], object]
) -> Search:
    """Let a planner find the front of one furnace, and return what it found.

    Parameters
    ----------
    session
        Server, RunEngine and callback.
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
        evaluation = session.evaluation(f"front-{seed}")
        optimizer = BoundaryOptimizer(
            SPACE, DESCRIPTOR, tolerance=TOLERANCE, at_most=settings.at_most, seed=seed
        )
        restore(optimizer, evaluation)
        problem = OptimizationProblem(
            optimizer=optimizer,
            actuators=[cell.position, cell.temperature],
            sensors=[],
            evaluation_function=evaluation,
            acquisition_plan=Acquire(measuring, campaign=f"front-{seed}", wait_with=evaluation),
        )
        session.engine(optimize(problem, iterations=iterations))
    return Search(
        seed=seed,
        found=line(optimizer),
        truth=cell.front.temperature(ACROSS),
        measurements=measuring.n_measured,
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
        Server, RunEngine and callback.
    """
    cell = ReactionCell(front=ReactionFront.random(0), seed=1_000_003, source=SOURCE)
    session.engine(background_scan(cell.scattering, exposure=PDF_EXPOSURE))
    evaluation = session.evaluation("states of reaction")
    measuring = Measuring(cell=cell, failing=0.0, seed=0, progress=lambda _: None)
    acquire = Acquire(measuring, campaign="states of reaction", wait_with=None)
    values: dict[float, list[float]] = {}
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
