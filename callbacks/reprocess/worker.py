"""What a worker does with the runs that it is given to analyse anew: read, analyse, publish.

A worker sees some runs only, in any order. So every run is told which foils calibrated its monochromator
before it; as long as that is not known, a run that asks for one is put off and not published. Repeats of one
sample come together, as one unit. A background that is named by its sample is the newest that began before
the run.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from json import dumps
from threading import local
from typing import Any, Self, TypeVar

from bluesky_xpdml import __version__
from bluesky_xpdml.analysis.runs import RunAnalysis
from bluesky_xpdml.callbacks.processor import Processor
from bluesky_xpdml.callbacks.router import Router
from bluesky_xpdml.credentials import parted
from bluesky_xpdml.documents import Profile, StoredRuns
from bluesky_xpdml.errors import (
    DocumentError,
    PublishError,
    ServerAwayError,
    SettingsError,
    XpdmlError,
    attempt,
    reason_of,
)
from bluesky_xpdml.models.bundle import MANIFEST
from bluesky_xpdml.models.store import SHIPPED, BundleStore
from bluesky_xpdml.publish import TiledPublisher, open_existing
from bluesky_xpdml.publish.documents import NamedDocument
from bluesky_xpdml.publish.tiled import connect
from bluesky_xpdml.reduction.energy import CalibrationMemory, MonoCalibration
from bluesky_xpdml.settings import Settings
from bluesky_xpdml.vocabulary import ANALYSIS_REVISION

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Start = Mapping[str, Any]
Mono = tuple[str, str]
"""A monochromator and the element of its foil."""

AWAY_TIMEOUT = 300.0
"""Longest time that a worker waits for a server that is away [s]."""
RETRY = 2.0
"""Between two attempts to reach it [s]."""
TRIES = 3
"""A run is read this often if the connection breaks each time."""
_NOT_DECISIVE = ("tiled.", "outbox.", "limits.", "live.", "pairing.", "models.")
"""Settings that no single answer depends on; the models count by their content, not by their folder."""
_GATEWAY_ERRORS = {502, 503, 504}


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRun:
    """A raw run that is to be answered."""

    uid: str
    time: float | None
    """When it began [s since 1970]; None if it does not tell."""
    calibrations: tuple[MonoCalibration, ...] | None = None
    """By foils of earlier runs; None if these are not known yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Runs that are answered together, in the order of their time: one run, or the repeats of a sample."""

    runs: tuple[RawRun, ...]
    is_published: bool = True
    """Whether its answers are wanted; if not, only its foils are."""

    @property
    def uids(self) -> tuple[str, ...]:
        """Of its runs."""
        return tuple(run.uid for run in self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitResult:
    """What became of a unit."""

    unit: Unit
    answers: Mapping[str, Sequence[Start]] = field(default_factory=dict)
    """Start documents of the derived runs by raw run; none for a run that is no measurement."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Why raw runs could not be read."""
    unpublished: Mapping[str, str] = field(default_factory=dict)
    """Why answers to raw runs are not on the server."""
    calibrations: tuple[MonoCalibration, ...] = ()
    """By the foils of its runs."""
    asked: frozenset[Mono] = frozenset()
    """Whose earlier foils its runs asked for, if it was put off until these are known."""
    is_killed: bool = False
    """Whether it ended every process that worked on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all workers have in common."""

    settings: Settings
    """With the address of the server, without its key."""
    digest: str
    """Of settings and models, as `analysis_digest` gives it: a worker with others refuses to work."""

    @classmethod
    def under(cls, settings: Settings) -> Self:
        """Return the job for settings; schedulers keep and log what is sent, so no key is in it."""
        sent = replace(settings, tiled_uri=parted(settings.tiled_uri).uri)
        return cls(settings=sent, digest=analysis_digest(settings))


