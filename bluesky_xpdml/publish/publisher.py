"""Where derived runs go: anything that takes a run's documents at once."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from bluesky_xpdml.publish.documents import Document, NamedDocument


@runtime_checkable
class Publisher(Protocol):
    """Takes derived runs, one whole run a call."""

    def publish(self, documents: Sequence[NamedDocument]) -> None:
        """Hand one run to where it belongs; a run that is already there is left as it is.

        Raises
        ------
        PublishError
            If it could not be handed over.
        """

    def close(self) -> None:
        """Let go of connections; further runs are refused."""


@runtime_checkable
class LivePublisher(Publisher, Protocol):
    """Takes runs that are still going on, too."""

    def extend(self, documents: Sequence[NamedDocument]) -> None:
        """Hand on the next documents of a run, from its start to its stop in as many calls as it takes.

        Raises
        ------
        PublishError
            If they could not be handed over.
        """


class CallbackPublisher:
    """Hands derived runs to any Bluesky callback.

    Parameters
    ----------
    callback
        Called with the name and the document of each.

    Examples
    --------
    >>> CallbackPublisher(lambda name, document: print(name)).publish([("start", {}), ("stop", {})])
    start
    stop
    """

    def __init__(self, callback: Callable[[str, Document], object]) -> None:
        self._callback = callback

    def publish(self, documents: Sequence[NamedDocument]) -> None:
        """Call the callback with each document in turn."""
        for name, document in documents:
            self._callback(name, document)

    def extend(self, documents: Sequence[NamedDocument]) -> None:
        """Call the callback with each document in turn."""
        self.publish(documents)

    def close(self) -> None:
        """Do nothing: the callback belongs to someone else."""
