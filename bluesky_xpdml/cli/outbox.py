"""`xpdml outbox`: list, send and drop the derived runs that wait for the server."""

import datetime as dt
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, note, print_json, print_table, progress_bars
from bluesky_xpdml.cli.publishing import KEPT
from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish import Outbox, OutboxEntry, Sender, TiledPublisher
from bluesky_xpdml.publish.outbox_file import FILE_NAME
from bluesky_xpdml.publish.sender import Outcome
from bluesky_xpdml.publish.state import host_folder, known_folders
from bluesky_xpdml.settings import Settings
from bluesky_xpdml.settings_keys import publishable

SHORTEST_PREFIX = 8
"""Fewer characters of a uid do not name a run."""
COLUMNS = ("added", "raw run", "sample", "scan", "technique", "element", "kB", "refused", "reason")

app = typer.Typer(
    help="List, send and drop derived runs that the server does not have yet.", no_args_is_help=True
)


@app.command(name="list", epilog="Example: xpdml outbox list")
def list_entries(
    *,
    tiled: options.Tiled = "",
    path: options.Predictions = "",
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """List the derived runs that wait on this computer; without a server, those for all servers.

    With --json: one object per run.
    """
    resolved = options.resolve_options(settings, tiled__uri=tiled, tiled__path=path)
    for folder in _folders(resolved):
        with closing(_opened(folder, resolved)) as outbox:
            entries = outbox.entries()
        for entry in entries if json else ():
            print_json({"outbox": str(folder), **asdict(entry)})
        if entries and not json:
            print_table(str(folder), COLUMNS, [_row(entry) for entry in entries])
        note(f"{len(entries)} wait in {folder}")


@app.command(epilog="Example: xpdml outbox send --tiled http://localhost:8000")
def send(
    *,
    tiled: options.Tiled = "",
    path: options.Predictions = "",
    api_key: options.Key = None,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Send the derived runs that wait for a server, refused ones too.

    The exit status is 0 if none is left, and 3 if some are, because the server is away, refuses them, or
    another process sends them at this moment.
    """
    resolved = options.require_server(options.resolve_options(settings, tiled__uri=tiled, tiled__path=path))
    sent, kept, error = 0, 0, ""
    for folder in _folders(resolved):
        with closing(_opened(folder, resolved)) as outbox:
            sender = Sender(
                lambda: TiledPublisher.lazily(
                    resolved.tiled_uri, api_key=api_key or resolved.api_key(), path=resolved.tiled_path
                ),
                outbox,
            )
            with closing(sender):
                _send_all(sender)
            sent, kept, error = sender.counts.sent, len(outbox), sender.last_error
            while outbox.shrink():
                pass
    if json:
        print_json({"sent": sent, "kept": kept, "error": error if kept else ""})
    note(f"{sent} were sent, {kept} are left" + (f": {error}" if kept and error else ""))
    if kept:
        raise typer.Exit(KEPT)


@app.command(epilog="Example: xpdml outbox drop 3f2a9c41 --yes")
def drop(
    uids: Annotated[
        list[str] | None,
        typer.Argument(help="Uids of raw or derived runs; their first eight characters will do."),
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Drop all.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    tiled: options.Tiled = "",
    path: options.Predictions = "",
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Drop derived runs that wait for a server: they are lost, until their raw runs are analysed again."""
    if bool(uids) == everything:
        raise typer.BadParameter("expected uids of runs, or --all")
    resolved = options.require_server(options.resolve_options(settings, tiled__uri=tiled, tiled__path=path))
    dropped = 0
    for folder in _folders(resolved):
        with closing(_opened(folder, resolved)) as outbox:
            chosen = _chosen(outbox.entries(), uids)
            if chosen and not yes:
                typer.confirm(f"Drop {len(chosen)} derived runs from {folder}?", abort=True, err=True)
            dropped = outbox.drop(chosen)
            if dropped < len(chosen):
                note(f"{len(chosen) - dropped} are being sent at this moment")
    if uids and not dropped:
        raise PublishError(
            f"expected runs of {', '.join(uids)} in the outbox, found none; see xpdml outbox list"
        )
    if json:
        print_json({"dropped": dropped})
    note(f"{dropped} were dropped")


def _folders(settings: Settings) -> list[Path]:
    """Return the folders of existing outboxes: that of the server, or all of this computer."""
    found = _outboxes(settings, settings.tiled_uri)
    if not found:
        others = ", ".join(folder.name for folder in _outboxes(settings, ""))
        server = publishable(settings.tiled_uri)
        wanted = f" for {settings.tiled_path} at {server}" if server else ""
        note(
            f"there is no outbox{wanted} in {host_folder(settings.outbox.folder)}: nothing waits in it"
            + (f"; there are {others}" if others else "")
        )
    return found


def _outboxes(settings: Settings, uri: str) -> list[Path]:
    folders = known_folders(uri, settings.tiled_path, root=settings.outbox.folder)
    return [folder for folder in folders if (folder / FILE_NAME).exists()]


def _opened(folder: Path, settings: Settings) -> Outbox:
    return Outbox(folder, settings.outbox.limit)


def _send_all(sender: Sender) -> None:
    """Send everything that is due, unless the server is away."""
    sender.outbox.make_due()
    total, n_away = len(sender.outbox), 0
    with progress_bars() as advance:
        # One run alone may make a server fail: the second decides.
        while n_away < 2:
            outcome = sender.step()
            if outcome is Outcome.IDLE:
                return
            n_away = n_away + 1 if outcome is Outcome.AWAY else 0
            advance("runs sent", sender.counts.sent, total)


def _chosen(entries: Sequence[OutboxEntry], uids: Sequence[str] | None) -> list[OutboxEntry]:
    """Return the entries of raw or derived runs; all if no uids are given."""
    if not uids:
        return list(entries)
    return [entry for entry in entries if any(_is_named(entry, uid) for uid in uids)]


def _is_named(entry: OutboxEntry, uid: str) -> bool:
    known = (entry.uid, entry.raw_uid)
    return uid in known or (len(uid) >= SHORTEST_PREFIX and any(each.startswith(uid) for each in known))


def _row(entry: OutboxEntry) -> list[str]:
    moment = dt.datetime.fromtimestamp(entry.added, tz=dt.UTC).astimezone()
    return [
        f"{moment:%Y-%m-%d %H:%M:%S}",
        entry.raw_uid or entry.uid,
        entry.sample or "-",
        entry.scan_id or "-",
        entry.technique + (", live" if entry.live else ""),
        entry.element or "-",
        f"{entry.bytes / 1e3:.1f}",
        str(entry.attempts),
        entry.error,
    ]
