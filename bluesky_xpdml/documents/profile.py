"""Profiles: which entry and which data key means what at which beamline, read from one small file each.

The package ships some; others are read from the folders that the environment variable `XPDML_PROFILES` lists,
or from a file whose path is given instead of a name. A file that changes on disk is read again.
"""

import logging
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

from bluesky_xpdml.errors import DocumentError, FileFormatError, MissingDataError
from bluesky_xpdml.files import read_regular

logger = logging.getLogger(__name__)

SEARCH_PATH = "XPDML_PROFILES"
"""Environment variable that lists folders of profiles, separated as in PATH."""

LARGEST_FILE = 1_000_000
"""No profile is longer [bytes]."""
LONGEST_KEY, LONGEST_ELEMENT = 1000, 20
"""Longer data keys and names of elements are never matched [characters]: patterns take long on them."""


def look_up(start: Mapping[str, object], paths: tuple[str, ...]) -> object:
    """Return the first value that is not None under the dotted paths of a start document; else None.

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
    """Return the first text or whole number under the dotted paths of a start document; else an empty text.

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


def matching(patterns: tuple[str, ...], keys: list[str], element: str = "") -> list[str]:
    """Return the keys that match the first pattern that matches any, in their given order.

    `{element}` in a pattern stands for the absorbing element; without an element such a pattern is skipped.
    """
    for pattern in patterns:
        if "{element}" in pattern and not 0 < len(element) <= LONGEST_ELEMENT:
            continue
        expression = re.compile(pattern.replace("{element}", re.escape(element)), re.IGNORECASE)
        found = [key for key in keys if len(key) <= LONGEST_KEY and expression.fullmatch(key)]
        if found:
            return found
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class StartKeys:
    """Entries of the start document: dotted paths, tried in order."""

    element: tuple[str, ...]
    edge: tuple[str, ...]
    sample_name: tuple[str, ...]
    sample_uid: tuple[str, ...]
    sample_composition: tuple[str, ...]
    planned_points: tuple[str, ...]
    technique: tuple[str, ...]
    source: tuple[str, ...]
    mode: tuple[str, ...]
    e0: tuple[str, ...]
    """Energy of the edge as planned [eV]."""
    detector_elements: tuple[str, ...]
    """A list of the data keys that hold the fluorescence of the absorber, one per detector element."""
    mono: tuple[str, ...]
    """Name of the monochromator."""
    remarks: tuple[str, ...]
    """Earlier remarks on the data, a list of texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsorptionKeys:
    """Names of the data keys of an absorption scan: patterns for whole keys, tried in order."""

    streams: tuple[str, ...]
    """Streams that are searched first."""
    claims: str
    """Pattern in technique or plan name that marks a run as absorption."""
    ignore: str
    """Pattern of keys that are never a channel."""
    energy: tuple[str, ...]
    i0: tuple[str, ...]
    it: tuple[str, ...]
    ir: tuple[str, ...]
    fluorescence: tuple[str, ...]
    """One key is a sum; several of one pattern are the elements of a detector, corrected for dead time."""
    electron_yield: tuple[str, ...]
    mu: tuple[str, ...]
    offset: tuple[str, ...]
    """A pattern and its replacement: the key of a channel becomes that of its offset in the configuration of
    the device. Empty if nothing is subtracted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlyKeys:
    """A continuous scan: currents, encoder and triggers are tables in streams of their own.

    `analog`, `encoder` and `triggers` are patterns of data keys; no run is one if `analog` is empty.
    """

    analog: tuple[str, ...]
    """Tables of the digitised currents."""
    analog_fields: tuple[str, ...]
    """Columns of those tables if the data do not name them; the first is the time [s]."""
    channels: Mapping[str, str]
    """Which column is i0, it, ir, fluorescence or electron_yield."""
    offset: str
    """Start key of a channel's offset [mV]; {n} is the number of its column, from 1."""
    gain: str
    """Start key of a channel's gain [log10 of V/A]; {n} as before."""
    encoder: tuple[str, ...]
    """Tables of the encoder of the monochromator."""
    encoder_fields: tuple[str, ...]
    """Columns of those tables: ts_s [s], ts_ns [ns] and encoder [counts] are read."""
    encoder_bits: int
    """Counts above zero are negative numbers of this many bits, wrapped around; 0 if they are not."""
    counts_per_degree: float
    """Of the encoder, whose angle grows towards negative counts."""
    plane_distance: float
    """Of the monochromator's crystal [angstrom]."""
    angle_offset: tuple[str, ...]
    """Start keys of the angle that is added to the encoder's [deg]."""
    triggers: Mapping[str, str]
    """Table of trigger times by stream of the triggered detector; both are patterns."""
    trigger_fields: tuple[str, ...]
    """Columns of the table of triggers: timestamp [s] and transition (1 opens, 0 closes an exposure)."""
    elements: tuple[str, ...]
    """Fluorescence counts by detector element among the keys and columns of triggered detectors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScatteringKeys:
    """Names in a total-scattering run: patterns, and dotted paths tried in order."""

    claims: str
    """Pattern in technique or plan name that marks a run as total scattering."""
    every_run: bool
    """Whether every run of the beamline with images is total scattering, whatever it states."""
    streams: tuple[str, ...]
    """Patterns of the streams of images; streams that one pattern fits are positions of the detector."""
    image: tuple[str, ...]
    """Patterns of the data keys that are images."""
    counting: str
    """Pattern of the images of photon-counting detectors, which have no dark."""
    dark_stream: str
    """Pattern of the stream of dark frames."""
    dark_uid: tuple[str, ...]
    """Uid of the run of the dark frames."""
    is_dark: tuple[str, ...]
    """Entry that is true for a run of dark frames."""
    calibration: tuple[str, ...]
    """Calibration of the detector, or one per stream."""
    calibration_stream: str
    """Pattern of the stream whose numbers are the calibration."""
    poni: tuple[str, ...]
    """Path of a `.poni` file, or one per stream."""
    mask_stream: str
    """Pattern of the stream of masks."""
    mask_key: str
    """Pattern of the data keys that are masks."""
    mask: tuple[str, ...]
    """Path of a file with a mask, or one per stream."""
    mask_good: int
    """The value of a good pixel, in the stream of masks and in files: 0 or 1."""
    composition: tuple[str, ...]
    """Composition: a formula or a mapping."""
    wavelength: tuple[str, ...]
    """Wavelength [angstrom]."""
    background_name: tuple[str, ...]
    """Sample name of the background run."""
    background_uid: tuple[str, ...]
    """Uid of the background run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectKeys:
    """Marks in the start documents of one beamline; inherited only from a profile of the same name."""

    rank: int = 0
    """Profiles are tried in the order of their ranks."""
    keys: tuple[str, ...] = ()
    """Dotted paths; one that exists is enough."""
    values: Mapping[str, str] = field(default_factory=dict)
    """Patterns of whole texts by dotted path; one that fits is enough."""

    def fits(self, start: Mapping[str, object]) -> bool:
        """Return whether a start document contains one of the marks."""
        return any(look_up(start, (key,)) is not None or key in start for key in self.keys) or any(
            isinstance(text := look_up(start, (key,)), str)
            and re.fullmatch(pattern, text.strip(), re.IGNORECASE)
            for key, pattern in self.values.items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The convention of one beamline, or of many."""

    name: str
    start: StartKeys
    absorption: AbsorptionKeys
    fly: FlyKeys
    scattering: ScatteringKeys
    detect: DetectKeys | None
    """None if runs of this kind are never detected, only named."""


def profile_names() -> tuple[str, ...]:
    """Return the names of the profiles that the package ships or the search path holds, sorted.

    Examples
    --------
    >>> "generic" in profile_names()
    True
    """
    return tuple(sorted(_library().files))


def load_profile(name: str) -> Profile:
    """Return a profile by its name or by the path of its file.

    Parameters
    ----------
    name
        One of `profile_names()`, or a path that ends with `.toml`.

    Raises
    ------
    MissingDataError
        If there is no such profile, or it extends one that does not exist.
    FileFormatError
        If its file is not a profile; the message says what is wrong.

    Examples
    --------
    >>> load_profile("generic").absorption.streams
    ('primary',)
    """
    return _library(name).profile(name)


def profile_file(name: str) -> Path:
    """Return the file of a profile; a MissingDataError is raised if there is none of that name."""
    return _library().file(name)


def detect_profile(start: Mapping[str, object]) -> Profile:
    """Return the profile that a start document names, or whose marks it contains; else the generic one.

    A profile in the search path that cannot be read is logged and skipped.

    Parameters
    ----------
    start
        The start document of the run.

    Examples
    --------
    >>> detect_profile({"uid": "a", "plan_name": "scan"}).name
    'generic'
    >>> detect_profile({"uid": "a", "BMM_kafka": {"hint": "xafs transmission"}}).name
    'bmm'
    """
    library = _library()
    named = look_up(start, ("xpdml.profile",))
    if isinstance(named, str) and named in library.files:
        try:
            return library.profile(named)
        except (MissingDataError, FileFormatError) as error:
            logger.warning("the profile that run %s names cannot be read: %s", start.get("uid"), error)
    fitting = (each for each in library.detected if each.detect is not None and each.detect.fits(start))
    return next(fitting, None) or library.profile("generic")


def resolve_profile(profile: Profile | str, start: Mapping[str, object]) -> Profile:
    """Return the profile of a name or path; for `auto`, the one whose marks a start document contains."""
    if isinstance(profile, Profile):
        return profile
    return detect_profile(start) if profile == "auto" else load_profile(profile)


_Stamp: TypeAlias = tuple[str, int, int]
"""Path of a file with its time of change and its size."""


def _library(name: str = "") -> "_Library":
    """Return the profiles as their files are now; `name` may be the path of one outside of the folders."""
    folders = [part for part in os.environ.get(SEARCH_PATH, "").split(os.pathsep) if part]
    paths = [path for folder in reversed(folders) for path in sorted(Path(folder).glob("*.toml"))]
    outside = (_stamp(Path(name)),) if name.endswith(".toml") else ()
    return _library_of(tuple(_stamp(path) for path in paths), outside)


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return str(path), 0, -1
    return str(path), status.st_mtime_ns, status.st_size


@lru_cache(maxsize=16)
def _library_of(stamps: tuple[_Stamp, ...], _outside: tuple[_Stamp, ...]) -> "_Library":
    return _Library([Path(path) for path, _, _ in stamps])


class _Library:
    """The shipped profiles and those of a user, each read once; of one name the last file wins."""

    def __init__(self, paths: list[Path]) -> None:
        folder = Path(str(files("bluesky_xpdml.documents").joinpath("profiles")))
        self._shipped = {path.stem: path for path in sorted(folder.glob("*.toml"))}
        self.files = self._shipped | {path.stem: path for path in paths}
        self._profiles: dict[Path, Profile] = {}

    def file(self, name: str) -> Path:
        if name not in self.files:
            raise MissingDataError(
                f"expected a profile of {', '.join(sorted(self.files))} or the path of a .toml file, found "
                f"{name!r}; list folders of your own in {SEARCH_PATH}"
            )
        return self.files[name]

    def profile(self, name: str) -> Profile:
        path = Path(name) if name.endswith(".toml") else self.file(name)
        if path not in self._profiles:
            self._profiles[path] = _profile(path, self._table(path))
        return self._profiles[path]

    @cached_property
    def detected(self) -> tuple[Profile, ...]:
        """Profiles that have marks and can be read, by rank."""
        found: list[Profile] = []
        for name in self.files:
            try:
                profile = self.profile(name)
            except (MissingDataError, FileFormatError) as error:
                logger.warning("a profile is not detected because it cannot be read: %s", error)
                continue
            if profile.detect is not None:
                found.append(profile)
        return tuple(sorted(found, key=lambda each: each.detect.rank if each.detect is not None else 0))

    def _table(self, path: Path, extending: tuple[Path, ...] = ()) -> dict[str, Any]:
        """Return the content of a file, completed by the profile that it extends."""
        own = _parsed(path)
        name, base = own.setdefault("name", path.stem), own.pop("extends", None)
        if not isinstance(name, str):
            raise FileFormatError(f"{path}: expected a text after name =, found {name!r}")
        table: dict[str, Any] = {}
        if base is not None:
            table = self._table(self._extended(path, base, extending), (*extending, path))
            if base != path.stem:
                table.pop("detect", None)
        for section, entries in own.items():
            before = table.get(section, {})
            table[section] = name if section == "name" else _merged(path, section, before, entries)
        return table

    def _extended(self, path: Path, base: object, extending: tuple[Path, ...]) -> Path:
        """Return the file that a profile extends; one that replaces a shipped profile may extend that."""
        parent = self.files.get(base) if isinstance(base, str) else None
        if parent == path:
            parent = self._shipped.get(str(base))
        if parent is None or parent in (path, *extending):
            names = ", ".join(sorted(self.files))
            raise MissingDataError(f"{path}: expected extends to name one of {names}, found {base!r}")
        return parent


_SECTIONS = {
    "start": StartKeys,
    "absorption": AbsorptionKeys,
    "fly": FlyKeys,
    "scattering": ScatteringKeys,
    "detect": DetectKeys,
}
_NO_PATTERNS = {"keys", "offset", "analog_fields", "encoder_fields", "trigger_fields", "channels", "gain"}


def _profile(path: Path, table: Mapping[str, Any]) -> Profile:
    sections: dict[str, Any] = {}
    for name, kind in _SECTIONS.items():
        absent = {each.name for each in fields(kind)} - set(table.get(name, {}))
        if kind is DetectKeys:
            sections[name] = kind(**table[name]) if name in table else None
            continue
        if absent:
            raise FileFormatError(
                f"{path}: expected {', '.join(sorted(absent))} in [{name}], found nothing; "
                'add the line extends = "generic" to inherit what you leave out'
            )
        sections[name] = kind(**table[name])
    return Profile(name=table["name"], **sections)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_regular(path, LARGEST_FILE).decode())
    except DocumentError:
        raise
    except OSError as error:
        raise MissingDataError(f"expected a profile in {path}, found none: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: expected a TOML file, found {error}") from error


def _merged(path: Path, section: str, before: Mapping[str, Any], entries: object) -> dict[str, Any]:
    if section not in _SECTIONS:
        raise FileFormatError(f"{path}: expected the sections {', '.join(_SECTIONS)}, found {section!r}")
    if not isinstance(entries, dict):
        raise FileFormatError(f"{path}: expected [{section}] to be a section, found {entries!r}")
    kinds = {each.name: each.type for each in fields(_SECTIONS[section])}
    return {**before, **{key: _checked(path, section, key, value, kinds) for key, value in entries.items()}}


def _checked(path: Path, section: str, key: str, value: object, kinds: Mapping[str, Any]) -> object:
    """Return the value of one key as the profile holds it."""
    if key not in kinds:
        raise FileFormatError(
            f"{path}: expected one of {', '.join(kinds)} in [{section}], found {key!r}; check the spelling"
        )
    kind = _KINDS.get(kinds[key], _TABLE)
    if not kind.fits(value):
        raise FileFormatError(f"{path}: expected {kind.text} for {key} in [{section}], found {value!r}")
    if section != "start" and key not in _NO_PATTERNS:
        for pattern in _texts(value):
            _require_pattern(path, section, pattern)
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a key of a profile may hold."""

    text: str
    fits: Callable[[Any], bool]


def _are_texts(values: Iterable[object]) -> bool:
    return all(isinstance(each, str) for each in values)


_TABLE = _Kind("a table of texts", lambda value: isinstance(value, dict) and _are_texts(value.values()))
_KINDS: Mapping[Any, _Kind] = {
    tuple[str, ...]: _Kind("a list of texts", lambda value: isinstance(value, list) and _are_texts(value)),
    str: _Kind("a text", lambda value: isinstance(value, str)),
    bool: _Kind("true or false", lambda value: isinstance(value, bool)),
    int: _Kind("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: _Kind("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool)),
}


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    listed = value if isinstance(value, list) else [value]
    return tuple(text for text in listed if isinstance(text, str))


def _require_pattern(path: Path, section: str, pattern: object) -> None:
    try:
        re.compile(str(pattern).replace("{element}", "Fe"))
    except (re.error, RecursionError, OverflowError) as error:
        raise FileFormatError(
            f"{path}: expected a regular expression in [{section}], found {pattern!r}: {error}"
        ) from error
