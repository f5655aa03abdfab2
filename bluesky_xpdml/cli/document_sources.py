"""The streams of documents that a watcher follows: 0MQ, Kafka, or the runs of a Tiled server."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bluesky_xpdml.cli.options import Setting
from bluesky_xpdml.credentials import parted
from bluesky_xpdml.errors import SettingsError
from bluesky_xpdml.publish.state import state_folder
from bluesky_xpdml.publish.status import node_name, statuses_beside
from bluesky_xpdml.settings import Settings
from bluesky_xpdml.sources.stream import DocumentSource

if TYPE_CHECKING:
    from bluesky_xpdml.documents import StoredRuns

RAW_KEY = "XPDML_RAW_API_KEY"
"""Variable with the key of the server of the raw runs, where the predictions are on another one."""
KAFKA_FILE = Path("/etc/bluesky/kafka.yml")
"""Where facilities describe their brokers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """Where documents come from."""

    zmq: Annotated[
        str, typer.Option(help="Output address of a 0MQ proxy: HOST:PORT, or ipc://PATH.", metavar="ADDRESS")
    ] = ""
    kafka: Annotated[
        str,
        typer.Option(
            help=f"Brokers of Kafka, HOST:PORT[,HOST:PORT], or the file that names them: {KAFKA_FILE}.",
            metavar="BROKERS|FILE",
        ),
    ] = ""
    from_tiled: Annotated[
        str,
        typer.Option(
            help="Tiled server whose raw runs, in the container of --raw, are answered once they are whole; "
            "also that of the predictions, if no other is named.",
            metavar="ADDRESS",
        ),
    ] = ""
    raw: Annotated[
        str,
        typer.Option(help="Container of the raw runs; without --from-tiled for dark runs, and missed runs."),
        Setting("tiled.raw_path"),
    ] = ""
    prefix: Annotated[str, typer.Option(help="0MQ: take documents of publishers with this prefix only.")] = ""
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="0MQ: allow a proxy on another computer without keys.")
    ] = False
    zmq_key: Annotated[
        Path | None,
        typer.Option(help="0MQ: own secret certificate of an encrypted connection; only you may read it."),
    ] = None
    zmq_server_key: Annotated[
        Path | None, typer.Option(help="0MQ: public certificate of the proxy, with --zmq-key.")
    ] = None
    topic: Annotated[str, typer.Option(help="Kafka: topic of the documents.")] = ""
    group: Annotated[
        str,
        typer.Option(
            help="Kafka: consumers of one group share the runs; named after the container by default."
        ),
    ] = ""
    from_beginning: Annotated[
        bool,
        typer.Option(
            "--from-beginning",
            help="Kafka and Tiled: begin a first start with the oldest run, not with the next one.",
        ),
    ] = False


def require_one(options: SourceOptions) -> None:
    """Raise a SettingsError unless exactly one source is named."""
    named = {"--zmq": options.zmq, "--kafka": options.kafka, "--from-tiled": options.from_tiled}
    found = [name for name, value in named.items() if value]
    if len(found) != 1:
        raise SettingsError(
            f"expected one source of documents, found {' and '.join(found) or 'none'}: name one of "
            "--zmq ADDRESS, --kafka BROKERS --topic TOPIC, and --from-tiled ADDRESS --raw CONTAINER"
        )


def open_source(options: SourceOptions, settings: Settings, api_key: str | None) -> DocumentSource:
    """Return the source that the options name.

    Raises
    ------
    SettingsError
        If something is missing that it needs.
    SourceError
        If its address cannot be used.
    """
    if options.zmq:
        from bluesky_xpdml.sources.curve import CurveKeys
        from bluesky_xpdml.sources.zmq import ZmqSource

        return ZmqSource(
            options.zmq,
            prefix=options.prefix.encode(),
            allow_remote=options.allow_remote,
            keys=CurveKeys.of(options.zmq_key, options.zmq_server_key),
        )
    return _kafka(options, settings) if options.kafka else _tiled(options, settings, api_key)


def stored_runs(options: SourceOptions, settings: Settings, api_key: str | None) -> "StoredRuns | None":
    """Return the raw runs, for dark frames, if they are on another server than the predictions."""
    from bluesky_xpdml.documents import StoredRuns

    return StoredRuns.lazily(_raw_container(options, settings, api_key)) if options.from_tiled else None


def _kafka(options: SourceOptions, settings: Settings) -> DocumentSource:
    from bluesky_xpdml.sources.kafka import KafkaSource, kafka_config

    if not options.topic:
        raise SettingsError(
            "expected the topic of the documents, found none: name it by --topic, such as "
            "'xpd.bluesky.runengine.documents'"
        )
    is_file = "/" in options.kafka or options.kafka.endswith((".yml", ".yaml"))
    brokers, config = kafka_config(Path(options.kafka)) if is_file else (options.kafka, {})
    return KafkaSource(
        brokers,
        options.topic,
        group=options.group or f"xpdml-{settings.tiled_path.strip('/').replace('/', '-')}",
        config=config,
        from_beginning=options.from_beginning,
    )


def _tiled(options: SourceOptions, settings: Settings, api_key: str | None) -> DocumentSource:
    from bluesky_xpdml.callbacks.catch_up import cursor_file
    from bluesky_xpdml.publish import open_existing
    from bluesky_xpdml.sources.sharing import Sharing
    from bluesky_xpdml.sources.tiled import TiledSource

    uri, path, raw = settings.tiled_uri, settings.tiled_path, settings.tiled_raw_path
    if not raw:
        raise SettingsError("expected the container of the raw runs, found none: name it by --raw")
    key = api_key or settings.api_key()
    address = parted(options.from_tiled).uri.rstrip("/")
    folder = state_folder(uri, path, root=settings.outbox.folder)
    return TiledSource(
        address,
        raw,
        raw=_raw_container(options, settings, api_key),
        derived=partial(open_existing, uri, api_key=key, path=path),
        file=cursor_file(folder, f"{address}/{raw}"),
        sharing=lambda source: Sharing(
            node_name(socket.gethostname(), os.getpid()),
            source,
            partial(statuses_beside, uri, api_key=key, path=path),
        ),
        from_beginning=options.from_beginning,
    )


def _raw_container(options: SourceOptions, settings: Settings, api_key: str | None) -> Callable[[], Any]:
    """Return what connects to the raw runs; the key of the predictions is not given to another server."""
    from bluesky_xpdml.publish import open_existing

    raw, own = parted(options.from_tiled), parted(settings.tiled_uri)
    is_same = raw.uri.rstrip("/") == own.uri.rstrip("/")
    key = (api_key or settings.api_key() or own.api_key) if is_same else os.environ.get(RAW_KEY)
    return partial(
        open_existing, options.from_tiled, api_key=raw.api_key or key, path=settings.tiled_raw_path
    )
