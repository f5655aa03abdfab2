"""The stream of a Tiled container, of which nothing is kept but that something has come."""

import logging
import threading
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

RETRY = 30.0
"""Pause before a stream that is not there, or broke, is tried again [s]."""
CONNECT_TIMEOUT = 3.0
"""How long a server may take to open its stream [s]."""
STREAM = "stream/single"
"""Where Tiled has the stream of a container, beside its metadata."""
BEAT = 0.2
"""How soon a closed doorbell is noticed [s]."""


class Doorbell:
    """Rings when a run comes into a container, as long as the server has a stream; it never raises.

    Parameters
    ----------
    container
        The client's object for the container.
    ring
        Called, in the doorbell's thread, when something has come.
    """

    def __init__(self, container: Any, ring: Callable[[], object]) -> None:
        self.is_connected = False
        self._container, self._ring = container, ring
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="xpdml-doorbell", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._closed.set()
        self._thread.join(CONNECT_TIMEOUT + BEAT)

    def _run(self) -> None:
        import httpx
        from websockets.exceptions import WebSocketException

        while not self._closed.is_set():
            try:
                self._listen()
            except (WebSocketException, httpx.HTTPError, OSError, RuntimeError, ValueError) as error:
                logger.debug("no stream at %s: %s", self._container.uri, error)
            self.is_connected = False
            self._closed.wait(RETRY)

    def _listen(self) -> None:
        from websockets.sync.client import connect

        address, headers = self._address(), self._headers()
        with connect(
            address,
            additional_headers=headers,
            open_timeout=CONNECT_TIMEOUT,
            close_timeout=BEAT,
            max_size=None,
        ) as stream:
            self.is_connected = True
            # What came while the stream was opened has not rung.
            self._ring()
            while not self._closed.is_set():
                try:
                    stream.recv(timeout=BEAT)
                except TimeoutError:
                    continue
                self._ring()

    def _address(self) -> str:
        """Return where the stream is: beside the metadata of the container."""
        base, _, path = str(self._container.uri).partition("/metadata")
        return f"ws{base.removeprefix('http')}/{STREAM}/{path.strip('/')}?envelope_format=msgpack"

    def _headers(self) -> dict[str, str]:
        """Return what lets the stream be opened: the key, or one that lives for a minute."""
        context = self._container.context
        if not context.server_info.authentication.providers:
            return {"Authorization": f"Apikey {context.api_key}"} if context.api_key else {}
        made = context.create_api_key(expires_in=60, note="websocket")
        return {"Authorization": f"Apikey {made['secret']}"}
