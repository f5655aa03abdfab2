"""Predictions passed on as they arrive; the server's stream only notifies that there is something to read."""

import logging
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish.cursor import Cursor, LostCursorError
from bluesky_xpdml.publish.published import PublishedPrediction

logger = logging.getLogger(__name__)

RETRY = 30.0
"""Pause before a missing or broken stream is tried again [s]."""
CONNECT_TIMEOUT = 3.0
"""Longest time to open a stream [s]."""
STREAM = "stream/single"
"""Path of the stream of a container, instead of that of its metadata."""
CLOSE_INTERVAL = 0.2
"""How soon a listener ends after it was closed [s]."""


class StreamListener:
    """Calls a function, in a thread of its own, when a run arrives in a container; it never raises.

    It does nothing while the server has no stream.
    """

    def __init__(self, container: Any, notify: Callable[[], object]) -> None:
        self.is_connected = False
        self._container, self._notify = container, notify
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="xpdml-stream", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._closed.set()
        self._thread.join(CONNECT_TIMEOUT + CLOSE_INTERVAL)

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
            close_timeout=CLOSE_INTERVAL,
            max_size=None,
        ) as stream:
            self.is_connected = True
            # Runs that arrived while the stream was opened were not notified.
            self._notify()
            while not self._closed.is_set():
                try:
                    stream.recv(timeout=CLOSE_INTERVAL)
                except TimeoutError:
                    continue
                self._notify()

    def _address(self) -> str:
        """Return the address of the stream."""
        base, _, path = str(self._container.uri).partition("/metadata")
        return f"ws{base.removeprefix('http')}/{STREAM}/{path.strip('/')}?envelope_format=msgpack"

    def _headers(self) -> dict[str, str]:
        """Return the API key that opens the stream, or a new one that is valid for a minute."""
        context = self._container.context
        if not context.server_info.authentication.providers:
            return {"Authorization": f"Apikey {context.api_key}"} if context.api_key else {}
        created = context.create_api_key(expires_in=60, note="websocket")
        return {"Authorization": f"Apikey {created['secret']}"}


Reading = Callable[[Cursor], Iterator[tuple[PublishedPrediction | None, Cursor]]]


class Subscription:
    """Calls a function with each new prediction, once and in order; a context manager.

    While the server is away it is asked again: predictions published meanwhile are passed on later.

    Parameters
    ----------
    container
        Whose stream notifies.
    reading
        Yields the runs after a cursor, each with the cursor behind it; None for runs that are left out.
    callback
        Called with each prediction, in the thread of the subscription.
    cursor
        Where to begin.
    interval
        Longest time between two requests [s].

    Attributes
    ----------
    cursor : Cursor
        Behind the last prediction that was passed on: a later subscription can continue from it.
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
        self._closed, self._notified = threading.Event(), threading.Event()
        self._failure = _Failure()
        self._listener = StreamListener(container, self._notified.set)
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
        """Whether the server's stream is connected; otherwise the server is asked at intervals."""
        return self._listener.is_connected

    def close(self) -> None:
        """End the subscription, and raise the error of the function again."""
        self._closed.set()
        self._notified.set()
        self.join()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the subscription has ended, at most for a time [s], and raise what ended it."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
            error, self._failure.error = self._failure.error, None
            if error is not None:
                raise error

    def _run(self) -> None:
        with self._failure:
            try:
                while not self._closed.is_set():
                    self._notified.clear()
                    self._pass_on()
                    if not self._closed.is_set():
                        self._notified.wait(self._interval)
            finally:
                self._listener.close()

    def _pass_on(self) -> None:
        """Call the function with every prediction that has arrived."""
        steps = self._reading(self.cursor)
        while not self._closed.is_set():
            try:
                prediction, behind = next(steps)
            except StopIteration:
                return
            except LostCursorError:
                raise
            except PublishError as error:
                logger.warning("next request in %g s: %s", self._interval, error)
                # If the server is away, notifications must not make this loop spin.
                self._closed.wait(self._interval)
                return
            if prediction is not None:
                self._callback(prediction)
            self.cursor = behind


class _Failure:
    """Keeps the error that ends a thread, so that it can be raised in another one."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.error = error
        return True
