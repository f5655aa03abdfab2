"""Repeats merged as they are measured: runs of one sample, and sweeps of one run.

Runs belong to one series if they name the same sample (its uid, else its name), show the same element and
edge in the same detection mode, and begin within a settable time of the run before. Runs without a sample are
never merged with others. Sweeps of one run are repeats whether or not their sample is named. Series are kept
in memory only: a callback that is restarted begins new ones.
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.models.repeats import RepeatedPrediction, RepeatSeries
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import Prediction, Xanes
from bluesky_xpdml.settings import SeriesSettings

logger = logging.getLogger(__name__)

MAXIMUM_SERIES = 64
"""Series that may be open at once; beyond it the one without a repeat for the longest time is closed."""


@dataclass(slots=True)
class _Series:
    repeats: RepeatSeries
    times: dict[str, float | None] = field(default_factory=dict)
    """When its runs began by uid [s since 1970]."""
    n_repeats: int = 0


class RunSeries:
    """Takes the spectra of each run and predicts for the series that they belong to.

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
        """Return the predictions of those series that got a repeat and hold two or more.

        Spectra that cannot be merged or answered do not count; a run that was added before changes nothing.
        A run without a time [s since 1970] begins series of its own.
        """
        answers: dict[tuple[str, ...], Prediction] = {}
        new = [xanes for xanes in spectra if not self._contains(_key(xanes, uid), uid)]
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
                answers[key] = series_prediction(answer)
        return tuple(answers.values())

    def _contains(self, key: tuple[str, ...], uid: str) -> bool:
        return key in self._open and uid in self._open[key].times

    def _series(self, key: tuple[str, ...], uid: str, time: float | None) -> _Series:
        """Return the series that a run continues, or a new one."""
        series = self._open.get(key)
        if series is None or not self._continues(series, uid, time):
            series = _Series(RepeatSeries(self._store, self._settings.merging))
            self._open[key] = series
        self._open.move_to_end(key)
        if len(self._open) > MAXIMUM_SERIES:
            self._open.popitem(last=False)
        return series

    def _continues(self, series: _Series, uid: str, time: float | None) -> bool:
        if series.n_repeats >= self._settings.at_most:
            return False
        if not series.times or uid in series.times:
            return True
        last = next(reversed(series.times.values()))
        return time is not None and last is not None and abs(time - last) <= self._settings.within


def series_prediction(answer: RepeatedPrediction) -> Prediction:
    """Return the prediction of a series; its settings tell how many repeats it has."""
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
