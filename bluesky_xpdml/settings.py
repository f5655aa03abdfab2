"""What a beamtime fixes, in one file: server, profile, pinned bundles, calibration.

A value comes from the first of these that has it: an option of the command line (or an argument), an
environment variable, the settings file, what is built in. Where each came from is kept, and published with
every prediction. The file is the one that is named, the one that `XPDML_SETTINGS` names, or the first
`xpdml.toml` from the working directory upwards. A key that is not known is an error, never passed over.
"""

import difflib
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from bluesky_xpdml.documents import load_profile
from bluesky_xpdml.errors import DocumentError, SettingsError
from bluesky_xpdml.models.edge_calibration import read_calibrations
from bluesky_xpdml.models.store import SHIPPED, BundleStore
from bluesky_xpdml.publish.documents import RESOLVED
from bluesky_xpdml.records import Prediction
from bluesky_xpdml.reduction.xanes import XanesSettings

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


def _file_settings_keys(value: object, folder: Path) -> Path:
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
    "calibration.file": Key(field="calibration_file", read=_file_settings_keys),
    "repeats.within": Key(field="repeats_within", read=_duration),
}
"""By dotted name, which is that in the file."""


FILE_NAME = "xpdml.toml"
"""What a settings file is called."""
FILE_VARIABLE = "XPDML_SETTINGS"
"""Environment variable that names the settings file."""

