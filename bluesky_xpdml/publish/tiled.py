"""Where derived runs go: any Bluesky callback, or a container of a Tiled server."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from bluesky_xpdml.credentials import parted
from bluesky_xpdml.errors import PublishError, ServerAwayError, redacted
from bluesky_xpdml.publish.layout import Document, NamedDocument
from bluesky_xpdml.publish.nodes import (
    CATALOG_SPECS,
    CONNECT_TIMEOUT,
    FIRST_ANSWER_TIMEOUT,
    Nodes,
    publish_errors,
    status_of,
)
from bluesky_xpdml.publish.writer import RunWriter, access_tags, extend_run

if TYPE_CHECKING:
    from tiled.client.container import Container

Result = TypeVar("Result")

HEALTH_TIMEOUT = 10.0
"""Longest time that a server may take to respond [s]; its client would retry for more than a minute.

A healthy server on a busy machine took up to 4 s.
"""


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

    A container that is gone, as when its server came back empty, is made again.

    Parameters
    ----------
    container
        Where the runs go, a catalog of Bluesky runs; `open_container` makes one.
    connect
        Opens the container when it is first used, if there is none yet; `lazily` gives one.

    Attributes
    ----------
    n_written : int
        Runs written.
    n_already_there : int
        Runs that were not written because the server had them.
    """

    def __init__(
        self, container: "Container | None", *, connect: "Callable[[], Container] | None" = None
    ) -> None:
        self._container = container
        self._connect = connect
        self.n_written = 0
        self.n_already_there = 0
        self._closed = False
        self._left: dict[str, str] = {}

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
        ServerAwayError
            If the server does not respond in time, or refuses.
        PublishError
            If the path is empty.
        """
        return cls(_open_or_close(connect(uri, api_key=api_key), path))

    @classmethod
    def lazily(cls, uri: str, *, api_key: str | None = None, path: str = "xpdml") -> "TiledPublisher":
        """Return a publisher that connects when it is first used; for parameters see `from_uri`.

        Until a connection was made, each run that is published tries again.
        """
        return cls(None, connect=lambda: _connect_and_open(uri, api_key, path))

    @property
    def container(self) -> "Container":
        """Where the runs go; connects if need be.

        Raises
        ------
        ServerAwayError
            If the server does not respond in time, or refuses.
        """
        if self._container is None:
            if self._connect is None:
                raise PublishError("expected a container or a way to connect to one, found neither")
            self._container = self._connect()
        return self._container

    def publish(self, documents: Sequence[NamedDocument]) -> None:
        """Write one run; a run that exists is left as it is, an incomplete one is written anew.

        A run that another process is writing at the same moment is left to that process as long as it makes
        progress.

        Raises
        ------
        ServerAwayError
            If the server does not respond in time, has no room, or refuses the key: try later.
        PublishError
            If the server refuses this run, or the publisher was closed.
        """
        start = documents[0][1]
        written = self._write(
            f"write run {start['uid']}",
            lambda nodes: RunWriter(nodes, documents, self._left).write(),
            tags=access_tags(start),
        )
        self.n_written += written
        self.n_already_there += not written

    def extend(self, documents: Sequence[NamedDocument]) -> None:
        """Write the next documents of a run in progress; each row can be read at once.

        Any process can go on with the run, as long as the descriptors of its streams have the uids that
        `LiveRun` gives them.

        Raises
        ------
        ServerAwayError
            If the server does not respond in time, has no room, or refuses the key: try later.
        PublishError
            If the server refuses the documents, has no such run, or the publisher was closed.
        """
        begins = documents[0][0] == "start"
        tags = access_tags(documents[0][1]) if begins else None
        self._write("write updates", lambda nodes: extend_run(nodes, documents), tags=tags, renew=begins)

    def _write(
        self,
        what: str,
        action: Callable[[Nodes], Result],
        *,
        tags: Sequence[str] | None,
        renew: bool = True,
    ) -> Result:
        """Return the result of an action; if its container is gone, it is made again once."""
        import httpx

        if self._closed:
            raise PublishError(f"expected an open publisher to {what}, found a closed one")
        container = self.container
        with publish_errors(what, str(container.uri), tags=tags):
            try:
                return action(Nodes(container))
            except httpx.HTTPStatusError as error:
                if status_of(error) != HTTPStatus.NOT_FOUND or not renew:
                    raise
            nodes = Nodes(container)
            nodes.create_catalog()
            return action(nodes)

    def close(self) -> None:
        """Close the connection."""
        self._closed = True
        if self._container is not None:
            self._container.context.http_client.close()


def require_health(container: Any) -> None:
    """Raise at once if the server is away, before a writer retries for more than a minute."""
    client = container.context.http_client
    request = client.build_request("GET", container.uri, timeout=HEALTH_TIMEOUT)
    client.send(request).raise_for_status()


def connect(uri: str, *, api_key: str | None = None, timeout: float = HEALTH_TIMEOUT) -> "Container":
    """Return the root of a Tiled server, after a quick check that it responds.

    Parameters
    ----------
    uri
        Address of the server, such as `http://localhost:8000`.
    api_key
        Key; None if the server needs none, or the address holds it.
    timeout
        Longest time that the server may take to respond to the check [s].

    Raises
    ------
    ServerAwayError
        If the server does not respond in time.
    PublishError
        If it refuses, or is no Tiled server.
    """
    import httpx
    from tiled.client import from_uri
    from tiled.client.utils import ClientError

    # Addresses with keys end in logs.
    address = parted(uri, api_key)
    try:
        limit = httpx.Timeout(timeout, connect=CONNECT_TIMEOUT)
        answer = httpx.get(address.uri, timeout=limit, follow_redirects=True, headers=address.headers)
        if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            answer.raise_for_status()
        client: Any = from_uri(address.uri, api_key=address.api_key, headers=address.headers)
    except (
        httpx.HTTPError,
        httpx.InvalidURL,
        ClientError,
        LookupError,  # an answer without the type of its content
        OSError,
        RuntimeError,
        ValueError,
    ) as error:
        status = status_of(error)
        is_away = status >= HTTPStatus.INTERNAL_SERVER_ERROR or isinstance(error, httpx.TransportError)
        raise (ServerAwayError if is_away else PublishError)(
            f"expected a Tiled server at {redacted(uri)}, found {type(error).__name__}: "
            f"{' '.join(str(error).split())}; check the address and the key, and that the server runs"
        ) from None
    return client


def open_container(client: "Container", path: str) -> "Container":
    """Return the container under a path, made as a catalog of Bluesky runs if it does not exist.

    Raises PublishError if the path is empty, ServerAwayError if the server is away or refuses.
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
            specs = [Spec(**each) for each in CATALOG_SPECS] if depth == len(parts) else []
            node = node[part] if part in node else node.create_container(part, specs=specs)
    except (httpx.HTTPError, ClientError, OSError) as error:
        raise ServerAwayError(f"expected to open or make {path} at {client.uri}: {error}") from error
    return node


def _connect_and_open(uri: str, api_key: str | None, path: str) -> "Container":
    try:
        client = connect(uri, api_key=api_key, timeout=FIRST_ANSWER_TIMEOUT)
    except PublishError as error:
        # No run is at fault if there is no connection, for whatever reason.
        raise ServerAwayError(str(error)) from error
    return _open_or_close(client, path)


def _open_or_close(client: "Container", path: str) -> "Container":
    """Return the container under a path; close the connection if it cannot be opened."""
    try:
        return open_container(client, path)
    except PublishError:
        client.context.http_client.close()
        raise


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
