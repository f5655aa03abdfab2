"""Where output goes: answers to stdout, everything about the way there to stderr."""

import json
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any, Protocol

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table


@contextmanager
def stopping() -> Iterator[Event]:
    """Give an event that SIGTERM and SIGINT set; a second signal ends the process at once."""
    stop = Event()

    def ask(number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt(signal.Signals(number).name)
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


WIDTH_IN_FILES = 140
"""Tables that do not go to a terminal are not cut to one's width."""

answer_console = Console(width=None if sys.stdout.isatty() else WIDTH_IN_FILES)
"""Answers: tables for people."""
progress_console = Console(stderr=True)
"""Progress, notes and errors."""

JSON = typer.Option(False, "--json", help="Print JSON alone on stdout; tables and progress go to stderr.")

COLOURS = {"good": "green", "suspect": "yellow", "failed": "red"}
"""Colour of a verdict."""


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on one line of stdout."""
    typer.echo(json.dumps(value, allow_nan=False))


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, to_stderr: bool = False
) -> None:
    """Print a table for people.

    Parameters
    ----------
    title
        Above the table.
    columns
        Headings.
    rows
        Cells, as many a row as there are headings; rich markup is allowed.
    to_stderr
        Keep stdout free, as `--json` demands.
    """
    table = Table(
        title=title or None, title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    (progress_console if to_stderr else answer_console).print(table)


def interval(descriptor: Mapping[str, Any] | None, digits: int = 2) -> str:
    """Format a published descriptor: value and 90 % interval.

    Examples
    --------
    >>> interval({"value": 2.667, "low": 2.3, "high": 3.0})
    '2.67 (2.30-3.00)'
    >>> interval({"value": 5.9, "low": 5.0, "high": 6.0}, 1)
    '5.9 (5-6)'
    >>> interval(None)
    '-'
    """
    if descriptor is None:
        return "-"
    low, high = (f"{descriptor[key]:.{digits}f}" for key in ("low", "high"))
    if digits == 1:
        low, high = low.removesuffix(".0"), high.removesuffix(".0")
    return f"{descriptor['value']:.{digits}f} ({low}-{high})"


def verdict(quality: Mapping[str, Any]) -> str:
    """Format a verdict in its colour."""
    name = str(quality["verdict"])
    return f"[{COLOURS[name]}]{name}[/]"


class Advance(Protocol):
    """Tells a progress bar how far a task has come."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""


@contextmanager
def progress_bars() -> Iterator[Advance]:
    """Show a bar on stderr for each thing that is under way; where that is no terminal, nothing."""
    if not progress_console.is_terminal:
        yield lambda what, done, total: None  # noqa: ARG005 - called like the bar's own
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=progress_console, transient=True) as progress:
        tasks: dict[str, Any] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)

        yield advance