BUILT_IN, FILE, ENVIRONMENT, OPTION = "built-in", "file", "environment", "option"
"""Where a value can come from."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a beamtime fixes, resolved.

    Examples
    --------
    >>> Settings(pins={"Fe-xanes": 1}).store().find("Fe", "K", "xanes").reference.version
    1
    """

    tiled_uri: str = ""
    """`tiled.uri`: address of the Tiled server; empty for none."""
    tiled_path: str = "xpdml"
    """`tiled.path`: container of the predictions."""
    tiled_raw_path: str = ""
    """`tiled.raw_path`: container of the raw runs; empty where there is none."""
    api_key_variable: str = "TILED_API_KEY"
    """`tiled.api_key_variable`: environment variable that holds the key of the server."""
    profile: str = "auto"
    """`profile`: which convention the runs follow: a name, a `.toml` file, or `auto`."""
    models_folder: Path = SHIPPED
    """`models.folder`: folder of the model bundles."""
    pins: Mapping[str, int] = field(default_factory=dict)
    """The other keys of `models`: version by name of bundle, where not the newest is to answer."""
    energy_offset: float | Literal["reference", "none"] = "reference"
    """`calibration.energy_offset`: added to the energies [eV], or how to find it."""
    calibration_file: Path | None = None
    """`calibration.file`: what `xpdml calibrate` wrote; None for no such file."""
    repeats_within: float = 0.0
    """`repeats.within`: runs of one sample that begin within so long of another are merged [s]; 0: none."""
    file: Path | None = None
    """The settings file; None where none was found."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Where values came from by key: `option`, `environment` or `file`."""
    calibration_sha256: str = field(init=False)
    """Hash of the calibration file when the settings were made; empty where there is none."""

    def __post_init__(self) -> None:
        content = b"" if self.calibration_file is None else _read_bytes(self.calibration_file)
        digest = sha256(content).hexdigest() if content else ""
        object.__setattr__(self, "calibration_sha256", digest)

    def store(self) -> BundleStore:
        """Return the models that may answer.

        Raises
        ------
        ModelNotFoundError
            If a pinned bundle is not there.
        ModelError
            If the calibration file holds no calibrations.
        """
        file = self.calibration_file
        calibrations = {} if file is None else read_calibrations(file)
        store = BundleStore(self.models_folder, pins=self.pins, calibrations=calibrations)
        for name in self.pins:
            store.chosen(name)
        return store

    def xanes(self) -> XanesSettings:
        """Return how scans are reduced."""
        return XanesSettings(energy_offset=self.energy_offset)

    def api_key(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """Return the key of the server; None where the environment has none.

        Parameters
        ----------
        environment
            Variables by name.

        Examples
        --------
        >>> Settings(api_key_variable="BEAMLINE_KEY").api_key({"BEAMLINE_KEY": "secret"})
        'secret'
        """
        return environment.get(self.api_key_variable) or None

    def described(self) -> dict[str, dict[str, object]]:
        """Return every value with where it came from, as plain JSON values without secrets.

        Examples
        --------
        >>> Settings(profile="bmm").described()["profile"]
        {'value': 'bmm', 'origin': 'argument'}
        """
        pinned = {f"models.{name}": version for name, version in self.pins.items()}
        values = {name: getattr(self, key.field) for name, key in KEYS.items()} | pinned
        return {
            name: {"value": _shown(value), "origin": self._origin(name)} for name, value in values.items()
        }

    def _origin(self, name: str) -> str:
        if name in self.origins:
            return self.origins[name]
        known = KEYS.get(name)
        unchanged = known is not None and getattr(self, known.field) == getattr(Settings(), known.field)
        return BUILT_IN if unchanged else "argument"


def resolve_settings(
    file: Path | None = None,
    *,
    options: Mapping[str, object] = _NOTHING,
    environment: Mapping[str, str] = os.environ,
    folder: Path = Path(),
) -> Settings:
    """Return the settings: options before the environment, before the file, before what is built in.

    Parameters
    ----------
    file
        The settings file; None for the one that `XPDML_SETTINGS` names, or the first `xpdml.toml` from the
        folder upwards.
    options
        Values by key, such as `tiled.uri`; None and empty texts count as not given.
    environment
        Variables by name; `XPDML_TILED_URI` holds `tiled.uri`, and so on.
    folder
        Where the search for `xpdml.toml` begins.

    Raises
    ------
    SettingsError
        If the file is missing or no TOML, a key is not known, or a value is not what its key needs.

    Examples
    --------
    >>> found = resolve_settings(options={"tiled.path": "derived"}, environment={}, folder=Path("/"))
    >>> found.tiled_path, found.described()["tiled.path"]["origin"]
    ('derived', 'option')
    """
    path = _file(file, environment, folder)
    by_origin = {
        FILE: {} if path is None else _from_file(path),
        ENVIRONMENT: _from_environment(environment, folder),
        OPTION: _from_options(options, folder),
    }
    values = {name: value for found in by_origin.values() for name, value in found.items()}
    origins = {name: origin for origin, found in by_origin.items() for name in found}
    pins = {name.removeprefix(PIN): value for name, value in values.items() if is_pin(name)}
    fields = {KEYS[name].field: value for name, value in values.items() if name in KEYS}
    return Settings(**fields, pins=pins, file=path, origins=origins)


def find_settings_file(folder: Path) -> Path | None:
    """Return the first `xpdml.toml` from a folder upwards; None where there is none.

    Parameters
    ----------
    folder
        Where the search begins.

    Examples
    --------
    >>> find_settings_file(Path("/")) is None
    True
    """
    start = folder.resolve()
    return next((each / FILE_NAME for each in (start, *start.parents) if (each / FILE_NAME).is_file()), None)


def variable_of(key: str) -> str:
    """Return the environment variable that holds the value of a key.

    Parameters
    ----------
    key
        Dotted.

    Examples
    --------
    >>> variable_of("tiled.uri")
    'XPDML_TILED_URI'
    """
    return f"XPDML_{key.upper().replace('.', '_')}"


def with_settings(prediction: Prediction, settings: Settings) -> Prediction:
    """Return a prediction that says under which settings it was made.

    Those pins and that calibration which bear on it are among the settings that its derived run is known by:
    another pin, another run. All settings, and where each came from, stand beside those and do not count: the
    same answer for another server or out of another file is the same run.

    Parameters
    ----------
    prediction
        The prediction, also one that failed.
    settings
        Under which it was made.

    Examples
    --------
    >>> from bluesky_xpdml.records import Quality
    >>> failed = Prediction(technique="xanes", element="Fe", edge="K", quality=Quality().failed("no edge"))
    >>> with_settings(failed, Settings(pins={"Fe-xanes": 1, "Mn-xanes": 2})).settings["beamtime"]
    {'pins': {'Fe-xanes': 1}}
    """
    told = {"file": str(settings.file or ""), "values": settings.described()}
    decisive = _decisive(prediction, settings)
    kept = {**prediction.settings, **({"beamtime": decisive} if decisive else {}), RESOLVED: told}
    return replace(prediction, settings=kept)


def _decisive(prediction: Prediction, settings: Settings) -> dict[str, object]:
    """Return what of the settings bears on a prediction; nothing of what is built in."""
    found: dict[str, object] = {}
    pins = {name: n for name, n in settings.pins.items() if name.startswith(f"{prediction.element}-")}
    if pins:
        found["pins"] = pins
    if "xanes" in prediction.technique:
        if settings.energy_offset != "reference":
            found["energy_offset"] = settings.energy_offset
        if settings.calibration_sha256:
            found["calibration_sha256"] = settings.calibration_sha256
    return found


def _shown(value: object) -> object:
    """Return a value as it may be published: addresses without keys and passwords."""
    if isinstance(value, str) and "://" in value:
        parts = urlsplit(value)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    if value is None:
        return ""
    return value if isinstance(value, int | float) else str(value)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}; correct the name") from error


