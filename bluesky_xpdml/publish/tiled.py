"""Where derived runs go: any Bluesky callback, or a container of a Tiled server."""

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish.documents import Document, NamedDocument

if TYPE_CHECKING:
    from tiled.client.container import Container

logger = logging.getLogger(__name__)

HEALTH_TIMEOUT = 10.0
"""Longest time that a server may take to respond [s]; its client would retry for more than a minute.

A healthy server on a busy machine took up to 4 s.
"""
ATTEMPTS = 3
"""A run is written so often before it counts as not published."""
STALL_TIMEOUT = 5.0
"""A run that another process is writing counts as abandoned after so long without progress [s]."""
POLL_INTERVAL = 0.2
"""Pause between two looks at a run that another process is writing [s]."""


@runtime_checkable
class Publisher(Protocol):
    """Takes derived runs, one whole run per call."""

    def publish(self, documents: Sequence[NamedDocument]) -> None:
        """Write one run; a run that exists is left as it is.

        Raises
        ------
        PublishError
            If it could not be written.
        """

    def close(self) -> None:
        """Close connections; further runs are refused."""


@runtime_checkable
class LivePublisher(Publisher, Protocol):
    """Also takes runs in parts."""

    def extend(self, documents: Sequence[NamedDocument]) -> None:
        """Write the next documents of a run, from its start to its stop in any number of calls.

        Raises
        ------
        PublishError
            If they could not be written.
        """


