"""Sends what waits in an outbox: in order, at once if the server answers, later if it does not."""

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Condition, Thread
from typing import Any

from bluesky_xpdml.errors import PublishError, ServerAwayError, attempt
from bluesky_xpdml.publish.documents import NamedDocument
from bluesky_xpdml.publish.outbox import LONGEST_PAUSE, Outbox
from bluesky_xpdml.publish.outbox_entry import OutboxEntry
from bluesky_xpdml.publish.sent_reports import OnSent, SentReports
from bluesky_xpdml.publish.tiled import LivePublisher

logger = logging.getLogger(__name__)

SHORTEST_PROBE, LONGEST_PROBE = 0.5, 10.0
"""Pauses between two attempts to reach a server that is away: the first, and the longest [s]."""
FIRST_PAUSE = 2.0
"""Time until a refused run is tried again; each refusal makes it `PAUSE_GROWTH` times longer [s]."""
PAUSE_GROWTH = 4.0
POLL_INTERVAL = 5.0
"""How often entries are looked for that other processes left, or hold back [s]."""
SHORT_INTERVAL = 0.1
"""The same while somebody waits for entries that another process has taken, or the file shrinks [s]."""
CLOSE_TIMEOUT = 10.0
"""How long `close` sends what waits, if not told otherwise [s]."""
MOST_SAID = 5
"""Different reasons of one absence of the server that are logged."""
MOST_BEHIND = 50
"""Entries of this process that wait for a server that answers before it is behind."""
_GRACE = 0.2


class Outcome(StrEnum):
    """What one step of a sender came to."""

    SENT = "sent"
    REFUSED = "refused"
    """The run itself is at fault; others can be sent."""
    AWAY = "away"
    """The server is at fault; nothing can be sent now."""
    IDLE = "idle"
    """Nothing is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderCounts:
    """Numbers of a sender since it began."""

    sent: int = 0
    """Runs, and parts of live runs, that the server has."""
    refused: int = 0
    """Refusals of single runs by the server."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Failed attempts by the name of their error."""


