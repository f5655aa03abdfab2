"""Dark runs of the recent past, because light runs name theirs by uid."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.documents import (
    CollectedRun,
    ImageMean,
    Profile,
    collector_for,
    dark_of,
    detect_profile,
)
from bluesky_xpdml.errors import MissingDataError, XpdmlError
from bluesky_xpdml.records import ScatteringPattern

PATTERNS_KEPT = 64
"""Patterns are small; a beamtime measures few empty containers."""


class Backgrounds:
    """Patterns by the uid of their run and by the name of its sample, the most recent ones.

    Examples
    --------
    >>> import numpy as np
    >>> from bluesky_xpdml.records import Sample
    >>> q = np.linspace(1.0, 20.0, 100)
    >>> kept = Backgrounds()
    >>> kept.keep("a", ScatteringPattern(q=q, intensity=q, sample=Sample(name="kapton")))
    >>> kept.find("kapton") is kept.find("a")
    True
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, ScatteringPattern] = OrderedDict()

    def keep(self, uid: str, pattern: ScatteringPattern) -> None:
        """Keep the pattern of a run; the oldest makes room.

        Parameters
        ----------
        uid
            Start uid of the run.
        pattern
            What was measured.
        """
        self._kept[uid] = pattern
        self._kept.move_to_end(uid)
        while len(self._kept) > PATTERNS_KEPT:
            self._kept.popitem(last=False)

    def find(self, name: str) -> ScatteringPattern | None:
        """Return the pattern of a run by its uid, or the latest of a sample by its name; None without one.

        Parameters
        ----------
        name
            Uid of a run or name of a sample.
        """
        if name in self._kept:
            return self._kept[name]
        named = [pattern for pattern in self._kept.values() if pattern.sample.name == name]
        return named[-1] if named else None


DARK_RUNS_KEPT = 6
"""Each takes 16 MB for four million pixels; beamlines measure one for each exposure time."""

FetchRun: TypeAlias = Callable[[str], Iterable[tuple[str, Mapping[str, Any]]]]
"""Gives the documents of a run by its uid."""


@dataclass(frozen=True, slots=True)
class _Kept:
    mean: NDArray[np.float32]
    variance: NDArray[np.float32] | None
    bad: NDArray[np.bool_] | None
    n_frames: int


class DarkRuns:
    """Average dark frames by the uid of their run, the most recent ones.

    Parameters
    ----------
    fetch
        Gives the documents of runs that were not seen; None where only what was seen counts.

    Examples
    --------
    >>> darks = DarkRuns()
    >>> darks.keep("a", ImageMean(mean=np.ones((2, 2)), n_frames=3))
    >>> darks.find("a").n_frames
    3
    """

    def __init__(self, fetch: FetchRun | None = None) -> None:
        self._fetch = fetch
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def keep(self, uid: str, dark: ImageMean) -> None:
        """Keep the dark frame of a run; the one that was not asked for longest makes room.

        Parameters
        ----------
        uid
            Start uid of the dark run.
        dark
            Its average frame.
        """
        # Single precision holds the counts of every detector, at half the memory.
        variance = None if dark.variance is None else dark.variance.astype(np.float32)
        self._kept[uid] = _Kept(dark.mean.astype(np.float32), variance, dark.bad, dark.n_frames)
        self._kept.move_to_end(uid)
        while len(self._kept) > DARK_RUNS_KEPT:
            self._kept.popitem(last=False)

    def find(self, uid: str) -> ImageMean:
        """Return the average frame of a dark run.

        Parameters
        ----------
        uid
            Start uid of the dark run.

        Raises
        ------
        MissingDataError
            If the run was not seen and cannot be fetched.
        """
        if uid not in self._kept:
            self.keep(uid, self._fetched(uid))
        self._kept.move_to_end(uid)
        kept = self._kept[uid]
        return ImageMean(
            mean=kept.mean.astype(np.float64),
            n_frames=kept.n_frames,
            variance=None if kept.variance is None else kept.variance.astype(np.float64),
            bad=kept.bad,
        )

    def _fetched(self, uid: str) -> ImageMean:
        if self._fetch is None:
            raise MissingDataError(
                f"the dark run {uid} was not seen, and no catalog was given to fetch it from"
            )
        try:
            return _collected(self._fetch(uid))
        except (XpdmlError, OSError) as error:
            raise MissingDataError(
                f"the dark run {uid} was not seen and cannot be fetched: {error}"
            ) from error


def _collected(documents: Iterable[tuple[str, Mapping[str, Any]]]) -> ImageMean:
    """Add up the frames of a stored dark run, whatever it says of itself."""
    collector = None
    for name, document in documents:
        if name == "start":
            collector = collector_for({**document, "dark_frame": True})
        elif collector is not None:
            collector.feed(name, document)
    if collector is None:
        raise MissingDataError("expected a run, found no start document")
    run: CollectedRun = collector.finish()
    profile: Profile = detect_profile(run.start)
    return dark_of(run, profile)