class CallbackPublisher:
    """Passes derived runs to any Bluesky callback.

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
        """Do nothing: the callback is not owned by the publisher."""


class TiledPublisher:
    """Writes derived runs into one container of a Tiled server, each run at once and only once.

    Parameters
    ----------
    container
        Where the runs go, a catalog of Bluesky runs; `open_container` makes one.

    Attributes
    ----------
    n_written : int
        Runs written.
    n_already_there : int
        Runs that were not written because the server had them.
    """

    def __init__(self, container: "Container") -> None:
        self.container = container
        self.n_written = 0
        self.n_already_there = 0
        self._closed = False
        self._live: dict[str, Any] = {}

    @classmethod
    def from_uri(cls, uri: str, *, api_key: str | None = None, path: str = "xpdml") -> "TiledPublisher":
        """Connect to a server and make the container if it does not exist.

        Parameters
        ----------
        uri
            Address of the server, such as `http://localhost:8000`.
        api_key
            Key with the right to write; None if the server needs none, or the address holds it.
        path
            Container of the derived runs, `/` between its parts.

        Raises
        ------
        PublishError
            If the server does not respond in time, or refuses.
        """
        return cls(open_container(connect(uri, api_key=api_key), path))

    def publish(self, documents: Sequence[NamedDocument]) -> None:
        """Write one run; a run that exists is left as it is, an incomplete one is written anew.

        A run that another process is writing at the same moment is left to that process as long as it makes
        progress.

        Raises
        ------
        PublishError
            If the server is away or refuses, or the publisher was closed.
        """
        import httpx
        from tiled.client.utils import ClientError

        uid = documents[0][1]["uid"]
        attempt = _Attempt(self.container, documents)
        for remaining in reversed(range(ATTEMPTS)):
            if self._closed:
                raise PublishError(f"expected an open publisher for run {uid}, found a closed one")
            try:
                written = attempt.write()
            except (httpx.HTTPError, ClientError, OSError) as error:
                attempt.failed_with(error)
                if not remaining:
                    reason = " ".join(str(error).split())
                    msg = f"expected to write run {uid} to {self.container.uri}: {reason}"
                    raise PublishError(msg) from error
                logger.warning("run %s is tried again: %s", uid, error)
                # Two that disturb each other must not try again at the same moment.
                time.sleep(random.uniform(0.0, 5.0 * POLL_INTERVAL))  # noqa: S311 - not secret
                continue
            self.n_written += written
            self.n_already_there += not written
            return

    def extend(self, documents: Sequence[NamedDocument]) -> None:
        """Write the next documents of a run in progress; each row can be read at once.

        Raises
        ------
        PublishError
            If the server is away or refuses, or the publisher was closed.
        """
        import httpx
        from tiled.client.utils import ClientError

        try:
            if self._closed:
                raise PublishError("expected an open publisher for live updates, found a closed one")
            require_health(self.container)
            for name, document in documents:
                self._extend(name, document)
        except (httpx.HTTPError, ClientError, OSError, ValueError) as error:
            if documents[0][0] == "start":
                self._forget(documents[0][1]["uid"])
            raise PublishError(f"expected to write updates to {self.container.uri}: {error}") from error

    def _extend(self, name: str, document: dict[str, Any]) -> None:
        from bluesky_tiled_plugins import TiledWriter

        if name == "start":
            writer = TiledWriter(self.container, max_array_size=0, batch_size=1)
            writer(name, document)
            self._live[document["uid"]] = writer
            return
        uid = self._live_run(document)
        if name == "descriptor":
            self._live[document["uid"]] = uid
        self._live[uid](name, document)
        if name == "stop":
            self._forget(uid)

    def _forget(self, uid: str) -> None:
        self._live = {key: each for key, each in self._live.items() if uid not in (key, each)}

    def _live_run(self, document: dict[str, Any]) -> str:
        uid = document.get("run_start") or self._live.get(document.get("descriptor", ""))
        if not isinstance(uid, str) or uid not in self._live:
            raise PublishError("expected updates of a run whose start was written, found none")
        return uid

    def close(self) -> None:
        """Close the connection."""
        self._closed = True
        self.container.context.http_client.close()


class _Attempt:
    """Attempts to write one run, which other processes may be writing too."""

    def __init__(self, container: "Container", documents: Sequence[NamedDocument]) -> None:
        self._container = container
        self._documents = documents
        self._uid = documents[0][1]["uid"]
        self._address = f"{container.uri}/{self._uid}"
        self._has_conflict = False
        self._is_own = False

    def write(self) -> bool:
        """Write the run unless the server has it, and return whether it was written."""
        from bluesky_tiled_plugins import TiledWriter

        if self._is_published():
            return False
        self._is_own = False
        # A writer for each run: after an error a writer keeps its state. The arrays are short, and short
        # arrays in a table (max_array_size > 0) are read back as text.
        writer = TiledWriter(self._container, max_array_size=0)
        writer(*self._documents[0])
        self._is_own = True
        for name, document in self._documents[1:]:
            writer(name, document)
        return True

    def failed_with(self, error: Exception) -> None:
        """Note whether an error comes from another process that writes, or removed, the same run."""
        status = getattr(getattr(error, "response", None), "status_code", None)
        self._has_conflict = status in {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}
        self._is_own = self._is_own and not self._has_conflict

    def _is_published(self) -> bool:
        """Return whether the server has the whole run; what is left of an incomplete one is removed."""
        metadata = self._metadata()
        if metadata is None:
            return False
        if "stop" in metadata and not self._has_conflict:
            return True
        if not self._is_own and self._is_completed():
            return True
        if self._metadata() is not None:
            logger.warning("run %s is incomplete; it is written anew", self._uid)
            self._container.delete_contents([self._uid], recursive=True, external_only=False)
        return False

    def _is_completed(self) -> bool:
        """Wait for another process as long as it makes progress, and return whether the run is whole."""
        # Two processes that wait for each other must not give up at the same moment.
        patience = STALL_TIMEOUT * random.uniform(1.0, 1.5)  # noqa: S311 - not secret
        seen: tuple[bool, Mapping[str, int]] = (False, {})
        end = time.monotonic() + patience
        while time.monotonic() < end:
            metadata = self._metadata()
            if metadata is None:
                return False
            found = "stop" in metadata, self._columns()
            if found[0] and self._has_all_columns(found[1]):
                return True
            if found != seen:
                seen, end = found, time.monotonic() + patience
            time.sleep(POLL_INTERVAL)
        return False

    def _has_all_columns(self, counts: Mapping[str, int]) -> bool:
        """Return whether each stream has a node for each of its arrays."""
        expected = {
            document["name"]: sum(key["dtype"] == "array" for key in document["data_keys"].values()) or 1
            for name, document in self._documents
            if name == "descriptor"
        }
        return all(counts.get(stream, 0) >= n for stream, n in expected.items())

    def _metadata(self) -> dict[str, Any] | None:
        """Return the metadata of the run, None if there is no such run; quickly, without retries."""
        answer = self._get(self._address)
        metadata: dict[str, Any] | None = answer and answer["attributes"]["metadata"]
        return metadata

    def _columns(self) -> dict[str, int]:
        """Return the number of nodes of each stream."""
        streams = self._get(self._address.replace("/metadata", "/search", 1)) or []
        return {each["id"]: each["attributes"]["structure"]["count"] or 0 for each in streams}

    def _get(self, address: str) -> Any:
        client: Any = self._container.context.http_client
        headers = {"Accept": "application/json"}
        response = client.send(client.build_request("GET", address, headers=headers, timeout=HEALTH_TIMEOUT))
        if response.status_code == HTTPStatus.NOT_FOUND:
            return None
        response.raise_for_status()
        return response.json()["data"]


def require_health(container: Any) -> None:
    """Raise at once if the server is away, before a writer retries for more than a minute."""
    client = container.context.http_client
    request = client.build_request("GET", container.uri, timeout=HEALTH_TIMEOUT)
    client.send(request).raise_for_status()


def connect(uri: str, *, api_key: str | None = None) -> "Container":
    """Return the root of a Tiled server, after a quick check that it responds.

    Parameters
    ----------
    uri
        Address of the server, such as `http://localhost:8000`.
    api_key
        Key; None if the server needs none, or the address holds it.

    Raises
    ------
    PublishError
        If the server does not respond in time, or refuses.
    """
    import httpx
    from tiled.client import from_uri
    from tiled.client.utils import ClientError

    try:
        httpx.get(uri, timeout=HEALTH_TIMEOUT, follow_redirects=True)
        client: Any = from_uri(uri, api_key=api_key)
    except (httpx.HTTPError, httpx.InvalidURL, ClientError, OSError, RuntimeError, ValueError) as error:
        raise PublishError(
            f"expected a Tiled server at {uri}, found {type(error).__name__}: {error}; "
            "check the address and the key, and that the server runs"
        ) from error
    return client


def open_container(client: "Container", path: str) -> "Container":
    """Return the container under a path, made as a catalog of Bluesky runs if it does not exist.

    Raises PublishError if the path is empty or the server refuses.
    """
    import httpx
    from tiled.client.utils import ClientError
    from tiled.structures.core import Spec

    parts = [part for part in path.split("/") if part]
    if not parts:
        raise PublishError("expected the path of a container for the derived runs, found none; try 'xpdml'")
    node: Any = client
    try:
        for depth, part in enumerate(parts, start=1):
            specs = [Spec("CatalogOfBlueskyRuns", version="3.0")] if depth == len(parts) else []
            node = node[part] if part in node else node.create_container(part, specs=specs)
    except (httpx.HTTPError, ClientError, OSError) as error:
        raise PublishError(f"expected to open or make {path} at {client.uri}: {error}") from error
    return node


def open_existing(uri: str, *, api_key: str | None = None, path: str = "") -> "Container":
    """Return an existing container of a Tiled server.

    Parameters
    ----------
    uri
        Address of the server, such as `http://localhost:8000`.
    api_key
        Key; None if the server needs none, or the address holds it.
    path
        Of the container, `/` between its parts; the root if empty.

    Raises
    ------
    PublishError
        If the server does not respond, refuses, or has no such container.
    """
    root: Any = connect(uri, api_key=api_key)
    parts = [part for part in path.split("/") if part]
    try:
        return root["/".join(parts)] if parts else root
    except KeyError as error:
        root.context.http_client.close()
        raise PublishError(f"expected a container {path!r} at {uri}, found none; check the path") from error
