"""`xpdml replay`: files or stored runs through the same callback as a live measurement."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import (
    DIGITS,
    JSON,
    interval,
    note,
    print_json,
    print_table,
    progress_console,
    verdict,
)
from bluesky_xpdml.cli.publishing import KEPT
from bluesky_xpdml.cli.reading import guarded
from bluesky_xpdml.errors import SettingsError
from bluesky_xpdml.publish import CallbackPublisher
from bluesky_xpdml.records import Verdict
from bluesky_xpdml.settings import LiveSettings, Settings, resolve_settings
from bluesky_xpdml.sources.reading import FileReading
from bluesky_xpdml.vocabulary import Descriptor, Reason

if TYPE_CHECKING:
    from bluesky_xpdml.callbacks.callback import XpdmlCallback
    from bluesky_xpdml.documents import StoredRuns

RAW = "raw"
"""Container of the raw runs, if neither option nor settings name one."""
POLL_INTERVAL = 1.0
"""Between two looks at whether the server is away [s]."""
TIMEOUT = 600.0
"""The callback may take this long for everything that was replayed [s]."""

Starts = list[Mapping[str, Any]]
Documents = Callable[[str], Iterable[tuple[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where runs are stored.

    Raises
    ------
    SettingsError
        If two catalogs are named.
    """

    uri: str = ""
    """Address of the Tiled server; empty for none."""
    databroker: str = ""
    """Name of the databroker catalog; empty for none."""

    def __post_init__(self) -> None:
        if self.uri and self.databroker:
            raise SettingsError(
                "expected the runs in one catalog, found --databroker and --tiled or --stored: name the "
                "server for the predictions by --publish"
            )

    @property
    def is_remote(self) -> bool:
        """Whether others wrote the documents; if not, they are made from files."""
        return bool(self.uri or self.databroker)


