"""Joint answers into Tiled: after a single answer was published, its partner is looked for.

Whoever publishes second finds the first, so that of two beamlines at the same moment at least one sees the
other. Both may: the joint run has one uid, and who comes second leaves it to the first.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event

import numpy as np

from bluesky_xpdml.analysis.request import Analysis
from bluesky_xpdml.errors import PublishError, XpdmlError
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

KEPT = 1_000
"""Answers whose partner is looked for again, where the server was away; beyond it the oldest is left to
those who go over all."""
PATIENCE = 5.0
"""A joint run that somebody else is writing is waited for so long, before it counts as given up [s]."""
RETRIES = 3
"""A joint run that could not be written is tried again so often."""
RETRY_INTERVAL = 10.0
"""Least time between two rounds of looking again for partners [s]."""
POLL_INTERVAL = 0.1
"""Pause between two looks at a run that is being written [s]."""
FAULTS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    XpdmlError,
)
"""What may go wrong with a joint answer: the single one was published and must not count as lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingCounts:
    """What has become of the pairs up to now."""

    joint: int = 0
    """Joint answers published."""
    failed: int = 0
    """Joint failures published, with their reasons."""
    errors: int = 0
    """Joint answers that went wrong on the way; the log has the reasons."""
    postponed: int = 0
    """Times that the server was away, or the partner was still being written."""
    waiting: int = 0
    """Answers whose partner will be looked for again."""


class Pairer:
    """Publishes the joint answers of pairs, each once.

    Parameters
    ----------
    publisher
        Where joint answers go.
    pairing
        Finds partners and answers.
    """

    def __init__(self, publisher: Publisher, pairing: Pairing) -> None:
        self._publisher = publisher
        self._pairing = pairing
        self._again: OrderedDict[str, PublishedPrediction] = OrderedDict()
        self._counts = dict.fromkeys(("joint", "failed", "errors", "postponed"), 0)
        self._retry_at = 0.0
        self._random = np.random.default_rng()

    @property
    def pairing(self) -> Pairing:
        """Finds partners and answers."""
        return self._pairing

    @property
    def counts(self) -> PairingCounts:
        """What has become of the pairs up to now."""
        return PairingCounts(waiting=len(self._again), **self._counts)

    def pair(self, single: PublishedPrediction) -> None:
        """Publish the joint answers that a published one makes possible; errors are logged and counted.

        Answers for which the server was away are tried again with the next one.

        Parameters
        ----------
        single
            That was published; whatever is no answer to one measurement changes nothing.
        """
        self._keep(single)
        if self._settled(single):
            self.retry()

    def retry(self) -> None:
        """Look again for the partners of answers for which the server was away, if some time has passed."""
        if time.monotonic() < self._retry_at:
            return
        for single in list(self._again.values()):
            if not self._settled(single):
                return

    def catch_up(self, *, after: float | None) -> bool:
        """Publish the joint answers that are missing among all published runs; errors are logged and counted.

        Parameters
        ----------
        after
            Only of answers made at this time or later [s since 1970]; None for all.

        Returns
        -------
        bool
            Whether the server was there to say what is missing.
        """
        matches: list[Match] = []
        if not self._attempt(lambda: matches.extend(self._pairing.unanswered(after=after)), "all"):
            return False
        for match in matches:
            if not self._attempt(partial(self._publish, match), match.xanes.uid):
                self._keep(match.xanes)
        return True

    def _keep(self, single: PublishedPrediction) -> None:
        self._again[single.uid] = single
        while len(self._again) > KEPT:
            self._again.popitem(last=False)

    def _settled(self, single: PublishedPrediction) -> bool:
        """Look for the partners of an answer; where the server is away it is the last to be tried again."""
        if self._attempt(partial(self._pair, single), single.uid):
            del self._again[single.uid]
            return True
        self._again.move_to_end(single.uid)
        self._retry_at = time.monotonic() + RETRY_INTERVAL
        return False

    def _pair(self, single: PublishedPrediction) -> None:
        for match in self._pairing.matches(single):
            self._publish(match)

    def _attempt(self, action: Callable[[], None], of: str) -> bool:
        """Do something and return whether it is settled; it is not where the server was away."""
        try:
            action()
        except PublishError as error:
            self._counts["postponed"] += 1
            logger.warning("the joint answer of run %s waits: %s", of, error)
            return False
        except FAULTS:
            self._counts["errors"] += 1
            logger.exception("the joint answer of run %s went wrong; its own answer is published", of)
        return True

    def _publish(self, match: Match) -> None:
        """Publish the joint answer of a match, unless it is there."""
        documents = derived_run(self._pairing.joint(match))
        start = documents[0][1]
        for retry in range(RETRIES + 1):
            if self._is_there(start["uid"]):
                return
            try:
                self._publisher.publish(documents)
                break
            except PublishError:
                # Two that write one run at once disturb each other; the pause decides who is first next time.
                if retry == RETRIES:
                    raise
                time.sleep(float(self._random.uniform(0.0, 1.0)))
        failed = start["quality"]["verdict"] == Verdict.FAILED
        self._counts["failed" if failed else "joint"] += 1

    def _is_there(self, uid: str) -> bool:
        """Return whether a joint run was written, after waiting for somebody else who is writing it."""
        container = self._pairing.catalog.container
        end = time.monotonic() + PATIENCE
        while (whole := is_whole(container, uid)) is False and time.monotonic() < end:
            time.sleep(POLL_INTERVAL)
        return bool(whole)


