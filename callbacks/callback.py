"""The callback that a beamline subscribes: documents in, predictions in Tiled."""

import atexit
import logging
from functools import partial
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self

from bluesky_xpdml.analysis.memory import FetchRun
from bluesky_xpdml.analysis.runs import BeamtimeAnalysis, RunAnalysis
from bluesky_xpdml.analysis.scattering import ScatteringAnalysis, ScatteringSettings
from bluesky_xpdml.analysis.series import RunSeries, SeriesSettings, series_settings
from bluesky_xpdml.analysis.xanes import XanesAnalysis
from bluesky_xpdml.callbacks.inbox import Close, Flush, Inbox
from bluesky_xpdml.callbacks.live import LiveSettings, LiveUpdates
from bluesky_xpdml.callbacks.router import Router
from bluesky_xpdml.callbacks.worker import Statistics, Worker
from bluesky_xpdml.documents import collector_for, detect_profile, load_profile
from bluesky_xpdml.documents.stored import fetch_from
from bluesky_xpdml.errors import PublishError, SettingsError
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.pairing.pairing import Pairing
from bluesky_xpdml.pairing.publisher import PairingCounts, PairingPublisher
from bluesky_xpdml.pairing.rules import PairingSettings
from bluesky_xpdml.publish import LivePublisher, PredictionCatalog, Publisher, TiledPublisher, open_existing
from bluesky_xpdml.reduction.xanes import XanesSettings
from bluesky_xpdml.settings import Settings, resolve_settings


def live_updates(
    analysis: RunAnalysis | BeamtimeAnalysis,
    publisher: Publisher,
    scattering: ScatteringSettings,
    live: LiveSettings,
) -> LiveUpdates | None:
    """Return what is published of runs that go on; None where nothing is.

    Parameters
    ----------
    analysis
        Says something of runs that go on.
    publisher
        Where it goes.
    scattering, live
        Of which techniques, and how often.

    Raises
    ------
    PublishError
        If live results are asked for and the publisher takes whole runs only.
    """
    intervals = [scattering.live_interval] * scattering.live + [live.interval] * live.xanes
    if not intervals:
        return None
    if not isinstance(publisher, LivePublisher):
        raise PublishError(
            f"expected a publisher that takes runs that go on, found {type(publisher).__name__}: "
            "switch live results off, or give it a method extend"
        )
    return LiveUpdates(analysis.update, publisher, max(intervals))


def with_pairing(
    publisher: Publisher, settings: PairingSettings | None, *, store: BundleStore, beamtime: Settings | None
) -> Publisher:
    """Return a publisher that looks for partners too; the same one where nothing is paired.

    Parameters
    ----------
    publisher
        Where answers go.
    settings
        Which belong together; None for none.
    store
        The models that may answer.
    beamtime
        Settings of the beamtime, which joint answers tell; None where there are none.

    Raises
    ------
    PublishError
        If the publisher has no container in which partners could be found.
    """
    if settings is None:
        return publisher
    if not isinstance(publisher, TiledPublisher):
        raise PublishError(
            f"expected a TiledPublisher, in whose container partners are found, found "
            f"{type(publisher).__name__}: switch pairing off, or wrap it in a PairingPublisher"
        )
    catalog = PredictionCatalog(publisher.container)
    pairing = Pairing(catalog=catalog, store=store, settings=settings, beamtime=beamtime)
    return PairingPublisher(publisher, pairing)


logger = logging.getLogger(__name__)

DEFAULT_CAPACITY = 50_000
"""Documents that may wait: many scans, or hours with a server that is away."""

_AUTO = "auto"
_PATIENCE_AT_EXIT = 10.0


