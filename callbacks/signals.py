"""What waits is written to the disk when somebody ends the session, which then ends as it would have."""

import logging
import os
import signal
import threading
import time
import weakref
from types import FrameType
from typing import Protocol

logger = logging.getLogger(__name__)

TIMEOUT = 1.0
"""Longest time that the end of the session is delayed [s]."""

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_kept: "weakref.WeakSet[Keeps]" = weakref.WeakSet()
_before: dict[int, object] = {}


class Keeps(Protocol):
    """Writes to the disk what came in."""

    def keep(self, timeout: float) -> bool:
        """Wait until everything that came in before is on the disk, and return whether it is."""


def keep_on_signals(callback: Keeps) -> None:
    """Have a callback write what waits to the disk at SIGTERM and SIGHUP.

    The handlers that were there before are called afterwards. Only the main thread may set handlers;
    elsewhere nothing is changed.
    """
    _kept.add(callback)
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _SIGNALS:
        before = signal.getsignal(number)
        # A handler that was not set from Python cannot be called, and is left alone.
        if before is not _handle and before is not None:
            _before[number] = before
            signal.signal(number, _handle)


def _handle(number: int, frame: FrameType | None) -> None:
    """Keep what waits, then do what would have been done."""
    end = time.monotonic() + TIMEOUT
    for callback in tuple(_kept):
        if not callback.keep(max(end - time.monotonic(), 0.0)):
            logger.warning("the session ends before all documents were on the disk")
    before = _before.get(number, signal.SIG_DFL)
    if callable(before):
        before(number, frame)
    elif before is signal.SIG_DFL:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
