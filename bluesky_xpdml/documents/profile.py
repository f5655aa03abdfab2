"""Profiles: which key means what at which beamline, read from one small file each.

The package brings some; others are read from the folders that the environment variable `XPDML_PROFILES` names
or from a file that is named by its path wherever the name of a profile is asked for.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import GenericAlias
from typing import Any

from bluesky_xpdml.documents.profile_keys import (
    AbsorptionKeys,
    FlyKeys,
    Profile,
    ScatteringKeys,
    StartKeys,
    look_up,
    look_up_text,
    matching,
)
from bluesky_xpdml.errors import FileFormatError, MissingDataError

_SECTIONS = {
    "start": StartKeys,
    "absorption": AbsorptionKeys,
    "fly": FlyKeys,
    "scattering": ScatteringKeys,
}
_DETECT = {"rank": int, "keys": list, "values": dict}
_NO_PATTERNS = {"offset", "analog_fields", "encoder_fields", "trigger_fields", "channels", "gain"}


def read_profile(path: Path | str, known: Mapping[str, Path]) -> Profile:
    """Return the profile that a file holds.

    Parameters
    ----------
    path
        The file.
    known
        Files of the profiles that it may extend, by name.

    Raises
    ------
    MissingDataError
        If there is no such file, or it extends a profile that is not there.
    FileFormatError
        If it is no profile; the message says what was expected and found.
    """
    table = profile_table(Path(path), known)
    sections: dict[str, Any] = {}
    for name, kind in _SECTIONS.items():
        absent = {each.name for each in fields(kind)} - set(table.get(name, {}))
        if absent:
            raise FileFormatError(
                f"{path}: expected {', '.join(sorted(absent))} in [{name}], found nothing; "
                'add the line extends = "generic" to take over what you do not say'
            )
        sections[name] = kind(**table[name])
    return Profile(name=table["name"], **sections)


def profile_table(
    path: Path, known: Mapping[str, Path], *, extending: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return what a profile's file says, with what it does not say from the one that it extends.

    Parameters
    ----------
    path
        The file.
    known
        Files of the profiles that it may extend, by name.
    extending
        The files that led here, which it must not extend again.

    Raises
    ------
    MissingDataError, FileFormatError
        As for `read_profile`.
    """
    own = _parsed(path)
    name = own.setdefault("name", path.stem)
    if not isinstance(name, str):
        raise FileFormatError(f"{path}: expected a text after name =, found {name!r}")
    base = own.pop("extends", None)
    table: dict[str, Any] = {}
    if base is not None:
        if base not in known or str(path) in extending:
            raise MissingDataError(
                f"{path}: expected extends to name one of {', '.join(sorted(known))}, found {base!r}"
            )
        table = profile_table(known[base], known, extending=(*extending, str(path)))
        table.pop("detect", None)
    for section, said in own.items():
        table[section] = said if section == "name" else _merged(path, section, table.get(section, {}), said)
    return table


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MissingDataError(f"expected a profile in {path}, found none: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path}: expected a TOML file, found {error}") from error


def _merged(path: Path, section: str, before: Mapping[str, Any], said: object) -> dict[str, Any]:
    if section not in _SECTIONS and section != "detect":
        raise FileFormatError(
            f"{path}: expected the sections {', '.join(_SECTIONS)} and detect, found {section!r}"
        )
    if not isinstance(said, dict):
        raise FileFormatError(f"{path}: expected [{section}] to be a section, found {said!r}")
    if section == "detect":
        return _checked_marks(path, said)
    kinds = {each.name: each.type for each in fields(_SECTIONS[section])}
    return {**before, **{key: _checked(path, section, key, value, kinds) for key, value in said.items()}}


def _checked_marks(path: Path, said: dict[str, Any]) -> dict[str, Any]:
    marks = {"rank": 0, "keys": [], "values": {}, **said}
    for key, value in marks.items():
        kind = _DETECT.get(key)
        if kind is None or not isinstance(value, kind):
            raise FileFormatError(
                f"{path}: expected rank (a whole number), keys (a list) and values (a table of patterns) in "
                f"[detect], found {key} = {value!r}"
            )
    for pattern in marks["values"].values():
        _require_pattern(path, "detect", pattern)
    return marks


def _checked(path: Path, section: str, key: str, value: object, kinds: Mapping[str, Any]) -> object:
    """Return the value of one key as the profile holds it."""
    if key not in kinds:
        raise FileFormatError(
            f"{path}: expected one of {', '.join(kinds)} in [{section}], found {key!r}; check the spelling"
        )
    kind = kinds[key]
    fits, converted = _converted(value, kind)
    if not fits:
        raise FileFormatError(f"{path}: expected {_in_words(kind)} for {key} in [{section}], found {value!r}")
    if section != "start" and key not in _NO_PATTERNS:
        for pattern in _texts(converted):
            _require_pattern(path, section, pattern)
    return converted


