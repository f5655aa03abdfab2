"""Predictions in Tiled, found by what they say; the server does the searching."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bluesky_xpdml.publish.cursor import Cursor, end_of, read_on
from bluesky_xpdml.publish.published import PublishedPrediction, latest, newest_first, published
from bluesky_xpdml.publish.query import Query, asks_of_answers, conditions, fulfils, is_result, shape
from bluesky_xpdml.publish.requests import PAGE, Requests
from bluesky_xpdml.publish.subscription import Subscription
from bluesky_xpdml.publish.tiled import open_existing

if TYPE_CHECKING:
    from tiled.client.container import Container

POLL_INTERVALS = 0.05, 0.5
"""First and longest pause between two questions for a prediction that is awaited [s]."""


class PredictionCatalog:
    """The derived runs of a Tiled container.

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
        """Return the predictions that fulfil a query, newest first; by default the latest answers only.

        Of the answers to one question (raw runs, technique, element and edge) the newest counts that did not
        fail. With `before`, it is the one that counted at that time.

        Parameters
        ----------
        query
            What is asked; an empty one asks for all.
        limit
            Predictions, at most: those that the server took in last, by the time at which they were made.
        superseded
            Also return answers that a newer one has superseded.

        Raises
        ------
        PublishError
            If the server is away or refuses.
        """
        if superseded or not asks_of_answers(query) or not self._few.get(shape(query)):
            return self._by_pages(query, limit, superseded=superseded)
        return self._by_raw_runs(query)[:limit] or self._by_pages(query, limit, superseded=False)

    def of_run(self, raw_uid: str, *, superseded: bool = False) -> list[PublishedPrediction]:
        """Return the predictions of a raw run, newest first; joint ones of which it is a part too."""
        return self.find(Query(raw_uid=raw_uid), superseded=superseded)

    def history(self, raw_uid: str) -> list[PublishedPrediction]:
        """Return every answer about a raw run, newest first, also those that were superseded."""
        return self.of_run(raw_uid, superseded=True)

    def end(self) -> Cursor:
        """Return the cursor behind the last run: `since` gives what comes after it."""
        return end_of(self._requests)

    def since(
        self, cursor: Cursor, query: Query | None = None, *, limit: int = 1000
    ) -> tuple[list[PublishedPrediction], Cursor]:
        """Return what the server took in after a cursor, oldest first, and the cursor to go on from.

        Each prediction comes once, also one that is published late, and one whose half-written run is removed
        and written anew; answers that supersede others come like all others.

        Parameters
        ----------
        cursor
            Where to begin; `Cursor()` is before the first run.
        query
            What predictions have to fulfil; None for all.
        limit
            Predictions, at most.

        Raises
        ------
        PublishError
            If the server is away or refuses, or the container no longer holds what was read before.
        """
        found: list[PublishedPrediction] = []
        for prediction, behind in self._reading(cursor, query or Query()):
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
        """Call a function with each prediction that comes, once and in order, in a thread of its own.

        The server's stream says when to look; where it has none, or it breaks, it is asked every so often.

        Parameters
        ----------
        callback
            Called with each prediction; what it raises ends the subscription, and `close` raises it again.
        query
            What predictions have to fulfil; None for all.
        cursor
            Where to begin; None for what comes from now on.
        interval
            Longest time between two looks [s].

        Raises
        ------
        PublishError
            If the server is away or refuses.
        """
        begin = self.end() if cursor is None else cursor
        asked = query or Query()
        return Subscription(
            self.container,
            lambda at: self._reading(at, asked),
            callback,
            cursor=begin,
            interval=interval,
        )

    def wait(self, query: Query, *, timeout: float) -> PublishedPrediction | None:
        """Return the newest prediction that fulfils a query once there is one; None after a time [s].

        A failed prediction is an answer too: ask for `verdicts` to wait for one that is not.
        """
        end, pause = time.monotonic() + timeout, POLL_INTERVALS[0]
        cursor = self.end()
        found = self.find(query, limit=1)
        while not found and time.monotonic() < end:
            time.sleep(min(pause, max(0.0, end - time.monotonic())))
            pause = min(1.2 * pause, POLL_INTERVALS[1])
            found, cursor = self.since(cursor, query)
        return latest(found)[0] if found else None

    def _by_pages(self, query: Query, limit: int, *, superseded: bool) -> list[PublishedPrediction]:
        """Ask for what fulfils a query, page by page, and for what supersedes it."""
        found: dict[str, PublishedPrediction] = {}
        pages = self._requests.pages(conditions(query), newest_first=True)
        for number, page in enumerate(pages if limit > 0 else ()):
            fulfilling = _fulfilling([run.start for run in page], query)
            if not number:
                self._few[shape(query)] = len(page) < PAGE
            whole = not number and len(page) < PAGE and not asks_of_answers(query)
            counting = fulfilling if superseded else self._counting(fulfilling, query, whole=whole)
            found |= {each.uid: each for each in counting}
            if len(found) >= limit:
                break
        return newest_first(found.values())[:limit]

    def _by_raw_runs(self, query: Query) -> list[PublishedPrediction]:
        """Ask which raw runs have an answer that fulfils a query, and for all their answers.

        It costs a third less than pages where few have. Empty where there are many, or predictions of files.
        """
        from tiled.queries import In

        raw_uids = self._requests.distinct("start.raw_uid", conditions(query))
        self._few[shape(query)] = len(raw_uids) < PAGE
        if not raw_uids or len(raw_uids) >= PAGE or not all(isinstance(uid, str) for uid in raw_uids):
            return []
        then = Query(before=query.before)
        starts = self._requests.starts([In("start.raw_uid", raw_uids), *conditions(then)])
        return [each for each in latest(_fulfilling(starts, then)) if fulfils(each, query)]

    def _reading(self, cursor: Cursor, query: Query) -> Iterator[tuple[PublishedPrediction | None, Cursor]]:
        """Yield what came after a cursor, each with the cursor behind it; None for runs that are left out."""
        for run, behind in read_on(self._requests, cursor):
            fulfilling = _fulfilling([run.start], query) if run else []
            yield (fulfilling[0] if fulfilling else None), behind

    def _counting(
        self, found: Sequence[PublishedPrediction], query: Query, *, whole: bool
    ) -> list[PublishedPrediction]:
        """Leave out what is superseded by an answer that is not among what was found.

        `whole` says that no answer to these questions is missing, then nobody has to be asked.
        """
        from tiled.queries import In

        firsts = sorted({each.raw_uids[0] for each in found if each.raw_uids})
        if whole or not firsts:
            return latest(found)
        then = Query(before=query.before)
        starts = self._requests.starts([In("start.raw_uid", firsts), *conditions(then)])
        counting = {each.uid for each in latest([*found, *_fulfilling(starts, then)])}
        return [each for each in found if each.uid in counting]


def _fulfilling(starts: Sequence[Mapping[str, Any]], query: Query) -> list[PublishedPrediction]:
    """Return the records of the start documents that fulfil a query."""
    records = [published(start) for start in starts if is_result(start)]
    return [each for each in records if fulfils(each, query)]
