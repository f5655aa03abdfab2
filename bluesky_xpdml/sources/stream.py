"""What all streams of documents have in common, whatever carries them."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from threading import Event
from typing import Any, Generic, Protocol, TypeVar

from bluesky_xpdml.errors import DocumentError

Place = TypeVar("Place")

OnDocument = Callable[[str, dict[str, Any]], object]
"""Called with the name and the content of each document; an `XpdmlCallback` is one."""

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "start": ("uid",),
    "descriptor": ("uid", "run_start"),
    "event": ("descriptor", "data"),
    "event_page": ("descriptor", "data"),
    "stop": ("run_start",),
    "resource": ("uid",),
    "datum": ("datum_id", "resource"),
    "datum_page": ("datum_id", "resource"),
    "stream_resource": ("uid",),
    "stream_datum": ("stream_resource", "descriptor"),
    "bulk_events": (),
    "bulk_datum": (),
}
"""Entries that a document must have, by its name."""


class Receiver(Protocol):
    """Takes the documents of a stream; an `XpdmlCallback` is one."""

    def __call__(self, name: str, doc: dict[str, Any], /) -> object:
        """Take a document."""

    def forget(self, run: str) -> None:
        """Forget a run that has not ended: its documents come once more, here or elsewhere."""

    @property
    def is_busy(self) -> bool:
        """Whether so much waits that a stream which can wait should do so."""


class DocumentSource(Protocol):
    """A stream of documents, as `xpdml watch` follows it.

    One thread calls `run`, then `close`; any thread calls `settled`.
    """

    address: str
    documents: int
    refused: Counter[str]
    connected: bool
    repeats: bool
    """Whether documents come again, in this process or the next, until their run is settled."""

    def run(self, receiver: Receiver, stop: Event) -> None:
        """Pass on every document until `stop` is set."""

    def settled(self, run: str) -> None:
        """Note that the answer to a run is safe."""

    def close(self) -> None:
        """Note how far everything is settled, and end the connection."""


class Ledger(Generic[Place]):
    """Says from where a stream has to be read again, so that every run is answered.

    Parameters
    ----------
    place
        Where the reading begins.

    Examples
    --------
    >>> ledger = Ledger(0)
    >>> ledger.hold("a")
    >>> ledger.place = 7
    >>> ledger.hold("b")
    >>> ledger.place = 9
    >>> ledger.release("b")
    >>> ledger.safe
    0
    >>> ledger.release("a")
    >>> ledger.safe
    9
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._held: OrderedDict[str, Place] = OrderedDict()

    def __contains__(self, run: str) -> bool:
        return run in self._held

    def hold(self, run: str) -> None:
        """Have the stream read again from the present place until a run is released."""
        self._held.setdefault(run, self.place)

    def release(self, run: str) -> None:
        """Note that a run is answered, or will not be."""
        self._held.pop(run, None)

    @property
    def held(self) -> tuple[str, ...]:
        """The runs that are held, in the order in which they came."""
        return tuple(self._held)

    @property
    def safe(self) -> Place:
        """The place before which everything is answered."""
        return next(iter(self._held.values()), self.place)


def require_document(name: str, document: Mapping[str, Any]) -> None:
    """Raise a `DocumentError` unless a mapping has a name and the entries of a document.

    Examples
    --------
    >>> require_document("descriptor", {"uid": "a"})
    Traceback (most recent call last):
    ...
    bluesky_xpdml.errors.DocumentError: a descriptor without run_start
    """
    if name not in REQUIRED:
        raise DocumentError("a message whose name is that of no document")
    missing = [key for key in REQUIRED[name] if key not in document]
    if missing:
        raise DocumentError(f"a {name} without {' and '.join(missing)}")


def note_refused(refused: Counter[str], error: DocumentError) -> bool:
    """Count a message that is no document by its reason; return whether it is the first one for it."""
    # What differs between messages follows the colon: the number of reasons must stay small.
    kind = str(error).partition(": ")[0]
    refused[kind] += 1
    return refused[kind] == 1