def _converted(value: object, kind: Any) -> tuple[bool, object]:
    if kind == tuple[str, ...]:
        return isinstance(value, list) and all(isinstance(each, str) for each in value), _tupled(value)
    if isinstance(kind, GenericAlias) or getattr(kind, "__origin__", None) is not None:
        fits = isinstance(value, dict) and all(isinstance(each, str) for each in value.values())
        return fits, value
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool), value
    return isinstance(value, kind) and not isinstance(value, bool), value


def _tupled(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    listed = value if isinstance(value, tuple) else (value,)
    return tuple(text for text in listed if isinstance(text, str))


def _require_pattern(path: Path, section: str, pattern: object) -> None:
    try:
        re.compile(str(pattern).replace("{element}", "Fe"))
    except re.error as error:
        raise FileFormatError(
            f"{path}: expected a regular expression in [{section}], found {pattern!r}: {error}"
        ) from error


def _in_words(kind: Any) -> str:
    if kind == tuple[str, ...]:
        return "a list of texts"
    return {str: "a text", int: "a whole number", float: "a number"}.get(kind, "a table of texts")


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


__all__ = [
    "SEARCH_PATH",
    "Profile",
    "detect_profile",
    "load_profile",
    "look_up",
    "look_up_text",
    "matching",
    "profile_file",
    "profile_names",
]


def profile_names() -> tuple[str, ...]:
    """Return the names of the profiles that the package brings or the search path holds, sorted.

    Examples
    --------
    >>> "generic" in profile_names()
    True
    """
    return tuple(sorted(profile_files(_search_path())))


def load_profile(name: str) -> Profile:
    """Return a profile by its name or by the path of its file.

    Parameters
    ----------
    name
        One of `profile_names()`, or a path that ends with `.toml`.

    Raises
    ------
    MissingDataError
        If there is no such profile.
    FileFormatError
        If its file is no profile; the message says what is wrong.

    Examples
    --------
    >>> load_profile("generic").absorption.streams
    ('primary',)
    """
    return _loaded(name, _search_path())


def profile_file(name: str) -> Path:
    """Return the file of a profile.

    Parameters
    ----------
    name
        One of `profile_names()`.

    Raises
    ------
    MissingDataError
        If there is no such profile.

    Examples
    --------
    >>> profile_file("iss").name
    'iss.toml'
    """
    known = profile_files(_search_path())
    if name not in known:
        raise MissingDataError(f"expected a profile of {', '.join(sorted(known))}, found {name!r}")
    return known[name]


@cache
def _loaded(name: str, search_path: str) -> Profile:
    known = profile_files(search_path)
    if name.endswith(".toml"):
        return read_profile(name, known)
    if name not in known:
        raise MissingDataError(
            f"expected a profile of {', '.join(sorted(known))} or the path of a .toml file, found {name!r}; "
            f"folders of your own are named in {SEARCH_PATH}"
        )
    return read_profile(known[name], known)


def detect_profile(start: Mapping[str, object]) -> Profile:
    """Return the profile that a start document asks for, or whose marks it bears; else the generic one.

    Parameters
    ----------
    start
        The start document of the run.

    Examples
    --------
    >>> detect_profile({"uid": "a", "plan_name": "scan"}).name
    'generic'
    >>> detect_profile({"uid": "a", "sc_dk_field_uid": "b"}).name
    'xpd'
    >>> detect_profile({"uid": "a", "BMM_kafka": {"hint": "xafs transmission"}}).name
    'bmm'
    """
    search_path = _search_path()
    asked = look_up(start, ("xpdml.profile",))
    if isinstance(asked, str) and asked in profile_files(search_path):
        return _loaded(asked, search_path)
    return _loaded(
        next((mark.name for mark in _marks(search_path) if mark.fits(start)), "generic"), search_path
    )


@dataclass(frozen=True, slots=True)
class _Mark:
    """What start documents of one convention bear."""

    name: str
    rank: int
    keys: tuple[str, ...]
    values: Mapping[str, re.Pattern[str]]

    def fits(self, start: Mapping[str, object]) -> bool:
        texts = {key: look_up(start, (key,)) for key in self.values}
        return any(look_up(start, (key,)) is not None or key in start for key in self.keys) or any(
            isinstance(text, str) and bool(self.values[key].fullmatch(text.strip()))
            for key, text in texts.items()
        )


@cache
def _marks(search_path: str) -> tuple[_Mark, ...]:
    marks = []
    known = profile_files(search_path)
    for name, file in known.items():
        detect = profile_table(file, known).get("detect")
        if detect is not None:
            values = {key: re.compile(text, re.IGNORECASE) for key, text in detect["values"].items()}
            marks.append(_Mark(name, detect["rank"], tuple(detect["keys"]), values))
    return tuple(sorted(marks, key=lambda mark: mark.rank))


def _search_path() -> str:
    return os.environ.get(SEARCH_PATH, "")
