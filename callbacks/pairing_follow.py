"""Joint answers from a process of its own: first of all that is there, then of what comes."""

from queue import Empty, SimpleQueue
from threading import Event

from bluesky_xpdml.callbacks.pairing_publisher import Pairer
from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish import PublishedPrediction
from bluesky_xpdml.publish.cursor import Cursor


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
