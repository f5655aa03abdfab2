"""What a beamtime fixes, in one record: server, profile, reduction, bundles, live answers, repeats, pairing.

A value comes from the first of these that has it: an option of the command line (or an argument), an
environment variable, the settings file, the default. The origin of every value is kept, and published with
every prediction. The file is the one that is named, else the one that `XPDML_SETTINGS` names, else the first
`xpdml.toml` from the working directory upwards. An unknown key is an error.

Every field of `Settings`, and of the records in it, is a key of the file: a new key is one new field. A field
whose key or whose check differs from the usual one says so in its annotation.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from bluesky_xpdml.credentials import key_in_file, key_in_keyring
from bluesky_xpdml.errors import SettingsError
from bluesky_xpdml.models.edge_calibration import read_calibrations
from bluesky_xpdml.models.store import SHIPPED, BundleStore
from bluesky_xpdml.reduction.xanes import XanesSettings
from bluesky_xpdml.settings_file import FILE_VARIABLE, find_settings_file, parsed, read_bytes
from bluesky_xpdml.settings_keys import (
    PIN,
    Key,
    Section,
    UnfitError,
    is_pin,
    publishable,
    read_file,
    read_folder,
    read_offset,
    read_pin,
    read_profile,
    read_text,
    read_typed,
    read_uri,
    read_variable,
    text_of,
    variable_of,
)
from bluesky_xpdml.settings_records import (
    LimitSettings,
    LiveSettings,
    OutboxSettings,
    PairingSettings,
    ScatteringSettings,
    SeriesSettings,
)

__all__ = [
    "KEYS",
    "LimitSettings",
    "LiveSettings",
    "OutboxSettings",
    "PairingSettings",
    "ScatteringSettings",
    "SeriesSettings",
    "Settings",
    "resolve_settings",
]

DEFAULT, FILE, ENVIRONMENT, OPTION = "built-in", "file", "environment", "option"
"""Where a value can come from."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a beamtime fixes, resolved; every command, the callback and the analysis take this record.

    Examples
    --------
    >>> Settings(pins={"Fe-xanes": 1}).store().find("Fe", "K", "xanes").reference.version
    1
    """

    profile: Annotated[str, Key(name="profile", read=read_profile)] = "auto"
    """Convention that the runs follow: a name, a `.toml` file, or `auto`."""
    tiled_uri: Annotated[str, Key(name="tiled.uri", read=read_uri)] = field(default="", repr=False)
    """Address of the Tiled server, without a key; empty for none."""
    tiled_path: Annotated[str, Key(name="tiled.path", read=read_text)] = "xpdml"
    """Container of the predictions."""
    tiled_raw_path: Annotated[str, Key(name="tiled.raw_path", read=read_text)] = ""
    """Container of the raw runs, from which dark and background runs are fetched; empty for none."""
    api_key_variable: Annotated[str, Key(name="tiled.api_key_variable", read=read_variable, shown=False)] = (
        "TILED_API_KEY"
    )
    """Environment variable that holds the key of the server; its name begins with `TILED_` or `XPDML_`."""
    api_key_file: Annotated[Path | None, Key(name="tiled.api_key_file", read=read_file, shown=False)] = None
    """File that holds the key, if that variable does not; only its owner may read it (mode 0600)."""
    api_key_keyring: Annotated[str, Key(name="tiled.api_key_keyring", read=read_text)] = ""
    """Service under which the keyring holds the key for the host of `tiled.uri`, if neither variable nor
    file do; needs the extra `keyring`."""
    models_folder: Annotated[Path, Key(name="models.folder", read=read_folder)] = SHIPPED
    """Folder of the model bundles."""
    pins: Mapping[str, int] = field(default_factory=dict)
    """Other keys of `models`: version by name of bundle, if not the newest is to answer."""
    calibration_file: Annotated[Path | None, Key(name="calibration.file", read=read_file)] = None
    """File written by `xpdml calibrate`; its edge curves replace those of the XANES bundles."""
    xanes: Annotated[XanesSettings, Section("xanes")] = field(default_factory=XanesSettings)
    """How absorption scans are reduced."""
    scattering: Annotated[ScatteringSettings, Section("scattering")] = field(
        default_factory=ScatteringSettings
    )
    """How total-scattering runs are reduced, and whether they are answered while they go on."""
    live: Annotated[LiveSettings, Section("live")] = field(default_factory=LiveSettings)
    """Whether absorption runs are answered while they go on."""
    repeats: Annotated[SeriesSettings | None, Section("repeats")] = None
    """Which absorption runs are merged as repeats of one sample; if None, repeats are not merged. Whether a
    sample that is measured twice is still the same is known only to those who heat or charge it."""
    pairing: Annotated[PairingSettings | None, Section("pairing")] = None
    """Which spectra and pair distribution functions get a joint answer; if None, none do."""
    limits: Annotated[LimitSettings, Section("limits")] = field(default_factory=LimitSettings)
    """What the analysis of one run may take."""
    outbox: Annotated[OutboxSettings, Section("outbox")] = field(default_factory=OutboxSettings)
    """Where predictions wait until the server has them."""
    carry: Annotated[tuple[str, ...], Key(name="carry")] = ()
    """Further entries of the start documents that predictions carry, dotted paths."""
    explain: Annotated[bool, Key(name="explain")] = False
    """Whether each prediction is published with its explanation: some seconds of work after each run."""
    remote_documents: bool = False
    """Whether documents come over a network: files that they name are opened only under `roots`. No key of
    the file; the command that listens knows it."""
    file: Path | None = None
    """The settings file; None if none was found."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Where values came from by key: `option`, `environment` or `file`."""
    calibration_sha256: str = field(init=False)
    """Hash of the calibration file when the settings were made; empty if there is none."""

    def __post_init__(self) -> None:
        content = b"" if self.calibration_file is None else read_bytes(self.calibration_file)
        digest = sha256(content).hexdigest() if content else ""
        object.__setattr__(self, "calibration_sha256", digest)

    def store(self) -> BundleStore:
        """Return the models that may answer.

        Raises
        ------
        ModelNotFoundError
            If a pinned bundle does not exist.
        ModelError
            If the calibration file holds no calibrations.
        """
        file = self.calibration_file
        calibrations = {} if file is None else read_calibrations(file)
        store = BundleStore(self.models_folder, pins=self.pins, calibrations=calibrations)
        for name in self.pins:
            store.chosen(name)
        return store

    def api_key(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """Return the key of the server: from the environment, else the file, else the keyring; or None.

        Raises
        ------
        SettingsError
            If a file or the keyring is named and holds no key, or others may read that file.
        MissingExtraError
            If the keyring is named and its package is not installed.

        Examples
        --------
        >>> Settings(api_key_variable="XPDML_BEAMLINE_KEY").api_key({"XPDML_BEAMLINE_KEY": "secret"})
        'secret'
        """
        key = environment.get(self.api_key_variable)
        if not key and self.api_key_file is not None:
            key = key_in_file(self.api_key_file)
        if not key and self.api_key_keyring:
            key = key_in_keyring(self.api_key_keyring, self.tiled_uri)
        return key or None

    @property
    def carried(self) -> tuple[str, ...]:
        """Entries of the start documents that predictions carry, the key of pairing among them."""
        key = self.pairing.key if self.pairing is not None else ""
        return tuple(dict.fromkeys((*self.carry, key))) if key else self.carry

    def described(self) -> dict[str, dict[str, object]]:
        """Return every value with where it came from, as plain JSON values without secrets.

        Examples
        --------
        >>> Settings(profile="bmm").described()["profile"]
        {'value': 'bmm', 'origin': 'argument'}
        """
        defaults = Settings()
        values = {name: (_value(self, key), _value(defaults, key)) for name, key in KEYS.items()}
        values |= {} if self.repeats else {"repeats.within": (0.0, 0.0)}
        values |= {f"{PIN}{name}": (version, None) for name, version in self.pins.items()}
        return {
            name: {"value": publishable(value), "origin": self._origin(name, unchanged=value == default)}
            for name, (value, default) in values.items()
        }

    def published(self) -> dict[str, object]:
        """Return what derived runs tell: the file, the values that are not built in, and the limits.

        What is built in follows from the version of the package, and would double the size of start documents
        that a server reads in each search.
        """
        told = {
            name: each
            for name, each in self.described().items()
            if each["origin"] != DEFAULT or name.startswith("limits.")
        }
        return {"file": str(self.file or ""), "values": told}

    def _origin(self, name: str, *, unchanged: bool) -> str:
        return self.origins.get(name, DEFAULT if unchanged else "argument")


def _keys(record: type, section: str, path: tuple[str, ...]) -> Iterator[tuple[str, Key]]:
    """Yield the keys of a record and of the records in it, by their dotted names."""
    hints = get_type_hints(record, include_extras=True)
    for each in (each for each in fields(record) if each.init):
        marks = getattr(hints[each.name], "__metadata__", ())
        annotation = get_args(hints[each.name])[0] if marks else hints[each.name]
        where = (*path, each.name)
        mark = marks[0] if marks else Key() if section else None
        if isinstance(mark, Section):
            yield from _keys(_record_of(annotation), mark.name, where)
        elif isinstance(mark, Key) and (section, each.name) != ("xanes", "energy_offset"):
            name = mark.name or f"{section}.{each.name}"
            yield name, replace(mark, name=name, path=where, annotation=annotation)


def _record_of(annotation: Any) -> type:
    """Return the record of a field that may be None."""
    options = get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)
    (record,) = (option for option in options if is_dataclass(option))
    return record  # type: ignore[return-value]


