"""`xpdml watch`: the callback in a process of its own, fed by 0MQ, Kafka or Tiled."""

import time
from dataclasses import replace
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bluesky_xpdml.cli import log, options
from bluesky_xpdml.cli.console import JSON, note, stopping
from bluesky_xpdml.cli.document_sources import SourceOptions, open_source, require_one, stored_runs
from bluesky_xpdml.cli.publishing import KEPT, LineReport
from bluesky_xpdml.settings import resolve_settings
from bluesky_xpdml.settings_keys import publishable
from bluesky_xpdml.sources.stream import DocumentSource

if TYPE_CHECKING:
    from bluesky_xpdml.callbacks.callback import XpdmlCallback


@options.expand_options
def watch(
    *,
    origin: SourceOptions,
    tiled: options.Tiled = "",
    into: options.Predictions = "",
    profile: options.ProfileName = "",
    live: Annotated[bool | None, typer.Option(help="Also answer runs that are still running.")] = None,
    live_interval: Annotated[
        float | None, typer.Option(help="Least time between two such answers [s]; 2 by default.")
    ] = None,
    heartbeat: Annotated[
        float, typer.Option(help="Interval of the reports on what was received [s].", min=0.1)
    ] = 60.0,
    patience: Annotated[
        float, typer.Option(help="Longest time to finish waiting documents at the end [s].", min=0.0)
    ] = 30.0,
    root: options.Roots = None,
    metrics: Annotated[
        int | None,
        typer.Option(help="Port of this computer at which Prometheus finds /metrics.", min=1, max=65535),
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(help="Address of this computer that --metrics listens at; there is no password.")
    ] = "127.0.0.1",
    explain: options.Explain = False,
    repeats_within: options.Repeats = None,
    api_key: options.Key = None,
    energy_offset: options.Offset = None,
    model: options.ModelOptions,
    settings: options.SettingsFile = None,
    log_file: log.LogFile = None,
    log_level: log.Level = None,
    json: bool = JSON,
) -> None:
    """Follow a stream of documents and publish a prediction for every run, until SIGTERM or Ctrl-C.

    The source is a 0MQ proxy (--zmq), a topic of Kafka (--kafka, --topic) or the raw runs of a Tiled server
    (--from-tiled, --raw); several watchers of one Kafka group or one Tiled container share the runs. What
    waits when it ends is answered by the next watcher for the same container: it is kept on disk, or the
    source gives it again. The exit status is then 3, and 0 if everything was answered.
    One line per run on stdout: run, technique, element, verdict, answer, time from its stop document until
    the prediction is in Tiled. On stderr: warnings, connections, and regularly what was received, waits, is
    missing and was refused. Documents are msgpack or JSON (`bluesky_xpdml.sources.zmq.safe_publisher`);
    pickles are never loaded.
    """
    from bluesky_xpdml.callbacks.callback import XpdmlCallback
    from bluesky_xpdml.callbacks.metrics import serving_metrics

    log.command_log.choose(log_file, log_level, default=log.LogLevel.WARNING)
    require_one(origin)
    resolved = options.require_server(
        options.resolve_options(
            settings,
            model,
            origin,
            tiled__uri=tiled or ("" if resolve_settings(settings).tiled_uri else origin.from_tiled),
            tiled__path=into,
            profile=profile,
            calibration__energy_offset=energy_offset,
            repeats__within=repeats_within,
            explain=explain or None,
            live__xanes=live,
            live__scattering=live,
            live__xanes_interval=live_interval,
            live__scattering_interval=live_interval,
            roots=options.roots_of(root),
        )
    )
    # Whoever reaches the source can send documents that name files.
    resolved = replace(resolved, remote_documents=True)
    source = open_source(origin, resolved, api_key)
    if source.repeats and resolved.repeats is not None:
        note("repeats are merged among the runs of this watcher only, not with those that others share")
    report = LineReport(json=json)
    callback: XpdmlCallback | None = None
    # The port is taken before anything else begins; the callback comes later.
    served = serving_metrics(lambda: None if callback is None else callback.status, metrics, metrics_host)
    with stopping() as stop, served:
        callback = XpdmlCallback.from_settings(
            resolved,
            api_key=api_key,
            on_sent=report,
            outlived=True,
            fetch=stored_runs(origin, resolved, api_key),
            source=source,
        )
        server = publishable(resolved.tiled_uri)
        note(f"listening to {source.address}, publishing to {server} in {resolved.tiled_path}")
        _follow(source, callback, report, stop, heartbeat=heartbeat)
        note(f"stopping: waiting documents are analysed within {patience:g} s")
        ended = callback.close(patience)
        source.close()
    note(_received(source, callback))
    kept = callback.kept
    if ended and not (kept.runs or kept.predictions):
        note("stopped")
        return
    runs = f"which {source.address} gives again" if source.repeats else f"kept in {kept.folder}"
    note(
        f"stopped: {kept.runs} runs are not answered, {runs}, and {kept.predictions} predictions wait in the "
        "outbox of this computer; the next `xpdml watch` or callback for this container goes on with them"
    )
    raise typer.Exit(KEPT)


