"""Derived runs that a command publishes, each with one line about it."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bluesky_xpdml.cli.console import DIGITS, interval, print_json, print_line
from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.publish import TiledPublisher
from bluesky_xpdml.publish.tiled import connect, open_container
from bluesky_xpdml.settings import Settings

Documents = Sequence[tuple[str, dict[str, Any]]]

KEPT = 3
"""Exit status if something is kept on disk for the next process."""
MOST_STOPS = 1_000
"""Runs whose stop came and that have not been published yet."""


class ReportingPublisher(TiledPublisher):
    """Publishes derived runs into Tiled and reports each: its start document, and why it was refused."""

    def __init__(self, container: Any, report: Callable[[Mapping[str, Any], str], None]) -> None:
        super().__init__(container)
        self._report = report

    @classmethod
    def from_settings(
        cls, settings: Settings, api_key: str | None, report: Callable[[Mapping[str, Any], str], None]
    ) -> "ReportingPublisher":
        """Connect to the server of the settings."""
        root = connect(settings.tiled_uri, api_key=api_key or settings.api_key())
        return cls(open_container(root, settings.tiled_path), report)

    def publish(self, documents: Documents) -> None:
        """Publish one run and report it.

        Raises
        ------
        PublishError
            If it could not be written.
        """
        start = documents[0][1]
        try:
            super().publish(documents)
        except PublishError as error:
            self._report(start, str(error))
            raise
        self._report(start, "")


class LineReport:
    """Prints one line per derived run; the lines come from the thread of the callback."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._stopped: OrderedDict[str, float] = OrderedDict()

    def note_stop(self, name: str, document: Mapping[str, Any]) -> None:
        """Remember when the stop of a run came."""
        if name == "stop":
            self._stopped[str(document["run_start"])] = time.monotonic()
            while len(self._stopped) > MOST_STOPS:
                self._stopped.popitem(last=False)

    def __call__(self, start: Mapping[str, Any], unpublished: str) -> None:
        """Print the line of a run, and why it was not published."""
        stopped = max((self._stopped[uid] for uid in start["raw_uids"] if uid in self._stopped), default=None)
        seconds = None if stopped is None else time.monotonic() - stopped
        if self._json:
            keys = ("raw_uid", "raw_uids", "technique", "element", "quality", "descriptors")
            known = {key: start[key] for key in keys}
            ending = {"seconds": seconds, "unpublished": unpublished or None}
            print_json({"derived_uid": start["uid"], **known, **ending})
            return
        merged = start["analysis"]["settings"].get("repeats")
        print_line(
            str(start.get("raw_uid"))[:8],
            start["technique"] + (f" of {merged['kept']} repeats" if merged else ""),
            start["element"] or "-",
            "NOT PUBLISHED" if unpublished else start["quality"]["verdict"],
            shown_descriptors(start["descriptors"]),
            "-" if seconds is None else f"{seconds * 1e3:.0f} ms",
            unpublished or "; ".join(start["quality"]["reasons"][:1]),
        )


def shown_descriptors(descriptors: Mapping[str, Any]) -> str:
    """Return the main descriptors of an answer as text, each with its name and unit."""
    found = [
        f"{name.label} {interval(descriptors[name], digits)} {name.symbol}".rstrip()
        for name, digits in DIGITS.items()
        if name in descriptors
    ]
    return ", ".join(found)
