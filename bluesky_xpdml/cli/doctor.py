"""`xpdml doctor`: what is installed, reachable and loadable, and what to do about what is not."""

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from bluesky_xpdml import __version__
from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, print_json, print_table
from bluesky_xpdml.cli.predict import open_store
from bluesky_xpdml.errors import ModelError, PublishError

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
    """One thing that was looked at."""

    name: str
    status: str
    """`ok`, `missing` (optional, can do without) or `broken`."""
    detail: str
    advice: str = ""


def doctor(
    *,
    tiled: Annotated[str, typer.Option(help="Address of a Tiled server to try.")] = "",
    api_key: options.ApiKey = None,
    models: options.Models = None,
    json: bool = JSON,
) -> None:
    """Say what is installed, reachable and loadable; the exit status is 1 if something needed is broken."""
    checks = [*_python(), *_packages(), *_extras(), *_models(models), *_data(), *_server(tiled, api_key)]
    if json:
        print_json({"checks": [check._asdict() for check in checks]})
    else:
        colours = {"ok": "green", "missing": "yellow", "broken": "red"}
        rows = [
            [c.name, f"[{colours[c.status]}]{c.status}[/]", c.detail, c.advice.replace("[", r"\[")]
            for c in checks
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


def _models(folder: Path | None) -> Iterator[Check]:
    store = open_store(folder)
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
        yield Check("tiled server", "missing", "none was named", "xpdml doctor --tiled ADDRESS tries one")
        return
    try:
        client: Any = connect(uri, api_key=api_key)
    except PublishError as error:
        yield Check("tiled server", "broken", str(error), "start it, or correct the address or the key")
    else:
        yield Check("tiled server", "ok", f"{client.uri}, {len(client)} entries")
