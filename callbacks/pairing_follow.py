"""Joint answers from a process of its own: first of all that is there, then of what comes."""

from threading import Event

from bluesky_xpdml.callbacks.pairing import EVERYTHING
from bluesky_xpdml.callbacks.pairing_publisher import Pairer
from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish import PublishedPrediction, Query

OVERLAP = 300.0
"""Clocks of two beamlines may differ by so much: answers that old are looked at again [s]."""


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
        self._seen: dict[str, float] = {}

    def catch_up(self) -> None:
        """Publish every joint answer that is missing.

        Raises
        ------
        PublishError
            If the server is away.
        """
        # What comes meanwhile is seen by the first look thereafter.
        self._news()
        if not self._pairer.catch_up(after=None):
            raise PublishError("expected a server that lists its predictions, found none: try again later")

    def look(self) -> int:
        """Pair what has come since the last look, and return how many answers that were.

        Raises
        ------
        PublishError
            If the server is away.
        """
        news = self._news()
        for single in news:
            self._pairer.pair(single)
        self._pairer.retry()
        return len(news)

    def follow(self, stop: Event, *, interval: float) -> None:
        """Look again and again until it is time to stop.

        Parameters
        ----------
        stop
            Set from elsewhere.
        interval
            Pause between two looks [s].

        Raises
        ------
        PublishError
            If the server is away.
        """
        while not stop.is_set():
            self.look()
            stop.wait(interval)

    def _news(self) -> list[PublishedPrediction]:
        """Return the answers that were not seen before, oldest first."""
        after = max(self._seen.values()) - OVERLAP if self._seen else None
        found = [
            each
            for technique in self._pairer.pairing.settings.techniques
            for each in self._pairer.pairing.find(Query(technique=technique, after=after), limit=EVERYTHING)
            if each.uid not in self._seen and (after is None or each.time >= after)
        ]
        self._seen |= {each.uid: each.time for each in found}
        if after is not None:
            # Clocks only ever move on: older ones are not asked for again.
            self._seen = {uid: time for uid, time in self._seen.items() if time >= after}
        return sorted(found, key=lambda each: each.time)
