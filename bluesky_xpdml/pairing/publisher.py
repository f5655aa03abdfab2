"""Joint answers into Tiled: after an answer to one measurement was published, its partner is searched.

The second of two publishers finds the answer of the first, so that of two beamlines that publish at the same
moment at least one sees the other. Both may: the joint run has one uid, and is written once.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any, TypeAlias

from bluesky_xpdml.analysis.request import Analysis
from bluesky_xpdml.errors import PublishError, attempt
from bluesky_xpdml.pairing.pairing import Pairing
from bluesky_xpdml.pairing.rules import Match
from bluesky_xpdml.publish import (
    LivePublisher,
    PredictionCatalog,
    PublishedPrediction,
    Publisher,
    TiledPublisher,
    derived_run,
    published,
)
from bluesky_xpdml.publish.cursor import Cursor
from bluesky_xpdml.publish.curves import is_whole
from bluesky_xpdml.publish.documents import NamedDocument
from bluesky_xpdml.records import PURPOSE, Verdict

logger = logging.getLogger(__name__)

MOST_WAITING = 1_000
"""Predictions that wait for a server that is away, at most; the oldest beyond it are left to `catch_up`."""
RETRY_INTERVAL = 10.0
"""Least time between two rounds of searches for waiting predictions [s]."""


OnJoint: TypeAlias = Callable[[Mapping[str, Any], str], object]
"""Called with the start document of each joint answer that was published, and an empty text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingCounts:
    """Numbers of joint answers so far."""

    joint: int = 0
    """Joint answers published."""
    failed: int = 0
    """Joint failures published, with their reasons."""
    errors: int = 0
    """Joint answers that were lost by an internal error, which is logged."""
    postponed: int = 0
    """Times that the server was away, or the partner was still being written."""
    waiting: int = 0
    """Predictions whose partner will be searched again."""


class Pairer:
    """Publishes the joint answers of pairs, each once; errors are logged and counted."""

    def __init__(self, publisher: Publisher, pairing: Pairing, *, on_joint: OnJoint | None = None) -> None:
        self.pairing = pairing
        self._on_joint = on_joint
        self._publisher = publisher
        self._waiting: OrderedDict[str, PublishedPrediction] = OrderedDict()
        self._counts = dict.fromkeys(("joint", "failed", "errors", "postponed"), 0)
        self._retry_at = 0.0

    @property
    def counts(self) -> PairingCounts:
        """Numbers of joint answers so far."""
        return PairingCounts(waiting=len(self._waiting), **self._counts)

    def pair(self, single: PublishedPrediction) -> None:
        """Publish the joint answers that a published prediction makes possible."""
        self._wait(single)
        if self._is_paired(single):
            self.retry()

    def retry(self) -> None:
        """Search again for the partners of waiting predictions, if enough time has passed."""
        if time.monotonic() < self._retry_at:
            return
        for single in list(self._waiting.values()):
            if not self._is_paired(single):
                return

    def catch_up(self, *, after: float | None) -> bool:
        """Publish the joint answers that are missing, and return whether the server could be searched.

        Parameters
        ----------
        after
            Only of predictions made at this time or later [s since 1970]; None for all.
        """
        matches: list[Match] = []
        if not self._attempt(lambda: matches.extend(self.pairing.unanswered(after=after)), "all runs"):
            return False
        for match in matches:
            if not self._attempt(partial(self._publish, match), f"run {match.xanes.uid}"):
                self._wait(match.xanes)
        return True

    def _wait(self, single: PublishedPrediction) -> None:
        self._waiting[single.uid] = single
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popitem(last=False)

    def _is_paired(self, single: PublishedPrediction) -> bool:
        """Publish the joint answers of a prediction; if the server is away, it waits behind all others."""
        if self._attempt(partial(self._pair, single), f"run {single.uid}"):
            del self._waiting[single.uid]
            return True
        self._waiting.move_to_end(single.uid)
        self._retry_at = time.monotonic() + RETRY_INTERVAL
        return False

    def _pair(self, single: PublishedPrediction) -> None:
        for match in self.pairing.matches(single):
            self._publish(match)

    def _attempt(self, action: Callable[[], None], run: str) -> bool:
        """Do something and return whether it is settled; it is not if the server is away.

        An error must not make the prediction of the single measurement count as lost: it is published.
        """
        error = attempt(action)
        if isinstance(error, PublishError):
            self._counts["postponed"] += 1
            logger.warning("the joint answer of %s waits: %s", run, error)
            return False
        if error is not None:
            self._counts["errors"] += 1
            logger.error("the joint answer of %s failed by an internal error", run, exc_info=error)
        return True

    def _publish(self, match: Match) -> None:
        """Publish the joint answer of a match, unless it exists."""
        documents = derived_run(self.pairing.joint(match))
        start = documents[0][1]
        if is_whole(self.pairing.catalog.container, start["uid"]):
            return
        self._publisher.publish(documents)
        failed = start["quality"]["verdict"] == Verdict.FAILED
        self._counts["failed" if failed else "joint"] += 1
        if self._on_joint is not None:
            self._on_joint(start, "")


