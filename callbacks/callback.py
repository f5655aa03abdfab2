"""The callback that a beamline subscribes: documents in, predictions in Tiled."""

import atexit
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self, Unpack

from bluesky_xpdml.analysis.memory import FetchRun
from bluesky_xpdml.callbacks.catch_up import CatchUp
from bluesky_xpdml.callbacks.gaps import Gaps
from bluesky_xpdml.callbacks.inbox import Close, Flush, Inbox, Sync
from bluesky_xpdml.callbacks.isolation import IsolatedProcessor
from bluesky_xpdml.callbacks.journal import Journal
from bluesky_xpdml.callbacks.signals import keep_on_signals
from bluesky_xpdml.callbacks.status import StatusThread, current_status, new_status
from bluesky_xpdml.callbacks.wiring import (
    Kept,
    OrderedReports,
    SettingsParts,
    behind_outbox,
    combined_settings,
    comparison,
    fate_of,
    is_live,
    thread_processor,
    with_joint_answers,
)
from bluesky_xpdml.callbacks.worker import Processing, Statistics, Worker
from bluesky_xpdml.documents import StoredRuns, detect_profile, load_profile
from bluesky_xpdml.errors import SettingsError
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.pairing.publisher import PairingCounts, PairingPublisher
from bluesky_xpdml.publish import OutboxPublisher, Publisher, open_existing, outbox_publisher, state_folder
from bluesky_xpdml.publish.sent_reports import OnSent
from bluesky_xpdml.publish.status import Status
from bluesky_xpdml.reduction.xanes import XanesSettings
from bluesky_xpdml.settings import Settings, resolve_settings
from bluesky_xpdml.sources.stream import DocumentSource

logger = logging.getLogger(__name__)

DEFAULT_CAPACITY = 50_000
"""Documents that may wait: many scans, or hours without a server."""

_TIMEOUT_AT_EXIT = 10.0
_TIMEOUT_TO_SEND = 0.5


