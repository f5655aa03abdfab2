"""The parts of a callback, put together by the settings of a beamtime."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

from bluesky_xpdml.analysis.memory import FetchRun
from bluesky_xpdml.analysis.request import Analysis
from bluesky_xpdml.analysis.runs import RunAnalysis
from bluesky_xpdml.callbacks.catch_up import CatchUp, cursor_file
from bluesky_xpdml.callbacks.journal import Journal
from bluesky_xpdml.callbacks.live import LiveUpdates
from bluesky_xpdml.callbacks.processor import Processor
from bluesky_xpdml.callbacks.router import Router
from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.pairing.publisher import PairingPublisher, with_pairing
from bluesky_xpdml.publish import LivePublisher, OutboxPublisher, Publisher, TiledPublisher, open_existing
from bluesky_xpdml.publish.sent_reports import OnSent
from bluesky_xpdml.reduction.xanes import XanesSettings
from bluesky_xpdml.settings import (
    LimitSettings,
    LiveSettings,
    OutboxSettings,
    PairingSettings,
    ScatteringSettings,
    SeriesSettings,
    Settings,
)
from bluesky_xpdml.sources.stream import DocumentSource


class SettingsParts(TypedDict, total=False):
    """Fields of the settings that may be given one by one; None leaves a field as it is."""

    profile: str | None
    scattering: ScatteringSettings | None
    live: LiveSettings | None
    explain: bool | None
    repeats: SeriesSettings | None
    carry: tuple[str, ...] | None
    pairing: PairingSettings | None
    limits: LimitSettings | None
    outbox: OutboxSettings | Path | str | bool | None


def combined_settings(
    beamtime: Settings | None, settings: Settings | XanesSettings | None, parts: SettingsParts
) -> Settings:
    """Return one record of settings: whole ones, with the parts that a caller replaces."""
    fixed = settings if isinstance(settings, Settings) else beamtime or Settings()
    if isinstance(settings, XanesSettings):
        fixed = replace(fixed, xanes=settings)
    given: dict[str, Any] = {name: value for name, value in parts.items() if value is not None}
    outbox = given.get("outbox")
    if isinstance(outbox, bool):
        given["outbox"] = replace(fixed.outbox, enabled=outbox)
    elif isinstance(outbox, Path | str):
        given["outbox"] = replace(fixed.outbox, folder=Path(outbox))
    return replace(fixed, **given)


def with_joint_answers(publisher: Publisher, settings: Settings, store: BundleStore | None) -> Publisher:
    """Return a publisher that also publishes joint answers, if asked for; that of an outbox is behind it."""
    if settings.pairing is None or isinstance(publisher, OutboxPublisher):
        return publisher
    return with_pairing(publisher, Analysis(settings, store=store))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What waits on the disk of a callback."""

    runs: int
    """Runs that have stopped and are not answered."""
    predictions: int
    """Derived runs that the server does not have."""
    folder: Path | None
    """Where the documents are; None without a journal."""


class OrderedReports:
    """Reports a joint answer after that to the single measurement which it came with."""

    def __init__(self, on_sent: OnSent | None) -> None:
        self._on_sent = on_sent
        self._joint: list[Mapping[str, Any]] = []

    def note_joint(self, start: Mapping[str, Any], _error: str) -> None:
        """Keep a joint answer until the next report."""
        self._joint.append(start)

    def report(self, start: Mapping[str, Any], error: str) -> None:
        """Report an answer, then the joint ones that it made possible."""
        joint, self._joint = self._joint, []
        for each, reason in ((start, error), *((one, "") for one in joint)):
            if self._on_sent is not None:
                self._on_sent(each, reason)


def behind_outbox(
    publisher: TiledPublisher, *, settings: Settings, store: BundleStore, on_joint: OnSent
) -> LivePublisher:
    """Return what an outbox sends to: the publisher into a container, which may pair."""
    if settings.pairing is None:
        return publisher
    return PairingPublisher.of(publisher, Analysis(settings, store=store), on_joint=on_joint)


def is_live(settings: Settings, publisher: Publisher) -> bool:
    """Return whether partial results are published."""
    if not (settings.live.xanes or settings.scattering.live):
        return False
    if not isinstance(publisher, LivePublisher):
        raise PublishError(
            f"expected a publisher that takes running runs, found {type(publisher).__name__}: "
            "switch live results off, or give it a method extend"
        )
    return True


def thread_processor(
    settings: Settings, store: BundleStore | None, fetch: FetchRun | None, live: Publisher | None
) -> Processor:
    """Return what analyses runs in the thread of the worker."""
    analysis = RunAnalysis(settings, store=store, fetch=fetch)
    # A thread that imports while the interpreter ends brings the process down: imports are done by now.
    analysis.prepare()
    updates = LiveUpdates(analysis, live) if isinstance(live, LivePublisher) else None
    return Processor(analysis, Router.under(settings), live=updates)


def comparison(settings: Settings, key: str | None, journal: Journal, folder: Path) -> Callable[..., CatchUp]:
    """Return what compares the catalog of raw runs with the predictions, on the server of the settings."""
    opened = partial(open_existing, settings.tiled_uri, api_key=key)
    return partial(
        CatchUp,
        raw=partial(opened, path=settings.tiled_raw_path),
        derived=partial(opened, path=settings.tiled_path),
        journal=journal,
        file=cursor_file(folder, settings.tiled_raw_path),
    )


def fate_of(journal: Journal, source: DocumentSource | None) -> str:
    """Return what becomes of the runs that are not answered at the end."""
    if source is not None and source.repeats:
        return f"{source.address} gives them again"
    if journal.is_temporary:
        return "they are lost, as no journal was set"
    return f"they are kept in {journal.folder}; the next callback or watcher for this container goes on"