class Sender:
    """Sends the entries of an outbox one by one, in the thread that calls it.

    Parameters
    ----------
    open_publisher
        Connects to the server, at the first entry; any error counts as a server that is away.
    outbox
        What waits.
    publisher
        A connection that exists already.
    on_sent
        Called with the start document of a whole run when the server has it, and when it refuses the run for
        the first time; the text says why, and is empty for a run that was sent.
    """

    def __init__(
        self,
        open_publisher: Callable[[], LivePublisher],
        outbox: Outbox,
        *,
        publisher: LivePublisher | None = None,
        on_sent: OnSent | None = None,
    ) -> None:
        self.outbox = outbox
        self.last_sent: float | None = None
        self.last_error = ""
        self.last_entry: OutboxEntry | None = None
        self._open_publisher = open_publisher
        self.publisher = publisher
        self._on_sent = on_sent
        self._n_sent = 0
        self._n_refused = 0
        self._failures: Counter[str] = Counter()
        self._suspects: dict[int, int] = {}
        """Number of runs sent before a server seemed to be away at an entry, by its position."""
        self._n_sent_at_verdict = -1

    @property
    def counts(self) -> SenderCounts:
        """Numbers so far."""
        return SenderCounts(sent=self._n_sent, refused=self._n_refused, failures=dict(self._failures.copy()))

    def step(self) -> Outcome:
        """Send the next entry, and return what came of it."""
        entry = self.last_entry = self.outbox.claim(last=self._suspects)
        if entry is None:
            return Outcome.IDLE
        sent = attempt(lambda: self._send(entry))
        if isinstance(sent, Exception):
            return self._failed(entry, sent)
        self.outbox.remove(entry)
        self._suspects.pop(entry.seq, None)
        self._n_sent += 1
        self.last_sent = time.time()
        logger.debug("the server has %s", entry)
        if not entry.live and self._on_sent is not None:
            self._on_sent(sent, "")
        return Outcome.SENT

    def close(self) -> None:
        """Close the connection to the server."""
        publisher, self.publisher = self.publisher, None
        if publisher is not None:
            publisher.close()

    def _send(self, entry: OutboxEntry) -> Mapping[str, Any]:
        """Send an entry and return its first document."""
        documents = self.outbox.documents(entry)
        publisher = self._connected()
        if entry.live:
            publisher.extend(documents)
        else:
            publisher.publish(documents)
        return documents[0][1]

    def _connected(self) -> LivePublisher:
        if self.publisher is None:
            opened = attempt(self._open_publisher)
            if isinstance(opened, Exception):
                raise ServerAwayError(f"{opened}") from opened
            self.publisher = opened
        return self.publisher

    def _failed(self, entry: OutboxEntry, error: Exception) -> Outcome:
        self._failures[type(error).__name__] += 1
        self.last_error = str(error) or type(error).__name__
        if isinstance(error, ServerAwayError) and not self._is_at_fault(entry):
            self.outbox.release(entry)
            return Outcome.AWAY
        self._n_refused += 1
        self._suspects.pop(entry.seq, None)
        if entry.live:
            logger.info("the live run of %s is not continued: %s", entry, error)
            self.outbox.drop_live(entry)
            return Outcome.REFUSED
        pause = min(FIRST_PAUSE * PAUSE_GROWTH**entry.attempts, LONGEST_PAUSE) * _jitter()
        logger.warning(
            "%s is refused, and tried again in %.0f s; other runs go on: %r",
            entry,
            pause,
            self.last_error[:1000],
            exc_info=None if isinstance(error, PublishError) else error,
        )
        self.outbox.note_failure(entry, self.last_error, pause=pause)
        if self._on_sent is not None and not (entry.attempts or entry.live):
            start = attempt(lambda: self.outbox.documents(entry)[0][1])
            if not isinstance(start, Exception):
                self._on_sent(start, self.last_error)
        return Outcome.REFUSED

    def _is_at_fault(self, entry: OutboxEntry) -> bool:
        """Return whether it is this run that the server fails at: another was sent since it failed before.

        After that verdict another run must be sent before the next, for a server that went away meanwhile.
        """
        before = self._suspects.get(entry.seq)
        self._suspects[entry.seq] = self._n_sent
        if before is None or self._n_sent <= max(before, self._n_sent_at_verdict):
            return False
        self._n_sent_at_verdict = self._n_sent
        return True


