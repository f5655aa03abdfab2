"""Keys of a settings file, and the checks of their values, which raise what was expected."""

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from json import dumps
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bluesky_xpdml.documents import load_profile
from bluesky_xpdml.errors import DocumentError, XpdmlError, redacted
from bluesky_xpdml.files import read_regular
from bluesky_xpdml.records import Calibration

LARGEST_PONI = 1_000_000
"""No calibration is longer [bytes]."""
PIN = "models."
"""Keys of pinned bundles begin with it."""
SHOWN_VALUE = 200
"""Longer values are cut in messages [characters]."""
_BUNDLE = re.compile(r"models\.[A-Z][a-z]?-[a-z_+]+")


def text_of(value: object) -> str:
    """Return a value for a message: on one line, without secrets, and cut."""
    try:
        text = repr(publishable(value))
    except RecursionError:
        return "a value in many levels"
    return text if len(text) <= SHOWN_VALUE else f"{text[:SHOWN_VALUE]}..."


class UnfitError(Exception):
    """A value is not what its key needs; the message says what that is."""


def read_text(value: object, _folder: Path) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise UnfitError("a text")
    return value


def read_variable(value: object, folder: Path) -> str:
    """Return the name of an environment variable that begins with `TILED_` or `XPDML_`."""
    name = read_text(value, folder)
    # Any other variable may hold a secret that is not for the server that the same file names.
    if not re.fullmatch(r"(TILED|XPDML)_[A-Za-z0-9_]+", name):
        raise UnfitError(
            "the name of an environment variable that begins with TILED_ or XPDML_, not the key itself,"
        )
    return name


def read_uri(value: object, folder: Path) -> str:
    """Return an address of a server."""
    uri = read_text(value, folder)
    if _scheme(uri) not in {"http", "https"}:
        raise UnfitError("an address that begins with http:// or https://")
    return uri


def _scheme(uri: str) -> str:
    try:
        return urlsplit(uri).scheme
    except ValueError:
        return ""


def read_profile(value: object, folder: Path) -> str:
    """Return the name of a profile, or the path of its file."""
    name = read_text(value, folder)
    if name == "auto":
        return name
    path = str(folder / name) if name.endswith(".toml") else name
    try:
        load_profile(path)
    except DocumentError as error:
        raise UnfitError(f"auto or a profile ({error})") from error
    return path


def read_path(value: object, folder: Path) -> Path:
    """Return a path relative to a folder."""
    if not isinstance(value, Path):
        value = read_text(value, folder)
    try:
        return folder / Path(value).expanduser()
    except RuntimeError:
        raise UnfitError("a path of a user that there is") from None


def read_folder(value: object, folder: Path) -> Path:
    """Return an existing folder."""
    path = read_path(value, folder)
    if not os.path.isdir(path):  # noqa: PTH112 - false for names that no system takes
        raise UnfitError("an existing folder")
    return path


def read_file(value: object, folder: Path) -> Path:
    """Return an existing file."""
    path = read_path(value, folder)
    if not os.path.isfile(path):  # noqa: PTH113 - false for names that no system takes
        raise UnfitError("an existing file")
    return path


def read_roots(value: object, folder: Path) -> Mapping[str, str]:
    """Return a table with a folder here for each folder there."""
    if not isinstance(value, Mapping):
        raise UnfitError("a table with a folder here for each folder there")
    return {str(there): str(read_path(here, folder).absolute()) for there, here in value.items()}


def read_poni(value: object, folder: Path) -> Calibration:
    """Return the calibration in a `.poni` file."""
    from bluesky_xpdml.reduction.calibration import calibration_from_poni

    path = read_file(value, folder)
    try:
        text = read_regular(path, LARGEST_PONI).decode()
        return calibration_from_poni(text, shape=None)
    except (XpdmlError, OSError, UnicodeDecodeError) as error:
        raise UnfitError(f"a calibration as pyFAI writes it ({error})") from error


def read_offset(value: object, _folder: Path) -> float | str:
    """Return what is added to the energies [eV], or how it is found."""
    if value in ("reference", "none"):
        return str(value)
    if not _is_number(value):
        raise UnfitError('a number [eV], "reference" or "none"')
    return float(value)  # type: ignore[arg-type]


def read_duration(value: object, _folder: Path) -> float:
    """Return a time [s]."""
    if not _is_number(value) or float(value) < 0.0:  # type: ignore[arg-type]
        raise UnfitError("a time from 0 on [s]")
    return float(value)  # type: ignore[arg-type]


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def variable_of(key: str) -> str:
    """Return the environment variable that holds the value of a key.

    Examples
    --------
    >>> variable_of("tiled.uri")
    'XPDML_TILED_URI'
    """
    return f"XPDML_{key.upper().replace('.', '_')}"


def is_pin(name: str) -> bool:
    """Return whether a dotted key pins a bundle.

    Examples
    --------
    >>> is_pin("models.Fe-xanes"), is_pin("models.folder")
    (True, False)
    """
    return _BUNDLE.fullmatch(name) is not None


def publishable(value: object) -> object:
    """Return a value as it may be published: addresses without keys and passwords."""
    if isinstance(value, str) and "://" in value:
        return re.split(r"[?#]", redacted(value), maxsplit=1)[0]
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return {str(name): publishable(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [publishable(each) for each in value]
    return value if isinstance(value, int | float) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """How one key of the settings file becomes a field."""

    name: str = ""
    """Dotted; empty for the section and the name of the field."""
    read: Callable[[object, Path], object] | None = None
    """Returns the value, with paths relative to a folder, or raises; None checks the field's type."""
    shown: bool = True
    """Whether an unfit value may be repeated in a message: it might be a secret in the wrong place."""
    path: tuple[str, ...] = ()
    """Names of the fields that lead to the value; filled in from the record."""
    annotation: Any = None
    """Type of the field; filled in from the record."""


@dataclass(frozen=True, slots=True)
class Section:
    """The table of the settings file that holds the fields of a record."""

    name: str


def read_pin(value: object) -> int:
    """Return the version that a bundle is pinned to."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UnfitError("the version of a bundle, a whole number from 1 on,")
    return value


@cache
def _adapter(annotation: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(annotation)


def read_typed(annotation: Any, value: object) -> Any:
    """Return a value of a field's type, strictly: neither texts nor truth values pass for numbers."""
    from pydantic import ValidationError

    try:
        return _adapter(annotation).validate_json(dumps(value, default=str), strict=True)
    except (ValidationError, ValueError, RecursionError) as error:
        said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UnfitError(said.removeprefix("Input should be ")) from error
