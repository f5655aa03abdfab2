"""Configuration of the documentation."""

import inspect
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import typer
from sphinx.application import Sphinx

from bluesky_xpdml.cli.app import add_plugins, app

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "bluesky_xpdml"

project = "bluesky_xpdml"
author = "The bluesky_xpdml developers"
copyright = f"2026, {author}"
version = release = installed_version("bluesky-xpdml")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"bluesky_xpdml {release}"

napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
# Words in the place of a type, as "element" in a list of results, are no references.
suppress_warnings = ["ref.python"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

ROOMS = {
    "callbacks": "Callbacks",
    "sources": "Sources",
    "documents": "Documents",
    "reduction": "Reduction",
    "features": "Features",
    "models": "Models",
    "simulation": "Simulation",
    "training": "Training",
    "publish": "Publishing",
    "planning": "Planning",
    "beamline": "Simulated beamline",
}


def write_reference(_app: Sphinx) -> None:
    """Write one page a room, so that a new module appears in the reference by itself."""
    folder = HERE / "_generated"
    folder.mkdir(exist_ok=True)
    for room, title in ROOMS.items():
        modules = sorted(path.stem for path in (PACKAGE / room).glob("*.py") if not path.stem.startswith("_"))
        names = [f"bluesky_xpdml.{room}.{module}" for module in modules]
        lines = [title, "=" * len(title), "", f".. automodule:: bluesky_xpdml.{room}", "   :no-members:", ""]
        for name in names:
            lines += [name, "-" * len(name), "", f".. automodule:: {name}", ""]
        _write(folder / f"{room}.rst", lines)


def write_command_line(_app: Sphinx) -> None:
    """Write what `--help` of each command says."""
    add_plugins(app)
    group = typer.main.get_command(app)
    lines = ["Command line", "============", "", "``xpdml COMMAND --help`` says the same.", ""]
    for name, command in _commands(group, "xpdml"):
        lines += [name, "-" * len(name), ""]
        lines += [f"{inspect.cleandoc(text)}\n" for text in (command.help, command.epilog) if text]
        lines += ["", "::", ""]
        usage = command.get_usage(typer.Context(command, info_name=name))
        lines += [f"    {line}" for line in usage.splitlines()] + [""]
        for parameter in command.params:
            names = (
                ", ".join(parameter.opts) if parameter.param_type_name == "option" else parameter.name.upper()
            )
            lines += [f"``{names}``", f"   {parameter.help or '...'}", ""]
    _write(HERE / "_generated" / "command-line.rst", lines)


def _commands(command: Any, name: str) -> list[tuple[str, Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        return [(name, command)]
    return [found for part, child in below.items() for found in _commands(child, f"{name} {part}")]


def _write(page: Path, lines: list[str]) -> None:
    """Leave a page that has not changed as it is, so that it is not built again."""
    text = "\n".join(lines)
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")


def setup(application: Sphinx) -> None:
    """Write the reference before anything is read."""
    sys.dont_write_bytecode = True
    application.connect("builder-inited", write_reference)
    application.connect("builder-inited", write_command_line)
