"""Raw runs of a catalog that were missed: analysed when a callback or watcher starts.

A file in the state folder keeps how far the catalog was compared. Every start compares the runs that came
since the start before, so that also what was lost on the way to a running watcher is found. The first start
notes where the catalog ends: older runs are analysed only if they are asked for.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from hashlib import sha256
from itertools import islice
from pathlib import Path
from threading import Event, Thread
from typing import Any

from bluesky_xpdml.callbacks.inbox import weight
from bluesky_xpdml.callbacks.journal import Journal
from bluesky_xpdml.documents import StoredRuns
from bluesky_xpdml.documents.start import is_derived
from bluesky_xpdml.errors import PublishError, ServerAwayError, XpdmlError, attempt
from bluesky_xpdml.publish.answered import answered_runs
from bluesky_xpdml.publish.cursor import Cursor, LostCursorError, end_of, read_on
from bluesky_xpdml.publish.requests import PAGE, Requests, Run

logger = logging.getLogger(__name__)

RETRY = 10.0
"""Pause before a catalog that did not answer is compared again [s]."""
GRACE = 5.0
"""A run that the catalog has whole ends within this time, or lost its stop document on the way [s]."""
LARGEST_RUN = 1 << 30
"""A larger run is not read into memory; `xpdml replay` takes it piece by piece [bytes]."""


def cursor_file(folder: Path, raw_path: str) -> Path:
    """Return the file that keeps how far a catalog was compared."""
    return folder / f"catalog-{sha256(raw_path.encode()).hexdigest()[:8]}.json"


class CatchUp:
    """Finds raw runs without an answer, in a thread of its own, and appends them to a journal.

    Parameters
    ----------
    raw, derived
        Connect to the containers of the raw runs and of the predictions.
    journal
        Takes the documents of the runs.
    file
        Keeps how far the catalog was compared.
    after
        Compare all runs of this time and later, instead of those since the start before [s since 1970].

    Attributes
    ----------
    n_found : int
        Runs that were appended.
    finished : threading.Event
        Set when the catalog was compared.
    """

    def __init__(
        self,
        *,
        raw: Callable[[], Any],
        derived: Callable[[], Any],
        journal: Journal,
        file: Path,
        after: float | None = None,
    ) -> None:
        self._raw, self._derived, self._journal, self._file = raw, derived, journal, file
        self._after = after
        self._is_asked = after is not None
        self._error: XpdmlError | None = None
        self._since = self._first_start()
        self.n_found = 0
        self.finished = Event()
        self._closed = Event()
        self._thread = Thread(target=self._run, name="xpdml-catch-up", daemon=True)
        self._thread.start()

    def wait(self, timeout: float) -> int:
        """Wait until the catalog was compared, stop, and return how many runs were appended.

        A PublishError is raised if it was not in time [s]; what only people can mend is raised at once.
        """
        is_compared = self.finished.wait(timeout)
        self.close()
        if self._error is not None:
            raise self._error
        if not is_compared:
            raise PublishError(f"expected the catalog of raw runs within {timeout:g} s, found no answer")
        return self.n_found

    def close(self) -> None:
        """Stop at the next run."""
        self._closed.set()
        self._thread.join(RETRY)

    def _run(self) -> None:
        while not self._closed.is_set():
            error = attempt(self._compare)
            if not isinstance(error, Exception):
                self.finished.set()
                return
            if isinstance(error, LostCursorError):
                logger.warning(
                    "the catalog was emptied or replaced: %.500a; its runs are compared from now on",
                    str(error),
                )
                self._file.unlink(missing_ok=True)
                self._since = None
                continue
            if self._is_asked and isinstance(error, XpdmlError) and not isinstance(error, ServerAwayError):
                self._error = error
                self.finished.set()
                return
            logger.warning("missed runs are looked for again in %g s: %.500a", RETRY, str(error))
            self._closed.wait(RETRY)

    def _compare(self) -> None:
        """Append the runs that have no answer, and keep how far the catalog was read."""
        container = self._raw()
        with closing(container.context.http_client):
            requests = Requests(container)
            cursor = Cursor() if self._after is not None else self._cursor()
            if cursor is None and self._since is not None:
                # An earlier start ended before it had noted where the catalog ends.
                cursor, self._after = Cursor(), self._since
            if cursor is None:
                self._save(end_of(requests))
                return
            steps = read_on(requests, cursor)
            is_whole = True
            while (batch := list(islice(steps, PAGE))) and not self._closed.is_set():
                self._append(container, [run for run, _ in batch if run is not None and run.complete])
                for run, behind in batch:
                    # A run that goes on is compared again next time.
                    is_whole = is_whole and (run is None or run.complete)
                    cursor = behind if is_whole else cursor
                if self._after in {None, self._since}:
                    self._save(cursor)
        if self.n_found:
            logger.warning("%d runs of the catalog had no answer and are analysed now", self.n_found)

    def _append(self, container: Any, runs: Sequence[Run]) -> None:
        """Append those runs that have no answer."""
        wanted = {run.key: run for run in runs if self._is_wanted(run)}
        missing = wanted.keys() - answered_runs(self._derived, wanted)
        for uid in missing:
            if self._closed.is_set():
                raise PublishError("expected time to look for missed runs, found the end of the session")
            if not self._journal.knows(uid):
                self._append_run(container, uid)
        # Begun before this process was started, or its stop document was lost on the way.
        going = {uid for uid in missing if self._journal.is_open(uid)}
        if going and not self._closed.wait(GRACE):
            for uid in filter(self._journal.is_open, going):
                self._append_run(container, uid)

    def _append_run(self, container: Any, uid: str) -> None:
        documents, size = [], 0
        try:
            for document in StoredRuns(container).documents(uid):
                documents.append(document)
                size += weight(document[1])
                if size > LARGEST_RUN:
                    logger.error(
                        "run %.60a is too large to be caught up with: xpdml replay --stored gives it", uid
                    )
                    return
        except XpdmlError as error:
            logger.error(  # noqa: TRY400 - foreseen
                "run %.60a has no answer and cannot be read: %.500a", uid, str(error)
            )
            return
        self._journal.add_run(documents)
        self.n_found += 1

    def _is_wanted(self, run: Run) -> bool:
        began = run.start.get("time")
        is_later = self._after is None or (isinstance(began, int | float) and began >= self._after)
        return bool(run.start) and is_later and not is_derived(run.start)

    def _first_start(self) -> float | None:
        """Return when an earlier process first started [s since 1970]; None if this is the first one."""
        noted = self._file.with_suffix(".first")
        try:
            return float(noted.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            noted.write_text(f"{time.time()}", encoding="utf-8")
            return None

    def _cursor(self) -> Cursor | None:
        """Return how far the catalog was compared; None if it never was."""
        try:
            return Cursor.from_text(self._file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            return None
        except PublishError as error:
            logger.warning("%s: %.500a; the catalog is compared from now on", self._file, str(error))
            return None

    def _save(self, cursor: Cursor) -> None:
        written = self._file.with_suffix(".new")
        written.write_text(cursor.as_text(), encoding="utf-8")
        written.replace(self._file)
