"""What is asked of a Tiled server about one container, and errors that say what to do."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish.query import parameters

PAGE = 125
"""Runs that one request brings, at most: their uids have to fit into the address of the next."""
ANSWER_TIMEOUT = 30.0
"""How long a server may take to answer [s]."""

NEWEST_FIRST = {"sort": "-"}
"""By when the server took a run in. This order costs nothing; one by an entry sorts the whole container."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run as a search gives it."""

    key: str
    start: Mapping[str, Any]
    """The start document; empty where the entry is no Bluesky run."""
    complete: bool
    """Whether its stop document is there."""


class Requests:
    """Searches of one container: metadata only, without what a client object would ask beside.

    Parameters
    ----------
    container
        The client's object for the container.
    """

    def __init__(self, container: Any) -> None:
        self._client: Any = container.context.http_client
        self._search = container.item["links"]["search"]
        self._distinct = container.item["links"]["self"].replace("/metadata", "/distinct", 1)
        self.address = str(container.uri)

    def pages(
        self, queries: Sequence[Any] = (), *, offset: int = 0, newest_first: bool = False, size: int = PAGE
    ) -> Iterator[list[Run]]:
        """Yield the runs that fulfil queries, page by page, until none is left.

        Parameters
        ----------
        queries
            Queries of `tiled.queries`.
        offset
            How many runs are left out at the beginning.
        newest_first
            Whether the runs that came last come first.
        size
            Runs a page.
        """
        order = NEWEST_FIRST if newest_first else {}
        asked = {
            "page[limit]": size,
            "fields": "metadata",
            "omit_links": True,
            **order,
            **parameters(queries),
        }
        page: dict[str, Any] = {"page[offset]": offset}
        while True:
            answer = self._get(self._search, asked | page)
            yield [_run(entry) for entry in answer["data"]]
            following = (answer.get("links") or {}).get("next")
            if not following or len(answer["data"]) < size:
                return
            told = parse_qs(urlsplit(following).query)
            page = {key: value for key, value in told.items() if key in {"page[offset]", "page[cursor]"}}

    def starts(self, queries: Sequence[Any]) -> list[Mapping[str, Any]]:
        """Return the start documents of all runs that fulfil queries, in no order.

        One look at each run of the container; a search takes two, for it counts.

        Parameters
        ----------
        queries
            Queries of `tiled.queries`, which not many runs fulfil.
        """
        return [value for value in self.distinct("start", queries) if isinstance(value, dict)]

    def distinct(self, path: str, queries: Sequence[Any]) -> list[Any]:
        """Return the values of an entry among all runs that fulfil queries, each once, in no order.

        Parameters
        ----------
        path
            Of the entry, dots between its parts.
        queries
            Queries of `tiled.queries`.
        """
        answer = self._get(self._distinct, {"metadata": path, **parameters(queries)})
        return [each["value"] for each in answer["metadata"][path]]

    def count(self) -> int:
        """Return how many runs the container holds."""
        return int(self._get(self._search, {"fields": "count"})["meta"]["count"])

    def _get(self, address: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        import httpx

        address, _, said = address.partition("?")
        try:
            response = self._client.get(
                address,
                params={**parse_qs(said), **asked},
                headers={"Accept": "application/x-msgpack"},
                timeout=ANSWER_TIMEOUT,
            )
            response.raise_for_status()
            answer: dict[str, Any] = response.json()
        except (httpx.HTTPError, OSError, RuntimeError, ValueError) as error:
            msg = (
                f"expected an answer about {self.address}, found {_reason(error)}; "
                "check the address and the key, and that the server runs"
            )
            raise PublishError(msg) from error
        return answer


def _run(entry: Mapping[str, Any]) -> Run:
    metadata = entry["attributes"].get("metadata") or {}
    start = metadata.get("start")
    return Run(
        key=entry["id"], start=start if isinstance(start, dict) else {}, complete=bool(metadata.get("stop"))
    )


def _reason(error: Exception) -> str:
    """Return what went wrong in one line, without the query that was asked."""
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        return f"status {error.response.status_code}"
    return f"{type(error).__name__}: {error}"
