"""Predictions handed over as they come; the server's stream is a doorbell, and no more."""

import logging
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish.cursor import Cursor, LostCursorError
from bluesky_xpdml.publish.published import PublishedPrediction

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


logger = logging.getLogger(__name__)

Reading = Callable[[Cursor], Iterator[tuple[PublishedPrediction | None, Cursor]]]


class Subscription:
    """Calls a function with each new prediction, once and in order; a context manager.

    A server that is away is asked again until it is back: what came meanwhile is handed over then.

    Parameters
    ----------
    container
        Whose stream rings.
    reading
        Yields what came after a cursor, each with the cursor behind it; None for runs that are left out.
    callback
        Called with each prediction, in the subscription's thread.
    cursor
        Where to begin.
    interval
        Longest time between two looks [s].

    Attributes
    ----------
    cursor : Cursor
        Behind the last prediction that was handed over: a later subscription goes on from it.
    """

    def __init__(
        self,
        container: Any,
        reading: Reading,
        callback: Callable[[PublishedPrediction], object],
        *,
        cursor: Cursor,
        interval: float,
    ) -> None:
        self.cursor = cursor
        self._reading, self._callback, self._interval = reading, callback, interval
        self._closed, self._rung = threading.Event(), threading.Event()
        self._failure = _Failure()
        self._doorbell = Doorbell(container, self._rung.set)
        self._thread = threading.Thread(target=self._run, name="xpdml-subscription", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def has_stream(self) -> bool:
        """Whether the server's stream rings at present; otherwise it is asked every so often."""
        return self._doorbell.is_connected

    def close(self) -> None:
        """End the subscription, and raise again what the function raised."""
        self._closed.set()
        self._rung.set()
        self.join()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the subscription has ended, at most for a time [s], and raise again what ended it."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
            error, self._failure.error = self._failure.error, None
            if error is not None:
                raise error

    def _run(self) -> None:
        with self._failure:
            try:
                while not self._closed.is_set():
                    self._rung.clear()
                    self._hand_over()
                    if not self._closed.is_set():
                        self._rung.wait(self._interval)
            finally:
                self._doorbell.close()

    def _hand_over(self) -> None:
        """Hand over everything that has come."""
        steps = self._reading(self.cursor)
        while not self._closed.is_set():
            try:
                prediction, behind = next(steps)
            except StopIteration:
                return
            except LostCursorError:
                raise
            except PublishError as error:
                logger.warning("asked again in %g s: %s", self._interval, error)
                # Where the server is away, a stream that rings must not make this loop spin.
                self._closed.wait(self._interval)
                return
            if prediction is not None:
                self._callback(prediction)
            self.cursor = behind


class _Failure:
    """Keeps what ends a thread, so that the one who waits for it can raise it."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.error = error
        return True
