"""`xpdml watch`: the callback in a process of its own, fed by a 0MQ proxy."""

import resource
import sys
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, interval, print_json, progress_console, stopping
from bluesky_xpdml.errors import PublishError, SettingsError
from bluesky_xpdml.settings import Settings, resolve_settings

if TYPE_CHECKING:
    from bluesky_xpdml.callbacks.callback import XpdmlCallback
    from bluesky_xpdml.publish import TiledPublisher
    from bluesky_xpdml.sources.zmq import ZmqSource

REMEMBERED = 1_000
"""Runs whose stop was heard and that have not been published yet."""
SHOWN = (("oxidation_state", "valence", 2), ("coordination_number", "CN", 1), ("bond_length", "Å", 2))
"""Descriptors of a line: key, what it is called, digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is done with the documents, as the options say."""

    settings: Settings
    api_key: str | None

    def told(self, *, json: bool) -> "Told":
        """Return what publishes runs and says a line of each."""
        from bluesky_xpdml.publish import TiledPublisher

        fixed = self.settings
        publisher = TiledPublisher.from_uri(fixed.tiled_uri, api_key=self.api_key, path=fixed.tiled_path)
        return Told(publisher, json=json)

    def start(self, told: "Told") -> "XpdmlCallback":
        """Return the callback that answers."""
        from bluesky_xpdml.callbacks.callback import XpdmlCallback
        from bluesky_xpdml.documents import StoredRuns
        from bluesky_xpdml.publish import open_existing

        fixed = self.settings
        raw = fixed.tiled_raw_path
        runs = open_existing(fixed.tiled_uri, api_key=self.api_key, path=raw) if raw else None
        return XpdmlCallback(
            told,
            settings=fixed,
            fetch=None if runs is None else StoredRuns(runs),
        )


