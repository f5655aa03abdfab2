"""Where profiles are looked for: among those of the package, and in folders of the user's own."""

import os
from functools import cache
from importlib.resources import files
from pathlib import Path

SEARCH_PATH = "XPDML_PROFILES"
"""Environment variable that names folders of profiles, separated as in PATH."""


@cache
def profile_files(search_path: str) -> dict[str, Path]:
    """Return the file of each profile by its name; a user's own wins over one of the package.

    Parameters
    ----------
    search_path
        Folders of profiles, separated as in PATH; empty for those of the package alone.

    Examples
    --------
    >>> "iss" in profile_files("")
    True
    """
    found = _in_folder(Path(str(files("bluesky_xpdml.documents").joinpath("profiles"))))
    for folder in reversed([part for part in search_path.split(os.pathsep) if part]):
        found |= _in_folder(Path(folder))
    return found


def _in_folder(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}
