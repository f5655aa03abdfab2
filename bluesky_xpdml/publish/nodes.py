"""Requests that change a container of a Tiled server: one each, with short timeouts and few repetitions.

Tiled's own client repeats what fails for up to half a minute, reads back what it wrote, and asks before it
writes. Errors are those of httpx; `publish_errors` raises them as what they mean for a publisher.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import quote

from packaging.version import InvalidVersion, Version

from bluesky_xpdml.errors import PublishError, ServerAwayError
from bluesky_xpdml.publish.layout import TABLE

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 1.0
"""Longest time that a server may take to accept a connection [s]."""
FIRST_ANSWER_TIMEOUT = 2.0
"""Longest time for the first answer of a call [s]: a dead server has to be noticed within 3 s."""
ANSWER_TIMEOUT = 10.0
"""Longest time for an answer of a server that has answered before [s]; busy healthy ones took up to 4 s."""

REPEATS, REPEAT_PAUSE = 2, 0.1
"""How often a request is repeated that failed in the server, and the pause before [s]: behind a proxy, single
requests of a healthy server fail."""

JsonObject: TypeAlias = dict[str, Any]
CATALOG_SPECS: list[JsonObject] = [{"name": "CatalogOfBlueskyRuns", "version": "3.0"}]
STREAM_SPECS: list[JsonObject] = [
    {"name": "BlueskyEventStream", "version": "3.0"},
    {"name": "composite", "version": None},
]
MOST_NODES = 3_000
"""Nodes of a container whose metadata are read at once."""
_PAGE = 100
_ARROW = "application/vnd.apache.arrow.file"
_AWAY = {
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.TOO_MANY_REQUESTS,
}
"""Statuses that refuse everything from this user at this moment; so do those from 500."""
_DONE_BEFORE = {"POST": HTTPStatus.CONFLICT, "DELETE": HTTPStatus.NOT_FOUND}
"""What a repeated request finds if the failed one was done all the same."""


class Nodes:
    """Nodes below one container of a Tiled server; made for one call of a publisher.

    Parameters
    ----------
    container
        Client of the container; only its address and connection are used.
    """

    def __init__(self, container: Any) -> None:
        self._client: Any = container.context.http_client
        # Tiled's own addresses of new containers have two slashes.
        self._address = str(container.uri).rstrip("/").replace("/metadata//", "/metadata/", 1)
        self._root = str(container.context.api_uri).rstrip("/") + "/metadata"
        self._parts: Sequence[str] = container.path_parts
        self._tags_by_name = _tags_by_name(container.context.server_info.library_version)
        self._patience = FIRST_ANSWER_TIMEOUT

    def create_container(
        self,
        path: Sequence[str],
        metadata: JsonObject,
        specs: Sequence[JsonObject],
        tags: Sequence[str] | None = None,
    ) -> None:
        """Make a container; status 409 if it exists, 404 if its parent does not."""
        # Others may make the same run at this moment; what is in it is made by its writer alone.
        own = len(path) > 1
        self._create(self._url(path[:-1]), path[-1], "container", metadata, specs, tags=tags, own=own)

    def create_table(self, path: Sequence[str], schema: Any, tags: Sequence[str] | None) -> None:
        """Make the table of a stream, which can be read once rows are written; `schema` is one of pyarrow.

        It is one file. Tables in a database take single rows, but where that is DuckDB, the usual one, two
        requests at a time crash a Tiled server (seen with 0.2.9 and 0.2.20).
        """
        from dataclasses import asdict

        from tiled.structures.table import TableStructure

        source = {
            "structure_family": "table",
            "structure": asdict(TableStructure.from_schema(schema, npartitions=1)),
            "mimetype": "application/x-parquet",
            "parameters": {},
            "assets": [],
            "management": "writable",
        }
        self._create(self._url(path), TABLE, "table", {}, [], tags=tags, sources=[source])

    def write_rows(self, path: Sequence[str], table: Any) -> None:
        """Write all rows of the table of a stream."""
        self._send("PUT", self._rows_url(path), content=_arrow(table), kind=_ARROW)

    def rows(self, path: Sequence[str]) -> Any:
        """Return the rows of the table of a stream as a `pyarrow.Table`; status 404 if there is none."""
        import pyarrow as pa

        response = self._send("GET", self._rows_url(path), accept=_ARROW)
        return pa.ipc.open_file(response.content).read_all()

    def patch_metadata(self, path: Sequence[str], operations: Sequence[JsonObject]) -> None:
        """Change metadata by a JSON patch, without keeping what was there before."""
        body = {"content-type": "application/json-patch+json", "metadata": operations, "specs": None}
        self._send("PATCH", f"{self._url(path)}?drop_revision=true", content=_json(body))

    def remove(self, path: Sequence[str]) -> None:
        """Remove a node with everything below it."""
        self._send("DELETE", f"{self._url(path)}?recursive=true&external_only=false")

    def metadata(self, path: Sequence[str]) -> tuple[dict[str, Any], int] | None:
        """Return the metadata of a container and how many nodes it holds; None if there is none."""
        answer = self._get(self._url(path))
        if answer is None:
            return None
        attributes = answer["attributes"]
        return attributes["metadata"], int((attributes.get("structure") or {}).get("count") or 0)

    def sizes(self, path: Sequence[str]) -> dict[str, int]:
        """Return how many nodes each container below one holds; empty if there is no such container."""
        found = self._get(self._url(path).replace("/metadata/", "/search/", 1)) or []
        return {each["id"]: int(each["attributes"]["structure"].get("count") or 0) for each in found}

    def metadata_of_all(self, path: Sequence[str]) -> dict[str, JsonObject]:
        """Return the metadata of the nodes in a container by their names; empty if there is no container."""
        url = self._url(path).replace("/metadata/", "/search/", 1)
        found: dict[str, JsonObject] = {}
        for offset in range(0, MOST_NODES, _PAGE):
            # Not by the links: Tiled 0.2.9 gives none behind its first hundred.
            page = self._get(f"{url}?fields=metadata&page[limit]={_PAGE}&page[offset]={offset}") or []
            found |= {each["id"]: each["attributes"]["metadata"] or {} for each in page}
            if len(page) < _PAGE:
                break
        return found

    def create_catalog(self) -> None:
        """Make the container itself and those above it, where they are missing."""
        import httpx

        url = self._root
        for depth, part in enumerate(self._parts, start=1):
            specs = CATALOG_SPECS if depth == len(self._parts) else []
            try:
                self._create(url, part, "container", {}, specs)
            except httpx.HTTPStatusError as error:
                if status_of(error) != HTTPStatus.CONFLICT:
                    raise
            url = f"{url}/{quote(part, safe='')}"

    def _create(
        self,
        url: str,
        key: str,
        family: str,
        metadata: JsonObject,
        specs: Sequence[JsonObject],
        *,
        tags: Sequence[str] | None = None,
        sources: Sequence[JsonObject] = (),
        own: bool = True,
    ) -> None:
        body: dict[str, Any] = {
            "id": key,
            "structure_family": family,
            "metadata": metadata,
            "specs": list(specs),
            "data_sources": list(sources),
        }
        if tags is not None:
            given = list(tags)
            body |= {"access_tags": given} if self._tags_by_name else {"access_blob": {"tags": given}}
        self._send("POST", url, content=_json(body), own=own)

    def _url(self, path: Sequence[str]) -> str:
        return "/".join([self._address, *(quote(part, safe="") for part in path)])

    def _rows_url(self, path: Sequence[str]) -> str:
        return self._url([*path, TABLE]).replace("/metadata/", "/table/partition/", 1) + "?partition=0"

    def _get(self, url: str) -> Any:
        import httpx

        try:
            return self._send("GET", url).json()["data"]
        except httpx.HTTPStatusError as error:
            if status_of(error) == HTTPStatus.NOT_FOUND:
                return None
            raise

    def _send(
        self,
        method: str,
        url: str,
        *,
        content: bytes = b"",
        kind: str = "application/json",
        accept: str = "application/json",
        own: bool = True,
    ) -> Any:
        """Return an answer, asked again if the server fails; `own` if nobody else sends the same request."""
        headers = {"Accept": accept, "Content-Type": kind}
        response = self._send_once(method, url, content, headers)
        is_repeated, repeats = False, REPEATS
        while response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR and repeats > 0:
            time.sleep(REPEAT_PAUSE)
            response = self._send_once(method, url, content, headers)
            is_repeated, repeats = True, repeats - 1
        if not (is_repeated and own and response.status_code == _DONE_BEFORE.get(method)):
            response.raise_for_status()
        return response

    def _send_once(self, method: str, url: str, content: bytes, headers: Mapping[str, str]) -> Any:
        import httpx

        timeout = httpx.Timeout(self._patience, connect=CONNECT_TIMEOUT)
        request = self._client.build_request(
            method, url, content=content or None, headers=headers, timeout=timeout
        )
        self._patience = FIRST_ANSWER_TIMEOUT
        response = self._client.send(request)
        self._patience = ANSWER_TIMEOUT
        return response


def status_of(error: Exception) -> int:
    """Return the status that a server answered with; 0 if there was no answer."""
    return int(getattr(getattr(error, "response", None), "status_code", 0))


@contextmanager
def publish_errors(what: str, address: str, *, tags: Sequence[str] | None = None) -> Iterator[None]:
    """Raise the errors of a connection as `ServerAwayError`, or as `PublishError` if the run is at fault.

    With access tags, status 403 may refuse the tags of this one run.
    """
    import httpx

    try:
        yield
    except (httpx.HTTPError, OSError) as error:
        status = status_of(error)
        text = f"expected to {what} at {address}, found {_reason(error)}"
        if status == HTTPStatus.FORBIDDEN and tags:
            msg = f"{text}; check that the key may write, and may give the access tags {', '.join(tags)}"
            raise PublishError(msg) from error
        if not status or status in _AWAY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            msg = f"{text}; check that the server runs, has room and writable storage, and the key may write"
            raise ServerAwayError(msg) from error
        raise PublishError(text) from error


def _reason(error: Exception) -> str:
    """Return an error in one line; what a server says is bounded."""
    response: Any = getattr(error, "response", None)
    if response is None:
        return " ".join(f"{type(error).__name__}: {error}".split())
    return " ".join(f"status {response.status_code} {response.text[:200]!a}".split())


def _tags_by_name(version: str) -> bool:
    """Return whether a server of this version takes access tags as a list; earlier ones in a mapping."""
    try:
        return Version(version) >= Version("0.2.19")
    except InvalidVersion:
        return True


def _json(body: JsonObject) -> bytes:
    from tiled.utils import safe_json_dump

    return bytes(safe_json_dump(body))


def _arrow(table: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)
    return bytes(sink.getvalue().to_pybytes())
