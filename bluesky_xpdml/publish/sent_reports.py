"""Reports on runs that the server has, in the order in which they were added."""

import logging
from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Any, TypeAlias

from bluesky_xpdml.errors import attempt

logger = logging.getLogger(__name__)

OnSent: TypeAlias = Callable[[Mapping[str, Any], str], object]
"""Called with the start document of a run, and why the server refused it; empty if it has it."""

REMEMBERED = 1_000
"""Runs of which the start document is remembered; later ones are reported as they are sent."""


class SentReports:
    """Reports the runs of one process, also those that another process sent from the same outbox."""

    def __init__(self, on_sent: OnSent | None) -> None:
        self._on_sent = on_sent
        self._lock = Lock()
        self._expected: dict[str, tuple[Mapping[str, Any], str | None]] = {}

    def expect(self, start: Mapping[str, Any]) -> None:
        """Note a run that was added."""
        with self._lock:
            if self._on_sent is not None and len(self._expected) < REMEMBERED:
                self._expected[start["uid"]] = start, None

    def forget(self, start: Mapping[str, Any]) -> None:
        """Note that a run could not be added after all."""
        with self._lock:
            self._expected.pop(str(start.get("uid")), None)

    def settle(self, start: Mapping[str, Any], error: str) -> None:
        """Report a run that the server has, or refuses, once those before it are settled."""
        uid = str(start.get("uid"))
        with self._lock:
            is_expected = uid in self._expected
            if is_expected:
                self._expected[uid] = start, error
        if not is_expected:
            self._report(start, error)
        self._report_settled()

    def settle_sent(self, uids: Iterable[str]) -> None:
        """Report runs that have left the outbox: whoever sent them, the server has them."""
        with self._lock:
            for uid in uids:
                if uid in self._expected:
                    self._expected[uid] = self._expected[uid][0], ""
        self._report_settled()

    def _report_settled(self) -> None:
        while True:
            with self._lock:
                uid = next(iter(self._expected), None)
                start, error = ({}, None) if uid is None else self._expected[uid]
                if uid is None or error is None:
                    return
                del self._expected[uid]
            self._report(start, error)

    def _report(self, start: Mapping[str, Any], error: str) -> None:
        on_sent = self._on_sent
        failure = None if on_sent is None else attempt(lambda: on_sent(start, error))
        if isinstance(failure, Exception):
            logger.error("the report on run %r failed", str(start.get("uid"))[:80], exc_info=failure)