def _follow(
    source: DocumentSource, callback: "XpdmlCallback", report: LineReport, stop: Event, *, heartbeat: float
) -> None:
    """Pass on what the source receives until `stop` is set; another thread reports on it."""

    def beat() -> None:
        connected = False
        due = time.monotonic() + heartbeat
        while not stop.wait(min(0.2, heartbeat)):
            if source.connected is not connected:
                connected = source.connected
                note(f"{'connected to' if connected else 'connection lost, waiting for'} {source.address}")
            if time.monotonic() >= due:
                due = time.monotonic() + heartbeat
                note(_received(source, callback))

    beating = Thread(target=beat, name="xpdml-heartbeat", daemon=True)
    beating.start()
    try:
        source.run(_Timed(callback, report), stop)
    finally:
        stop.set()
        beating.join()


class _Timed:
    """Passes documents on to a callback, and notes when runs stop."""

    def __init__(self, callback: "XpdmlCallback", report: LineReport) -> None:
        self._callback, self._report = callback, report

    def __call__(self, name: str, doc: dict[str, Any], /) -> None:
        self._report.note_stop(name, doc)
        self._callback(name, doc)

    def forget(self, run: str) -> None:
        self._callback.forget(run)

    @property
    def is_busy(self) -> bool:
        return self._callback.is_busy


def _received(source: DocumentSource, callback: "XpdmlCallback") -> str:
    """Return a summary of what was received up to now, what waits, what failed and the memory it takes."""
    status = callback.status
    runs = ", ".join(
        f"{getattr(status, name)} {name}" for name in ("predicted", "failed", "ignored", "unpublished")
    )
    failures = ", ".join(f"{number} x {code}" for code, number in sorted(status.failures.items()))
    refused = "; ".join(f"{number} x {reason}" for reason, number in tuple(source.refused.items()))
    gaps = status.gaps
    waiting = f"{(status.backlog or 0) + status.open_runs} runs, {status.outbox.entries} predictions"
    parts = [
        f"{source.documents} documents, {status.runs} runs ({runs})",
        f"waiting: {waiting}" + (f", the oldest for {status.lag:.0f} s" if status.lag else ""),
        f"failures: {failures}" if failures else "",
        f"missing: {gaps.events} events, {gaps.unstopped} stop documents, {gaps.unstarted} start documents"
        if gaps.events or gaps.unstopped or gaps.unstarted
        else "",
        f"refused: {refused}" if refused else "",
        *status.troubles(),
        f"memory {status.memory / 2**20:.0f} MiB, analysis {status.memory_of_analysis / 2**20:.0f} MiB",
    ]
    return "; ".join(part for part in parts if part)