class XpdmlCallback:
    """Turns the absorption and total-scattering runs of a document stream into published predictions.

    Calling it keeps a reference to the document and returns; a thread of its own does the rest. It never
    raises into, nor waits for, the RunEngine. Every absorption run ends in one derived run, every run of
    total scattering in one for each metal that is asked, a failure with its reason too; `statistics` counts
    them.

    Parameters
    ----------
    publisher
        Where the predictions go; closed with the callback.
    store
        The models that may answer.
    settings
        All that a beamtime fixes, or only how scans are reduced.
    capacity
        Documents that may wait; beyond it whole runs are given up and published as failed.
    fetch
        Gives the documents of dark and background runs by uid, if these were not seen; closed with the
        callback if it can be.
    beamtime
        The same as `settings`.
    isolated
        Whether runs are analysed in a process of its own, within `Settings.limits`; else in a thread, which a
        file that never answers would block.
    journal
        Folder where documents are kept on disk until their run is answered, for the next process if this one
        ends; None to keep them in memory.
    outlived
        Whether the runs may go on when this process has ended: the documents of runs that are open at the end
        are then kept for the next process, which may get the rest of them.
    source
        As for `from_settings`.
    **parts
        Fields of the settings that are replaced: `profile`, `scattering`, `live`, `explain`, `repeats`,
        `carry`, `pairing`.

    Raises
    ------
    MissingDataError
        If there is no such profile.
    PublishError
        If live results are asked for and the publisher takes whole runs only, or pairing is asked for and it
        is no `TiledPublisher`.

    Examples
    --------
    >>> from bluesky_xpdml.publish import CallbackPublisher
    >>> with XpdmlCallback(CallbackPublisher(print), store=BundleStore.default()) as callback:
    ...     callback("start", {"uid": "a", "time": 0.0, "plan_name": "count"})
    ...     callback("stop", {"uid": "b", "run_start": "a", "time": 1.0, "exit_status": "success"})
    ...     drained = callback.drain(timeout=60)
    >>> callback.statistics.ignored
    1
    """

    def __init__(
        self,
        publisher: Publisher,
        *,
        store: BundleStore | None = None,
        settings: Settings | XanesSettings | None = None,
        capacity: int = DEFAULT_CAPACITY,
        fetch: FetchRun | None = None,
        beamtime: Settings | None = None,
        isolated: bool = False,
        journal: Path | None = None,
        outlived: bool = False,
        source: DocumentSource | None = None,
        **parts: Unpack[SettingsParts],
    ) -> None:
        fixed = combined_settings(beamtime, settings, parts)
        # A profile with a fault is better refused now than with every run.
        _ = detect_profile({}) if fixed.profile == "auto" else load_profile(fixed.profile)
        self.settings = fixed
        self._inbox = Inbox(capacity)
        self._n_documents = 0
        self._closed = False
        self._process = os.getpid()
        self._outlived = outlived
        self._fetch = fetch
        self._compare: Callable[..., CatchUp] | None = None
        self._catching_up: CatchUp | None = None
        self._source = source
        self._own_status = new_status(fixed, source)
        self._status_thread: StatusThread | None = None
        self._publisher = with_joint_answers(publisher, fixed, store)
        live = is_live(fixed, publisher)
        self._journal = Journal(self._inbox, journal, outlived=outlived) if isolated or journal else None
        self._processor: Processing
        if isolated and self._journal is not None:
            self._processor = IsolatedProcessor(
                fixed, self._journal, store=store, publisher=self._publisher, live=live, fetch=fetch
            )
        else:
            self._processor = thread_processor(fixed, store, fetch, self._publisher if live else None)
        queue = self._inbox if self._journal is None else self._journal
        self._worker = Worker(queue, self._processor, self._publisher, source)
        atexit.register(self.close, timeout=_TIMEOUT_AT_EXIT)

    @classmethod
    def from_uri(
        cls,
        uri: str,
        *,
        api_key: str | None = None,
        path: str = "xpdml",
        raw_path: str | None = None,
        settings: Settings | XanesSettings | None = None,
        **parts: Unpack[SettingsParts],
    ) -> Self:
        """Return a callback that publishes into a Tiled server.

        Nothing is lost if the server is away, or this process ends: documents and predictions are kept in the
        user's state folder, and the next callback or watcher for the same server and container goes on.
        SIGTERM and SIGHUP write what waits to the disk, then end the process as they would have.

        Parameters
        ----------
        uri
            Address of the server, such as `http://localhost:8000`.
        api_key
            Key with the right to write; None if the server or the address needs none.
        path
            Container of the derived runs; made if there is none.
        raw_path
            Container of the raw runs, from which dark and background runs are fetched that were not seen, and
            runs are analysed that were missed; if None, none are fetched.
        settings
            All that a beamtime fixes, or only how scans are reduced; the defaults if None.
        **parts
            Fields of the settings that are replaced: `profile`, `scattering`, `live`, `explain`, `repeats`,
            `carry`, `pairing`, `limits`, and `outbox`: also a folder, or False for none.

        Raises
        ------
        PublishError
            Without an outbox, if the server does not answer within three seconds, or refuses.
        MissingDataError
            If there is no such profile.
        """
        fixed = combined_settings(None, settings, parts)
        fixed = replace(fixed, tiled_uri=uri, tiled_path=path, tiled_raw_path=raw_path or "")
        return cls._connected(fixed, api_key)

    @classmethod
    def from_settings(
        cls,
        settings: Settings | Path | str,
        *,
        api_key: str | None = None,
        on_sent: OnSent | None = None,
        outlived: bool = False,
        durable: bool = True,
        fetch: FetchRun | None = None,
        source: DocumentSource | None = None,
        **parts: Unpack[SettingsParts],
    ) -> Self:
        """Return a callback with everything that a beamtime fixes: server, models, calibration, reduction.

        Parameters
        ----------
        settings
            Of the beamtime, or the path of its `xpdml.toml`.
        api_key
            Key of the server; if None, the one that the settings find.
        on_sent
            Called with the start document of each derived run when the server has it, or with the reason when
            the server refuses it.
        outlived
            As for the class.
        durable
            Whether documents are kept on disk until their run is answered, and analysed in a process of its
            own: not needed for runs that are stored.
        fetch
            As for the class; if None, the container of the raw runs that the settings name is used.
        source
            What feeds the callback, if that is no RunEngine of this process: it is told which runs are
            settled, and documents that it gives again are not kept on disk for the next process.
        **parts
            Fields of the settings that are replaced, as above.

        Raises
        ------
        SettingsError
            If the file cannot be used, or no server is named.
        ModelNotFoundError
            If a pinned bundle does not exist.
        PublishError
            Without an outbox, if the server does not answer within three seconds, or refuses.
        """
        fixed = settings if isinstance(settings, Settings) else resolve_settings(Path(settings))
        if not fixed.tiled_uri:
            where = fixed.file or "the settings"
            raise SettingsError(f"expected tiled.uri in {where}, found none: name the server for predictions")
        fixed = combined_settings(fixed, None, parts)
        key = api_key or fixed.api_key()
        return cls._connected(
            fixed, key, on_sent=on_sent, outlived=outlived, durable=durable, fetch=fetch, source=source
        )

    @classmethod
    def _connected(
        cls,
        settings: Settings,
        key: str | None,
        *,
        on_sent: OnSent | None = None,
        outlived: bool = False,
        durable: bool = True,
        fetch: FetchRun | None = None,
        source: DocumentSource | None = None,
    ) -> Self:
        """Return a callback that publishes into the server of its settings."""
        store, reports = settings.store(), OrderedReports(on_sent)
        uri, path, raw = settings.tiled_uri, settings.tiled_path, settings.tiled_raw_path
        publisher = outbox_publisher(
            uri,
            api_key=key,
            path=path,
            folder=settings.outbox.folder,
            limit=settings.outbox.limit,
            enabled=settings.outbox.enabled,
            wrap=partial(behind_outbox, settings=settings, store=store, on_joint=reports.note_joint),
            on_sent=reports.report,
        )
        is_kept = durable and settings.outbox.enabled and not (source is not None and source.repeats)
        folder = state_folder(uri, path, root=settings.outbox.folder) if is_kept else None
        if fetch is None and raw:
            fetch = StoredRuns.lazily(partial(open_existing, uri, api_key=key, path=raw))
        callback = cls(
            publisher,
            store=store,
            settings=settings,
            fetch=fetch,
            isolated=durable and settings.limits.isolated,
            journal=folder,
            outlived=outlived,
            source=source,
        )
        if callback._journal is not None and folder is not None and raw:
            callback._compare = comparison(settings, key, callback._journal, folder)
            callback._catching_up = callback._compare()
        if folder is not None and not outlived:
            keep_on_signals(callback)
        if durable:
            callback._status_thread = StatusThread(lambda: callback.status, settings, key, folder)
        return callback

    def __call__(self, name: str, doc: object) -> None:
        """Keep a reference to a document for the worker; returns at once and never raises."""
        self._n_documents += 1
        if not self._closed:
            self._inbox.offer(name, doc)

    def forget(self, run: str) -> None:
        """Forget a run that has not ended: its documents come once more, here or elsewhere."""
        self._inbox.forget(run)

    @property
    def is_busy(self) -> bool:
        """Whether so much waits that a stream which can wait should do so."""
        is_behind = isinstance(self._publisher, OutboxPublisher) and self._publisher.is_behind
        is_full = self._journal is not None and self._journal.is_half_full()
        return is_behind or is_full or self._inbox.is_half_full()

    @property
    def statistics(self) -> Statistics:
        """Counts of documents and runs so far."""
        return self._worker.statistics(self._n_documents, self._inbox.n_orphans)

    @property
    def server_is_away(self) -> bool:
        """Whether predictions wait because the server could not be reached when last tried."""
        return isinstance(self._publisher, OutboxPublisher) and self._publisher.server_is_away

    @property
    def status(self) -> Status:
        """What this process does now, as it is published and `xpdml status` shows it."""
        return current_status(
            self._own_status,
            self.statistics,
            worker=self._worker,
            journal=self._journal,
            processor=self._processor,
            publisher=self._publisher,
            source=self._source,
        )

    @property
    def gaps(self) -> Gaps:
        """What did not arrive so far; nothing is counted without a journal."""
        return Gaps() if self._journal is None else self._journal.gaps

    @property
    def kept(self) -> Kept:
        """What waits on the disk; after `close`, for the next process."""
        waiting = self._publisher.kept if isinstance(self._publisher, OutboxPublisher) else 0
        runs = 0 if self._journal is None else self._journal.backlog
        if self._journal is not None and self._source is not None and self._source.repeats:
            runs += self._journal.gaps.unstopped
        return Kept(
            runs=runs, predictions=waiting, folder=None if self._journal is None else self._journal.folder
        )

    @property
    def pairs(self) -> PairingCounts:
        """Counts of joint answers so far; all zero if pairing is off."""
        inner = self._publisher.publisher if isinstance(self._publisher, OutboxPublisher) else self._publisher
        return inner.counts if isinstance(inner, PairingPublisher) else PairingCounts()

    def drain(self, timeout: float) -> bool:
        """Wait until everything that came in before is published, and return whether it is.

        Parameters
        ----------
        timeout
            How long to wait [s].
        """
        end = time.monotonic() + timeout
        if self._closed:
            return self._worker.join(timeout)
        marker = Flush(Event())
        self._inbox.mark(marker)
        return marker.reached.wait(timeout) and self._is_sent(end - time.monotonic())

    def catch_up(self, *, after: float, timeout: float) -> int:
        """Analyse the raw runs of the catalog that have no answer, and return how many these are.

        Runs since the start before are caught up with by themselves, whenever a callback begins.

        Parameters
        ----------
        after
            Of this time and later [s since 1970].
        timeout
            How long to wait for the catalog [s].

        Raises
        ------
        SettingsError
            If the settings name no container of raw runs, or switch the outbox off.
        PublishError
            If the catalog was not compared in time.
        """
        if self._compare is None:
            raise SettingsError(
                "expected tiled.raw_path, the container of the raw runs, and an outbox, found none in the "
                "settings: name it to look for runs that were missed"
            )
        return self._compare(after=after).wait(timeout)

    def keep(self, timeout: float) -> bool:
        """Wait until everything that came in before is on the disk, and return whether it is.

        Without a journal it never is.

        Parameters
        ----------
        timeout
            How long to wait [s].
        """
        if os.getpid() != self._process:
            # A fork of the session, to which nothing of this belongs.
            return True
        if self._journal is None:
            return False
        if self._closed:
            return self._journal.join(timeout)
        marker = Sync(Event())
        self._inbox.mark(marker)
        return marker.reached.wait(timeout)

    def close(self, timeout: float = 60.0) -> bool:
        """Process and publish what waits, and return whether that was done.

        Runs that are still open are published as failed; their answer, if it comes, counts more. What is not
        done in time stays on the disk, if there is a journal, for the next callback or watcher for the same
        server and container.

        Parameters
        ----------
        timeout
            How long to wait [s].
        """
        if os.getpid() != self._process:
            return True
        end = time.monotonic() + timeout
        self._take_no_more()
        ended = self._worker.join(max(timeout, _TIMEOUT_TO_SEND))
        if not ended:
            self._give_up_waiting()
        if self._status_thread is not None:
            self._status_thread.close(0.0)
        if isinstance(self._publisher, OutboxPublisher):
            self._publisher.close(max(end - time.monotonic(), _TIMEOUT_TO_SEND))
        if self._status_thread is not None:
            self._status_thread.close()
        kept = self._keep_journal()
        close_fetch = getattr(self._fetch, "close", None)
        if ended and close_fetch is not None:
            close_fetch()
        return ended and not kept and self._is_sent(0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _take_no_more(self) -> None:
        """Begin to end, once."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        if self._catching_up is not None:
            self._catching_up.close()
        self._inbox.mark(Close(keep_open=self._outlived))

    def _is_sent(self, timeout: float) -> bool:
        """Wait until the server has all predictions, and return whether it has."""
        publisher = self._publisher
        return not isinstance(publisher, OutboxPublisher) or publisher.flush(max(timeout, 0.0))

    def _give_up_waiting(self) -> None:
        """Stop the worker at what it is doing."""
        self._worker.abandon()
        if isinstance(self._processor, IsolatedProcessor):
            self._processor.close()
            self._worker.join(1.0)
        if self._journal is None:
            logger.warning("documents still waited to be analysed, and are lost: no journal was set")

    def _keep_journal(self) -> int:
        """Close the journal and return how many runs it keeps for the next process."""
        if isinstance(self._processor, IsolatedProcessor):
            self._processor.close()
        kept = 0 if self._journal is None else self._journal.close()
        if kept and self._journal is not None:
            logger.warning("%d runs are not answered: %s", kept, fate_of(self._journal, self._source))
        return kept
