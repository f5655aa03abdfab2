"""Output: answers on stdout, everything else on stderr, with texts of others as text, never as markup."""

import json
import logging
import signal
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any, Protocol

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bluesky_xpdml.errors import redacted
from bluesky_xpdml.records import Verdict
from bluesky_xpdml.vocabulary import Descriptor

WIDTH_IN_FILES = 140
"""Tables that do not go to a terminal are not cut to the width of one."""
LONGEST_LINE = 2_000
"""Longer texts are cut where people read them; --json has all of them."""
LONGEST_CELL = 200
LONGEST_SECRET = 4_096
"""No address with a key is longer [characters]."""
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories that move the cursor, reorder the line, or cannot be encoded."""

JSON = typer.Option(False, "--json", help="Print JSON alone on stdout; tables and progress go to stderr.")

COLOURS = {Verdict.GOOD: "green", Verdict.SUSPECT: "yellow", Verdict.FAILED: "red"}
"""Colour of a verdict."""
DIGITS = {Descriptor.OXIDATION_STATE: 2, Descriptor.COORDINATION_NUMBER: 1, Descriptor.BOND_LENGTH: 2}
"""Descriptors that tables show, with their decimals."""
HEADINGS = tuple(name.heading for name in DIGITS)


def visible(text: object, limit: int = LONGEST_LINE) -> str:
    r"""Return a text as a terminal may show it: no control characters, surrogates, keys, nor endless texts.

    Examples
    --------
    >>> visible("LFP \x1b[31m \ud800")
    'LFP \\x1b[31m \\ud800'
    """
    # A key at the cut must not be shown in part.
    whole = redacted(str(text)[: limit + LONGEST_SECRET])
    cut = whole if len(whole) <= limit else f"{whole[:limit]} ..."
    return "".join(
        each.encode("unicode_escape").decode() if unicodedata.category(each) in _INVISIBLE else each
        for each in cut
    )


class VisibleFormatter(logging.Formatter):
    """Formats log records with the texts of others as text."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as lines that a terminal may show."""
        return "\n".join(map(visible, super().format(record).split("\n")))


class PlainConsole(Console):
    """A console that styles only what it is told to: no markup, no highlighting, nothing invisible."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(
            stderr=stderr, width=width, markup=False, highlight=False, emoji=False, soft_wrap=True
        )

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text ready to be printed."""
        return super().render_str("\n".join(map(visible, text.split("\n"))), **options)


answer_console = PlainConsole(width=None if sys.stdout.isatty() else WIDTH_IN_FILES)
"""Answers: tables for people."""
progress_console = PlainConsole(stderr=True)
"""Progress, notes and errors."""


def print_line(*words: str) -> None:
    """Print one line of an answer; words that are empty are left out."""
    typer.echo(visible("  ".join(word for word in words if word)))


def note(text: str, *, style: str | None = None) -> None:
    """Print one line on stderr that says which program it comes from."""
    progress_console.print(Text(visible(f"xpdml: {text}")), style=style)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on one line of stdout."""
    typer.echo(json.dumps(value, allow_nan=False))


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str | Text]], *, to_stderr: bool = False
) -> None:
    """Print a table for people.

    Parameters
    ----------
    title
        Above the table.
    columns
        Headings.
    rows
        Cells, as many per row as there are headings; text is shown as it is, `rich.text.Text` with its style.
    to_stderr
        Keep stdout free, as `--json` demands.
    """
    table = Table(
        title=Text(visible(title)) if title else None,
        title_justify="left",
        header_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for number, column in enumerate(columns, start=1):
        # Where there is no room, the last one, a text, takes several lines.
        table.add_column(Text(visible(column)), no_wrap=number < len(columns), overflow="fold")
    for row in rows:
        table.add_row(
            *(cell if isinstance(cell, Text) else Text(visible(cell, LONGEST_CELL)) for cell in row)
        )
    (progress_console if to_stderr else answer_console).print(table, soft_wrap=False)


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


def intervals(descriptors: Mapping[str, Any]) -> list[str]:
    """Return the cells of a table for the descriptors in `HEADINGS`."""
    return [interval(descriptors.get(name), digits) for name, digits in DIGITS.items()]


def verdict(quality: Mapping[str, Any]) -> Text:
    """Return a verdict in its colour; one that a later version may have published stands without."""
    name = str(quality["verdict"])
    return Text(visible(name), style=COLOURS[Verdict(name)] if name in set(Verdict) else "")


_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@contextmanager
def stopping() -> Iterator[Event]:
    """Give an event that SIGTERM, SIGHUP and SIGINT set; a second signal ends the process at once."""
    stop = Event()

    def handle(number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt(signal.Signals(number).name)
        stop.set()

    before = {number: signal.signal(number, handle) for number in _ENDING}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Advance(Protocol):
    """Tells a progress bar how far a task has come."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""


@contextmanager
def progress_bars() -> Iterator[Advance]:
    """Show a bar on stderr for each task in progress; nothing if stderr is no terminal."""
    if not progress_console.is_terminal:
        yield lambda what, done, total: None  # noqa: ARG005 - called like the bar's own
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=progress_console, transient=True) as progress:
        tasks: dict[str, Any] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)

        yield advance