@options.expand_options
def replay(
    what: Annotated[
        list[str],
        typer.Argument(help="Files, or with --tiled, --stored or --databroker the uids of runs."),
    ],
    *,
    tiled: Annotated[str, typer.Option(help="Address of the Tiled server that holds the runs.")] = "",
    stored: Annotated[
        bool, typer.Option("--stored", help="The server of the settings holds the runs.")
    ] = False,
    databroker: Annotated[
        str,
        typer.Option(
            help="Name of the databroker catalog that holds the runs; besides uids it takes the beginnings "
            "of uids, scan ids, and -1 for the newest run, after two hyphens: -- -1.",
        ),
    ] = "",
    path: Annotated[
        str, typer.Option(help="Container of the runs, instead of that of the settings (raw).")
    ] = "",
    publish: Annotated[
        str,
        typer.Option(help="Tiled server for the predictions, instead of --tiled or that of the settings."),
    ] = "",
    into: options.Predictions = "",
    api_key: options.Key = None,
    profile: options.ProfileName = "",
    sample: options.ElementOptions,
    scan: options.ScanOptions,
    model: options.ModelOptions,
    explain: options.Explain = False,
    repeats_within: options.Repeats = None,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Replay measurements through the callback, as if they were measured now, and publish the predictions.

    Reduction, repeats, pairing and live results are those of the settings. A run that is published twice is
    one run: the same data, models and settings give the same uid. A file or run that cannot be read is named
    with the reason, and the exit status is 1; it is 3 if the server is away and predictions wait on disk.
    With --json: one object per line and derived run.
    """
    resolved = options.resolve_options(
        settings,
        scan,
        model,
        tiled__uri=publish or tiled,
        tiled__path=into,
        tiled__raw_path=path,
        profile=profile,
        repeats__within=repeats_within,
        explain=explain or None,
    )
    source = Source(
        uri=tiled or (resolve_settings(settings).tiled_uri if stored else ""), databroker=databroker
    )
    if stored and not source.uri:
        raise SettingsError("--stored needs a server: name it by --tiled, or by tiled.uri in the settings")
    key = api_key or resolved.api_key()
    starts: Starts = []
    # Whoever wrote the runs on a server may have named any file.
    resolved = replace(resolved, remote_documents=source.is_remote)
    with ExitStack() as stack:
        documents, fetch = stack.enter_context(_opened(source, resolved, key))
        callback = stack.enter_context(_callback(resolved, key, starts, fetch))
        if documents is None:
            documents = _file_documents(options.file_reading(resolved, sample, scan))
        failures = _feed(callback, what, documents)
        _wait(callback)
    statistics, kept = callback.statistics, callback.kept.predictions
    _show(starts, json=json)
    for line in failures:
        note(line, style="red")
    if kept:
        note(f"{kept} predictions wait for the server: xpdml outbox send")
    failed = any(start["quality"]["verdict"] == Verdict.FAILED for start in starts)
    missing = not kept and len(starts) + len(failures) < len(what)
    if failures or failed or statistics.unpublished or missing:
        raise typer.Exit(1)
    if kept:
        raise typer.Exit(KEPT)


@contextmanager
def _opened(
    source: Source, settings: Settings, key: str | None
) -> "Iterator[tuple[Documents | None, StoredRuns | None]]":
    """Open the catalog of a source; gives what yields the documents of a run, and where dark runs are."""
    from bluesky_xpdml.documents import StoredRuns
    from bluesky_xpdml.sources.databroker import databroker_documents, open_databroker
    from bluesky_xpdml.sources.runs import open_runs, stored_documents

    if source.databroker:
        with open_databroker(source.databroker) as catalog:
            yield partial(databroker_documents, catalog), StoredRuns(catalog)
    elif source.uri:
        with open_runs(source.uri, api_key=key, path=settings.tiled_raw_path or RAW) as runs:
            yield partial(stored_documents, runs), StoredRuns(runs)
    else:
        yield None, None


def _wait(callback: "XpdmlCallback") -> None:
    """Wait until everything is published, or the server turns out to be away."""
    end = time.monotonic() + TIMEOUT
    while not (callback.drain(POLL_INTERVAL) or callback.server_is_away) and time.monotonic() < end:
        pass


def _callback(
    settings: Settings, api_key: str | None, starts: Starts, fetch: "StoredRuns | None"
) -> "XpdmlCallback":
    """Return what analyses the runs, and keeps the start documents of what was published."""
    from bluesky_xpdml.callbacks.callback import XpdmlCallback

    if settings.tiled_uri:
        return XpdmlCallback.from_settings(
            settings, api_key=api_key, on_sent=partial(_keep, starts), durable=False, fetch=fetch
        )
    progress_console.print("not published: neither --publish, --tiled nor the settings name a server")
    publisher = CallbackPublisher(lambda name, start: _keep(starts, start) if name == "start" else None)
    # Without a container there are neither partners nor anyone who watches partial results.
    scattering = replace(settings.scattering, live=False)
    alone = replace(settings, pairing=None, live=LiveSettings(), scattering=scattering)
    return XpdmlCallback(publisher, settings=alone, fetch=fetch)


def _keep(starts: Starts, start: Mapping[str, Any], _unpublished: str = "") -> None:
    starts.append(start)


def _file_documents(reading: FileReading) -> Documents:
    from bluesky_xpdml.sources.replay import scan_documents

    return lambda name: scan_documents(reading.scan(Path(name)))


def _feed(callback: Callable[[str, Any], object], names: list[str], documents: Documents) -> list[str]:
    """Pass the documents of each file or run to the callback; return which could not be read and why."""

    def feed(name: str) -> None:
        for document in documents(name):
            callback(*document)

    failures = []
    for name in names:
        outcome = guarded(partial(feed, name), Path(name))
        if isinstance(outcome, Reason):
            failures.append(outcome if Path(name).name in outcome else f"{name}: {outcome}")
    return failures


def _show(starts: Starts, *, json: bool) -> None:
    if json:
        for start in starts:
            print_json({**start, "derived_uid": start["uid"]})
        return
    state = Descriptor.OXIDATION_STATE
    rows = [
        [
            str(start["raw_uid"])[:8],
            start["sample"]["name"] or start["source"],
            start["element"],
            interval(start["descriptors"].get(state), DIGITS[state]),
            verdict(start["quality"]),
            start["uid"][:8],
        ]
        for start in starts
    ]
    print_table("", ("raw run", "sample", "element", state.heading, "verdict", "derived run"), rows)