_ENERGY_OFFSET = Key(
    name="calibration.energy_offset",
    read=read_offset,
    path=("xanes", "energy_offset"),
    annotation=float | Literal["reference", "none"],
)

KEYS: Mapping[str, Key] = {
    **dict(_keys(Settings, "", ())),
    _ENERGY_OFFSET.name: _ENERGY_OFFSET,
}
"""Every key of a settings file but the pins, by its dotted name."""


def resolve_settings(
    file: Path | None = None,
    *,
    options: Mapping[str, object] = _NOTHING,
    environment: Mapping[str, str] = os.environ,
    folder: Path = Path(),
) -> Settings:
    """Return the settings: options before the environment, before the file, before the defaults.

    Parameters
    ----------
    file
        The settings file; if None, the one that `XPDML_SETTINGS` names, or the first `xpdml.toml` from the
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
        If the file is missing or no TOML, a key is unknown, or a value is not what its key needs.

    Examples
    --------
    >>> found = resolve_settings(options={"tiled.path": "derived"}, environment={}, folder=Path("/"))
    >>> found.tiled_path, found.described()["tiled.path"]["origin"]
    ('derived', 'option')
    """
    path = _file_of(file, environment, folder)
    by_origin = {
        FILE: {} if path is None else _from_file(path),
        ENVIRONMENT: _from_environment(environment, folder),
        OPTION: _from_options(options, folder),
    }
    values = {name: value for found in by_origin.values() for name, value in found.items()}
    origins = {name: origin for origin, found in by_origin.items() for name in found}
    pins = {name.removeprefix(PIN): value for name, value in values.items() if is_pin(name)}
    by_path = {KEYS[name].path: value for name, value in values.items() if name in KEYS}
    if not values.get("repeats.within", 0.0):
        # Without a time nothing is merged, whatever else the table says.
        by_path = {where: value for where, value in by_path.items() if where[0] != "repeats"}
    if "pairing" in values:
        by_path.setdefault(("pairing", "within"), PairingSettings().within)
    try:
        settings: Settings = _built(Settings, by_path, pins=pins, file=path, origins=origins)
    except SettingsError as error:
        raise SettingsError(f"{path or 'the settings'}: {error}") from error
    return settings


