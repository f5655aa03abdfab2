"""Searches of one container of a Tiled server, and errors that state what to do."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from packaging.version import InvalidVersion, Version

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish.query import parameters

PAGE = 125
"""Runs that one request brings, at most: their uids have to fit into the address of the next."""
FEW = 5
"""Runs that are read one by one, at most: it takes as long as a search."""
ANSWER_TIMEOUT = 30.0
"""How long a server may take to answer [s]."""

NEWEST_FIRST = {"sort": "-"}
"""Order in which the runs arrived; it costs nothing, where an order by an entry sorts the whole container."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One entry of a container, as a search returns it."""

    key: str
    start: Mapping[str, Any]
    """The start document; empty if the entry is no Bluesky run."""
    complete: bool
    """Whether its stop document is there."""


class Requests:
    """Searches of one container for metadata, without the further requests of a client object."""

    def __init__(self, container: Any) -> None:
        self._client: Any = container.context.http_client
        self._search = container.item["links"]["search"]
        self._self = container.item["links"]["self"]
        self._distinct = self._self.replace("/metadata", "/distinct", 1)
        self._is_reliable = _is_reliable(container.context.server_info.library_version)
        self.address = str(container.uri)

    def pages(
        self, queries: Sequence[Any] = (), *, offset: int = 0, newest_first: bool = False, size: int = PAGE
    ) -> Iterator[list[Run]]:
        """Yield the runs that fulfil queries of `tiled.queries`, page by page, until none is left."""
        order = NEWEST_FIRST if newest_first else {}
        wanted = {
            "page[limit]": size,
            "fields": "metadata",
            "omit_links": True,
            **order,
            **parameters(queries),
        }
        page: dict[str, Any] = {"page[offset]": offset}
        while True:
            answer = self._get(self._search, wanted | page)
            yield [_run(entry) for entry in answer["data"]]
            if len(answer["data"]) < size:
                return
            offset += size
            following = (answer.get("links") or {}).get("next")
            if not following and self._is_reliable:
                return
            place = parse_qs(urlsplit(following or f"?page[offset]={offset}").query)
            page = {key: value for key, value in place.items() if key in {"page[offset]", "page[cursor]"}}

    def starts(self, queries: Sequence[Any]) -> list[Mapping[str, Any]]:
        """Return the start documents of all runs that fulfil queries, in no order; for few runs.

        The server reads each run of the container once; for a search, which counts, twice.
        """
        if not self._is_reliable:
            return [run.start for page in self.pages(queries) for run in page if run.start]
        return [value for value in self.distinct("start", queries) if isinstance(value, dict)]

    def starts_but(self, queries: Sequence[Any], known: Collection[str]) -> list[Mapping[str, Any]]:
        """Return the start documents of all runs that fulfil queries; those of known uids may be left out.

        Uids are smaller than start documents, and few more runs are read one by one.
        """
        if not self._is_reliable:
            return self.starts(queries)
        more = [uid for uid in self.distinct("start.uid", queries) if uid not in known]
        found = [self._start(uid) for uid in more] if len(more) <= FEW else []
        return found if len(found) == len(more) and all(found) else self.starts(queries)

    def _start(self, uid: Any) -> Mapping[str, Any]:
        """Return the start document of the run at the key that is its uid; empty if there is none."""
        address = f"{self._self}/{quote(str(uid), safe='')}"
        found = self._get(address, {"fields": "metadata", "omit_links": True}, missing={"data": None})["data"]
        return _run(found).start if found else {}

    def distinct(self, path: str, queries: Sequence[Any]) -> list[Any]:
        """Return the values of an entry, a dotted path, among all runs that fulfil queries, each once."""
        if not self._is_reliable:
            found = (_entry(run.start, path) for page in self.pages(queries) for run in page)
            return list(dict.fromkeys(value for value in found if isinstance(value, str)))
        answer = self._get(self._distinct, {"metadata": path, **parameters(queries)})
        return [each["value"] for each in answer["metadata"][path]]

    def count(self) -> int:
        """Return how many runs the container holds."""
        return int(self._get(self._search, {"fields": "count"})["meta"]["count"])

    def _get(
        self, address: str, wanted: Mapping[str, Any], *, missing: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        import httpx

        address, _, own = address.partition("?")
        try:
            response = self._client.get(
                address,
                params={**parse_qs(own), **wanted},
                headers={"Accept": "application/x-msgpack"},
                timeout=ANSWER_TIMEOUT,
            )
            if missing is not None and response.status_code == HTTPStatus.NOT_FOUND:
                return missing
            response.raise_for_status()
            answer: dict[str, Any] = response.json()
        except (httpx.HTTPError, OSError, RuntimeError, ValueError) as error:
            msg = (
                f"expected an answer about {self.address}, found {_reason(error)}; "
                "check the address and the key, and that the server runs"
            )
            raise PublishError(msg) from error
        return answer


def _is_reliable(version: str) -> bool:
    """Return whether a server of this version answers searches wholly and only from the container.

    Before 0.2.19, distinct values are those of the whole catalog. Tiled 0.2.9 counts no further than 101, and
    links to no page behind that.
    """
    try:
        return Version(version) >= Version("0.2.19")
    except InvalidVersion:
        return False


def _entry(start: Mapping[str, Any], path: str) -> object:
    """Return the value of a dotted path that begins with `start`; None if there is none."""
    value: object = start
    for name in path.split(".")[1:]:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _run(entry: Mapping[str, Any]) -> Run:
    metadata = entry["attributes"].get("metadata") or {}
    start = metadata.get("start")
    return Run(
        key=entry["id"], start=start if isinstance(start, dict) else {}, complete=bool(metadata.get("stop"))
    )


def _reason(error: Exception) -> str:
    """Return the error in one line, without the query."""
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        return f"status {error.response.status_code}"
    return f"{type(error).__name__}: {error}"
