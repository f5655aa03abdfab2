"""Predictions in Tiled, searched on the server."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from bluesky_xpdml.publish.cursor import Cursor, end_of, read_on
from bluesky_xpdml.publish.published import PublishedPrediction, current, newest_first, readable
from bluesky_xpdml.publish.query import Query, conditions, distinguishes_answers, fulfils, is_result, shape
from bluesky_xpdml.publish.requests import PAGE, Requests
from bluesky_xpdml.publish.subscription import Subscription
from bluesky_xpdml.publish.tiled import open_existing

if TYPE_CHECKING:
    from tiled.client.container import Container

POLL_INTERVALS = 0.05, 0.5
"""First and longest pause between two requests while waiting for a prediction [s]."""


class PredictionCatalog:
    """The derived runs of a Tiled container.

    Of the answers to one question (raw runs, technique, element and edge) one is current: the one of the
    highest `PublishedPrediction.rank`; the others are superseded. Runs that this version cannot read are
    skipped, and logged once.

    Parameters
    ----------
    container
        Where the derived runs are.
    """

    def __init__(self, container: "Container") -> None:
        self.container: Any = container
        self._requests = Requests(container)
        self._few: dict[tuple[str, ...], bool] = {}

    @classmethod
    def from_uri(cls, uri: str, *, api_key: str | None = None, path: str = "xpdml") -> "PredictionCatalog":
        """Connect to a server; see `open_existing` for parameters and errors."""
        return cls(open_existing(uri, api_key=api_key, path=path))

    def close(self) -> None:
        """Close the connection to the server."""
        self.container.context.http_client.close()

    def find(self, query: Query, *, limit: int = 100, superseded: bool = False) -> list[PublishedPrediction]:
        """Return the predictions that fulfil a query, newest first; by default the current answers only.

        Parameters
        ----------
        query
            Conditions; with `before`, the answers are returned that were current at that time.
        limit
            Most predictions to return: those that arrived last at the server.
        superseded
            Also return superseded answers.

        Raises
        ------
        PublishError
            If the server is away or refuses.
        """
        found: list[PublishedPrediction] | None = None
        if self._few.get(shape(query)):
            is_whole = superseded or not distinguishes_answers(query)
            found = self._at_once(query, superseded=superseded) if is_whole else self._by_raw_runs(query)
        return self._by_pages(query, limit, superseded=superseded) if found is None else found[:limit]

    def of_run(self, raw_uid: str, *, superseded: bool = False) -> list[PublishedPrediction]:
        """Return the predictions of a raw run, newest first; joint ones of which it is a part too."""
        return self.find(Query(raw_uid=raw_uid), superseded=superseded)

    def history(self, raw_uid: str) -> list[PublishedPrediction]:
        """Return every answer about a raw run, newest first, also superseded ones."""
        return self.of_run(raw_uid, superseded=True)

    def end(self) -> Cursor:
        """Return the cursor behind the last run: `since` gives what comes after it."""
        return end_of(self._requests)

    def since(
        self, cursor: Cursor, query: Query | None = None, *, limit: int = 1000, superseded: bool = False
    ) -> tuple[list[PublishedPrediction], Cursor]:
        """Return the predictions that arrived after a cursor, oldest first, and the cursor behind them.

        Each prediction comes once, also one that is published late, and one whose half-written run is removed
        and written anew. By default, an answer that is superseded when it is read is left out: the last one
        read about a question is the current one.

        Parameters
        ----------
        cursor
            Where to begin; `Cursor()` is before the first run.
        query
            Conditions; None for all.
        limit
            Most predictions to return.
        superseded
            Also return superseded answers.

        Raises
        ------
        PublishError
            If the server is away or refuses, or the container no longer holds what was read before.
        """
        found: list[PublishedPrediction] = []
        for prediction, behind in self._reading(cursor, query or Query(), superseded=superseded):
            found += [prediction] if prediction else []
            cursor = behind
            if len(found) >= limit:
                break
        return found, cursor

    def subscribe(
        self,
        callback: Callable[[PublishedPrediction], object],
        *,
        query: Query | None = None,
        cursor: Cursor | None = None,
        interval: float = 1.0,
    ) -> Subscription:
        """Call a function with each prediction that arrives, once and in order, in a thread of its own.

        The server's stream notifies of new runs; without one, the server is asked at intervals. As with
        `since`, answers that are superseded on arrival are left out.

        Parameters
        ----------
        callback
            Called with each prediction; what it raises ends the subscription, and `close` raises it again.
        query
            Conditions; None for all.
        cursor
            Where to begin; None for new predictions only.
        interval
            Longest time between two requests [s].

        Raises
        ------
        PublishError
            If the server is away or refuses.
        """
        begin = self.end() if cursor is None else cursor
        wanted = query or Query()
        return Subscription(
            self.container,
            lambda at: self._reading(at, wanted),
            callback,
            cursor=begin,
            interval=interval,
        )

    def wait(self, query: Query, *, timeout: float) -> PublishedPrediction | None:
        """Return the newest prediction that fulfils a query, once there is one; None after a time [s].

        A failed prediction is an answer too: set `verdicts` to wait for another one.
        """
        end, pause = time.monotonic() + timeout, POLL_INTERVALS[0]
        cursor = self.end()
        found = self.find(query, limit=1)
        while not found and time.monotonic() < end:
            time.sleep(min(pause, max(0.0, end - time.monotonic())))
            pause = min(1.2 * pause, POLL_INTERVALS[1])
            found, cursor = self.since(cursor, query)
        return current(found)[0] if found else None

    def _by_pages(self, query: Query, limit: int, *, superseded: bool) -> list[PublishedPrediction]:
        """Search page by page, and for the answers that supersede those found."""
        found: dict[str, PublishedPrediction] = {}
        pages = self._requests.pages(conditions(query), newest_first=True)
        for number, page in enumerate(pages if limit > 0 else ()):
            fulfilling = _fulfilling([run.start for run in page], query)
            if not number:
                self._note(query, len(page))
            whole = not number and len(page) < PAGE and not distinguishes_answers(query)
            shown = fulfilling if superseded else self._current(fulfilling, query, whole=whole)
            found |= {each.uid: each for each in shown}
            if len(found) >= limit:
                break
        return newest_first(found.values())[:limit]

    def _at_once(self, query: Query, *, superseded: bool) -> list[PublishedPrediction] | None:
        """Search for all runs that fulfil a query; None if they are many.

        It costs half as much as pages, which are counted.
        """
        starts = self._requests.starts(conditions(query))
        if not self._note(query, len(starts)):
            return None
        found = _fulfilling(starts, query)
        return newest_first(found if superseded else current(found))

    def _note(self, query: Query, number: int) -> bool:
        """Note, and return, whether few runs fulfil a query of a shape."""
        self._few[shape(query)] = number < PAGE
        return number < PAGE

    def _by_raw_runs(self, query: Query) -> list[PublishedPrediction] | None:
        """Search for the raw runs with an answer that fulfils a query, then for all their answers.

        It costs a third less than pages if few have; None if many have, or predictions of files may.
        """
        from tiled.queries import In

        raw_uids = self._requests.distinct("start.raw_uid", conditions(query))
        if not self._note(query, len(raw_uids)) or not all(isinstance(uid, str) for uid in raw_uids):
            return None
        if not raw_uids:
            return self._at_once(query, superseded=False)
        then = Query(before=query.before)
        starts = self._requests.starts([In("start.raw_uid", raw_uids), *conditions(then)])
        return [each for each in current(_fulfilling(starts, then)) if fulfils(each, query)]

    def _reading(
        self, cursor: Cursor, query: Query, *, superseded: bool = False
    ) -> Iterator[tuple[PublishedPrediction | None, Cursor]]:
        """Yield each run after a cursor with the cursor behind it; None for runs that are left out."""
        steps = read_on(self._requests, cursor)
        while batch := list(islice(steps, PAGE)):
            starts = [run.start for run, _ in batch if run is not None]
            found = _fulfilling(starts, query)
            shown = {each.uid: each for each in (found if superseded else self._current(found, query))}
            for run, behind in batch:
                # A run that was written anew within the batch is yielded once.
                uid = run.start.get("uid") if run else None
                yield (shown.pop(uid, None) if isinstance(uid, str) else None), behind

    def _current(
        self, found: Sequence[PublishedPrediction], query: Query, *, whole: bool = False
    ) -> list[PublishedPrediction]:
        """Leave out the answers that are superseded, by one on the server or among those found.

        `whole` states that all answers to these questions are among those found.
        """
        from tiled.queries import In

        raw_uids = sorted({each.raw_uids[0] for each in found if each.raw_uids})
        if whole or not raw_uids:
            return current(found)
        then = Query(before=query.before)
        wanted = [In("start.raw_uid", raw_uids), *conditions(then)]
        if distinguishes_answers(query):
            starts = self._requests.starts(wanted)
        else:
            # The other answers fulfil the query, too: most are among those found.
            starts = self._requests.starts_but(wanted, {each.uid for each in found})
        best = {each.uid for each in current([*found, *_fulfilling(starts, then)])}
        return [each for each in found if each.uid in best]


def find_predictions(container: "Container", raw_uid: str) -> list[Any]:
    """Return the derived runs of a raw run as Tiled clients, oldest first.

    A run is found as soon as its start document is written; its streams are complete once its metadata hold a
    `stop`. A run without streams is falsy, as every empty Tiled container is.

    Parameters
    ----------
    container
        Where the derived runs are, or any container above.
    raw_uid
        Start uid of the raw run.
    """
    from tiled.queries import Key

    def time_of(run: Any) -> float:
        moment = run.metadata["start"].get("time")
        return float(moment) if isinstance(moment, int | float) else 0.0

    return sorted(container.search(Key("start.raw_uid") == raw_uid).values(), key=time_of)


def _fulfilling(starts: Sequence[Mapping[str, Any]], query: Query) -> list[PublishedPrediction]:
    """Return the records of the start documents that fulfil a query."""
    return [each for each in readable(filter(is_result, starts)) if fulfils(each, query)]
