"""Raw runs of a catalog analysed anew, by several processes or a Dask cluster, and published.

The answers are those that one callback gives which sees the chosen runs in the order of their time. What
they take from other runs is found so: dark frames and named backgrounds are fetched by their uid; a
background named by its sample is the newest before the run; repeats of one sample are one unit of work; and
a run without a foil waits until the foils before it are known, then is analysed with the last one of its
monochromator. Foils of runs that were not chosen count as well, if an earlier answer says that they show one.
Joint answers are made at the end, from all single ones.
"""

import json
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from bluesky_xpdml.analysis.request import Analysis
from bluesky_xpdml.analysis.runs import RunAnalysis
from bluesky_xpdml.callbacks.processor import Processor
from bluesky_xpdml.callbacks.reprocess.pools import DaskPool, LocalPool, Pool, completed
from bluesky_xpdml.callbacks.reprocess.progress import Progress, done
from bluesky_xpdml.callbacks.reprocess.worker import (
    Job,
    RawRun,
    Start,
    Unit,
    UnitResult,
)
from bluesky_xpdml.callbacks.router import Router
from bluesky_xpdml.documents import detect_profile, load_profile
from bluesky_xpdml.documents.start import is_derived, sample_of
from bluesky_xpdml.errors import MissingDataError, SettingsError
from bluesky_xpdml.pairing.pairing import Pairing
from bluesky_xpdml.pairing.publisher import Pairer
from bluesky_xpdml.publish import PredictionCatalog, TiledPublisher, open_existing, state_folder
from bluesky_xpdml.publish.published import as_list, as_mapping
from bluesky_xpdml.publish.requests import Requests
from bluesky_xpdml.publish.sent_reports import OnSent
from bluesky_xpdml.records import AxisSource, Verdict
from bluesky_xpdml.reduction.energy import (
    FOIL_UNCERTAINTY,
    SECONDS_PER_HOUR,
    UNKNOWN_UNCERTAINTY,
    MonoCalibration,
)
from bluesky_xpdml.settings import Settings
from bluesky_xpdml.vocabulary import Reason, ReasonCode

logger = logging.getLogger(__name__)

Advance = Callable[[str, int, int], object]
"""Called with what is being done, how many are done, and of how many."""

