"""`xpdml train`: from simulated spectra, structures and measured standards to bundles."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, print_json, print_table, progress_bars, progress_console
from bluesky_xpdml.factory.cli import require_train_extra
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.vocabulary import Modality

if TYPE_CHECKING:
    from bluesky_xpdml.cli.console import Advance

XANES = "xanes"
MODALITIES = (XANES, *(str(modality) for modality in (*Modality.curves(), *Modality.joint())))


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
        list[str] | None, typer.Option(help=f"{', '.join(MODALITIES)}; repeat it for more, all by default.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the bundles.")] = Path("trained_models"),
    version: Annotated[int, typer.Option(min=1, help="Version of the bundles.")] = 2,
    seed: Annotated[int, typer.Option(help="The same seed, data and versions give the same hashes.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps simulated curves for the next training.")
    ] = None,
    json: bool = JSON,
) -> None:
    """Train one bundle an element and a modality, with its figures on compounds that it has not seen.

    The compounds of the simulated beamlines are left out, so that the demonstration is honest. Joint bundles
    (xanes+pdf, xanes+dpdf) stand on the newest single ones of the output folder, which come first.
    """
    require_train_extra()
    elements = _known("element", element, list(FOIL_ENERGIES))
    modalities = _known("modality", modality, MODALITIES)
    folders: list[Path] = []
    with progress_bars() as advance:
        if XANES in modalities:
            folders += _train_xanes(
                simulation, standards, elements, output, version, seed=seed, advance=advance
            )
        kinds = [kind for kind in Modality.curves() if kind in modalities]
        joint = [kind for kind in Modality.joint() if kind in modalities]
        with _kept(cache) as folder:
            if kinds:
                folders += _train_pdf(
                    simulation, kinds, elements, output, version, seed=seed, cache=folder, advance=advance
                )
            if joint:
                folders += _train_joint(
                    simulation, joint, elements, output, version, seed=seed, cache=folder, advance=advance
                )
    _show(folders, json=json)


def _known(what: str, given: list[str] | None, known: Sequence[str]) -> list[str]:
    unknown = sorted(set(given or ()) - set(known))
    if unknown:
        raise typer.BadParameter(f"{what} {', '.join(unknown)}: expected some of {', '.join(known)}")
    return given or list(known)


def _train_xanes(
    simulation: Path,
    standards: Path,
    elements: Sequence[str],
    output: Path,
    version: int,
    *,
    seed: int,
    advance: "Advance",
) -> list[Path]:
    from bluesky_xpdml.demo.beamline import held_out_formulas
    from bluesky_xpdml.factory.training.build import build_bundles, load_training_data
    from bluesky_xpdml.factory.training.xanes import XanesRecipe
    from bluesky_xpdml.sources.standards import load_standards

    recipe = XanesRecipe(seed=seed)
    known = load_standards(standards)
    for file, reason in known.refused.items():
        progress_console.print(f"not used: {file}: {reason}", markup=False)
    data = load_training_data(
        simulation, known.spectra, elements=elements, held_out=held_out_formulas(), recipe=recipe
    )
    return build_bundles(data, elements, output, recipe=recipe, bundle_version=version, progress=advance)


def _train_pdf(
    simulation: Path,
    modalities: Sequence[Modality],
    elements: Sequence[str],
    output: Path,
    version: int,
    *,
    seed: int,
    cache: Path,
    advance: "Advance",
) -> list[Path]:
    from bluesky_xpdml.demo.beamline import held_out_scattering_formulas
    from bluesky_xpdml.factory.training.build_pdf import build_pdf_bundles, load_pdf_training_data
    from bluesky_xpdml.factory.training.pdf import PdfRecipe

    recipe = PdfRecipe(seed=seed)
    data = load_pdf_training_data(
        simulation, elements=elements, held_out=held_out_scattering_formulas(), recipe=recipe
    )
    return build_pdf_bundles(
        data,
        output,
        modalities=modalities,
        recipe=recipe,
        bundle_version=version,
        cache=cache,
        progress=advance,
    )


def _train_joint(
    simulation: Path,
    modalities: Sequence[Modality],
    elements: Sequence[str],
    output: Path,
    version: int,
    *,
    seed: int,
    cache: Path,
    advance: "Advance",
) -> list[Path]:
    from bluesky_xpdml.demo.beamline import held_out_formulas, held_out_scattering_formulas
    from bluesky_xpdml.factory.training.build_joint import JointTraining, build_joint_bundles
    from bluesky_xpdml.factory.training.build_pdf import load_pdf_training_data
    from bluesky_xpdml.factory.training.joint import JointRecipe
    from bluesky_xpdml.factory.training.pdf import PdfRecipe
    from bluesky_xpdml.factory.training.xanes import XanesRecipe
    from bluesky_xpdml.models.store import BundleStore

    recipe = JointRecipe(seed=seed, xanes=XanesRecipe(seed=seed), pdf=PdfRecipe(seed=seed))
    held_out = {*held_out_formulas(), *held_out_scattering_formulas()}
    training = JointTraining(
        data=load_pdf_training_data(simulation, elements=elements, held_out=held_out, recipe=recipe.pdf),
        store=BundleStore(output),
        recipe=recipe,
        cache=cache,
        progress=advance,
    )
    return build_joint_bundles(training, output, modalities=modalities, bundle_version=version)


@contextmanager
def _kept(cache: Path | None) -> Iterator[Path]:
    """Yield the folder for simulated curves, a passing one where none was named."""
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


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="train", epilog="Example: xpdml train --element Fe --output my_models")(train)
