"""Dark frames and patterns of recent runs, because later runs name theirs by uid or by sample."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.documents import (
    CollectedRun,
    FindsSamples,
    ImageMean,
    Measurement,
    collect_run,
    dark_of,
    detect_profile,
    read_run,
)
from bluesky_xpdml.errors import MissingDataError, XpdmlError
from bluesky_xpdml.records import ScatteringPattern

DARK_RUNS_KEPT = 6
"""Each takes 16 MB for four million pixels; beamlines measure one for each exposure time."""
PATTERNS_KEPT = 64
"""Patterns are small; a beamtime measures few empty containers."""

FetchRun: TypeAlias = Callable[[str], Iterable[tuple[str, Mapping[str, Any]]]]
"""Gives the documents of a stored run by its uid; `StoredRuns` also finds runs by their sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedRuns:
    """Reads stored runs under the same profile and folders as live ones."""

    fetch: FetchRun | None = None
    """None if only live runs count."""
    profile: str = "auto"
    root_map: Mapping[str, str] = field(default_factory=dict)
    anywhere: bool = True
    """Whether runs may name any file of this computer if there is no `root_map`."""

    def dark(self, uid: str) -> ImageMean:
        """Return the average frame of a stored dark run, whatever it states about itself.

        Raises
        ------
        MissingDataError
            If it cannot be fetched.
        """
        run = self._collected("dark", uid, dark_frames=True)
        return dark_of(run, run.profile or detect_profile(run.start))

    def background(self, name: str, light: Measurement) -> Measurement:
        """Return the stored background of a run, by its uid or by the name of its sample.

        Raises
        ------
        MissingDataError
            If it cannot be fetched.
        """
        try:
            return read_run(self._collected("background", name))
        except MissingDataError:
            if not isinstance(self.fetch, FindsSamples):
                raise
        uid = self.fetch.uid_of_sample(name, light.profile, exclude=(light.run.uid,))
        return read_run(self._collected("background", uid))

    def _collected(self, kind: str, uid: str, *, dark_frames: bool = False) -> CollectedRun:
        if self.fetch is None:
            raise MissingDataError(
                f"the {kind} run {uid} was not seen, and no catalog was given to fetch it from"
            )
        try:
            return collect_run(
                self.fetch(uid),
                profile=self.profile,
                root_map=self.root_map,
                anywhere=self.anywhere,
                dark_frames=dark_frames,
            )
        except (XpdmlError, OSError) as error:
            msg = f"the {kind} run {uid} was not seen and cannot be fetched: {error}"
            raise MissingDataError(msg) from error


@dataclass(frozen=True, slots=True)
class _DarkFrame:
    """A dark frame in single precision, which holds the counts of every detector at half the memory."""

    mean: NDArray[np.float32]
    variance: NDArray[np.float32] | None
    bad: NDArray[np.bool_] | None
    n_frames: int


class DarkFrames:
    """Average dark frames by the uid of their run, the most recently used ones.

    Examples
    --------
    >>> darks = DarkFrames(FetchedRuns())
    >>> darks.keep("a", ImageMean(mean=np.ones((2, 2)), n_frames=3))
    >>> darks.find("a").n_frames
    3
    """

    def __init__(self, stored: FetchedRuns) -> None:
        self._stored = stored
        self._kept: OrderedDict[str, _DarkFrame] = OrderedDict()

    def keep(self, uid: str, dark: ImageMean) -> None:
        """Keep the dark frame of a run; the least recently used one makes room."""
        variance = None if dark.variance is None else dark.variance.astype(np.float32)
        self._kept[uid] = _DarkFrame(dark.mean.astype(np.float32), variance, dark.bad, dark.n_frames)
        self._kept.move_to_end(uid)
        while len(self._kept) > DARK_RUNS_KEPT:
            self._kept.popitem(last=False)

    def find(self, uid: str) -> ImageMean:
        """Return the average frame of a dark run.

        Raises
        ------
        MissingDataError
            If the run was not seen and cannot be fetched.
        """
        if uid not in self._kept:
            self.keep(uid, self._stored.dark(uid))
        self._kept.move_to_end(uid)
        kept = self._kept[uid]
        return ImageMean(
            mean=kept.mean.astype(np.float64),
            n_frames=kept.n_frames,
            variance=None if kept.variance is None else kept.variance.astype(np.float64),
            bad=kept.bad,
        )


class Backgrounds:
    """Patterns by the uid of their run and by the name of its sample, the most recent ones.

    Parameters
    ----------
    by_sample
        Whether a pattern is also found by the name of its sample: the latest one, which depends on the order
        of the runs.

    Examples
    --------
    >>> from bluesky_xpdml.records import Sample
    >>> q = np.linspace(1.0, 20.0, 100)
    >>> kept = Backgrounds()
    >>> kept.keep("a", ScatteringPattern(q=q, intensity=q, sample=Sample(name="kapton")))
    >>> kept.find("kapton") is kept.find("a")
    True
    """

    def __init__(self, *, by_sample: bool = True) -> None:
        self._by_sample = by_sample
        self._kept: OrderedDict[str, ScatteringPattern] = OrderedDict()

    def keep(self, uid: str, pattern: ScatteringPattern) -> None:
        """Keep the pattern of a run; the oldest makes room."""
        self._kept[uid] = pattern
        self._kept.move_to_end(uid)
        while len(self._kept) > PATTERNS_KEPT:
            self._kept.popitem(last=False)

    def find(self, name: str) -> ScatteringPattern | None:
        """Return the pattern of a run by its uid, or the latest of a sample by its name; None if unknown."""
        if name in self._kept or not self._by_sample:
            return self._kept.get(name)
        named = [pattern for pattern in self._kept.values() if pattern.sample.name == name]
        return named[-1] if named else None
