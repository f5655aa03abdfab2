"""Reading a profile's file: what it extends, and whether it says what a profile can say."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import GenericAlias
from typing import Any

from bluesky_xpdml.documents.profile_keys import AbsorptionKeys, FlyKeys, Profile, ScatteringKeys, StartKeys
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
