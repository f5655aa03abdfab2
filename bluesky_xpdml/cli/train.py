"""`xpdml train`: from simulated spectra and measured standards to bundles."""

from pathlib import Path
from typing import Annotated

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, print_json, print_table, progress_bars, progress_console


def train(
    simulation: Annotated[
        Path, typer.Argument(help="Folder of simulated spectra (xanes_<El>.npz, sites.csv.gz).")
    ] = options.DATA / "simulation",
    *,
    standards: Annotated[
        Path, typer.Option(help="Folder of measured spectra with labels.csv: they fix the edge curves.")
    ] = options.DATA / "experiment" / "xanes",
    element: Annotated[
        list[str] | None, typer.Option(help="Element to train for; repeat it for more, all by default.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the bundles.")] = Path("trained_models"),
    version: Annotated[int, typer.Option(min=1, help="Version of the bundles.")] = 1,
    seed: Annotated[int, typer.Option(help="The same seed, data and versions give the same hashes.")] = 0,
    json: bool = JSON,
) -> None:
    """Train one bundle an element, with its figures on compounds that it has not seen.

    The compounds of the simulated beamline are left out, so that the demonstration is honest.
    """
    from bluesky_xpdml.beamline.samples import held_out_formulas
    from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
    from bluesky_xpdml.sources.standards import load_standards
    from bluesky_xpdml.training.build import build_bundles, load_training_data
    from bluesky_xpdml.training.xanes import XanesRecipe

    elements = element or list(FOIL_ENERGIES)
    unknown = sorted(set(elements) - set(FOIL_ENERGIES))
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: expected some of {', '.join(FOIL_ENERGIES)}")
    recipe = XanesRecipe(seed=seed)
    known = load_standards(standards)
    for file, reason in known.refused.items():
        progress_console.print(f"not used: {file}: {reason}", markup=False)
    data = load_training_data(
        simulation, known.spectra, elements=elements, held_out=held_out_formulas(), recipe=recipe
    )
    with progress_bars() as advance:
        folders = build_bundles(
            data, elements, output, recipe=recipe, bundle_version=version, progress=advance
        )
    sizes = [sum(file.stat().st_size for file in folder.iterdir()) for folder in folders]
    if json:
        names = [folder.name for folder in folders]
        print_json({"bundles": [{"name": n, "bytes": s} for n, s in zip(names, sizes, strict=True)]})
        return
    rows = [[str(folder), f"{size / 1e6:.2f}"] for folder, size in zip(folders, sizes, strict=True)]
    print_table("", ("bundle", "MB"), rows)