def _built(record: Any, values: Mapping[tuple[str, ...], object], **more: object) -> Any:
    """Return a record, and the records in it, from values by the path of their fields."""
    own = {where[0]: value for where, value in values.items() if len(where) == 1}
    hints = get_type_hints(record)
    for name in {where[0] for where in values if len(where) > 1}:
        inner = {where[1:]: value for where, value in values.items() if where[0] == name}
        own[name] = _built(_record_of(hints[name]), inner)
    return record(**own, **more)


def _value(settings: Any, key: Key) -> object:
    """Return the value of a key; None if the record that it belongs to is None."""
    for name in key.path:
        settings = getattr(settings, name, None)
    return settings


def _file_of(named: Path | None, environment: Mapping[str, str], folder: Path) -> Path | None:
    by_variable = environment.get(FILE_VARIABLE, "")
    path = named if named is not None else Path(by_variable) if by_variable else None
    if path is None:
        return find_settings_file(folder)
    if not os.path.isfile(path):  # noqa: PTH113 - false for names that no system takes
        by = "" if named is not None else f", which {FILE_VARIABLE} names"
        raise SettingsError(f"no settings file {path}{by}: correct the name, or write one")
    return path


def _from_file(path: Path) -> dict[str, Any]:
    entries = _entries(path)
    if re.search(r"(?i)[?&]api_key=", str(entries.get("tiled.uri", ""))):
        raise SettingsError(
            f"{path}: expected a tiled.uri without its key: put the key into an environment variable, "
            "and the variable's name into tiled.api_key_variable"
        )
    return {name: _read(name, value, str(path), path.absolute().parent) for name, value in entries.items()}


