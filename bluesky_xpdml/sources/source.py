"""What every stream of documents looks like, whatever carries it."""

from collections.abc import Callable
from threading import Event
from typing import Any, Protocol

OnDocument = Callable[[str, dict[str, Any]], object]
"""Called with the name and the content of each document; an `XpdmlCallback` is one."""


class Source(Protocol):
    """A stream of Bluesky documents that goes on until it is told to stop.

    0MQ is one (`bluesky_xpdml.sources.zmq.ZmqSource`). Subscriptions to Kafka and to Tiled fit behind the
    same method.
    """

    def run(self, on_document: OnDocument, stop: Event) -> None:
        """Hand on every document, until `stop` is set and what had come by then is handed on.

        Parameters
        ----------
        on_document
            Called in this thread with each document, in the order in which they came.
        stop
            Set from elsewhere, by a signal or another thread; noticed within a fraction of a second.
        """
