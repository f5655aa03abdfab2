"""Profiles: which key means what at which beamline, read from one small file each."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from bluesky_xpdml.errors import MissingDataError


@dataclass(frozen=True, slots=True, kw_only=True)
class StartKeys:
    """Where the start document holds what; dotted paths, tried in order."""

    element: tuple[str, ...]
    edge: tuple[str, ...]
    sample_name: tuple[str, ...]
    sample_uid: tuple[str, ...]
    sample_composition: tuple[str, ...]
    planned_points: tuple[str, ...]
    technique: tuple[str, ...]
    source: tuple[str, ...]
    mode: tuple[str, ...]
    remarks: tuple[str, ...]
    """Remarks on the data that were made before, a list of texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsorptionKeys:
    """How the data keys of an absorption scan are called; patterns for whole keys, tried in order."""

    streams: tuple[str, ...]
    """Streams that are looked at first."""
    claims: str
    """Pattern that marks a run as absorption where its technique or plan name holds it."""
    ignore: str
    """Pattern of keys that are never a channel."""
    energy: tuple[str, ...]
    i0: tuple[str, ...]
    it: tuple[str, ...]
    ir: tuple[str, ...]
    fluorescence: tuple[str, ...]
    mu: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The convention of one beamline, or of many."""

    name: str
    start: StartKeys
    absorption: AbsorptionKeys


def profile_names() -> tuple[str, ...]:
    """Return the names of the profiles that the package brings, sorted.

    Examples
    --------
    >>> "generic" in profile_names()
    True
    """
    folder = files("bluesky_xpdml.documents").joinpath("profiles")
    return tuple(
        sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if _is_profile(entry.name))
    )


@cache
def load_profile(name: str) -> Profile:
    """Return a profile that the package brings.

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
    >>> load_profile("generic").absorption.streams
    ('primary',)
    """
    if name not in profile_names():
        raise MissingDataError(f"expected a profile of {', '.join(profile_names())}, found {name!r}")
    source = files("bluesky_xpdml.documents").joinpath("profiles", f"{name}.toml")
    table = tomllib.loads(source.read_text(encoding="utf-8"))
    absorption: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in table["absorption"].items()
    }
    start = {key: tuple(paths) for key, paths in table["start"].items()}
    return Profile(name=table["name"], start=StartKeys(**start), absorption=AbsorptionKeys(**absorption))


def detect_profile(start: Mapping[str, object]) -> Profile:
    """Return the profile that a start document asks for.

    Every run is read by the generic profile for now: no other one is there to be told apart.

    Parameters
    ----------
    start
        The start document of the run.

    Examples
    --------
    >>> detect_profile({"uid": "a", "plan_name": "scan"}).name
    'generic'
    """
    asked = look_up(start, ("xpdml.profile",))
    return load_profile(asked if isinstance(asked, str) and asked in profile_names() else "generic")


def look_up(start: Mapping[str, object], paths: tuple[str, ...]) -> object:
    """Return the first value that a start document holds under one of the dotted paths; None where none does.

    Parameters
    ----------
    start
        The start document of the run.
    paths
        Keys; a dot steps into a mapping.

    Examples
    --------
    >>> look_up({"sample": {"name": "LFP-3"}}, ("sample_name", "sample.name"))
    'LFP-3'
    """
    for path in paths:
        value: object = start
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            return value
    return None


def look_up_text(start: Mapping[str, object], paths: tuple[str, ...]) -> str:
    """Return the first text or whole number under one of the dotted paths; empty where there is none.

    Parameters
    ----------
    start
        The start document of the run.
    paths
        Keys; a dot steps into a mapping.

    Examples
    --------
    >>> look_up_text({"sample": {"uid": 7}}, ("sample", "sample.uid"))
    '7'
    """
    for path in paths:
        value = look_up(start, (path,))
        if isinstance(value, list | tuple) and len(value) == 1:
            value = value[0]
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
    return ""


def matching(patterns: tuple[str, ...], keys: list[str], element: str) -> list[str]:
    """Return the keys that the first fitting pattern fits, in their given order.

    Parameters
    ----------
    patterns
        Regular expressions for whole keys; `{element}` stands for the element, and such a pattern is
        passed over where the element is not known.
    keys
        Data keys of a stream.
    element
        Symbol of the absorbing element; empty where it is not known.

    Examples
    --------
    >>> matching(("{element}[0-9]", "i_?f"), ["Fe1", "Fe2", "If"], "Fe")
    ['Fe1', 'Fe2']
    """
    for pattern in patterns:
        if "{element}" in pattern and not element:
            continue
        expression = re.compile(pattern.replace("{element}", re.escape(element)), re.IGNORECASE)
        found = [key for key in keys if expression.fullmatch(key)]
        if found:
            return found
    return []


def _is_profile(name: str) -> bool:
    return name.endswith(".toml")
