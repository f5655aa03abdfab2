"""How far a reader has read the runs of a container; a cursor can be kept over restarts."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, Self

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish.requests import PAGE, Requests, Run

ANCHORS = 16
"""Runs that are read again each time, to detect runs that appear between them."""


class LostCursorError(PublishError):
    """None of the runs that were read last exists any more: new runs cannot be told from old ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A place in the order in which runs arrived at a server; the default one is before the first.

    Examples
    --------
    >>> cursor = Cursor(position=2, anchors=("a", "b"))
    >>> Cursor.from_json(cursor.as_json()) == cursor
    True
    """

    position: int = 0
    """How many runs were before this place when it was noted: a hint, as runs may be removed."""
    anchors: tuple[str, ...] = ()
    """Keys of the last complete runs before this place, oldest first."""
    pending: tuple[str, ...] = ()
    """Keys of runs that were read without a stop document: they may be removed and written anew."""

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"position": self.position, "anchors": list(self.anchors), "pending": list(self.pending)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the cursor that `as_json` wrote.

        Raises
        ------
        PublishError
            If they are not those of a cursor.
        """
        try:
            return cls(
                position=int(values["position"]),
                anchors=tuple(map(str, values["anchors"])),
                pending=tuple(map(str, values["pending"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            msg = f"expected position, anchors and pending of a cursor, found {values!r}"
            raise PublishError(msg) from error

    def as_text(self) -> str:
        """Return one line of text, for a file or an option."""
        return json.dumps(self.as_json(), separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the cursor that `as_text` wrote.

        Raises
        ------
        PublishError
            If the text is not that of a cursor.
        """
        try:
            return cls.from_json(json.loads(text))
        except ValueError as error:
            raise PublishError(f"expected the text of a cursor, found {text!r}") from error


def read_on(requests: Requests, cursor: Cursor) -> Iterator[tuple[Run | None, Cursor]]:
    """Yield each run after a cursor, once, with the cursor behind it; at the end None and a cursor.

    The runs before the cursor are read again: one that became visible late, as with several writers, is found
    among them, and one that was removed does not shift the others. Raises LostCursorError if none of them
    exists any more, PublishError if the server is away or refuses.
    """
    finished = _finished(requests, cursor.pending)
    before, seen = cursor, {*cursor.anchors, *cursor.pending}
    pending, anchors, met = dict.fromkeys(cursor.pending), list[str](), set[str]()
    for place, run in _from_anchor(requests, cursor):
        met.add(run.key)
        if run.complete:
            anchors = [*anchors, run.key][-ANCHORS:]
            pending.pop(run.key, None)
        else:
            pending[run.key] = None
        ahead = [key for key in before.anchors if key not in met]
        cursor = Cursor(position=place + 1, anchors=(*ahead, *anchors), pending=tuple(pending))
        if run.key not in seen:
            yield run, cursor
    # A run that was complete before this reading, and is not among the runs read, has not moved.
    left = tuple(key for key in cursor.pending if key in met or key not in finished)
    yield None, replace(cursor, anchors=tuple(anchors) or before.anchors, pending=left)


def end_of(requests: Requests) -> Cursor:
    """Return the cursor behind the last run of a container."""
    cursor = Cursor()
    window = max(0, requests.count() - 2 * ANCHORS)
    runs = [run for page in requests.pages(offset=window) for run in page]
    anchors = tuple(run.key for run in runs if run.complete)[-ANCHORS:]
    pending = tuple(run.key for run in runs if not run.complete)
    return replace(cursor, position=window + len(runs), anchors=anchors, pending=pending)


def _finished(requests: Requests, pending: tuple[str, ...]) -> set[str]:
    """Return which of the runs that were incomplete are complete now."""
    from tiled.queries import KeysFilter

    if not pending:
        return set()
    pages = requests.pages([KeysFilter(keys=list(pending))])
    return {run.key for page in pages for run in page if run.complete}


def _from_anchor(requests: Requests, cursor: Cursor) -> Iterator[tuple[int, Run]]:
    """Yield runs with their places, from the first anchor on."""
    offset = max(0, cursor.position - ANCHORS - len(cursor.pending))
    while True:
        runs = enumerate(chain.from_iterable(requests.pages(offset=offset)), start=offset)
        window = list(islice(runs, PAGE))
        # All of so few runs are anchors: if these are gone, everything there is new.
        first = 0 if not cursor.anchors or cursor.position <= ANCHORS else None
        first = next((n for n, (_, run) in enumerate(window) if run.key in cursor.anchors), first)
        if first is not None:
            yield from window[first:]
            yield from runs
            return
        if not offset:
            msg = (
                f"expected one of the {len(cursor.anchors)} runs that were read last in {requests.address}, "
                "found none; it is another container, or was emptied: begin with a new cursor"
            )
            raise LostCursorError(msg)
        offset = max(0, offset - PAGE // 2)
