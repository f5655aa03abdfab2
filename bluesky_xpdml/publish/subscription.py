"""Predictions handed over as they come; the server's stream is a doorbell, and no more."""

import logging
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish.cursor import Cursor, LostCursorError
from bluesky_xpdml.publish.doorbell import Doorbell
from bluesky_xpdml.publish.published import PublishedPrediction

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