class PairingPublisher:
    """Publishes runs, and after each answer to one measurement the joint ones that it makes possible.

    After the first run it also publishes the joint answers that an earlier process left out. The publisher is
    closed with this one; the pairing works in the container that the runs go to.
    """

    def __init__(self, publisher: Publisher, pairing: Pairing, *, on_joint: OnJoint | None = None) -> None:
        self._publisher = publisher
        self._pairer = Pairer(publisher, pairing, on_joint=on_joint)
        self._within = pairing.settings.within
        self._caught_up = False

    @classmethod
    def of(
        cls, publisher: TiledPublisher, analysis: Analysis, *, on_joint: OnJoint | None = None
    ) -> "PairingPublisher":
        """Return a publisher that pairs what is in the container that it publishes into."""
        catalog = PredictionCatalog(publisher.container)
        return cls(publisher, Pairing(catalog=catalog, analysis=analysis), on_joint=on_joint)

    @property
    def counts(self) -> PairingCounts:
        """Numbers of joint answers so far."""
        return self._pairer.counts

    def publish(self, documents: Sequence[NamedDocument]) -> None:
        """Publish one run, then the joint answers that it makes possible.

        Raises
        ------
        PublishError
            If the run itself could not be published; never because of a joint answer.
        """
        self._publisher.publish(documents)
        start = documents[0][1]
        if start.get("purpose") != PURPOSE:
            return
        try:
            single = published(start)
        except PublishError:
            logger.exception("run %s is published, but cannot be paired", start.get("uid"))
            return
        self._pairer.pair(single)
        if not self._caught_up:
            self._caught_up = self._pairer.catch_up(after=single.time - self._within)

    def extend(self, documents: Sequence[NamedDocument]) -> None:
        """Publish the next documents of a run in progress.

        Raises
        ------
        PublishError
            If they could not be published, or the publisher takes whole runs only.
        """
        if not isinstance(self._publisher, LivePublisher):
            name = type(self._publisher).__name__
            raise PublishError(f"expected a publisher that takes runs in parts, found {name}")
        self._publisher.extend(documents)

    def close(self) -> None:
        """Close the publisher."""
        self._publisher.close()


def with_pairing(publisher: Publisher, analysis: Analysis) -> Publisher:
    """Return a publisher that also publishes joint answers; the same one if the settings pair nothing.

    Raises
    ------
    PublishError
        If the publisher has no container in which partners could be searched.
    """
    if analysis.settings.pairing is None:
        return publisher
    if not isinstance(publisher, TiledPublisher):
        raise PublishError(
            f"expected a TiledPublisher, in whose container partners are searched, found "
            f"{type(publisher).__name__}: switch pairing off, or wrap it in a PairingPublisher"
        )
    return PairingPublisher.of(publisher, analysis)


class Follower:
    """Pairs what several beamlines publish into one container.

    Nothing is kept between processes: a new one goes over all predictions and leaves existing joint answers.
    """

    def __init__(self, pairer: Pairer) -> None:
        self._pairer = pairer
        self._catalog = pairer.pairing.catalog
        self._cursor: Cursor | None = None

    def catch_up(self) -> None:
        """Publish every joint answer that is missing.

        Raises
        ------
        PublishError
            If the server is away.
        """
        # What arrives meanwhile is behind the cursor, and is paired afterwards.
        cursor = self._catalog.end()
        if not self._pairer.catch_up(after=None):
            raise PublishError("expected a server that lists its predictions, found none: try again later")
        self._cursor = cursor

    def look(self) -> int:
        """Pair the predictions that arrived since the last call, and return their number.

        Raises
        ------
        PublishError
            If the server is away.
        """
        news, self._cursor = self._catalog.since(self._start())
        for single in news:
            self._pairer.pair(single)
        self._pairer.retry()
        return len(news)

    def follow(self, stop: Event, *, interval: float) -> None:
        """Pair predictions as they arrive, until `stop` is set; requests are at most `interval` [s] apart.

        Raises PublishError if the server is away, or the container was emptied.
        """
        cursor, self._cursor = self._start(), None
        arrived: SimpleQueue[PublishedPrediction] = SimpleQueue()
        with self._catalog.subscribe(arrived.put, cursor=cursor, interval=interval) as subscription:
            while not stop.is_set():
                try:
                    self._pairer.pair(arrived.get(timeout=interval))
                except Empty:
                    subscription.join(timeout=0.0)
                    self._pairer.retry()

    def _start(self) -> Cursor:
        """Return where to continue, after going over all predictions if this is the first call."""
        if self._cursor is None:
            self.catch_up()
        return self._cursor or Cursor()