class PairingPublisher:
    """Publishes runs, and after each single answer the joint one that it makes possible.

    With the first run it also makes up for pairs that an earlier process did not come to.

    Parameters
    ----------
    publisher
        Where all runs go; closed with this one.
    pairing
        Finds partners and answers, in the container that the runs go to.
    """

    def __init__(self, publisher: Publisher, pairing: Pairing) -> None:
        self._publisher = publisher
        self._pairer = Pairer(publisher, pairing)
        self._within = pairing.settings.within
        self._caught_up = False

    @property
    def counts(self) -> PairingCounts:
        """What has become of the pairs up to now."""
        return self._pairer.counts

    def publish(self, documents: Sequence[NamedDocument]) -> None:
        """Publish one run, then the joint answers that it makes possible.

        Raises
        ------
        PublishError
            If the run itself could not be handed over; never for want of a joint answer.
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
        """Hand on the next documents of a run that goes on.

        Raises
        ------
        PublishError
            If they could not be handed over, or whole runs only are taken.
        """
        if not isinstance(self._publisher, LivePublisher):
            name = type(self._publisher).__name__
            raise PublishError(f"expected a publisher that takes runs that go on, found {name}")
        self._publisher.extend(documents)

    def close(self) -> None:
        """Close the publisher."""
        self._publisher.close()


def with_pairing(publisher: Publisher, analysis: Analysis) -> Publisher:
    """Return a publisher that looks for partners too; the same one if the settings pair nothing.

    Raises
    ------
    PublishError
        If the publisher has no container in which partners could be found.
    """
    if analysis.settings.pairing is None:
        return publisher
    if not isinstance(publisher, TiledPublisher):
        raise PublishError(
            f"expected a TiledPublisher, in whose container partners are found, found "
            f"{type(publisher).__name__}: switch pairing off, or wrap it in a PairingPublisher"
        )
    catalog = PredictionCatalog(publisher.container)
    return PairingPublisher(publisher, Pairing(catalog=catalog, analysis=analysis))


class Follower:
    """Pairs what several beamlines publish into one container.

    Nothing is kept between processes: a new one goes over all that is there and leaves what is done.

    Parameters
    ----------
    pairer
        Publishes joint answers.
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
        # What comes meanwhile stands behind the cursor, and is looked at thereafter.
        cursor = self._catalog.end()
        if not self._pairer.catch_up(after=None):
            raise PublishError("expected a server that lists its predictions, found none: try again later")
        self._cursor = cursor

    def look(self) -> int:
        """Pair what has come since the last look, and return how many answers that were.

        Raises
        ------
        PublishError
            If the server is away.
        """
        news, self._cursor = self._catalog.since(self._begun())
        for single in news:
            self._pairer.pair(single)
        self._pairer.retry()
        return len(news)

    def follow(self, stop: Event, *, interval: float) -> None:
        """Pair what comes, as soon as the server says so, until it is time to stop.

        Parameters
        ----------
        stop
            Set from elsewhere.
        interval
            Longest time between two looks [s].

        Raises
        ------
        PublishError
            If the server is away, or the container was emptied.
        """
        cursor, self._cursor = self._begun(), None
        arrived: SimpleQueue[PublishedPrediction] = SimpleQueue()
        with self._catalog.subscribe(arrived.put, cursor=cursor, interval=interval) as subscription:
            while not stop.is_set():
                try:
                    self._pairer.pair(arrived.get(timeout=interval))
                except Empty:
                    subscription.join(timeout=0.0)
                    self._pairer.retry()

    def _begun(self) -> Cursor:
        """Return where to go on, after going over all that is there."""
        if self._cursor is None:
            self.catch_up()
        return self._cursor or Cursor()