def _file(named: Path | None, environment: Mapping[str, str], folder: Path) -> Path | None:
    by_variable = environment.get(FILE_VARIABLE, "")
    path = named if named is not None else Path(by_variable) if by_variable else None
    if path is None:
        return find_settings_file(folder)
    if not path.is_file():
        by = "" if named is not None else f", which {FILE_VARIABLE} names"
        raise SettingsError(f"no settings file {path}{by}: correct the name, or write one")
    return path


def _from_file(path: Path) -> dict[str, Any]:
    entries = _entries(path)
    if "api_key" in parse_qs(urlsplit(str(entries.get("tiled.uri", ""))).query):
        raise SettingsError(
            f"{path}: expected a tiled.uri without its key: put the key into an environment variable, "
            "and the variable's name into tiled.api_key_variable"
        )
    return {name: _read(name, value, str(path), path.absolute().parent) for name, value in entries.items()}


def _from_environment(environment: Mapping[str, str], folder: Path) -> dict[str, Any]:
    texts = {name: environment.get(variable_of(name), "") for name in KEYS}
    given = {name: from_text(name, text) for name, text in texts.items() if text}
    return {name: _read(name, value, variable_of(name), folder) for name, value in given.items()}


def _from_options(options: Mapping[str, object], folder: Path) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if value is not None and value != ""}
    return {name: _read(name, value, "the options", folder) for name, value in given.items()}


def _entries(path: Path) -> dict[str, object]:
    """Return the values of a file by their dotted keys, all of which are known."""
    try:
        table = tomllib.loads(_read_bytes(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is no TOML file: {error}") from error
    entries: dict[str, object] = {}
    for name, value in table.items():
        below = value.items() if isinstance(value, dict) else ()
        entries |= {f"{name}.{key}": inner for key, inner in below} if below else {name: value}
    empty = {
        name for name in entries if entries[name] == {} and any(key.startswith(f"{name}.") for key in KEYS)
    }
    unknown = [name for name in entries if name not in KEYS and not is_pin(name) and name not in empty]
    if unknown:
        raise SettingsError(f"{path}: {_advice(unknown[0])}")
    return {name: value for name, value in entries.items() if name not in empty}


def _advice(unknown: str) -> str:
    near = difflib.get_close_matches(unknown, KEYS, n=1) or [
        name for name in KEYS if name.rpartition(".")[2] == unknown.rpartition(".")[2]
    ]
    meant = f"did you mean {near[0]}? " if near else ""
    return (
        f"there is no setting {unknown}; {meant}known are {', '.join(KEYS)}, "
        "and models.<Element>-<modality> with the version of a bundle"
    )


def _read(name: str, value: object, where: str, folder: Path) -> Any:
    known: Key | None = KEYS.get(name)
    if known is None and not is_pin(name):
        raise SettingsError(f"{where}: {_advice(name)}")
    try:
        return read_pin(value) if known is None else known.read(value, folder)
    except UnfitError as error:
        found = (
            f"{_shown(value)!r} ({type(value).__name__})" if known is None or known.shown else "another text"
        )
        raise SettingsError(f"{where}: expected {error} for {name}, found {found}") from error
