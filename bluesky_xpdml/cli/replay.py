"""`xpdml replay`: files or stored runs through the same callback as a live measurement."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, interval, print_json, print_table, progress_console, verdict
from bluesky_xpdml.cli.reading import file_reading
from bluesky_xpdml.errors import SettingsError, XpdmlError
from bluesky_xpdml.settings import Settings, resolve_settings
from bluesky_xpdml.sources.reading import FileReading

RAW = "raw"
"""Container of the raw runs, where neither option nor settings name one."""
PATIENCE = 600.0
"""The callback may take this long for everything that was replayed [s]."""


class Collected:
    """Keeps the start documents of derived runs, and hands all documents on."""

    def __init__(self, publisher: Any | None) -> None:
        self.publisher = publisher
        self.starts: list[dict[str, Any]] = []

    def publish(self, documents: Any) -> None:
        """Keep the start document and publish the run."""
        self.starts.append(documents[0][1])
        if self.publisher is not None:
            self.publisher.publish(documents)

    def close(self) -> None:
        """Close the publisher."""
        if self.publisher is not None:
            self.publisher.close()


def replay(
    what: Annotated[list[str], typer.Argument(help="Files, or with --tiled or --stored the uids of runs.")],
    *,
    tiled: Annotated[str, typer.Option(help="Address of the Tiled server that holds the runs.")] = "",
    stored: Annotated[
        bool, typer.Option("--stored", help="The server of the settings holds the runs.")
    ] = False,
    path: Annotated[
        str, typer.Option(help="Container of the runs on that server; raw, or what the settings say.")
    ] = "",
    publish: Annotated[
        str,
        typer.Option(
            help="Address of the Tiled server for the predictions; --tiled's or that of the settings."
        ),
    ] = "",
    into: Annotated[
        str, typer.Option(help="Container for the predictions; xpdml, or what the settings say.")
    ] = "",
    api_key: options.Key = None,
    profile: Annotated[str, typer.Option(help="Which convention the runs follow; auto by default.")] = "",
    element: options.Element = "",
    edge: options.Edge = "",
    columns: options.Columns = "",
    energy_unit: options.Unit = None,
    energy_offset: options.Offset = None,
    models: options.Models = None,
    explain: options.Explain = False,
    repeats_within: options.Repeats = None,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Replay measurements through the callback, as if they were measured now, and publish the predictions.

    Publishing a run twice is one run: the same data, models and settings give the same uid. With --json:
    one object a line and a run.
    """
    from bluesky_xpdml.callbacks.callback import XpdmlCallback
    from bluesky_xpdml.documents import StoredRuns
    from bluesky_xpdml.sources.stored import open_runs, stored_documents

    resolved = resolve_settings(
        settings,
        options={
            "tiled.uri": publish or tiled,
            "tiled.path": into,
            "tiled.raw_path": path,
            "profile": profile,
            "models.folder": models,
            "calibration.energy_offset": energy_offset,
            "repeats.within": repeats_within,
            "explain": explain or None,
        },
    )
    source = tiled or (resolve_settings(settings).tiled_uri if stored else "")
    if stored and not source:
        raise SettingsError("--stored needs a server: name it by --tiled, or by tiled.uri in the settings")
    key = api_key or resolved.api_key()
    collected = _collected(resolved, key)
    reading = file_reading(resolved, columns=columns, energy_unit=energy_unit, element=element, edge=edge)
    failures: list[str] = []
    with ExitStack() as stack:
        raw = resolved.tiled_raw_path or RAW
        runs = stack.enter_context(open_runs(source, api_key=key, path=raw)) if source else None
        callback = XpdmlCallback(
            collected,
            settings=resolved,
            fetch=None if runs is None else StoredRuns(runs),
        )
        stack.enter_context(callback)
        files = _from_files([Path(name) for name in what], reading, failures)
        for name, document in files if runs is None else stored_documents(runs, what):
            callback(name, document)
        callback.drain(PATIENCE)
        statistics = callback.statistics
    _show(collected.starts, json=json)
    for line in failures:
        progress_console.print(f"xpdml: {line}", style="red", markup=False, highlight=False)
    failed = any(start["quality"]["verdict"] == "failed" for start in collected.starts)
    if failures or failed or statistics.unpublished or len(collected.starts) + len(failures) < len(what):
        raise typer.Exit(1)


def _collected(settings: Settings, key: str | None) -> Collected:
    from bluesky_xpdml.publish import TiledPublisher

    if not settings.tiled_uri:
        progress_console.print("not published: neither --publish, --tiled nor the settings name a server")
        return Collected(None)
    return Collected(TiledPublisher.from_uri(settings.tiled_uri, api_key=key, path=settings.tiled_path))


def _from_files(paths: list[Path], reading: FileReading, failures: list[str]) -> Iterator[tuple[str, Any]]:
    from bluesky_xpdml.sources.replay import scan_documents

    for file in paths:
        try:
            scan = reading.scan(file)
        except (XpdmlError, OSError) as error:
            failures.append(str(error))
        else:
            yield from scan_documents(scan)


def _show(starts: list[dict[str, Any]], *, json: bool) -> None:
    if json:
        for start in starts:
            print_json({**start, "derived_uid": start["uid"]})
        return
    rows = [
        [
            str(start["raw_uid"])[:8],
            start["sample"]["name"] or start["source"],
            start["element"],
            interval(start["descriptors"].get("oxidation_state")),
            verdict(start["quality"]),
            start["uid"][:8],
        ]
        for start in starts
    ]
    print_table("", ("raw run", "sample", "element", "oxidation state", "verdict", "derived run"), rows)
