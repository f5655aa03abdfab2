"""Configuration of the documentation."""

import inspect
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import typer
from sphinx.application import Sphinx

from bluesky_xpdml.callbacks.metrics import METRICS
from bluesky_xpdml.cli.app import add_plugins, app

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from settings_table import markdown  # noqa: E402 - beside this file

PACKAGE = HERE.parent / "bluesky_xpdml"
GENERATED = HERE / "_generated"

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
# Words in the place of a type, such as "element" in a list of results, are no references.
suppress_warnings = ["ref.python"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

PACKAGES = {
    "callbacks": "Callbacks",
    "sources": "Sources",
    "documents": "Documents",
    "reduction": "Reduction",
    "features": "Features",
    "models": "Models",
    "simulation": "Simulation",
    "analysis": "Analysis",
    "pairing": "Pairing",
    "publish": "Publishing",
    "planning": "Planning",
    "planning.queue": "Planning through the queue server",
    "figures": "Figures",
    "demo": "Demonstrations",
    "demo.beamline": "Simulated beamlines",
    "factory.dataset": "Factory: data sets",
    "factory.training": "Factory: training",
    "factory.bench": "Factory: benchmarks",
}
"""Titles of the reference pages by package."""


def write_reference(_app: Sphinx) -> None:
    """Write one page for each package, so that a new module appears in the reference by itself."""
    for package, title in PACKAGES.items():
        folder = PACKAGE.joinpath(*package.split("."))
        modules = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
        names = [f"bluesky_xpdml.{package}.{module}" for module in modules]
        lines = [
            title,
            "=" * len(title),
            "",
            f".. automodule:: bluesky_xpdml.{package}",
            "   :no-members:",
            "",
        ]
        for name in names:
            lines += [name, "-" * len(name), "", f".. automodule:: {name}", ""]
        _write(GENERATED / f"{package}.rst", lines)
    for page in GENERATED.glob("*.rst"):
        if page.stem not in {*PACKAGES, "command-line"}:
            page.unlink()


def write_settings(_app: Sphinx) -> None:
    """Write the table of the keys of a settings file, which `reference/settings.md` includes."""
    _write(GENERATED / "settings-keys.inc", [markdown()])


def write_metrics(_app: Sphinx) -> None:
    """Write the table of the metrics, which `reference/metrics.md` includes."""
    lines = ["| metric | kind | label | meaning |", "|---|---|---|---|"]
    for metric in METRICS:
        label = f"`{metric.label}`: {metric.labels}" if metric.label else ""
        kind = "counter" if metric.is_counter else "gauge"
        lines.append(f"| `{metric.name}` | {kind} | {label} | {metric.text} |")
    _write(GENERATED / "metrics.inc", [*lines, ""])


def write_command_line(_app: Sphinx) -> None:
    """Write the help text of each command."""
    add_plugins(app)
    group = typer.main.get_command(app)
    lines = ["Command line", "============", "", "``xpdml COMMAND --help`` prints the same text.", ""]
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
    _write(GENERATED / "command-line.rst", lines)


def _commands(command: Any, name: str) -> list[tuple[str, Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        return [(name, command)]
    return [found for part, child in below.items() for found in _commands(child, f"{name} {part}")]


def _write(page: Path, lines: list[str]) -> None:
    """Write a page if its text has changed, so that only changed pages are built again."""
    GENERATED.mkdir(exist_ok=True)
    text = "\n".join(lines)
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")


def setup(application: Sphinx) -> None:
    """Generate the reference before Sphinx reads the pages."""
    sys.dont_write_bytecode = True
    application.connect("builder-inited", write_reference)
    application.connect("builder-inited", write_settings)
    application.connect("builder-inited", write_metrics)
    application.connect("builder-inited", write_command_line)
