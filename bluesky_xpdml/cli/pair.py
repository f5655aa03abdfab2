"""`xpdml pair`: joint answers for what two beamlines publish into one container."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, progress_console, stopping
from bluesky_xpdml.cli.watch import Told
from bluesky_xpdml.errors import PublishError, SettingsError
from bluesky_xpdml.settings import PairingSettings, Settings, resolve_settings
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


def pair(
    *,
    tiled: Annotated[
        str, typer.Option(help="Address of the Tiled server with the predictions; else that of the settings.")
    ] = "",
    path: Annotated[str, typer.Option(help="Their container; xpdml, or what the settings say.")] = "",
    within: Annotated[
        float | None,
        typer.Option(help="Runs of one sample that began within so long of each other are paired [s]."),
    ] = None,
    modality: Annotated[
        Modality,
        typer.Option(
            help="What is paired.", parser=_joint_modality, metavar=f"[{'|'.join(Modality.joint())}]"
        ),
    ] = Modality.XANES_PDF,
    key: Annotated[
        str,
        typer.Option(
            help="Entry that callbacks carry and that tells samples apart, instead of uid and name."
        ),
    ] = "",
    interval: Annotated[
        float, typer.Option(help="Look for new predictions at least this often [s].", min=0.05)
    ] = 1.0,
    once: Annotated[
        bool, typer.Option("--once", help="Answer what is there and stop, rather than wait for more.")
    ] = False,
    api_key: options.Key = None,
    models: options.Models = None,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Answer XANES and PDF of one sample together, in whichever order they came, until SIGTERM or Ctrl-C.

    Goes over all predictions that are there, then over those that come; what is answered is left alone. One
    line a joint answer on stdout. Run it where two beamlines publish into one container; one callback that
    sees both pairs by itself (`XpdmlCallback(..., pairing=...)`).
    """
    from bluesky_xpdml.analysis.request import Analysis
    from bluesky_xpdml.pairing.pairing import Pairing
    from bluesky_xpdml.pairing.publisher import Follower, Pairer
    from bluesky_xpdml.publish import PredictionCatalog, TiledPublisher

    fixed = resolve_settings(
        settings,
        options={
            "tiled.uri": tiled,
            "tiled.path": path,
            "models.folder": models,
            "pairing.within": within,
            "pairing.modality": modality,
            "pairing.key": key,
        },
    )
    fixed = replace(fixed, pairing=fixed.pairing or PairingSettings())
    if not fixed.tiled_uri:
        raise SettingsError(
            "expected a Tiled server, found none: name it by --tiled, or as tiled.uri in the settings"
        )
    analysis = Analysis(fixed)
    with stopping() as stop:
        publisher = TiledPublisher.from_uri(
            fixed.tiled_uri, api_key=api_key or fixed.api_key(), path=fixed.tiled_path
        )
        catalog = PredictionCatalog(publisher.container)
        pairing = Pairing(catalog=catalog, analysis=analysis)
        pairer = Pairer(Told(publisher, json=json), pairing)
        try:
            _work(Follower(pairer), stop, fixed, interval=interval, once=once)
        finally:
            publisher.close()
    _note(_summary(pairer.counts))
    if once and (pairer.counts.errors or pairer.counts.waiting):
        raise typer.Exit(1)


def _work(follower: "Follower", stop: "Event", fixed: Settings, *, interval: float, once: bool) -> None:
    server = fixed.tiled_uri.partition("?")[0]
    _note(f"pairing what is in {fixed.tiled_path} of {server}")
    follower.catch_up()
    if once:
        return
    _note("all that is there is paired, waiting for more")
    while not stop.is_set():
        try:
            follower.follow(stop, interval=interval)
        except PublishError as error:
            _note(f"the server is away, trying again: {error}")
            stop.wait(interval)


def _summary(counts: "PairingCounts") -> str:
    told = f"{counts.joint} joint answers published, {counts.failed} joint failures, {counts.errors} errors"
    return f"stopped; {told}" + (f", {counts.waiting} to be asked again" if counts.waiting else "")


def _note(text: str) -> None:
    progress_console.print(f"xpdml: {text}", markup=False, highlight=False, soft_wrap=True)
