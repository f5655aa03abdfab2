"""Configuration of the documentation."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from sphinx.application import Sphinx

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
        page = folder / f"{room}.rst"
        text = "\n".join(lines)
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Write the reference before anything is read."""
    sys.dont_write_bytecode = True
    app.connect("builder-inited", write_reference)