def analysis_digest(settings: Settings) -> str:
    """Return a hash of what answers depend on: settings, models, revision and version of the package.

    Examples
    --------
    >>> same = analysis_digest(Settings(tiled_uri="http://localhost:8000"))
    >>> analysis_digest(Settings()) == same, analysis_digest(Settings(explain=True)) == same
    (True, False)
    """
    store = settings.store()
    bundles = {name.rpartition("-")[0] for name in store.names()}
    chosen = [f"{name}-{store.chosen(name)}" for name in sorted(bundles)]
    decisive = {
        "version": __version__,
        "revision": ANALYSIS_REVISION,
        "models": {
            name: sha256((store.folder / name / MANIFEST).read_bytes()).hexdigest() for name in chosen
        },
        "calibration": settings.calibration_sha256,
        "settings": {
            name: each["value"]
            for name, each in settings.described().items()
            if not name.startswith(_NOT_DECISIVE)
        },
    }
    return sha256(dumps(decisive, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(slots=True)
class _Access:
    """Address with its key, for workers on the computer of the command; empty on a cluster."""

    uri: str = ""
    api_key: str | None = None


_access = _Access()
_of_thread = local()


def set_access(uri: str, api_key: str | None) -> None:
    """Let this process use an address that may hold a key, and a key, for the server of its jobs."""
    _access.uri, _access.api_key = uri, api_key


def analyse_units(job: Job, units: Sequence[Unit]) -> list[UnitResult]:
    """Analyse some units and publish their answers: the work of one task.

    A ServerAwayError is raised if the server stays away, a PublishError if it refuses the key, a
    SettingsError if this worker would give other answers than the process that sent the job.
    """
    analyst: _Analyst | None = getattr(_of_thread, "analyst", None)
    if analyst is None or analyst.job != job:
        if analyst is not None:
            analyst.close()
        analyst = _of_thread.analyst = _Analyst(job)
    analyst.begin()
    with _own_dask():
        return [_guarded(analyst, unit) for unit in units]


def _own_dask() -> AbstractContextManager[object]:
    """Let Tiled's client read tables in this thread; on a Dask worker it would ask the cluster to."""
    try:
        from dask import config
    except ModuleNotFoundError:
        return nullcontext()
    reading: AbstractContextManager[object] = config.set(scheduler="synchronous")
    return reading


def _guarded(analyst: "_Analyst", unit: Unit) -> UnitResult:
    """Return the result of a unit; an unforeseen error costs no other unit."""
    found = attempt(partial(analyst.work, unit))
    if isinstance(found, PublishError):
        raise found
    if isinstance(found, Exception):
        logger.error("runs %.200a could not be analysed", unit.uids, exc_info=found)
        return UnitResult(unit=unit, unread=dict.fromkeys(unit.uids, str(reason_of(found))))
    return found


class _WatchedMemory(CalibrationMemory):
    """Calibrations that one run may use; notes which it asks for and which it adds."""

    def __init__(self, known: Sequence[MonoCalibration]) -> None:
        super().__init__()
        for calibration in known:
            super().remember(calibration)
        self.asked: set[Mono] = set()
        self.added: list[MonoCalibration] = []

    def remember(self, calibration: MonoCalibration) -> None:
        self.added.append(calibration)
        super().remember(calibration)

    def last(self, mono: str, element: str) -> MonoCalibration | None:
        self.asked.add((mono, element))
        return super().last(mono, element)


class _WatchedRuns(StoredRuns):
    """Stored runs that note whether the connection broke while one was read."""

    is_broken = False

    def documents(self, uid: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the documents of a run."""
        try:
            yield from super().documents(uid)
        except (DocumentError, PublishError) as error:
            self._note(error)
            raise

    def uid_of_sample(self, name: str, profile: Profile, *, exclude: Any = ()) -> str:
        """Return the uid of the newest run of a sample."""
        try:
            return super().uid_of_sample(name, profile, exclude=exclude)
        except (DocumentError, PublishError) as error:
            self._note(error)
            raise

    def _note(self, error: XpdmlError) -> None:
        import httpx

        cause = error.__cause__
        status = cause.response.status_code if isinstance(cause, httpx.HTTPStatusError) else 0
        is_away = isinstance(error, ServerAwayError) or isinstance(cause, httpx.TransportError)
        self.is_broken = self.is_broken or is_away or status in _GATEWAY_ERRORS


class _Analyst:
    """Analyses units with one store of models and one connection; each thread of a worker has its own."""

    def __init__(self, job: Job) -> None:
        self.job = job
        settings = job.settings
        # The models that come with the package lie elsewhere in another environment.
        is_shipped = not settings.models_folder.is_dir() and settings.models_folder.name == SHIPPED.name
        self._settings = replace(settings, models_folder=SHIPPED) if is_shipped else settings
        if analysis_digest(self._settings) != job.digest:
            raise SettingsError(
                f"expected the version {__version__}, models and calibration file of the command on every "
                "worker, found others on this one: install the same version there, and share the folders"
            )
        self._store: BundleStore = self._settings.store()
        self._uri = _access.uri or settings.tiled_uri
        self._key = _access.api_key or self._settings.api_key()
        raw = partial(open_existing, self._uri, api_key=self._key, path=settings.tiled_raw_path)
        self._runs = _WatchedRuns.lazily(raw)
        self._publisher = TiledPublisher.lazily(self._uri, api_key=self._key, path=settings.tiled_path)
        self._analysis: RunAnalysis | None = None

    def close(self) -> None:
        """Close the connections."""
        self._runs.close()
        self._publisher.close()

    def begin(self) -> None:
        """Forget the runs of earlier tasks."""
        self._analysis = None

    def work(self, unit: Unit) -> UnitResult:
        """Analyse one unit and publish its answers, unless it has to be put off."""
        for _ in range(TRIES):
            self._runs.is_broken = False
            answers, result = self._analysed(unit)
            if not self._runs.is_broken:
                break
            self._with_server(self._reach_server)
        if result.asked or not unit.is_published:
            return result
        return self._published(answers, result)

    def _analysed(self, unit: Unit) -> tuple[dict[str, list[list[NamedDocument]]], UnitResult]:
        """Return the derived runs of each run of a unit, and the result without the answers."""
        if self._analysis is None or self._settings.repeats is not None:
            self._analysis = RunAnalysis(self._settings, store=self._store, fetch=self._runs, in_order=False)
        answers: dict[str, list[list[NamedDocument]]] = {}
        unread: dict[str, str] = {}
        added: list[MonoCalibration] = []
        asked: set[Mono] = set()
        for run in unit.runs:
            memory = _WatchedMemory(run.calibrations or ())
            self._analysis.analysis.calibrations = memory
            found = attempt(partial(self._answers, self._analysis, run))
            if isinstance(found, Exception):
                if isinstance(found, PublishError) and not isinstance(found, ServerAwayError):
                    raise found
                unread[run.uid] = str(reason_of(found))
                continue
            answers[run.uid] = found
            added += memory.added
            asked |= memory.asked if run.calibrations is None else set()
        result = UnitResult(unit=unit, unread=unread, calibrations=tuple(added), asked=frozenset(asked))
        return answers, result

    def _answers(self, analysis: RunAnalysis, run: RawRun) -> list[list[NamedDocument]]:
        """Return the derived runs of one raw run; a DocumentError is raised if it cannot be read."""
        processor = Processor(analysis, Router.under(self._settings))
        if run.time is not None:
            self._runs.before = run.time
        ended = [
            answer
            for document in self._runs.documents(run.uid)
            for answer in processor.feed([document], update=False)
        ]
        if not ended or any(answer.is_lost for answer in ended):
            raise DocumentError(
                f"expected run {run.uid} with a start and a stop document that can be analysed, found none: "
                "the log of the worker says more"
            )
        return [documents for answer in ended for documents in answer.runs]

    def _published(self, answers: Mapping[str, list[list[NamedDocument]]], result: UnitResult) -> UnitResult:
        """Publish the derived runs of a unit, and return its result with their start documents."""
        unpublished: dict[str, str] = {}
        for uid, runs in answers.items():
            for documents in runs:
                try:
                    self._with_server(partial(self._publisher.publish, documents))
                except ServerAwayError:
                    raise
                except PublishError as error:
                    unpublished[uid] = str(error)
        starts = {uid: [documents[0][1] for documents in runs] for uid, runs in answers.items()}
        return replace(result, answers=starts, unpublished=unpublished)

    def _reach_server(self) -> None:
        client: Any = connect(self._uri, api_key=self._key)
        client.context.http_client.close()

    def _with_server(self, action: Callable[[], Result]) -> Result:
        """Return the result of an action, repeated while the server is away."""
        end = time.monotonic() + AWAY_TIMEOUT
        while True:
            try:
                return action()
            except ServerAwayError as error:
                if time.monotonic() > end:
                    raise
                logger.warning("the server is away, trying again: %.300a", str(error))
            time.sleep(RETRY)
