"""The log of a command: on stderr and, if asked for, in a file that is kept small."""

import logging
import os
from enum import StrEnum
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Annotated

import typer

from bluesky_xpdml.cli.console import VisibleFormatter

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
LARGEST, KEPT_FILES = 10_000_000, 5
"""Size of a log file at which another is begun [bytes], and how many earlier ones are kept."""
QUIET = {
    **dict.fromkeys(("httpx", "httpcore", "numexpr"), logging.WARNING),
    "matplotlib": logging.INFO,
}
"""Packages whose lines below a level are left out: those of httpx hold addresses, one per request."""


class LogLevel(StrEnum):
    """Least level of the lines of a log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def number(self) -> int:
        """The level of the package `logging`."""
        return logging.getLevelNamesMapping()[self.name]


LogFile = Annotated[
    Path | None,
    typer.Option(
        "--log-file",
        help="Also write the log to this file, which only you can read; at 10 MB another is begun, and five "
        "are kept. One file per process.",
    ),
]
Level = Annotated[
    LogLevel | None,
    typer.Option(
        "--log-level", help="Least level of the log; by default error on stderr, and info in the file."
    ),
]


class _PrivateFile(RotatingFileHandler):
    """A log file that only the user can read, whatever mode it had."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        os.fchmod(descriptor, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")


class CommandLog:
    """The handlers that one command adds to the root logger, and takes away at its end.

    A program that runs the command in its own process, and has handlers, keeps its own lines on stderr.
    """

    def __init__(self) -> None:
        self._file: logging.Handler | None = None
        self._stderr: logging.Handler | None = None
        self._levels: dict[str | None, int] = {}
        self._is_chosen = False

    def begin(self, *, debug: bool) -> None:
        """Log errors on stderr, or everything with `debug`."""
        self._levels = {name: logging.getLogger(name).level for name in (None, *QUIET)}
        self._file, self._stderr, self._is_chosen = None, None, debug
        for name, level in QUIET.items():
            logging.getLogger(name).setLevel(level)
        if not logging.getLogger().handlers:
            self._stderr = _added(logging.StreamHandler(), logging.DEBUG if debug else logging.ERROR)

    def choose(
        self, file: Path | None, level: LogLevel | None, *, default: LogLevel = LogLevel.ERROR
    ) -> None:
        """Set the level of the log, and also write it to a file.

        An OSError is raised if the file cannot be opened.
        """
        if self._stderr is not None and (level is not None or not self._is_chosen):
            self._stderr.setLevel((level or default).number)
            _let_through(self._stderr.level)
        self._is_chosen = self._is_chosen or level is not None
        if file is not None:
            self._close(self._file)
            written = _PrivateFile(file, maxBytes=LARGEST, backupCount=KEPT_FILES)
            self._file = _added(written, (level or LogLevel.INFO).number)

    def end(self) -> None:
        """Close what was opened, and leave the loggers as they were."""
        self._close(self._file)
        self._close(self._stderr)
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)

    def _close(self, handler: logging.Handler | None) -> None:
        if handler is not None:
            logging.getLogger().removeHandler(handler)
            handler.close()


command_log = CommandLog()


def _added(handler: logging.Handler, level: int) -> logging.Handler:
    """Return a handler that was added to the root logger."""
    handler.setFormatter(VisibleFormatter(FORMAT))
    handler.setLevel(level)
    logging.getLogger().addHandler(handler)
    _let_through(level)
    return handler


def _let_through(level: int) -> None:
    """Let records of a level come to the handlers."""
    root = logging.getLogger()
    root.setLevel(min(root.level, level))