class OutboxPublisher:
    """Keeps derived runs in an outbox, from which a thread sends them to a server as soon as it can.

    `publish` and `extend` return once the run is on the disk, whether or not there is a server. What other
    processes left is sent, too.

    Parameters
    ----------
    open_publisher
        Connects to the server; called in the thread, again and again while the server is away.
    outbox
        Where the runs wait; closed with the publisher.
    publisher
        A connection that exists already; closed with this one.
    on_sent
        Called in the thread with the start document of each run and an empty text when the server has it, or
        the reason when the server refuses it for the first time.
    shortest_probe, longest_probe
        Pauses between two attempts to reach a server that is away: the first, and the longest [s].

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from bluesky_xpdml.publish import CallbackPublisher
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     outbox = Outbox(Path(folder) / "outbox")
    ...     publisher = OutboxPublisher(lambda: CallbackPublisher(lambda name, _: print(name)), outbox)
    ...     publisher.publish([("start", {"uid": "d-1"}), ("stop", {"run_start": "d-1"})])
    ...     sent = publisher.flush(timeout=60.0)
    ...     publisher.close()
    start
    stop
    >>> sent
    True
    """

    def __init__(
        self,
        open_publisher: Callable[[], LivePublisher],
        outbox: Outbox,
        *,
        publisher: LivePublisher | None = None,
        on_sent: OnSent | None = None,
        shortest_probe: float = SHORTEST_PROBE,
        longest_probe: float = LONGEST_PROBE,
    ) -> None:
        self.outbox = outbox
        self._reports = SentReports(on_sent)
        self._sender = Sender(open_publisher, outbox, publisher=publisher, on_sent=self._reports.settle)
        self._probes = shortest_probe, longest_probe
        self._pause = shortest_probe
        self._condition = Condition()
        self._own: set[str] = set()
        self._n_flushing = 0
        self._n_replaced = outbox.n_replaced
        self._has_lost = False
        self._may_shrink = False
        self._woken = False
        self._away = False
        self._said: set[str] = set()
        """Why the server was away, as far as it was logged: that nothing listens, say, or a wrong key."""
        self._ends_at: float | None = None
        self._thread = Thread(target=self._work, name="xpdml-sender", daemon=True)
        self._thread.start()

    @property
    def publisher(self) -> LivePublisher | None:
        """What publishes into the server; None before it was first reached."""
        return self._sender.publisher

    @property
    def waiting(self) -> int:
        """Number of entries in the outbox."""
        return len(self.outbox)

    @property
    def is_behind(self) -> bool:
        """Whether the server answers, but takes less than this process adds: streams should wait."""
        return len(self._own) > MOST_BEHIND and not self._away

    @property
    def kept(self) -> int:
        """Number of entries for a later process: of those of another one that sends now, none counts."""
        return len(self._own) if self.outbox.is_shared() else self.waiting

    @property
    def counts(self) -> SenderCounts:
        """Numbers so far."""
        return self._sender.counts

    @property
    def last_sent(self) -> float | None:
        """When the server last took a run [s since 1970]; None if it never did."""
        return self._sender.last_sent

    @property
    def last_error(self) -> str:
        """Why something last could not be sent; empty if everything could."""
        return self._sender.last_error

    @property
    def server_is_away(self) -> bool:
        """Whether the last attempt found no server."""
        return self._away

    def publish(self, documents: Sequence[NamedDocument]) -> None:
        """Keep one whole run, which is sent as soon as possible.

        Raises
        ------
        PublishError
            If there is no room for it, or the publisher was closed.
        """
        self._add(documents, live=False)

    def extend(self, documents: Sequence[NamedDocument]) -> None:
        """Keep the next documents of a live run; they are dropped if it cannot be continued.

        Raises
        ------
        PublishError
            If the publisher was closed.
        """
        if documents:
            self._add(documents, live=True)

    def flush(self, timeout: float) -> bool:
        """Wait until all that this publisher was given has left the outbox, and return whether it has.

        It has not if it waited in a file that was damaged or removed.

        Parameters
        ----------
        timeout
            How long to wait [s].
        """
        with self._condition:
            self._n_flushing += 1
            self._wake()
            try:
                is_empty = self._condition.wait_for(lambda: not self._own, timeout)
            finally:
                self._n_flushing -= 1
            lost, self._has_lost = self._has_lost, False
            return is_empty and not lost

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Send what can be sent in a time; the rest stays on the disk, which the log then says.

        Parameters
        ----------
        timeout
            How long to send [s].
        """
        with self._condition:
            is_first = self._ends_at is None
            self._ends_at = time.monotonic() + timeout
            self._wake()
        self._thread.join(timeout + _GRACE)
        if not is_first:
            return
        # The outbox itself says what becomes of those in memory.
        waiting = attempt(lambda: self.kept - self.outbox.n_in_memory)
        if isinstance(waiting, Exception):
            logger.error("the outbox %s cannot be read", self.outbox.path, exc_info=waiting)
        elif waiting > 0:
            logger.warning(
                "%d derived runs wait in %s, the last error being %r; the next start or `xpdml outbox send` "
                "goes on",
                waiting,
                self.outbox.path,
                self.last_error[:1000],
            )
        # A thread that still waits for the server opens it again if it has to.
        self.outbox.close()

    def _add(self, documents: Sequence[NamedDocument], *, live: bool) -> None:
        with self._condition:
            if self._ends_at is not None:
                raise PublishError("expected an open publisher for derived runs, found a closed one")
            # Under the lock, so that a run that is sent at once counts as added before.
            if not live:
                self._reports.expect(documents[0][1])
            try:
                uid = self.outbox.add(documents, live, away=self._away)
            except PublishError:
                self._reports.forget(documents[0][1])
                raise
            if uid is not None:
                self._own.add(uid)
            self._wake()

    def _wake(self) -> None:
        self._woken = True
        self._condition.notify_all()

    def _work(self) -> None:
        while True:
            outcome = attempt(self._sender.step)
            if isinstance(outcome, Exception):
                logger.error("the outbox %s cannot be used", self.outbox.path, exc_info=outcome)
                outcome = Outcome.AWAY
            self._note(outcome)
            if self._is_over(outcome):
                break
            self._rest(outcome)
        attempt(self._sender.close)

    def _is_over(self, outcome: Outcome) -> bool:
        with self._condition:
            if self._ends_at is None:
                return False
            if outcome is Outcome.AWAY or time.monotonic() >= self._ends_at:
                return True
            return outcome is Outcome.IDLE and not self._is_held_up()

    def _is_held_up(self) -> bool:
        """Return whether own runs wait for what another process is sending, and not for their time."""
        return bool(self._own) and attempt(self.outbox.due_in) is None

    def _note(self, outcome: Outcome) -> None:
        """Note whether the server is away, and what has left the outbox."""
        # Which run it was tried with makes no difference.
        found = self.last_error.rpartition(", found ")[2]
        if outcome is Outcome.AWAY and found not in self._said and len(self._said) < MOST_SAID:
            self._said.add(found)
            logger.warning(
                "the server does not take derived runs: %r; they wait in %s and are sent later",
                self.last_error[:1000],
                self.outbox.path,
            )
        if outcome is Outcome.SENT and self._away:
            logger.warning("the server takes derived runs again")
            self._pause = self._probes[0]
            self._may_shrink = True
            self._said.clear()
        if outcome in {Outcome.AWAY, Outcome.SENT}:
            self._away = outcome is Outcome.AWAY
        left = attempt(lambda: self._left(outcome))
        with self._condition:
            self._own -= left if isinstance(left, set) else set()
            is_lost = self._has_lost
            if not self._own:
                self._condition.notify_all()
        # What this process has sent was reported by its sender; the rest was sent by other processes.
        if isinstance(left, set) and not is_lost:
            self._reports.settle_sent(left)

    def _left(self, outcome: Outcome) -> set[str]:
        """Return the own runs that have left the outbox, also those that are lost with a damaged file."""
        entry = self._sender.last_entry
        if self.outbox.n_replaced == self._n_replaced and outcome is not Outcome.IDLE:
            settled = entry is not None and not self.outbox.holds(entry.uid)
            return {entry.uid} if entry is not None and settled else set()
        with self._condition:
            left = {uid for uid in self._own if not self.outbox.holds(uid)}
            if self.outbox.n_replaced != self._n_replaced:
                self._n_replaced = self.outbox.n_replaced
                self._has_lost = bool(left)
        return left

    def _rest(self, outcome: Outcome) -> None:
        """Wait until there is something to do."""
        if outcome is Outcome.AWAY:
            pause = self._pause * _jitter()
            self._pause = min(2.0 * self._pause, self._probes[1])
            with self._condition:
                self._condition.wait_for(lambda: self._ends_at is not None, pause)
        elif outcome is Outcome.IDLE:
            is_shrinking = self._may_shrink and attempt(self.outbox.__len__) == 0
            if is_shrinking:
                is_shrinking = self._may_shrink = self.outbox.shrink()
            due = attempt(self.outbox.due_in)
            with self._condition:
                is_ending = self._n_flushing or self._ends_at is not None
                is_urgent = is_shrinking or (is_ending and self._own)
                usual = SHORT_INTERVAL if is_urgent else POLL_INTERVAL
                pause = min(due, usual) if isinstance(due, float) else usual
                self._condition.wait_for(lambda: self._woken, pause)
        self._woken = False


def _jitter() -> float:
    """Return a factor that keeps several processes from trying at the same moments."""
    return random.uniform(0.75, 1.25)  # noqa: S311 - not secret
