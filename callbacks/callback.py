"""The callback that a beamline subscribes: documents in, predictions in Tiled."""

import atexit
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

from bluesky_xpdml.analysis.memory import FetchRun
from bluesky_xpdml.analysis.request import Analysis
from bluesky_xpdml.analysis.runs import RunAnalysis
from bluesky_xpdml.callbacks.inbox import Close, Flush, Inbox
from bluesky_xpdml.callbacks.isolation import IsolatedProcessor
from bluesky_xpdml.callbacks.journal import Journal
from bluesky_xpdml.callbacks.live import LiveUpdates
from bluesky_xpdml.callbacks.processor import Processor
from bluesky_xpdml.callbacks.router import Router
from bluesky_xpdml.callbacks.worker import Processing, Statistics, Worker
from bluesky_xpdml.documents import StoredRuns, collector_for, detect_profile, load_profile
from bluesky_xpdml.errors import PublishError, SettingsError
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.pairing.publisher import PairingCounts, PairingPublisher, with_pairing
from bluesky_xpdml.publish import LivePublisher, Publisher, TiledPublisher, open_existing
from bluesky_xpdml.reduction.xanes import XanesSettings
from bluesky_xpdml.settings import (
    LiveSettings,
    PairingSettings,
    ScatteringSettings,
    SeriesSettings,
    Settings,
    resolve_settings,
)

logger = logging.getLogger(__name__)

DEFAULT_CAPACITY = 50_000
"""Documents that may wait: many scans, or hours without a server."""

_TIMEOUT_AT_EXIT = 10.0


class SettingsParts(TypedDict, total=False):
    """Fields of the settings that may be given one by one; None leaves a field as it is."""

    profile: str | None
    scattering: ScatteringSettings | None
    live: LiveSettings | None
    explain: bool | None
    repeats: SeriesSettings | None
    carry: tuple[str, ...] | None
    pairing: PairingSettings | None


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
        **parts: Unpack[SettingsParts],
    ) -> None:
        fixed = _combined(beamtime, settings, parts)
        # A profile with a fault is better refused now than with every run.
        _ = detect_profile({}) if fixed.profile == "auto" else load_profile(fixed.profile)
        self._inbox = Inbox(capacity)
        self._n_documents = 0
        self._closed = False
        self._fetch = fetch
        analysis = RunAnalysis(fixed, store=store, fetch=fetch)
        # A thread that imports while the interpreter ends brings the process down: imports are done by now.
        analysis.prepare()
        router = Router(
            collect=partial(collector_for, profile=fixed.profile, root_map=fixed.scattering.root_map)
        )
        live_updates = _live_updates(analysis, publisher)
        self._publisher = with_pairing(publisher, analysis.analysis)
        self._worker = Worker(self._inbox, analysis, self._publisher, router=router, live=live_updates)
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

        Parameters
        ----------
        uri
            Address of the server, such as `http://localhost:8000`.
        api_key
            Key with the right to write; None if the server or the address needs none.
        path
            Container of the derived runs; made if there is none.
        raw_path
            Container of the raw runs, from which dark and background runs are fetched that were not seen; if
            None, none are fetched.
        settings
            All that a beamtime fixes, or only how scans are reduced; the defaults if None.
        **parts
            Fields of the settings that are replaced: `profile`, `scattering`, `live`, `explain`, `repeats`,
            `carry`, `pairing`.

        Raises
        ------
        PublishError
            If the server does not answer within three seconds, or refuses.
        MissingDataError
            If there is no such profile.
        """
        fixed = _combined(None, settings, parts)
        fixed = replace(fixed, tiled_uri=uri, tiled_path=path, tiled_raw_path=raw_path or "")
        return cls._connected(fixed, api_key)

    @classmethod
    def from_settings(
        cls,
        settings: Settings | Path | str,
        **parts: Unpack[SettingsParts],
    ) -> Self:
        """Return a callback with everything that a beamtime fixes: server, models, calibration, reduction.

        Parameters
        ----------
        settings
            Of the beamtime, or the path of its `xpdml.toml`.
        **parts
            Fields of the settings that are replaced, as above.

        Raises
        ------
        SettingsError
            If the file cannot be used, or no server is named.
        ModelNotFoundError
            If a pinned bundle does not exist.
        PublishError
            If the server does not answer within three seconds, or refuses.
        """
        fixed = settings if isinstance(settings, Settings) else resolve_settings(Path(settings))
        if not fixed.tiled_uri:
            where = fixed.file or "the settings"
            raise SettingsError(f"expected tiled.uri in {where}, found none: name the server for predictions")
        return cls._connected(_combined(fixed, None, parts), fixed.api_key())

    @classmethod
    def _connected(cls, settings: Settings, key: str | None) -> Self:
        """Return a callback that publishes into the server of its settings."""
        store = settings.store()
        uri, raw = settings.tiled_uri, settings.tiled_raw_path
        publisher = TiledPublisher.from_uri(uri, api_key=key, path=settings.tiled_path)
        fetch = StoredRuns(open_existing(uri, api_key=key, path=raw)) if raw else None
        return cls(publisher, store=store, settings=settings, fetch=fetch)

    def __call__(self, name: str, doc: object) -> None:
        """Keep a reference to a document for the worker; returns at once and never raises."""
        self._n_documents += 1
        if not self._closed:
            self._inbox.offer(name, doc)

    @property
    def statistics(self) -> Statistics:
        """Counts of documents and runs so far."""
        return self._worker.statistics(self._n_documents)

    @property
    def pairs(self) -> PairingCounts:
        """Counts of joint answers so far; all zero if pairing is off."""
        paired = self._publisher
        return paired.counts if isinstance(paired, PairingPublisher) else PairingCounts()

    def drain(self, timeout: float) -> bool:
        """Wait until everything that came in before has been processed, and return whether it has.

        Parameters
        ----------
        timeout
            How long to wait [s].
        """
        if self._closed:
            return self._worker.join(timeout)
        marker = Flush(Event())
        self._inbox.mark(marker)
        return marker.reached.wait(timeout)

    def close(self, timeout: float = 60.0) -> bool:
        """Process what waits, publish runs that are still open as failed, and return whether that was done.

        Parameters
        ----------
        timeout
            How long to wait [s].
        """
        if not self._closed:
            self._closed = True
            atexit.unregister(self.close)
            self._inbox.mark(Close())
        ended = self._worker.join(timeout)
        if not ended:
            logger.warning("documents still waited to be analysed after %g s", timeout)
            return False
        close_fetch = getattr(self._fetch, "close", None)
        if close_fetch is not None:
            close_fetch()
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _combined(
    beamtime: Settings | None, settings: Settings | XanesSettings | None, parts: SettingsParts
) -> Settings:
    """Return one record of settings: whole ones, with the parts that a caller replaces."""
    fixed = settings if isinstance(settings, Settings) else beamtime or Settings()
    if isinstance(settings, XanesSettings):
        fixed = replace(fixed, xanes=settings)
    given: dict[str, Any] = {name: value for name, value in parts.items() if value is not None}
    return replace(fixed, **given)


def _live_updates(analysis: RunAnalysis, publisher: Publisher) -> LiveUpdates | None:
    """Return what publishes partial results; None if the settings ask for none."""
    if not (analysis.settings.live.xanes or analysis.settings.scattering.live):
        return None
    if not isinstance(publisher, LivePublisher):
        raise PublishError(
            f"expected a publisher that takes running runs, found {type(publisher).__name__}: "
            "switch live results off, or give it a method extend"
        )
    return LiveUpdates(analysis, publisher)
