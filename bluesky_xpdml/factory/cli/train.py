"""`xpdml train`: from simulated spectra, structures and measured standards to bundles."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, print_json, print_table, progress_bars, progress_console
from bluesky_xpdml.factory.cli import require_train_extra
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.vocabulary import Modality

NAMES = ", ".join(Modality)


def train(
    simulation: Annotated[
        Path, typer.Argument(help="Folder of simulated spectra, structures and labels.")
    ] = options.DATA / "simulation",
    *,
    standards: Annotated[
        Path, typer.Option(help="Folder of measured spectra with labels.csv: they fix the edge curves.")
    ] = options.DATA / "experiment" / "xanes",
    element: Annotated[
        list[str] | None, typer.Option(help="Element to train for; repeat it for more, all by default.")
    ] = None,
    modality: Annotated[
        list[str] | None, typer.Option(help=f"{NAMES}; repeat it for more, all by default.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the bundles.")] = Path("trained_models"),
    version: Annotated[int, typer.Option(min=1, help="Version of the bundles.")] = 2,
    seed: Annotated[int, typer.Option(help="The same seed, data and versions give the same hashes.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps simulated curves for the next training.")
    ] = None,
    json: bool = JSON,
) -> None:
    """Train one bundle per element and modality, with its figures on compounds that it has not seen.

    The compounds of the simulated beamlines are left out, so that the demonstration is honest. Joint bundles
    (xanes+pdf, xanes+dpdf) use the newest single ones of the output folder, which are trained first.
    """
    require_train_extra()
    from bluesky_xpdml.demo.beamline import held_out_formulas, held_out_scattering_formulas
    from bluesky_xpdml.factory.training.build import Training, build_bundles
    from bluesky_xpdml.factory.training.joint import JointRecipe
    from bluesky_xpdml.factory.training.pdf import PdfRecipe
    from bluesky_xpdml.factory.training.xanes import XanesRecipe
    from bluesky_xpdml.sources.standards import load_standards

    elements = _known("element", element, list(FOIL_ENERGIES))
    modalities = {Modality(name) for name in _known("modality", modality, list(Modality))}
    measured = load_standards(standards) if Modality.XANES in modalities else None
    for file, reason in measured.refused.items() if measured else ():
        progress_console.print(f"not used: {file}: {reason}", markup=False)
    with progress_bars() as advance, _kept(cache) as folder:
        training = Training(
            folder=simulation,
            output=output,
            elements=elements,
            version=version,
            recipe=JointRecipe(seed=seed, xanes=XanesRecipe(seed=seed), pdf=PdfRecipe(seed=seed)),
            cache=folder,
            standards=measured.spectra if measured else (),
            held_out_spectra=held_out_formulas(),
            held_out_structures=held_out_scattering_formulas(),
            progress=advance,
        )
        folders = build_bundles(training, modalities)
    _show(folders, json=json)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="train", epilog="Example: xpdml train --element Fe --output my_models")(train)


def _known(what: str, given: list[str] | None, known: Sequence[str]) -> list[str]:
    unknown = sorted(set(given or ()) - set(known))
    if unknown:
        raise typer.BadParameter(f"{what} {', '.join(unknown)}: expected some of {', '.join(known)}")
    return given or list(known)


@contextmanager
def _kept(cache: Path | None) -> Iterator[Path]:
    """Yield the folder for simulated curves; a temporary one if none was named."""
    if cache is not None:
        yield cache
        return
    with tempfile.TemporaryDirectory(prefix="xpdml-") as folder:
        yield Path(folder)


def _show(folders: Sequence[Path], *, json: bool) -> None:
    sizes = [sum(file.stat().st_size for file in folder.iterdir()) for folder in folders]
    if json:
        names = [folder.name for folder in folders]
        print_json({"bundles": [{"name": n, "bytes": s} for n, s in zip(names, sizes, strict=True)]})
        return
    rows = [[str(folder), f"{size / 1e6:.2f}"] for folder, size in zip(folders, sizes, strict=True)]
    print_table("", ("bundle", "MB"), rows)