KILLED = Reason(
    "expected a process that analyses the run, found that each one ended that tried: look for a crash or a "
    "lack of memory in the logs of the workers",
    ReasonCode.PROCESS_ENDED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which raw runs are analysed anew.

    Examples
    --------
    >>> Choice(where={"proposal": "31415", "scan_id": 12}).text
    'proposal="31415", scan_id=12'
    """

    where: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Values that entries of the start document have, by dotted path; all runs if there are none."""
    since: float | None = None
    """Began at this time or later [s since 1970]."""
    again: bool = False
    """Also those that are done under the present settings and models."""

    @property
    def text(self) -> str:
        """The conditions, for people."""
        return ", ".join(f"{key}={json.dumps(value)}" for key, value in self.where.items()) or "all"


@dataclass(slots=True, kw_only=True)
class Summary:
    """What became of the chosen runs."""

    chosen: int = 0
    """Raw runs that fulfil the conditions and have ended."""
    running: int = 0
    """Runs without a stop document, which are left alone."""
    skipped: int = 0
    """Done before."""
    answered: int = 0
    """With at least one answer."""
    ignored: int = 0
    """No measurements: dark frames, alignment."""
    failed: dict[str, str] = field(default_factory=dict)
    """Reasons by raw uid; the failure is published."""
    unread: dict[str, str] = field(default_factory=dict)
    """Why raw runs could not be read, by uid."""
    unpublished: dict[str, str] = field(default_factory=dict)
    """Why the server refused answers, by raw uid."""
    joint: int = 0
    """Joint answers published."""
    uncalibrated: int = 0
    """Answered without a foil, their own or one before."""

    @property
    def is_whole(self) -> bool:
        """Whether every chosen run has an answer, or needs none."""
        return not (self.failed or self.unread or self.unpublished)


def reprocess(
    settings: Settings,
    choice: Choice | None = None,
    *,
    api_key: str | None = None,
    dask: str = "",
    workers: int = 1,
    on_sent: OnSent | None = None,
    advance: Advance | None = None,
) -> Summary:
    """Analyse the chosen raw runs of a catalog anew with the settings, and publish the answers.

    Doing it twice doubles nothing: the same data, models and settings give the same derived run. Runs that
    are done are skipped.

    Parameters
    ----------
    settings
        Name the server, the container of the raw runs and that of the predictions, and how runs are reduced.
    choice
        Which runs; all if None.
    api_key
        Key of the server; if None, the one that the settings find. It is not sent to a Dask cluster, whose
        workers find theirs as the settings say, usually in `TILED_API_KEY`.
    dask
        Address of a Dask scheduler, `tcp://host:8786`; if empty, processes of this computer do the work.
    workers
        Processes of this computer. They import the script that calls this: guard its own work by
        `if __name__ == "__main__":`.
    on_sent
        Called with the start document of each derived run, and with the reason if the server refused it.
    advance
        Called as the work goes on, for a progress bar.

    Raises
    ------
    SettingsError
        If the settings name no server or no container of raw runs.
    MissingDataError
        If no run fulfils the conditions.
    MissingExtraError
        If Dask is asked for and not installed.
    SourceError
        If the Dask scheduler does not answer.
    PublishError
        If the Tiled server is away for longer than five minutes, or refuses the key.

    Examples
    --------
    >>> reprocess(Settings(tiled_uri="http://localhost:8000"))
    Traceback (most recent call last):
    ...
    bluesky_xpdml.errors.SettingsError: expected tiled.raw_path, the container of the raw runs, found none...
    """
    if not (settings.tiled_uri and settings.tiled_raw_path):
        missing = "tiled.raw_path, the container of the raw runs" if settings.tiled_uri else "tiled.uri"
        raise SettingsError(f"expected {missing}, found none: name it in the settings or by an option")
    # Whoever wrote the runs on a server may have named any file.
    settings = replace(settings, remote_documents=True)
    key = api_key or settings.api_key()
    catalog = _Catalog(settings, key)
    try:
        runs = catalog.choose(choice or Choice())
        pool = DaskPool(dask) if dask else LocalPool(workers, uri=settings.tiled_uri, api_key=key)
        with closing(pool):
            work = _Reprocessing(catalog, pool, on_sent or _ignore, advance or _ignore)
            return work.run(runs, again=choice is not None and choice.again)
    finally:
        catalog.close()


def _ignore(*_: object) -> None:
    """Do nothing."""


class _Catalog:
    """The containers of the raw runs and of the predictions."""

    def __init__(self, settings: Settings, key: str | None) -> None:
        self.settings = settings
        self._raw = open_existing(settings.tiled_uri, api_key=key, path=settings.tiled_raw_path)
        self.publisher = TiledPublisher.from_uri(settings.tiled_uri, api_key=key, path=settings.tiled_path)
        self.derived = Requests(self.publisher.container)
        self.starts: dict[str, Start] = {}
        self.n_running = 0

    def close(self) -> None:
        """Close the connections."""
        self.publisher.close()
        self._raw.context.http_client.close()

    def choose(self, choice: Choice) -> list[RawRun]:
        """Return the raw runs that fulfil the conditions and have ended, the earliest first."""
        from tiled.queries import Key

        queries: list[Any] = [Key(f"start.{path}") == value for path, value in choice.where.items()]
        if choice.since is not None:
            queries.append(Key("start.time") >= choice.since)
        found = [run for page in Requests(self._raw).pages(queries) for run in page]
        raw = [run for run in found if run.start and not is_derived(run.start)]
        if not raw:
            raise MissingDataError(
                f"expected raw runs in {self.settings.tiled_raw_path!r} that fulfil: {choice.text}; found "
                "none: check container, path and value (a text that looks like a number needs quotes)"
            )
        self.n_running = sum(not run.complete for run in raw)
        self.starts = {run.key: run.start for run in raw if run.complete}
        runs = [RawRun(uid=uid, time=_time(start)) for uid, start in self.starts.items()]
        return sorted(runs, key=lambda run: (run.time is None, run.time or 0.0, run.uid))

    def units(self, runs: Sequence[RawRun]) -> list[Unit]:
        """Return the runs as units of work: alone, or if repeats are merged those of one sample together."""
        repeats = self.settings.repeats
        if repeats is None:
            return [Unit(runs=(run,)) for run in runs]
        series: dict[tuple[str, ...], list[list[RawRun]]] = defaultdict(list)
        for run in runs:
            own = series[self._sample(run)]
            last = own[-1][-1] if own else None
            if last is not None and _follows(run, last, repeats.within):
                own[-1].append(run)
            else:
                own.append([run])
        return [Unit(runs=tuple(each)) for sample in series.values() for each in sample]

    def _sample(self, run: RawRun) -> tuple[str, ...]:
        """Return what tells the sample of a run from others; the run itself if it names none."""
        start, name = self.starts[run.uid], self.settings.profile
        sample = sample_of(start, detect_profile(start) if name == "auto" else load_profile(name))
        if sample.uid:
            return "uid", sample.uid
        return ("name", sample.name) if sample.name else ("run", run.uid)

    def foils(self, element: str, first: float, last: float) -> Iterator[RawRun]:
        """Yield the runs between two times [s since 1970] whose earlier answers say that they show a foil."""
        from tiled.queries import Key

        queries = [
            Key("start.element") == element,
            Key("start.curves.xanes.axis.source") == str(AxisSource.REFERENCE),
            Key("start.origin.time") <= last,
        ]
        queries += [Key("start.origin.time") >= first] if math.isfinite(first) else []
        for start in self.derived.starts(queries):
            time = as_mapping(start.get("origin")).get("time")
            for uid in as_list(start.get("raw_uids")):
                yield RawRun(uid=str(uid), time=float(time) if isinstance(time, int | float) else None)


def _time(start: Start) -> float | None:
    time = start.get("time")
    return float(time) if isinstance(time, int | float) and not isinstance(time, bool) else None


def _follows(run: RawRun, last: RawRun, within: float) -> bool:
    return run.time is not None and last.time is not None and run.time - last.time <= within


class _Reprocessing:
    """The work on the runs of one choice."""

    def __init__(self, catalog: _Catalog, pool: Pool, on_sent: OnSent, advance: Advance) -> None:
        self._catalog, self._pool = catalog, pool
        self._on_sent, self._advance = on_sent, advance
        self._settings = catalog.settings
        self._job = Job.under(self._settings)
        sent = self._job.settings
        folder = state_folder(sent.tiled_uri, sent.tiled_path, root=sent.outbox.folder)
        self._progress = Progress(folder / f"reprocess-{self._job.digest[:16]}.jsonl")
        self._summary = Summary(running=catalog.n_running)
        self._settled = 0

    def run(self, runs: Sequence[RawRun], *, again: bool) -> Summary:
        """Answer the runs and return what became of them."""
        summary, units = self._summary, self._catalog.units(runs)
        summary.chosen = len(runs)
        skipped = set() if again else done(units, self._progress, self._catalog.derived)
        summary.skipped = self._settled = sum(map(len, skipped))
        self._show()
        put_off = self._answer([unit for unit in units if unit.uids not in skipped])
        if put_off:
            self._look_for_foils(put_off)
            self._answer([self._calibrated(result.unit) for result in put_off])
        if self._settings.pairing is not None:
            self._pair()
        return summary

    def _answer(self, units: Sequence[Unit]) -> list[UnitResult]:
        """Have units answered, and return those that were put off."""
        put_off = []
        for result in completed(self._pool, self._job, units):
            if result.asked:
                put_off.append(result)
                self._progress.calibrations += result.calibrations
            else:
                self._settle(result)
        return put_off

    def _settle(self, result: UnitResult) -> None:
        """Count and report what became of a unit."""
        if result.is_killed:
            result = self._published_failures(result)
        self._progress.record(result)
        for run in result.unit.runs:
            self._count(run, result)
            for start in result.answers.get(run.uid, ()):
                self._on_sent(start, result.unpublished.get(run.uid, ""))
        self._settled += len(result.unit.runs)
        self._show()

    def _show(self) -> None:
        self._advance("raw runs", self._settled, self._summary.chosen)

    def _count(self, run: RawRun, result: UnitResult) -> None:
        """Count one run under what became of it."""
        summary, answers = self._summary, result.answers.get(run.uid, ())
        failures = [start for start in answers if start["quality"]["verdict"] == Verdict.FAILED]
        if run.uid in result.unread:
            summary.unread[run.uid] = result.unread[run.uid]
        elif run.uid in result.unpublished:
            summary.unpublished[run.uid] = result.unpublished[run.uid]
        elif not answers:
            summary.ignored += 1
        elif len(failures) == len(answers):
            summary.failed[run.uid] = next(iter(failures[0]["quality"]["reasons"]), "")
        else:
            summary.answered += 1
            codes = [code for start in answers for code in start["quality"]["codes"]]
            summary.uncalibrated += ReasonCode.AXIS_UNCALIBRATED in codes

    def _published_failures(self, result: UnitResult) -> UnitResult:
        """Publish a failure for each run of a unit whose processes ended."""
        answers = {}
        for uid in result.unit.uids:
            processor = Processor(RunAnalysis(self._settings), Router.under(self._settings))
            list(processor.feed([("start", self._catalog.starts.get(uid, {}))], update=False))
            runs = [documents for answer in processor.give_up_all(KILLED) for documents in answer.runs]
            for documents in runs:
                self._catalog.publisher.publish(documents)
            answers[uid] = [documents[0][1] for documents in runs]
        return replace(result, answers=answers)

    def _look_for_foils(self, put_off: Sequence[UnitResult]) -> None:
        """Calibrate by the foils of runs that are not chosen, and are recent enough to count."""
        drift = self._settings.xanes.drift
        longest = (UNKNOWN_UNCERTAINTY - FOIL_UNCERTAINTY) / drift * SECONDS_PER_HOUR if drift else math.inf
        times: dict[str, list[float]] = defaultdict(list)
        for result in put_off:
            for _, element in result.asked:
                times[element] += [run.time for run in result.unit.runs if run.time is not None]
        found = {
            run.uid: run
            for element, when in times.items()
            for run in self._catalog.foils(element, min(when) - longest, max(when))
            if run.uid not in self._catalog.starts and not self._progress.calibrates(run.uid)
        }
        units = [Unit(runs=(replace(run, calibrations=()),), is_published=False) for run in found.values()]
        for result in completed(self._pool, self._job, units):
            for uid, reason in result.unread.items():
                logger.warning("the foil of run %.60a cannot be read and does not count: %.300a", uid, reason)
            self._progress.calibrations += result.calibrations

    def _calibrated(self, unit: Unit) -> Unit:
        """Return a unit whose runs have the last calibration of each monochromator before them."""
        runs = (replace(run, calibrations=self._calibrations_before(run.time)) for run in unit.runs)
        return replace(unit, runs=tuple(runs))

    def _calibrations_before(self, time: float | None) -> tuple[MonoCalibration, ...]:
        last: dict[tuple[str, str], MonoCalibration] = {}
        for each in sorted(self._progress.calibrations, key=lambda one: (one.time, one.source)):
            if time is not None and each.time < time:
                last[each.mono, each.element] = each
        return tuple(last.values())

    def _pair(self) -> None:
        """Publish the joint answers that are missing."""
        publisher = self._catalog.publisher
        pairing = Pairing(catalog=PredictionCatalog(publisher.container), analysis=Analysis(self._settings))
        pairer = Pairer(publisher, pairing, on_joint=self._on_sent)
        pairer.catch_up(after=None)
        counts = pairer.counts
        self._summary.joint = counts.joint + counts.failed
        if counts.errors or counts.waiting:
            self._summary.unpublished["joint answers"] = (
                f"{counts.errors} failed and {counts.waiting} wait: xpdml pair --once makes them"
            )
