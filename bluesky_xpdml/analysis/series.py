"""Repeats as they come: runs of one sample, and sweeps of one run, merged while the night goes on.

Runs belong to one series if they name the same sample (its uid, else its name), show the same element and
edge in the same detection mode, and begin within a settable time of the run before. Runs without a sample are
never merged with others: two of them may be anything. Sweeps of one run are repeats whether or not
their sample is named. What is known of a series is kept in memory only: a callback that is started
again begins new ones.
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bluesky_xpdml.errors import SettingsError, XpdmlError
from bluesky_xpdml.models.repeats import RepeatedPrediction, RepeatSeries
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import Prediction, Xanes
from bluesky_xpdml.reduction.repeats import RepeatSettings
from bluesky_xpdml.settings import Settings

logger = logging.getLogger(__name__)

MAXIMUM_SERIES = 64
"""Series that may be open at once; beyond it the one that was longest without a repeat is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesSettings:
    """Which runs are repeats of one another, and how they are merged.

    Raises
    ------
    SettingsError
        If the time is not positive, or a series could not hold two repeats.

    Examples
    --------
    >>> SeriesSettings(within=1800.0).at_most
    50
    """

    within: float = 4.0 * 3600.0
    """A run belongs to the series of its sample if it began within so long of the run before [s]."""
    at_most: int = 50
    """Repeats of one series; the next one begins another."""
    merging: RepeatSettings = field(default_factory=RepeatSettings)
    """How repeats are aligned, and which are left out."""

    def __post_init__(self) -> None:
        if not self.within > 0.0:
            raise SettingsError(f"expected a positive time between repeats [s], found {self.within:g}")
        if self.at_most < 2:
            raise SettingsError(f"expected at least 2 repeats in a series, found {self.at_most}")


def series_settings(settings: Settings) -> SeriesSettings | None:
    """Return which runs a beamtime merges; None where it merges none.

    Parameters
    ----------
    settings
        Of the beamtime.

    Examples
    --------
    >>> series_settings(Settings(repeats_within=3600.0)).within
    3600.0
    """
    return SeriesSettings(within=settings.repeats_within) if settings.repeats_within else None


@dataclass(slots=True)
class _Series:
    repeats: RepeatSeries
    times: dict[str, float | None] = field(default_factory=dict)
    """When its runs began by uid [s since 1970]."""
    n_repeats: int = 0


class RunSeries:
    """Takes the spectra of each run and answers for the series that they belong to.

    Parameters
    ----------
    store
        The models that may answer.
    settings
        Which runs belong together, and how they are merged.

    Examples
    --------
    >>> from bluesky_xpdml.demo.simulated_scan import simulated_scan
    >>> from bluesky_xpdml.records import Sample
    >>> from bluesky_xpdml.reduction.xanes import reduce_xanes
    >>> series = RunSeries(BundleStore.default(), SeriesSettings())
    >>> sample = Sample(name="LaFeO3")
    >>> spectra = [
    ...     replace(reduce_xanes(simulated_scan(seed=seed)), raw_uids=(uid,), sample=sample)
    ...     for seed, uid in enumerate("ab")
    ... ]
    >>> series.add(spectra[:1], uid="a", time=0.0)
    ()
    >>> (answer,) = series.add(spectra[1:], uid="b", time=600.0)
    >>> answer.raw_uids, answer.settings["repeats"]["kept"]
    (('a', 'b'), 2)
    """

    def __init__(self, store: BundleStore, settings: SeriesSettings) -> None:
        self._store = store
        self._settings = settings
        self._open: OrderedDict[tuple[str, ...], _Series] = OrderedDict()

    def add(self, spectra: Sequence[Xanes], *, uid: str, time: float | None) -> tuple[Prediction, ...]:
        """Return the answers of the series that have got a repeat and hold two or more.

        Parameters
        ----------
        spectra
            Reduced sweeps of one run, in the order of measurement. Those that cannot be merged or answered
            do not count.
        uid
            Of the run; one that has been added before changes nothing.
        time
            When the run began [s since 1970]; None where it does not say, then it begins series of its own.
        """
        answers: dict[tuple[str, ...], Prediction] = {}
        new = [xanes for xanes in spectra if not self._knows(_key(xanes, uid), uid)]
        for xanes in new:
            key = _key(xanes, uid)
            series = self._series(key, uid, time)
            try:
                answer = series.repeats.add(xanes)
            except XpdmlError as error:
                logger.info("run %s was not merged with its repeats: %s", uid, error)
                continue
            series.times[uid] = time
            series.n_repeats += 1
            if series.n_repeats > 1:
                answers[key] = told(answer)
        return tuple(answers.values())

    def _knows(self, key: tuple[str, ...], uid: str) -> bool:
        return key in self._open and uid in self._open[key].times

    def _series(self, key: tuple[str, ...], uid: str, time: float | None) -> _Series:
        """Return the series that a run goes on with, or a new one."""
        series = self._open.get(key)
        if series is None or not self._goes_on(series, uid, time):
            series = _Series(RepeatSeries(self._store, self._settings.merging))
            self._open[key] = series
        self._open.move_to_end(key)
        if len(self._open) > MAXIMUM_SERIES:
            self._open.popitem(last=False)
        return series

    def _goes_on(self, series: _Series, uid: str, time: float | None) -> bool:
        if series.n_repeats >= self._settings.at_most:
            return False
        if not series.times or uid in series.times:
            return True
        last = next(reversed(series.times.values()))
        return time is not None and last is not None and abs(time - last) <= self._settings.within


def told(answer: RepeatedPrediction) -> Prediction:
    """Return the prediction of a series, whose settings say of how many repeats, and whether they are enough.

    Parameters
    ----------
    answer
        After the last repeat.
    """
    progress, prediction = answer.progress, answer.prediction
    repeats = {
        "count": progress.n_repeats,
        "kept": progress.n_kept,
        "rejected": [each.source for each in answer.merged.repeats if each.rejected],
        "enough": progress.enough,
        "needed": progress.n_needed,
    }
    return replace(prediction, settings={**prediction.settings, "repeats": repeats})


def _key(xanes: Xanes, uid: str) -> tuple[str, ...]:
    sample = xanes.sample
    whose = ("uid", sample.uid) if sample.uid else ("name", sample.name) if sample.name else ("run", uid)
    return (*whose, xanes.element, xanes.edge, xanes.mode)
