"""`xpdml models pin`: one line of the settings file, written without touching the others."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, answer_console, print_json
from bluesky_xpdml.errors import SettingsError
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.settings import FILE_NAME, resolve_settings

BARE = re.compile(r"[A-Za-z0-9_-]+")
"""Keys that TOML takes without quotes."""
HEADING = re.compile(r"^[ \t]*\[[ \t]*models[ \t]*\][^\n]*(?:\n|\Z)", re.MULTILINE)


def pin(
    name: Annotated[str, typer.Argument(help="Bundle without its version, such as Fe-xanes.")],
    version: Annotated[int, typer.Argument(min=1, help="The version that is to answer.")],
    *,
    models: options.Models = None,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Pin a bundle in the settings file, so that this version answers and not the newest.

    Everything else in the file stays as it is; where there is no file, xpdml.toml is begun here. To go back
    to the newest, take the line away.
    """
    found = resolve_settings(settings, options={"models.folder": models})
    BundleStore(found.models_folder, pins={name: version}).chosen(name)
    path = found.file or Path(FILE_NAME)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(pinned_text(before, name, version), encoding="utf-8")
    if json:
        print_json({"file": str(path), "name": name, "version": version, "before": found.pins.get(name)})
        return
    answer_console.print(f"{path}: {name} = {version}", markup=False, highlight=False, soft_wrap=True)


def pinned_text(text: str, name: str, version: int) -> str:
    r"""Return the text of a settings file in which a bundle is pinned; all other lines stay as they are.

    Parameters
    ----------
    text
        Of the file.
    name
        Of the bundle, without its version.
    version
        That is to answer.

    Raises
    ------
    SettingsError
        If the line cannot be placed, as in a file that writes its tables in another way.

    Examples
    --------
    >>> pinned_text("[models]  # ours\nFe-xanes = 2 # newest\n", "Fe-xanes", 1)
    '[models]  # ours\nFe-xanes = 1 # newest\n'
    """
    line = re.compile(rf"""^([ \t]*["']?{re.escape(name)}["']?[ \t]*=[ \t]*)[^\s#]+""", re.MULTILINE)
    key = name if BARE.fullmatch(name) else f'"{name}"'
    heading = HEADING.search(text)
    if heading is None:
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        changed = f"{text}{gap}[models]\n{key} = {version}\n"
    else:
        head, body = text[: heading.end()], text[heading.end() :]
        head = head if head.endswith("\n") else f"{head}\n"
        changed_body, n_changed = line.subn(rf"\g<1>{version}", body, count=1)
        changed = head + (changed_body if n_changed else f"{key} = {version}\n{body}")
    if _parsed(changed) != _with_pin(_parsed(text), name, version):
        raise SettingsError(
            f"the pin cannot be placed: write the line {key} = {version} under [models] yourself"
        )
    return changed


def _with_pin(table: dict[str, Any] | None, name: str, version: int) -> dict[str, Any]:
    known = table or {}
    return known | {"models": {**known.get("models", {}), name: version}}


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None