class XpdmlCallback:
    """Turns the absorption and total-scattering runs of a document stream into published predictions.

    Calling it keeps a reference to the document and returns; a thread of its own does the rest. It never
    raises into, nor waits for, the RunEngine. Every absorption run ends in one derived run, every run of
    total scattering in one for each metal that is asked, a failure with its reason too; `statistics` counts
    what has become of all of them.

    Parameters
    ----------
    publisher
        Where the predictions go; closed with the callback.
    store
        The models that may answer.
    settings
        How scans are reduced.
    profile
        Which convention the runs follow; `auto` reads it from each start document.
    capacity
        Documents that may wait; beyond it whole runs are given up and published as failed.
    scattering
        How total-scattering runs are reduced, and whether partial results are published.
    fetch
        Gives the documents of dark runs by uid, where these were not seen.
    live
        Whether absorption runs are answered while they go on; None for not.
    beamtime
        Settings of the beamtime, which predictions tell; None where there are none.
    explain
        Whether each prediction is published with its explanation: some seconds of work after each run.
    repeats
        Which absorption runs are repeats of one sample: from the second on a further run is published with
        the answer of all of them. None merges none: whether a sample that is measured twice is the same
        still is known by those who heat or charge it.
    carry
        Further entries of the start documents that predictions carry on, dotted paths.
    pairing
        Which spectra and pair distribution functions in the publisher's container, from this callback or
        another, get a joint answer; its key is carried on by itself. None pairs none.

    Raises
    ------
    MissingDataError
        If there is no such profile.
    PublishError
        If live results are asked for and the publisher takes whole runs only, or partners and it is no
        `TiledPublisher`.

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
        store: BundleStore,
        settings: XanesSettings | None = None,
        profile: str = _AUTO,
        capacity: int = DEFAULT_CAPACITY,
        scattering: ScatteringSettings | None = None,
        fetch: FetchRun | None = None,
        live: LiveSettings | None = None,
        beamtime: Settings | None = None,
        explain: bool = False,
        repeats: SeriesSettings | None = None,
        carry: tuple[str, ...] = (),
        pairing: PairingSettings | None = None,
    ) -> None:
        # A profile with a fault is better refused now than with every run.
        _ = detect_profile({}) if profile == _AUTO else load_profile(profile)
        self._inbox = Inbox(capacity)
        self._n_documents = 0
        self._closed = False
        scattering = scattering or ScatteringSettings()
        live = live or LiveSettings()
        series = None if repeats is None else RunSeries(store, repeats)
        settings = settings or XanesSettings()
        analysis = RunAnalysis(
            xanes=XanesAnalysis(store=store, settings=settings, profile=profile, series=series),
            scattering=ScatteringAnalysis(store=store, settings=scattering, fetch=fetch),
            profile=profile,
            live_xanes=live.xanes,
            live_scattering=scattering.live,
            explain_with=store if explain else None,
            carry=carry if pairing is None else pairing.carried(carry),
        )
        collect = partial(collector_for, profile=profile, root_map=scattering.root_map)
        told = analysis if beamtime is None else BeamtimeAnalysis(analysis=analysis, settings=beamtime)
        updates = live_updates(told, publisher, scattering, live)
        self._paired = with_pairing(publisher, pairing, store=store, beamtime=beamtime)
        self._worker = Worker(self._inbox, told, self._paired, router=Router(collect=collect), live=updates)
        atexit.register(self.close, timeout=_PATIENCE_AT_EXIT)

    @classmethod
    def from_uri(
        cls,
        uri: str,
        *,
        api_key: str | None = None,
        path: str = "xpdml",
        profile: str = _AUTO,
        settings: XanesSettings | None = None,
        scattering: ScatteringSettings | None = None,
        raw_path: str | None = None,
        live: LiveSettings | None = None,
        explain: bool = False,
        repeats: SeriesSettings | None = None,
        carry: tuple[str, ...] = (),
        pairing: PairingSettings | None = None,
    ) -> Self:
        """Return a callback that publishes into a Tiled server, with the models that the package brings.

        Parameters
        ----------
        uri
            Address of the server, such as `http://localhost:8000`.
        api_key
            Key with the right to write; None where the server or the address needs none.
        path
            Container of the derived runs; made where there is none.
        profile
            Which convention the runs follow; `auto` reads it from each start document.
        settings
            How scans are reduced; None for the defaults.
        scattering
            How total-scattering runs are reduced; None for the defaults.
        raw_path
            Container of the raw runs, from which dark runs are fetched that were not seen; None fetches none.
        live
            Whether absorption runs are answered while they go on; None for not.
        explain
            Whether each prediction is published with its explanation: some seconds of work after each run.
        repeats
            Which absorption runs are merged as repeats of one sample; None merges none.
        carry
            Further entries of the start documents that predictions carry on, dotted paths.
        pairing
            Which spectra and pair distribution functions get a joint answer; None pairs none.

        Raises
        ------
        PublishError
            If the server does not answer within three seconds, or refuses.
        MissingDataError
            If there is no such profile.
        """
        publisher = TiledPublisher.from_uri(uri, api_key=api_key, path=path)
        fetch = None if raw_path is None else fetch_from(open_existing(uri, api_key=api_key, path=raw_path))
        return cls(
            publisher,
            store=BundleStore.default(),
            settings=settings,
            profile=profile,
            scattering=scattering,
            fetch=fetch,
            live=live,
            explain=explain,
            repeats=repeats,
            carry=carry,
            pairing=pairing,
        )

    @classmethod
    def from_settings(
        cls,
        settings: Settings | Path | str,
        *,
        scattering: ScatteringSettings | None = None,
        live: LiveSettings | None = None,
        explain: bool = False,
        repeats: SeriesSettings | None = None,
        carry: tuple[str, ...] = (),
        pairing: PairingSettings | None = None,
    ) -> Self:
        """Return a callback with the server, the models and the calibration that a beamtime fixes.

        Parameters
        ----------
        settings
            Of the beamtime, or the path of its `xpdml.toml`.
        scattering
            How total-scattering runs are reduced; None for the defaults.
        live
            Whether absorption runs are answered while they go on; None for not.
        explain
            Whether each prediction is published with its explanation: some seconds of work after each run.
        repeats
            Which absorption runs are merged as repeats of one sample; None for what `repeats.within` says.
        carry
            Further entries of the start documents that predictions carry on, dotted paths.
        pairing
            Which spectra and pair distribution functions get a joint answer; None pairs none.

        Raises
        ------
        SettingsError
            If the file cannot be used, or no server is named.
        ModelNotFoundError
            If a pinned bundle is not there.
        PublishError
            If the server does not answer within three seconds, or refuses.
        """
        fixed = settings if isinstance(settings, Settings) else resolve_settings(Path(settings))
        if not fixed.tiled_uri:
            where = fixed.file or "the settings"
            raise SettingsError(f"expected tiled.uri in {where}, found none: name the server for predictions")
        store, key = fixed.store(), fixed.api_key()
        raw = fixed.tiled_raw_path
        runs = open_existing(fixed.tiled_uri, api_key=key, path=raw) if raw else None
        return cls(
            TiledPublisher.from_uri(fixed.tiled_uri, api_key=key, path=fixed.tiled_path),
            store=store,
            settings=fixed.xanes(),
            profile=fixed.profile,
            scattering=scattering,
            fetch=None if runs is None else fetch_from(runs),
            live=live,
            explain=explain,
            beamtime=fixed,
            repeats=repeats or series_settings(fixed),
            carry=carry,
            pairing=pairing,
        )

    def __call__(self, name: str, doc: object) -> None:
        """Keep a reference to a document for the worker; returns at once and never raises.

        Parameters
        ----------
        name
            Name of the document.
        doc
            The document.
        """
        self._n_documents += 1
        if not self._closed:
            self._inbox.offer(name, doc)

    @property
    def statistics(self) -> Statistics:
        """What has become of the runs up to now."""
        return self._worker.statistics(self._n_documents)

    @property
    def pairs(self) -> PairingCounts:
        """What has become of the pairs up to now; all zero where nothing is paired."""
        return self._paired.counts if isinstance(self._paired, PairingPublisher) else PairingCounts()

    def drain(self, timeout: float) -> bool:
        """Wait until everything that came in before has been worked off, and return whether it has.

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
        """Work off what waits, publish runs that are still open as failed, and return whether that was done.

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
        return ended

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