class Told:
    """Publishes derived runs and says one line of each; the lines come from the worker's thread.

    Parameters
    ----------
    publisher
        Where the runs go.
    json
        Whether lines are JSON objects.
    """

    def __init__(self, publisher: "TiledPublisher", *, json: bool) -> None:
        self._publisher = publisher
        self._json = json
        self._stopped: OrderedDict[str, float] = OrderedDict()

    def heard(self, name: str, document: Mapping[str, Any]) -> None:
        """Remember when the stop of a run came."""
        if name == "stop":
            self._stopped[str(document["run_start"])] = time.monotonic()
            while len(self._stopped) > REMEMBERED:
                self._stopped.popitem(last=False)

    def publish(self, documents: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Publish one run and say so, or why not."""
        start = documents[0][1]
        try:
            self._publisher.publish(documents)
        except PublishError as error:
            self._say(start, str(error))
            raise
        self._say(start, "")

    def extend(self, documents: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Publish more of a run that goes on."""
        self._publisher.extend(documents)

    def close(self) -> None:
        """Close the publisher."""
        self._publisher.close()

    def _say(self, start: Mapping[str, Any], unpublished: str) -> None:
        stopped = max((self._stopped[uid] for uid in start["raw_uids"] if uid in self._stopped), default=None)
        seconds = None if stopped is None else time.monotonic() - stopped
        if self._json:
            said = {
                key: start[key]
                for key in ("raw_uid", "raw_uids", "technique", "element", "quality", "descriptors")
            }
            print_json(
                {"derived_uid": start["uid"], **said, "seconds": seconds, "unpublished": unpublished or None}
            )
            return
        late = "-" if seconds is None else f"{seconds * 1e3:.0f} ms"
        reason = unpublished or "; ".join(start["quality"]["reasons"][:1])
        merged = start["analysis"]["settings"].get("repeats")
        words = [
            str(start.get("raw_uid"))[:8],
            start["technique"] + (f" of {merged['kept']} repeats" if merged else ""),
            start["element"] or "-",
            "NOT PUBLISHED" if unpublished else start["quality"]["verdict"],
            _answer(start["descriptors"]),
            late,
            reason,
        ]
        typer.echo("  ".join(word for word in words if word))


def watch(
    *,
    zmq: Annotated[str, typer.Option(help="Where the 0MQ proxy gives documents out: HOST:PORT, ipc://PATH.")],
    tiled: Annotated[
        str, typer.Option(help="Address of the Tiled server for the predictions; else that of the settings.")
    ] = "",
    into: Annotated[
        str, typer.Option(help="Container for the predictions; xpdml, or what the settings say.")
    ] = "",
    raw: Annotated[
        str, typer.Option(help="Container of the raw runs, for dark frames that were not heard.")
    ] = "",
    prefix: Annotated[str, typer.Option(help="Hear only publishers with this prefix.")] = "",
    profile: Annotated[str, typer.Option(help="Which convention the runs follow; auto by default.")] = "",
    live: Annotated[bool, typer.Option(help="Also answer runs that still go on.")] = False,
    live_interval: Annotated[
        float | None, typer.Option(help="Least time between two such answers [s]; 2 by default.")
    ] = None,
    heartbeat: Annotated[float, typer.Option(help="Say this often what was heard [s].", min=0.1)] = 60.0,
    patience: Annotated[
        float, typer.Option(help="At the end, work off what waits for so long at most [s].", min=0.0)
    ] = 30.0,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Allow a proxy on another computer (not encrypted).")
    ] = False,
    explain: options.Explain = False,
    repeats_within: options.Repeats = None,
    api_key: options.Key = None,
    energy_offset: options.Offset = None,
    models: options.Models = None,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Listen to a 0MQ proxy and publish a prediction for every run, until SIGTERM or Ctrl-C.

    One line a run on stdout: run, technique, element, verdict, answer, time from its stop document to the
    prediction being in Tiled. On stderr: connections and, now and then, what was heard and refused. Documents
    must be msgpack or JSON (`bluesky_xpdml.sources.zmq.safe_publisher`); pickles are never opened.
    """
    from bluesky_xpdml.sources.zmq import ZmqSource

    source = ZmqSource(zmq, prefix=prefix.encode(), allow_remote=allow_remote)
    fixed = resolve_settings(
        settings,
        options={
            "tiled.uri": tiled,
            "tiled.path": into,
            "tiled.raw_path": raw,
            "profile": profile,
            "models.folder": models,
            "calibration.energy_offset": energy_offset,
            "repeats.within": repeats_within,
            "explain": explain or None,
            "live.xanes": live or None,
            "live.scattering": live or None,
            "live.xanes_interval": live_interval,
            "live.scattering_interval": live_interval,
        },
    )
    if not fixed.tiled_uri:
        raise SettingsError(
            "expected a Tiled server, found none: name it by --tiled, or as tiled.uri in the settings"
        )
    key = api_key or fixed.api_key()
    work = Work(settings=fixed, api_key=key)
    with stopping() as stop:
        told = work.told(json=json)
        callback = work.start(told)
        server = fixed.tiled_uri.partition("?")[0]
        _note(f"listening to {source.address}, publishing to {server} in {fixed.tiled_path}")
        _follow(source, callback, told, stop, heartbeat=heartbeat)
        _note(f"stopping: what waits is worked off within {patience:g} s")
        ended = callback.close(patience)
    _note(_heard(source, callback))
    _note("stopped" if ended else "stopped before everything was worked off; raise --patience")
    if not ended:
        raise typer.Exit(1)


def _follow(
    source: "ZmqSource", callback: "XpdmlCallback", told: Told, stop: Event, *, heartbeat: float
) -> None:
    """Hand on what the source hears until it is time to stop; a thread beside says what that was."""

    def hand_on(name: str, document: dict[str, Any]) -> None:
        told.heard(name, document)
        callback(name, document)

    def beat() -> None:
        connected = False
        due = time.monotonic() + heartbeat
        while not stop.wait(min(0.2, heartbeat)):
            if source.connected is not connected:
                connected = source.connected
                _note(f"{'connected to' if connected else 'connection lost, waiting for'} {source.address}")
            if time.monotonic() >= due:
                due = time.monotonic() + heartbeat
                _note(_heard(source, callback))

    beating = Thread(target=beat, name="xpdml-heartbeat", daemon=True)
    beating.start()
    try:
        source.run(hand_on, stop)
    finally:
        stop.set()
        beating.join()


def _answer(descriptors: Mapping[str, Any]) -> str:
    found = [f"{name} {interval(descriptors[key], n)}" for key, name, n in SHOWN if key in descriptors]
    return ", ".join(found)


def _heard(source: "ZmqSource", callback: "XpdmlCallback") -> str:
    """Say what was heard up to now, and how much memory it took."""
    counts = asdict(callback.statistics)
    runs = ", ".join(f"{counts[key]} {key}" for key in ("predicted", "failed", "ignored", "unpublished"))
    refused = "; ".join(f"{number} x {reason}" for reason, number in tuple(source.refused.items()))
    # Kilobytes on Linux, bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1024.0 if sys.platform != "darwin" else 2**20
    )
    words = [
        f"{source.documents} documents, {counts['runs']} runs ({runs})",
        f"refused: {refused}" if refused else "",
        f"largest memory {peak:.0f} MiB",
    ]
    return "; ".join(word for word in words if word)


def _note(text: str) -> None:
    progress_console.print(f"xpdml: {text}", markup=False, highlight=False, soft_wrap=True)
