"""`xpdml doctor`: what is installed, reachable and loadable, its size, and what to do about the rest."""

import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rich.text import Text

from bluesky_xpdml import __version__
from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, print_json, print_table
from bluesky_xpdml.errors import ModelError, PublishError, SettingsError
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.settings import Settings, resolve_settings
from bluesky_xpdml.settings_file import FILE_NAME

PROJECT = "bluesky-xpdml"
MEGABYTE = 1e6
N_NAMED = 2
"""Packages named in a cell of a table."""
ADVICE = {
    "srreal": "pip install 'bluesky-xpdml[srreal]', or diffpy.srreal from conda-forge",
}
"""How to get an extra, where that is not `pip install 'bluesky-xpdml[EXTRA]'`."""


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
    sizes: Annotated[bool, typer.Option("--sizes", help="Only list how much each extra installs.")] = False,
    json: bool = JSON,
) -> None:
    """Show what is installed, reachable and loadable, and which settings apply.

    The exit status is 1 if something needed is broken.
    """
    if sizes:
        _print_sizes(json=json)
        return
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
    for requirement in _requirements(PROJECT, ""):
        installed = _installed(requirement.name)
        if installed is None:
            yield Check(requirement.name, "broken", "not installed", f"pip install '{requirement}'")
        elif not requirement.specifier.contains(installed.version, prereleases=True):
            yield Check(requirement.name, "broken", installed.version, f"pip install '{requirement}'")
        else:
            yield Check(requirement.name, "ok", installed.version)


def _extras() -> Iterator[Check]:
    for extra in _extra_names():
        needed = [requirement.name for requirement in _requirements(PROJECT, extra)]
        missing = _closure(extra).missing
        if not needed:
            yield Check(f"extra {extra}", "missing", "not for this Python", _advice(extra))
        elif missing:
            yield Check(f"extra {extra}", "missing", f"without {_first(missing)}", _advice(extra))
        else:
            yield Check(f"extra {extra}", "ok", _first(needed))


def _extra_names() -> list[str]:
    return sorted(distribution(PROJECT).metadata.get_all("Provides-Extra") or ())


def _advice(extra: str) -> str:
    return ADVICE.get(extra, f"pip install 'bluesky-xpdml[{extra}]'")


def _first(names: Sequence[str]) -> str:
    """Return names for a cell of a table.

    Examples
    --------
    >>> _first(["fabio", "pyfai", "tifffile", "xraylib", "silx"])
    'fabio, pyfai and 3 more'
    """
    more = f" and {len(names) - N_NAMED} more" if len(names) > N_NAMED else ""
    return ", ".join(names[:N_NAMED]) + more


class Closure(NamedTuple):
    """Everything that the core or an extra needs, directly or through another package; not the project."""

    installed: dict[str, Distribution]
    missing: list[str]


def _closure(extra: str) -> Closure:
    """Follow the requirements of the core (no extra) or of an extra alone, as they hold on this computer."""
    installed: dict[str, Distribution] = {}
    missing: dict[str, None] = {}
    waiting = [(PROJECT, extra)]
    seen = set(waiting)
    while waiting:
        name, part = waiting.pop()
        for requirement in _requirements(name, part):
            found = _installed(requirement.name)
            key = canonicalize_name(requirement.name)
            if found is None:
                missing[requirement.name] = None
                continue
            installed[key] = found
            parts = {(key, each) for each in ("", *requirement.extras)} - seen
            # An extra of ours that names another one of ours does not bring the core in.
            parts -= {(PROJECT, "")}
            seen |= parts
            waiting += parts
    installed.pop(PROJECT, None)
    return Closure(installed, list(missing))


def _requirements(name: str, extra: str) -> Iterator[Requirement]:
    """Yield what an installed package needs here for one of its extras, or without any."""
    found = _installed(name)
    for text in (found.requires or ()) if found else ():
        requirement = Requirement(text)
        plain = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if extra:
            chosen = requirement.marker is not None and requirement.marker.evaluate({"extra": extra})
            if chosen and not plain:
                yield requirement
        elif plain:
            yield requirement


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _print_sizes(*, json: bool) -> None:
    """Print how many packages, and how many megabytes, the core has and each extra adds to it."""
    core = _closure("").installed
    own = _megabytes(_project_files())
    # Packages of several extras are measured once.
    sizes = {name: _megabytes(_files(package)) for name, package in core.items()}
    described: dict[str, Any] = {
        "core": _cost(sizes, missing=()) | {"own_megabytes": round(own, 1)},
        "extras": {},
    }
    described["core"]["megabytes"] = round(described["core"]["megabytes"] + own, 1)
    for extra in _extra_names():
        found = _closure(extra)
        added = found.installed.keys() - core.keys()
        sizes |= {name: _megabytes(_files(found.installed[name])) for name in added - sizes.keys()}
        described["extras"][extra] = _cost({name: sizes[name] for name in added}, missing=found.missing)
    if json:
        print_json(described)
        return
    rows = [_size_row(f"core (own files {own:.0f})", "", described["core"])]
    rows += [_size_row(extra, "+", cost) for extra, cost in described["extras"].items()]
    print_table("", ("what", "packages", "MB", "largest [MB]", "not installed"), rows)


def _cost(megabytes: Mapping[str, float], *, missing: Sequence[str]) -> dict[str, Any]:
    largest = sorted(megabytes, key=lambda name: -megabytes[name])[:10]
    return {
        "packages": len(megabytes),
        "megabytes": round(sum(megabytes.values()), 1),
        "largest": {name: round(megabytes[name], 1) for name in largest},
        "missing": list(missing),
    }


def _size_row(name: str, sign: str, cost: Mapping[str, Any]) -> list[str]:
    largest = [f"{package} {size:.0f}" for package, size in cost["largest"].items()]
    return [
        name,
        f"{sign}{cost['packages']}",
        f"{sign}{cost['megabytes']:.0f}",
        ", ".join(largest[:3]),
        _first(cost["missing"]),
    ]


def _files(package: Distribution) -> Iterator[Path]:
    return (Path(str(package.locate_file(file))) for file in package.files or ())


def _project_files() -> Iterator[Path]:
    """Yield our own files, models among them; an editable installation records only a link to them."""
    for folder, _, names in os.walk(Path(__file__).resolve().parents[1], followlinks=True):
        yield from (Path(folder, name) for name in names if not name.endswith(".pyc"))


def _megabytes(files: Iterable[Path]) -> float:
    return sum(file.stat().st_size for file in files if file.is_file()) / MEGABYTE


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
