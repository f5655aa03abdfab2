"""Derived runs into a Tiled server."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish.documents import NamedDocument

if TYPE_CHECKING:
    from tiled.client.container import Container

logger = logging.getLogger(__name__)

HEALTH_TIMEOUT = 3.0
"""How long a server may take to answer that it is there [s]; its client would try for more than a minute."""


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
        """Connect to a server and make the container where there is none.

        Parameters
        ----------
        uri
            Address of the server, such as `http://localhost:8000`.
        api_key
            Key with the right to write; None where the server or the address needs none.
        path
            Container of the derived runs, `/` between its parts.

        Raises
        ------
        PublishError
            If the server does not answer within three seconds, or refuses.
        """
        return cls(open_container(connect(uri, api_key=api_key), path))

    def publish(self, documents: Sequence[NamedDocument]) -> None:
        """Write one run; a run that is there is left as it is, a half-written one is written anew.

        Raises
        ------
        PublishError
            If the server is away or refuses, or the publisher was closed.
        """
        uid = documents[0][1]["uid"]
        if self._closed:
            raise PublishError(f"expected an open publisher for run {uid}, found a closed one")
        try:
            self._publish(uid, documents)
        except PublishError as error:
            # A server that stumbled in the midst of a run is asked once more, what there is of it is removed;
            # one that is away says so at once.
            logger.warning("run %s is written a second time: %s", uid, error)
            self._publish(uid, documents)

    def _publish(self, uid: str, documents: Sequence[NamedDocument]) -> None:
        import httpx
        from tiled.client.utils import ClientError

        try:
            if self._is_complete(uid):
                self.n_already_there += 1
                return
            self._write(documents)
        except (httpx.HTTPError, ClientError, OSError) as error:
            reason = " ".join(str(error).split())
            raise PublishError(f"expected to write run {uid} to {self.container.uri}: {reason}") from error
        self.n_written += 1

    def extend(self, documents: Sequence[NamedDocument]) -> None:
        """Write the next documents of a run that goes on; rows can be read as soon as they are written.

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
            self._require_health()
            for name, document in documents:
                self._extend(name, document)
        except (httpx.HTTPError, ClientError, OSError, ValueError) as error:
            raise PublishError(f"expected to write updates to {self.container.uri}: {error}") from error

    def _require_health(self) -> None:
        """Ask quickly whether the server is there, before a writer tries for more than a minute."""
        client: Any = self.container.context.http_client
        request = client.build_request("GET", self.container.uri, timeout=HEALTH_TIMEOUT)
        client.send(request).raise_for_status()

    def _extend(self, name: str, document: dict[str, Any]) -> None:
        from bluesky_tiled_plugins import TiledWriter

        uid = document["uid"] if name == "start" else self._live_run(document)
        if name == "start":
            self._live[uid] = TiledWriter(self.container, max_array_size=0, batch_size=1)
        if name == "descriptor":
            self._live[document["uid"]] = uid
        self._live[uid](name, document)
        if name == "stop":
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

    def _is_complete(self, uid: str) -> bool:
        """Return whether the server has the whole run; what there is of a broken one is removed.

        This is also the health check: one request with a short timeout and without retries, before a writer
        tries for more than a minute.
        """
        client: Any = self.container.context.http_client
        address = f"{self.container.uri}/{uid}"
        headers = {"Accept": "application/json"}
        response = client.send(client.build_request("GET", address, headers=headers, timeout=HEALTH_TIMEOUT))
        if response.status_code == HTTPStatus.NOT_FOUND:
            return False
        response.raise_for_status()
        if "stop" in response.json()["data"]["attributes"]["metadata"]:
            return True
        logger.warning("run %s was written only in part; it is written anew", uid)
        self.container.delete_contents([uid], recursive=True, external_only=False)
        return False

    def _write(self, documents: Sequence[NamedDocument]) -> None:
        from bluesky_tiled_plugins import TiledWriter

        # A writer of its own for each run: after an error a writer keeps what it had half done. The arrays
        # are short, and short arrays kept in a table (max_array_size > 0) are read back as text.
        writer = TiledWriter(self.container, max_array_size=0)
        for name, document in documents:
            writer(name, document)


def connect(uri: str, *, api_key: str | None = None) -> "Container":
    """Return the root of a Tiled server, after asking quickly whether it is there.

    Parameters
    ----------
    uri
        Address of the server, such as `http://localhost:8000`.
    api_key
        Key; None where the server or the address needs none.

    Raises
    ------
    PublishError
        If the server does not answer within three seconds, or refuses.
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
    """Return the container under a path, made as a catalog of Bluesky runs where there is none.

    Parameters
    ----------
    client
        Where the path begins.
    path
        Container of the derived runs, `/` between its parts.

    Raises
    ------
    PublishError
        If the path is empty or the server refuses.
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
    """Return a container of a Tiled server that is there already.

    Parameters
    ----------
    uri
        Address of the server, such as `http://localhost:8000`.
    api_key
        Key; None where the server or the address needs none.
    path
        Of the container, `/` between its parts; the root if empty.

    Raises
    ------
    PublishError
        If the server does not answer, refuses, or has no such container.
    """
    root: Any = connect(uri, api_key=api_key)
    parts = [part for part in path.split("/") if part]
    try:
        return root["/".join(parts)] if parts else root
    except KeyError as error:
        root.context.http_client.close()
        raise PublishError(f"expected a container {path!r} at {uri}, found none; check the path") from error
