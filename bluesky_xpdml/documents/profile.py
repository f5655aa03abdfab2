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
class ScatteringKeys:
    """How a total-scattering run says what it holds: patterns, and dotted paths tried in order."""

    claims: str
    """Pattern that marks a run as total scattering where its technique or plan name holds it."""
    streams: tuple[str, ...]
    """Patterns of the streams of images; streams that one pattern fits are positions of the detector."""
    image: tuple[str, ...]
    """Patterns of the data keys that are images."""
    counting: str
    """Pattern of the images of photon-counting detectors, which have no dark."""
    dark_stream: str
    """Pattern of the stream of dark frames."""
    dark_uid: tuple[str, ...]
    """Where the run of the dark frames is named."""
    is_dark: tuple[str, ...]
    """Where a run says that it is one of dark frames."""
    calibration: tuple[str, ...]
    """Where the start document holds a calibration, or one for each stream."""
    calibration_stream: str
    """Pattern of the stream whose numbers are the calibration."""
    poni: tuple[str, ...]
    """Where a `.poni` file is named, or one for each stream."""
    mask_stream: str
    """Pattern of the stream of masks."""
    mask_key: str
    """Pattern of the data keys that are masks."""
    mask: tuple[str, ...]
    """Where a file with a mask is named, or one for each stream."""
    mask_good: int
    """The value of a good pixel, in the stream of masks and in files: 0 or 1."""
    composition: tuple[str, ...]
    """Where the composition is, a formula or a mapping."""
    wavelength: tuple[str, ...]
    """Where the wavelength is [angstrom]."""
    background_name: tuple[str, ...]
    """Where the sample name of the background run is."""
    background_uid: tuple[str, ...]
    """Where the uid of the background run is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The convention of one beamline, or of many."""

    name: str
    start: StartKeys
    absorption: AbsorptionKeys
    scattering: ScatteringKeys


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
    table = _table(name)
    return Profile(
        name=table["name"],
        start=StartKeys(**table["start"]),
        absorption=AbsorptionKeys(**table["absorption"]),
        scattering=ScatteringKeys(**table["scattering"]),
    )


def _table(name: str) -> dict[str, Any]:
    """Return the file of a profile, with what it does not say from the one that it extends."""
    source = files("bluesky_xpdml.documents").joinpath("profiles", f"{name}.toml")
    own: dict[str, Any] = tomllib.loads(source.read_text(encoding="utf-8"))
    table: dict[str, Any] = _table(own["extends"]) if "extends" in own else {}
    for key, value in own.items():
        if isinstance(value, dict):
            listed = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
            table[key] = {**table.get(key, {}), **listed} if key != "detect" else listed
        else:
            table[key] = value
    return table


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
    """
    asked = look_up(start, ("xpdml.profile",))
    if isinstance(asked, str) and asked in profile_names():
        return load_profile(asked)
    return load_profile(next((mark.name for mark in _marks() if mark.fits(start)), "generic"))


@dataclass(frozen=True, slots=True)
class _Mark:
    """What start documents of one convention bear."""

    name: str
    rank: int
    keys: tuple[str, ...]
    values: Mapping[str, re.Pattern[str]]

    def fits(self, start: Mapping[str, object]) -> bool:
        texts = {key: start.get(key) for key in self.values}
        return any(key in start for key in self.keys) or any(
            isinstance(text, str) and bool(self.values[key].fullmatch(text.strip()))
            for key, text in texts.items()
        )


@cache
def _marks() -> tuple[_Mark, ...]:
    marks = []
    for name in profile_names():
        detect = _table(name).get("detect")
        if detect is not None:
            values = {key: re.compile(text, re.IGNORECASE) for key, text in detect["values"].items()}
            marks.append(_Mark(name, detect["rank"], detect["keys"], values))
    return tuple(sorted(marks, key=lambda mark: mark.rank))


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
