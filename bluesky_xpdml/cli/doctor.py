"""`xpdml doctor`: what is installed, reachable and loadable, and what to do about the rest."""

import platform
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.text import Text

from bluesky_xpdml import __version__
from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, print_json, print_table
from bluesky_xpdml.errors import ModelError, PublishError, SettingsError
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.settings import FILE_NAME, Settings, resolve_settings

REQUIRED = (
    "bluesky",
    "bluesky-tiled-plugins",
    "databroker",
    "matplotlib",
    "numpy",
    "ophyd",
    "pyFAI",
    "pymatgen",
    "scikit-learn",
    "scipy",
    "tiled",
    "xraydb",
    "xraylib",
)
EXTRAS = {
    "torch": ("torch", "pip install 'bluesky-xpdml[torch]'"),
    "kafka": ("bluesky_kafka", "pip install 'bluesky-xpdml[kafka]'"),
    "srreal": (
        "diffpy.srreal",
        "conda install -c conda-forge diffpy.srreal: its library is on conda-forge only",
    ),
    "dashboard": ("bokeh", "pip install 'bluesky-xpdml[dashboard]'"),
}
"""Importable name of each extra, and how to get it."""


class Check(NamedTuple):
    """The result of one check."""

    name: str
    status: str
    """`ok`, `missing` (optional) or `broken`."""
    detail: str
    advice: str = ""


def doctor(
    *,
    tiled: Annotated[str, typer.Option(help="Address of a Tiled server to try.")] = "",
    api_key: options.Key = None,
    models: options.Models = None,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Show what is installed, reachable and loadable, and which settings apply.

    The exit status is 1 if something needed is broken.
    """
    found, of_settings = _settings(settings, {"tiled.uri": tiled, "models.folder": models})
    server = _server(found.tiled_uri, api_key or found.api_key())
    checks = [*_python(), *_packages(), *_extras(), *of_settings, *_models(found), *_data(), *server]
    if json:
        print_json({"checks": [check._asdict() for check in checks], "settings": found.described()})
    else:
        colours = {"ok": "green", "missing": "yellow", "broken": "red"}
        rows: list[list[str | Text]] = [
            [check.name, Text(check.status, style=colours[check.status]), check.detail, check.advice]
            for check in checks
        ]
        print_table("", ("what", "", "found", "what to do"), rows)
    if any(check.status == "broken" for check in checks):
        raise typer.Exit(1)


def _python() -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} in {sys.prefix}")
    yield Check("bluesky_xpdml", "ok", __version__)


def _packages() -> Iterator[Check]:
    for name in REQUIRED:
        try:
            yield Check(name, "ok", version(name))
        except PackageNotFoundError:
            yield Check(name, "broken", "not installed", f"pip install {name}")


def _extras() -> Iterator[Check]:
    for extra, (module, advice) in EXTRAS.items():
        parent = module.partition(".")[0]
        found = find_spec(parent) is not None and find_spec(module) is not None
        yield (
            Check(f"extra {extra}", "ok", module) if found else Check(f"extra {extra}", "missing", "", advice)
        )


def _settings(file: Path | None, given: Mapping[str, object]) -> tuple[Settings, list[Check]]:
    """Return the settings, the defaults if the file cannot be used, and the checks of them."""
    name = "settings file"
    try:
        found = resolve_settings(file, options=given)
    except SettingsError as error:
        return Settings(), [Check(name, "broken", str(error), "correct it: see docs/reference/settings.md")]
    checks = [Check(name, "ok", str(found.file))]
    if found.file is None:
        advice = "not needed; it can hold all settings of a beamtime"
        checks = [Check(name, "missing", f"no {FILE_NAME} from here upwards", advice)]
    values = found.described().items()
    return found, checks + [Check(f"setting {key}", "ok", _shown(value)) for key, value in values]


def _shown(value: Mapping[str, object]) -> str:
    shown = "none" if value["value"] == "" else value["value"]
    return f"{shown} ({value['origin']})"


def _models(settings: Settings) -> Iterator[Check]:
    store = BundleStore(settings.models_folder, pins=settings.pins)
    for name in settings.pins:
        try:
            store.chosen(name)
        except ModelError as error:
            yield Check(f"pin {name}", "broken", str(error), f"xpdml models pin {name} VERSION")
    names = store.names()
    if not names:
        yield Check(
            "models", "broken", f"no bundle in {store.folder}", "install the package again, or xpdml train"
        )
    for name in names:
        try:
            store.load(name)
        except ModelError as error:
            yield Check(f"model {name}", "broken", str(error), "xpdml models verify")
        else:
            yield Check(f"model {name}", "ok", "loads, hashes agree")


def _data() -> Iterator[Check]:
    if options.DATA.is_dir():
        yield Check("development data", "ok", str(options.DATA))
    else:
        advice = "needed for `xpdml train` and `xpdml bench experiment` only: give its folders there"
        yield Check("development data", "missing", f"no {options.DATA}", advice)


def _server(uri: str, api_key: str | None) -> Iterator[Check]:
    from bluesky_xpdml.publish.tiled import connect

    if not uri:
        yield Check(
            "tiled server", "missing", "none is named", "--tiled ADDRESS, or tiled.uri in the settings"
        )
        return
    try:
        client: Any = connect(uri, api_key=api_key)
    except PublishError as error:
        yield Check("tiled server", "broken", str(error), "start it, or correct the address or the key")
    else:
        yield Check("tiled server", "ok", f"{client.uri}, {len(client)} entries")
        client.context.http_client.close()
