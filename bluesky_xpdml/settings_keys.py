"""Every key of a settings file, and what its value has to be."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bluesky_xpdml.documents import load_profile
from bluesky_xpdml.errors import DocumentError

PIN = "models."
"""The keys of pinned bundles begin so."""
_BUNDLE = re.compile(r"models\.[A-Z][a-z]?-[a-z_+]+")


class UnfitError(Exception):
    """A value is not what its key needs; the message is what that is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of a settings file."""

    field: str
    """Of `Settings`."""
    read: Callable[[object, Path], object]
    """Returns the value, with paths counted from a folder, or raises `UnfitError`."""
    shown: bool = True
    """Whether a value that does not fit may be repeated; it might be a secret in the wrong place."""


def is_pin(name: str) -> bool:
    """Return whether a dotted key pins a bundle.

    Parameters
    ----------
    name
        Dotted key.

    Examples
    --------
    >>> is_pin("models.Fe-xanes"), is_pin("models.folder")
    (True, False)
    """
    return _BUNDLE.fullmatch(name) is not None


def read_pin(value: object) -> int:
    """Return the version that a bundle is pinned to.

    Parameters
    ----------
    value
        As the file has it.

    Raises
    ------
    UnfitError
        If it is no positive whole number.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UnfitError("the version of a bundle, a whole number from 1 on,")
    return value


def from_text(name: str, text: str) -> object:
    """Return the text of an environment variable as the value that a file would have.

    Parameters
    ----------
    name
        Dotted key.
    text
        Of the variable.

    Examples
    --------
    >>> from_text("calibration.energy_offset", "-0.5"), from_text("profile", "8")
    (-0.5, '8')
    """
    if name not in {"calibration.energy_offset", "repeats.within"}:
        return text
    try:
        return float(text)
    except ValueError:
        return text


def _text(value: object, _folder: Path) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UnfitError("a text")
    return value


def _variable(value: object, folder: Path) -> str:
    name = _text(value, folder)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise UnfitError("the name of an environment variable, not the key itself,")
    return name


def _uri(value: object, folder: Path) -> str:
    uri = _text(value, folder)
    if urlsplit(uri).scheme not in {"http", "https"}:
        raise UnfitError("an address that begins with http:// or https://")
    return uri


def _profile(value: object, folder: Path) -> str:
    name = _text(value, folder)
    if name == "auto":
        return name
    path = str(folder / name) if name.endswith(".toml") else name
    try:
        load_profile(path)
    except DocumentError as error:
        raise UnfitError(f"auto or a profile ({error})") from error
    return path


def _path(value: object, folder: Path) -> Path:
    if not isinstance(value, Path):
        value = _text(value, folder)
    return folder / Path(value).expanduser()


def _folder(value: object, folder: Path) -> Path:
    path = _path(value, folder)
    if not path.is_dir():
        raise UnfitError("a folder that is there")
    return path


def _file(value: object, folder: Path) -> Path:
    path = _path(value, folder)
    if not path.is_file():
        raise UnfitError("a file that is there")
    return path


def _offset(value: object, _folder: Path) -> float | str:
    if value in ("reference", "none"):
        return str(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(float(value)):  # type: ignore[arg-type]
        raise UnfitError('a number [eV], "reference" or "none"')
    return float(value)  # type: ignore[arg-type]


def _duration(value: object, _folder: Path) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0.0 <= float(value) < math.inf:  # type: ignore[arg-type]
        raise UnfitError("a time from 0 on [s]")
    return float(value)  # type: ignore[arg-type]


KEYS: Mapping[str, Key] = {
    "profile": Key(field="profile", read=_profile),
    "tiled.uri": Key(field="tiled_uri", read=_uri),
    "tiled.path": Key(field="tiled_path", read=_text),
    "tiled.raw_path": Key(field="tiled_raw_path", read=_text),
    "tiled.api_key_variable": Key(field="api_key_variable", read=_variable, shown=False),
    "models.folder": Key(field="models_folder", read=_folder),
    "calibration.energy_offset": Key(field="energy_offset", read=_offset),
    "calibration.file": Key(field="calibration_file", read=_file),
    "repeats.within": Key(field="repeats_within", read=_duration),
}
"""By dotted name, which is that in the file."""