def _from_environment(environment: Mapping[str, str], folder: Path) -> dict[str, Any]:
    texts = {name: environment.get(variable_of(name), "") for name in KEYS}
    return {
        name: _read(name, _from_text(KEYS[name], text), variable_of(name), folder)
        for name, text in texts.items()
        if text
    }


def _from_text(key: Key, text: str) -> object:
    """Return the text of an environment variable as the value that a file would have."""
    if key.annotation is str:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _from_options(options: Mapping[str, object], folder: Path) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if value is not None and value != ""}
    return {name: _read(name, value, "the options", folder) for name, value in given.items()}


def _entries(path: Path) -> dict[str, object]:
    """Return the values of a file by their dotted keys, all of which are known."""
    table = parsed(path)
    sections = {key.partition(".")[0] for key in KEYS if "." in key}
    entries: dict[str, object] = {}
    for name, value in table.items():
        if name in sections and isinstance(value, dict):
            entries |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            entries[name] = value
    if table.get("pairing") == {}:
        entries["pairing.within"] = PairingSettings().within
    unknown = [name for name in entries if name not in KEYS and not is_pin(name)]
    if unknown:
        near = difflib.get_close_matches(unknown[0], sections, n=1)
        if isinstance(table.get(unknown[0]), dict) and near:
            raise SettingsError(f"{path}: there is no table [{unknown[0]}]; did you mean [{near[0]}]?")
        raise SettingsError(f"{path}: {_advice(unknown[0])}")
    return entries


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
    key = KEYS.get(name)
    if key is None and not is_pin(name):
        raise SettingsError(f"{where}: {_advice(name)}")
    try:
        if key is None:
            return read_pin(value)
        return read_typed(key.annotation, value) if key.read is None else key.read(value, folder)
    except UnfitError as error:
        is_shown = key is None or key.shown
        found = f"{text_of(value)} ({type(value).__name__})" if is_shown else "another text"
        raise SettingsError(f"{where}: expected {error} for {name}, found {found}") from error
