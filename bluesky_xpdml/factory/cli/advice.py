"""`xpdml build-advice`: count the table of gains that `xpdml advise` reads."""

from pathlib import Path
from typing import Annotated

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, answer_console, print_json, progress_bars
from bluesky_xpdml.factory.cli import require_train_extra
from bluesky_xpdml.factory.cli.bench import CACHE


def build_advice(
    simulation: Annotated[
        Path, typer.Argument(help="Folder of simulated spectra, structures and labels.")
    ] = options.DATA / "simulation",
    *,
    element: Annotated[
        list[str] | None, typer.Option(help="Element to count; repeat it for more, all by default.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The table.")] = Path("advice.json"),
    cache: Annotated[
        Path, typer.Option(help="Folder that keeps simulated curves and cross-validated answers.")
    ] = CACHE,
    seed: Annotated[int, typer.Option(help="The same seed, data and versions give the same table.")] = 0,
    json: bool = JSON,
) -> None:
    """Count, on simulated materials, what a second modality adds: the table that `advise` reads."""
    require_train_extra()
    from bluesky_xpdml.factory.training.advice import build_table
    from bluesky_xpdml.factory.training.advice_data import AdviceRecipe
    from bluesky_xpdml.reduction.energy import FOIL_ENERGIES

    with progress_bars() as advance:
        found = build_table(
            simulation,
            element or list(FOIL_ENERGIES),
            AdviceRecipe(seed=seed),
            cache=cache,
            progress=advance,
        )
    found.write(output)
    size = output.stat().st_size
    if json:
        print_json({"table": str(output), "elements": list(found.elements), "bytes": size})
        return
    answer_console.print(f"{output}: {', '.join(found.elements)}, {size / 1e3:.0f} kB", markup=False)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="build-advice", epilog="Example: xpdml build-advice --output advice.json")(build_advice)
