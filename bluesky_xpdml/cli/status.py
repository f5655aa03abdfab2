"""`xpdml status`: what watchers and callbacks do at this moment, from the server or from this computer."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import typer
from rich.text import Text

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, note, print_json, print_table
from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish import Outbox
from bluesky_xpdml.publish.outbox_file import FILE_NAME
from bluesky_xpdml.publish.state import known_folders
from bluesky_xpdml.publish.status import LastAnswer, Status, read_status_files, statuses_beside
from bluesky_xpdml.settings import Settings

COLUMNS = (
    "process",
    "kind",
    "state",
    "age",
    "predicted",
    "failed",
    "lost",
    "waiting",
    "lag",
    "outbox",
    "missing",
    "MiB",
    "last answer",
)
LONGEST_SAMPLE = 10
"""Longer names of samples are cut in the table, which has to fit [characters]."""
_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def status(
    *,
    tiled: options.Tiled = "",
    path: options.Predictions = "",
    api_key: options.Key = None,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Show what each watcher and callback does: what waits, fails and is missing.

    `waiting` are runs that ended + runs that go on, `missing` events and messages that were none, `MiB` the
    memory of the process + of its analysis. --json has all of it, one object per process.

    From the server, and from the files of this computer, which have the newer record when the server is away;
    without a server, from the files alone. The exit status is 0 if one is alive and
    nothing is wrong with it, else 1.
    """
    resolved = options.resolve_options(settings, tiled__uri=tiled, tiled__path=path)
    now = time.time()
    found = _newest([*_on_server(resolved, api_key), *_on_this_computer(resolved)])
    if json:
        for each in found:
            ending = {"age": each.age(now), "stale": each.is_stale(now), "troubles": each.troubles(now)}
            print_json(asdict(each) | ending)
    elif found:
        _print_tables(found, now)
    for name, trouble in ((each.name, trouble) for each in found for trouble in each.troubles(now)):
        note(f"{name}: {trouble}", style="red")
    if all(each.is_stale(now) for each in found):
        _note_waiting(resolved)
    if not found:
        note("no watcher or callback has left a sign: start `xpdml watch`, or name the server by --tiled")
    if all(each.troubles(now) for each in found):
        raise typer.Exit(1)


def _print_tables(found: Sequence[Status], now: float) -> None:
    print_table("", COLUMNS, [_row(each, now) for each in found])
    failures = [[each.name, code, str(n)] for each in found for code, n in sorted(each.failures.items())]
    if failures:
        print_table("failures", ("process", "reason", "runs"), failures)


def _on_server(settings: Settings, api_key: str | None) -> list[Status]:
    """Return what the server holds; nothing, with a note, if it is away or has none."""
    if not settings.tiled_uri:
        return []
    try:
        key = api_key or settings.api_key()
        return statuses_beside(settings.tiled_uri, api_key=key, path=settings.tiled_path)
    except PublishError as error:
        note(f"the server cannot be asked, the files of this computer are read: {error}", style="yellow")
        return []


def _on_this_computer(settings: Settings) -> list[Status]:
    """Return what the files in the state folder of the container hold, without a server in all of them."""
    return [each for folder in _folders(settings) for each in read_status_files(folder)]


def _folders(settings: Settings) -> list[Path]:
    return known_folders(settings.tiled_uri, settings.tiled_path, root=settings.outbox.folder)


def _note_waiting(settings: Settings) -> None:
    """Say what ended processes of this computer have left for the next one."""
    from bluesky_xpdml.callbacks.journal_file import left_runs

    for folder in _folders(settings):
        predictions = 0
        if (folder / FILE_NAME).exists():
            with closing(Outbox(folder, settings.outbox.limit)) as outbox:
                predictions = len(outbox)
        runs = left_runs(folder)
        if runs or predictions:
            note(
                f"{runs} runs and {predictions} predictions wait in {folder}: the next `xpdml watch` or "
                "callback for this container goes on with them; `xpdml outbox send` sends the predictions",
                style="red",
            )


def _newest(statuses: Sequence[Status]) -> list[Status]:
    """Return the newest record of each process."""
    newest: dict[tuple[str, str], Status] = {}
    for each in statuses:
        key = (each.name, each.container)
        if key not in newest or each.time > newest[key].time:
            newest[key] = each
    return list(newest.values())


def _row(each: Status, now: float) -> list[str | Text]:
    troubles = each.troubles(now)
    state = troubles[0].partition(":")[0] if troubles else "ok"
    last = each.last_answer
    return [
        each.name,
        each.kind,
        Text(state, style="red" if troubles else "green"),
        _span(each.age(now)),
        str(each.predicted),
        str(each.failed),
        str(each.unpublished),
        "-" if each.backlog is None else f"{each.backlog}+{each.open_runs}",
        "-" if each.lag is None else _span(each.lag),
        str(each.outbox.entries),
        str(each.gaps.events + each.gaps.unstarted + each.gaps.refused),
        f"{each.memory / 2**20:.0f}+{each.memory_of_analysis / 2**20:.0f}",
        "-" if last is None else _shown(last, now),
    ]


def _shown(last: LastAnswer, now: float) -> str:
    words = (_span(now - last.time), last.verdict, last.element, last.sample[:LONGEST_SAMPLE])
    return " ".join(word for word in words if word)


def _span(seconds: float) -> str:
    """Return a time for people.

    Examples
    --------
    >>> _span(3.2), _span(90.0), _span(7200.0)
    ('3 s', '2 min', '2 h')
    """
    for unit, name in _UNITS:
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(seconds, 0.0):.0f} s"
