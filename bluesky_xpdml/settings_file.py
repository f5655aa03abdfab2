"""Settings files: found only where nobody else could have written them, and parsed."""

import os
import tomllib
from pathlib import Path
from typing import Any

from bluesky_xpdml.errors import DocumentError, SettingsError
from bluesky_xpdml.files import fault_of_owner, read_regular

FILE_NAME = "xpdml.toml"
"""Name of a settings file."""
FILE_VARIABLE = "XPDML_SETTINGS"
"""Environment variable that names the settings file."""
LARGEST_FILE = 1_000_000
"""No settings file is longer, nor a file of calibrations [bytes]."""


def find_settings_file(folder: Path) -> Path | None:
    """Return the first `xpdml.toml` from a folder upwards; None if there is none.

    Raises
    ------
    SettingsError
        If others than the user and root could have written it: it might be a stranger's, who would get the
        key of the server.

    Examples
    --------
    >>> find_settings_file(Path("/")) is None
    True
    """
    start = folder.resolve()
    paths = (each / FILE_NAME for each in (start, *start.parents))
    path = next((each for each in paths if os.path.isfile(each)), None)  # noqa: PTH113 - false if unreadable
    fault = "" if path is None else fault_of_owner(path)
    if fault:
        raise SettingsError(
            f"{path} was found and not used: {fault}. If it is yours, take the right to write from others "
            "(chmod go-w, of its folder too); else remove it, or name the right one by --settings or "
            f"{FILE_VARIABLE}"
        )
    return path


def parsed(path: Path) -> dict[str, Any]:
    """Return the content of a settings file; a SettingsError is raised if it is no TOML file."""
    try:
        return tomllib.loads(read_bytes(path).decode())
    except SettingsError:
        raise
    except (ValueError, RecursionError) as error:
        # Dates that there are not, and numbers of thousands of digits, are no TOMLDecodeError.
        raise SettingsError(f"{path} is no TOML file: {error}") from error


def read_bytes(path: Path) -> bytes:
    """Return the content of a file that the settings name; a SettingsError is raised if it cannot be read."""
    try:
        return read_regular(path, LARGEST_FILE)
    except DocumentError as error:
        raise SettingsError(str(error)) from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}; correct the name") from error
