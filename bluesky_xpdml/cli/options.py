"""Options that several commands share, and how they become settings and a way to read files.

An option that overrides a setting names its key. Commands that read files take records of options, which
`expand_options` turns into single options: a new option of all of them is one field.
"""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

import typer

from bluesky_xpdml.cli.console import note
from bluesky_xpdml.errors import SettingsError
from bluesky_xpdml.reduction.pattern import QUnit
from bluesky_xpdml.settings import Settings, resolve_settings
from bluesky_xpdml.sources.reading import FileKind, FileReading

DATA = Path("..") / "shared" / "data"
"""Default folder of the development data."""


class EnergyUnit(StrEnum):
    """Units of an energy axis."""

    EV = "eV"
    KEV = "keV"


class Setting(NamedTuple):
    """Marks an option that overrides a setting."""

    key: str


def _warn_of_key(key: str | None) -> str | None:
    """Warn that a key on the command line is no secret."""
    if key:
        note(
            "everybody on this computer can see the key of --api-key in the list of processes: set "
            "TILED_API_KEY instead, or tiled.api_key_file in the settings"
        )
    return key


Offset = Annotated[
    float | None,
    typer.Option(help="Added to the energies [eV], to put them on the scale of the metal foil."),
    Setting("calibration.energy_offset"),
]
Kind = Annotated[
    FileKind, typer.Option("--technique", help="What was measured; by the suffix of the file if auto.")
]
SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings", help="Settings of the beamtime, instead of the first xpdml.toml from here upwards."
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        callback=_warn_of_key,
        help="Key of the Tiled server, instead of that of TILED_API_KEY or the settings. Others on this "
        "computer can see it in the list of processes.",
    ),
]
Roots = Annotated[
    list[str] | None,
    typer.Option(
        "--root",
        metavar="FOLDER|THERE=HERE",
        help="Folder under which files that documents name are opened, or that of the documents and that of "
        "this computer, instead of `roots` of the settings; may be given again. Without any, none is opened.",
    ),
]
Tiled = Annotated[str, typer.Option(help="Address of the Tiled server, instead of that of the settings.")]
Predictions = Annotated[
    str, typer.Option(help="Container of the predictions, instead of that of the settings (xpdml).")
]
ProfileName = Annotated[str, typer.Option(help="Convention that the runs follow; auto by default.")]
Explain = Annotated[
    bool,
    typer.Option("--explain", help="Publish an explanation with each answer: some seconds of work per run."),
]
Repeats = Annotated[
    float | None,
    typer.Option(
        "--repeats-within",
        help="Merge absorption runs of one sample that begin within this time of each other [s]; 0: none.",
        min=0.0,
    ),
]
Models = Annotated[
    Path | None,
    typer.Option(help="Folder of model bundles, instead of those that come with the package."),
    Setting("models.folder"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    """How absorption scans are read."""

    columns: Annotated[
        str,
        typer.Option(help="Meaning of the columns, in file order: energy,i0,it,ir,if,mu; `-` skips one."),
    ] = ""
    energy_unit: Annotated[
        EnergyUnit | None, typer.Option(help="Unit of the energies, if the file does not state it.")
    ] = None
    energy_offset: Offset = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementOptions:
    """What absorbed."""

    element: Annotated[str, typer.Option(help="Absorbing element, if the file does not state it.")] = ""
    edge: Annotated[str, typer.Option(help="Absorption edge, if the file does not state it.")] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternOptions:
    """How patterns and pair distribution functions are read."""

    composition: Annotated[
        str,
        typer.Option(help="Formula of the sample, if the file does not state it."),
        Setting("pdf.composition"),
    ] = ""
    q_unit: Annotated[
        QUnit | None,
        typer.Option("--q-unit", help="Unit of the axis of a pattern, if the file does not state it."),
    ] = None
    wavelength: Annotated[
        float | None, typer.Option(help="Of the X-rays [angstrom], for patterns over 2 theta.")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """How images and patterns are reduced."""

    poni: Annotated[Path | None, typer.Option(help="Calibration of the detector, for images.")] = None
    dark: Annotated[Path | None, typer.Option(help="Dark image, for images.")] = None
    mask: Annotated[Path | None, typer.Option(help="Mask, for images: bad pixels are not zero.")] = None
    background: Annotated[
        Path | None, typer.Option(help="Pattern or image of the sample's environment alone.")
    ] = None
    background_scale: Annotated[
        float | None,
        typer.Option(help="Scale of the background; fitted by default."),
        Setting("pdf.background_scale"),
    ] = None
    q_min: Annotated[
        float | None,
        typer.Option(help="Lower end of F(Q) [1/angstrom]; chosen by default."),
        Setting("pdf.q_min"),
    ] = None
    q_max: Annotated[
        float | None,
        typer.Option(help="Upper end of the transform [1/angstrom]; chosen by default."),
        Setting("pdf.q_max"),
    ] = None
    q_max_inst: Annotated[
        float | None,
        typer.Option(help="Upper end of the pattern that is used [1/angstrom]; chosen by default."),
        Setting("pdf.q_max_inst"),
    ] = None
    r_poly: Annotated[
        float | None,
        typer.Option(help="Length of the polynomial correction [angstrom]; chosen by default."),
        Setting("pdf.r_poly"),
    ] = None
    far: Annotated[
        Path | None,
        typer.Option(
            help="Pattern far below the edge (dpdf): the file is near it, and their difference is taken."
        ),
    ] = None
    far_wavelength: Annotated[
        float | None, typer.Option(help="Of the X-rays of that pattern [angstrom].")
    ] = None
    far_poni: Annotated[Path | None, typer.Option(help="Calibration of the detector for that pattern.")] = (
        None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Which models answer."""

    models: Models = None


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the fields of its records of options as options of its own."""
    signature = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)
    records: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        if name in records:
            parameters += _single_options(records[name])
        else:
            parameters.append(parameter.replace(annotation=hints[name]))

    @wraps(command)
    def expanded(*arguments: Any, **values: Any) -> None:
        built = {
            name: record(
                **{each.name: values.pop(each.name) for each in fields(record) if each.name in values}
            )
            for name, record in records.items()
        }
        command(*arguments, **values, **built)

    expanded.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {each.name: each.annotation for each in parameters}
    return expanded


def _names(record: Any) -> set[str]:
    return {each.name for each in fields(record)}


def _single_options(record: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(record, include_extras=True)
    return [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if each.default is MISSING else each.default,
            annotation=hints[each.name],
        )
        for each in fields(record)
    ]


def resolve_options(file: Path | None, *records: Any, **more: object) -> Settings:
    """Return the settings of the file, overridden by records of options, and by values under dotted keys.

    `more` has `__` for the dot of a key: `tiled__uri`.
    """
    values = {key.replace("__", "."): value for key, value in more.items()}
    for record in records:
        hints = get_type_hints(type(record), include_extras=True)
        for each in fields(record):
            marks = [mark for mark in hints[each.name].__metadata__ if isinstance(mark, Setting)]
            values |= {mark.key: getattr(record, each.name) for mark in marks}
    return resolve_settings(file, options=values)


def roots_of(folders: list[str] | None) -> dict[str, str] | None:
    """Return the folder here by the folder there of each `--root`; None if there are none.

    Examples
    --------
    >>> roots_of(["/data", "/nsls2/data=/mnt/data"])
    {'/data': '/data', '/nsls2/data': '/mnt/data'}
    """
    pairs = [folder.partition("=") for folder in folders or ()]
    return {there: here or there for there, _, here in pairs} or None


def require_server(settings: Settings) -> Settings:
    """Return the settings, which name a Tiled server.

    Raises
    ------
    SettingsError
        If they name none.
    """
    if not settings.tiled_uri:
        raise SettingsError(
            "expected a Tiled server, found none: name it by --tiled, or as tiled.uri in the settings"
        )
    return settings


def file_reading(settings: Settings, *records: Any, **stated: Any) -> FileReading:
    """Return how files are read, as records of options and the settings state it."""
    known = {each.name for each in fields(FileReading)}
    for record in records:
        stated |= {each.name: getattr(record, each.name) for each in fields(record) if each.name in known}
    columns = stated.pop("columns", "")
    unit = stated.pop("energy_unit", None)
    of_settings = settings.scattering.pdf.composition
    composition = stated.pop("composition", "") or (of_settings if isinstance(of_settings, str) else "")
    return FileReading(
        columns=tuple(name.strip() for name in columns.split(",")) if columns else (),
        energy_unit=str(unit or ""),
        composition=composition,
        scattering=settings.scattering,
        **stated,
    )
