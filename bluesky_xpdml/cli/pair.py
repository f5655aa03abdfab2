"""`xpdml pair`: joint answers for what two beamlines publish into one container."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, note, stopping
from bluesky_xpdml.cli.publishing import LineReport, ReportingPublisher
from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.settings import PairingSettings, Settings
from bluesky_xpdml.settings_keys import publishable
from bluesky_xpdml.vocabulary import Modality

if TYPE_CHECKING:
    from threading import Event

    from bluesky_xpdml.pairing.publisher import Follower, PairingCounts


def _joint_modality(text: str) -> Modality:
    """Read the option `--modality`."""
    known = Modality.joint()
    if text not in known:
        raise typer.BadParameter(f"expected one of {', '.join(known)}, found {text!r}")
    return Modality(text)


@options.expand_options
def pair(
    *,
    tiled: options.Tiled = "",
    path: options.Predictions = "",
    within: Annotated[
        float | None,
        typer.Option(help="Runs of one sample that began within this time of each other are paired [s]."),
    ] = None,
    modality: Annotated[
        Modality | None,
        typer.Option(
            help="What is paired; xanes+pdf by default.",
            parser=_joint_modality,
            metavar=f"[{'|'.join(Modality.joint())}]",
        ),
    ] = None,
    key: Annotated[
        str,
        typer.Option(help="Carried entry that tells samples apart, instead of their uid and name."),
    ] = "",
    interval: Annotated[
        float, typer.Option(help="Longest time between two looks for new predictions [s].", min=0.05)
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Answer the predictions that exist and stop.")] = False,
    api_key: options.Key = None,
    model: options.ModelOptions,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Answer XANES and PDF of one sample together, in whichever order they came, until SIGTERM or Ctrl-C.

    Goes over all predictions that exist, then over those that arrive; what is answered is left alone. One
    line per joint answer on stdout. Run it if two beamlines publish into one container; one callback that
    sees both pairs by itself (`[pairing]` in the settings).
    """
    from bluesky_xpdml.analysis.request import Analysis
    from bluesky_xpdml.pairing.pairing import Pairing
    from bluesky_xpdml.pairing.publisher import Follower, Pairer
    from bluesky_xpdml.publish import PredictionCatalog

    resolved = options.resolve_options(
        settings,
        model,
        tiled__uri=tiled,
        tiled__path=path,
        pairing__within=within,
        pairing__modality=modality,
        pairing__key=key,
    )
    resolved = options.require_server(replace(resolved, pairing=resolved.pairing or PairingSettings()))
    analysis = Analysis(resolved)
    with stopping() as stop:
        publisher = ReportingPublisher.from_settings(resolved, api_key, LineReport(json=json))
        pairing = Pairing(catalog=PredictionCatalog(publisher.container), analysis=analysis)
        pairer = Pairer(publisher, pairing)
        try:
            _follow(Follower(pairer), stop, resolved, interval=interval, once=once)
        finally:
            publisher.close()
    note(_summary(pairer.counts))
    if once and (pairer.counts.errors or pairer.counts.waiting):
        raise typer.Exit(1)


def _follow(follower: "Follower", stop: "Event", settings: Settings, *, interval: float, once: bool) -> None:
    server = publishable(settings.tiled_uri)
    note(f"pairing the predictions in {settings.tiled_path} of {server}")
    follower.catch_up()
    if once:
        return
    note("all existing predictions are paired, waiting for more")
    while not stop.is_set():
        try:
            follower.follow(stop, interval=interval)
        except PublishError as error:
            note(f"the server is away, trying again: {error}")
            stop.wait(interval)


def _summary(counts: "PairingCounts") -> str:
    ended = f"{counts.joint} joint answers published, {counts.failed} joint failures, {counts.errors} errors"
    return f"stopped; {ended}" + (f", {counts.waiting} to be tried again" if counts.waiting else "")
