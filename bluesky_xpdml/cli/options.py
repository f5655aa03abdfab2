"""Options that several commands share, and how their texts become settings."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bluesky_xpdml.reduction.pattern import QUnit
from bluesky_xpdml.sources.reading import FileKind

DATA = Path("..") / "shared" / "data"
"""Where the development data are looked for by default."""


class EnergyUnit(StrEnum):
    """Units of an energy axis."""

    EV = "eV"
    KEV = "keV"


Element = Annotated[str, typer.Option(help="Absorbing element, where the file does not say.")]
Edge = Annotated[str, typer.Option(help="Absorption edge, where the file does not say.")]
Columns = Annotated[
    str, typer.Option(help="What the columns are, in file order: energy,i0,it,ir,if,mu; `-` skips one.")
]
Unit = Annotated[EnergyUnit | None, typer.Option(help="Unit of the energies, where the file does not say.")]
Offset = Annotated[
    float | None,
    typer.Option(help="Added to the energies [eV], to put them on the scale of the metal foil."),
]
Kind = Annotated[
    FileKind, typer.Option("--technique", help="What was measured; by the file's suffix if auto.")
]
Composition = Annotated[str, typer.Option(help="Formula of the sample, where the file does not say.")]
QUnitOption = Annotated[
    QUnit | None, typer.Option("--q-unit", help="Unit of the axis of a pattern, where the file does not say.")
]
Wavelength = Annotated[
    float | None, typer.Option(help="Of the X-rays [angstrom], for patterns over 2 theta.")
]
Poni = Annotated[Path | None, typer.Option(help="Calibration of the detector, for images.")]
Dark = Annotated[Path | None, typer.Option(help="Dark image, for images.")]
Mask = Annotated[Path | None, typer.Option(help="Mask, for images: bad pixels are not zero.")]
Background = Annotated[Path | None, typer.Option(help="Pattern or image of what is around the sample.")]
BackgroundScale = Annotated[float | None, typer.Option(help="Of the background; fitted if not given.")]
QMin = Annotated[float | None, typer.Option(help="Where F(Q) begins [1/angstrom]; chosen if not given.")]
QMax = Annotated[
    float | None, typer.Option(help="Where the transform ends [1/angstrom]; chosen if not given.")
]
QMaxInst = Annotated[
    float | None, typer.Option(help="How far the pattern is used [1/angstrom]; chosen if not given.")
]
RPoly = Annotated[
    float | None, typer.Option(help="Length of the correction [angstrom]; chosen if not given.")
]
Far = Annotated[
    Path | None,
    typer.Option(
        help="Pattern far below the edge (dpdf): the file is near it, and their difference is taken."
    ),
]
FarWavelength = Annotated[float | None, typer.Option(help="Of the X-rays of that pattern [angstrom].")]
FarPoni = Annotated[Path | None, typer.Option(help="Calibration of the detector for that pattern.")]
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
        help="Key of the Tiled server; what TILED_API_KEY holds, or the variable that the settings name.",
    ),
]
ApiKey = Annotated[str | None, typer.Option(envvar="TILED_API_KEY", help="Key of the Tiled server.")]
Explain = Annotated[
    bool, typer.Option("--explain", help="Publish why each answer is what it is: some seconds of work a run.")
]
Repeats = Annotated[
    float | None,
    typer.Option(
        "--repeats-within",
        help="Merge absorption runs of one sample that begin within so long of another [s]; 0: none.",
        min=0.0,
    ),
]
Models = Annotated[
    Path | None, typer.Option(help="Folder of model bundles, instead of those that come with the package.")
]
