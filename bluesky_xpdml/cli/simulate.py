"""`xpdml simulate`: from structures to curves."""

from pathlib import Path
from typing import Annotated

import typer

from bluesky_xpdml.cli.console import JSON, print_json, progress_console
from bluesky_xpdml.records import PairDistribution
from bluesky_xpdml.simulation.pair_distribution import Engine

app = typer.Typer(help="Simulate what a structure would show.", no_args_is_help=True)


@app.callback()
def simulate() -> None:
    """Simulate what a structure would show."""


@app.command(epilog="Example: xpdml simulate pdf rutile.cif --q-max 25 --u-iso 0.005 --output rutile.gr")
def pdf(
    structure: Annotated[Path, typer.Argument(help="Structure, a CIF file.")],
    *,
    q_max: Annotated[float, typer.Option(help="Upper end of the transform [1/angstrom].")],
    u_iso: Annotated[float, typer.Option(help="Isotropic displacement of every atom [angstrom^2].")],
    output: Annotated[Path, typer.Option(help="File for G(r), NAME.gr.")],
    r_max: Annotated[float, typer.Option(help="End of the range [angstrom].")] = 30.0,
    q_min: Annotated[float, typer.Option(help="Lower end of the transform [1/angstrom].")] = 0.0,
    q_damp: Annotated[float, typer.Option(help="Decay of G(r) by the resolution [1/angstrom].")] = 0.0,
    metal: Annotated[
        str, typer.Option(help="Only pairs that involve this element: its differential PDF.")
    ] = "",
    engine: Annotated[Engine, typer.Option(help="Who computes.")] = Engine.NUMPY,
    json: bool = JSON,
) -> None:
    """Simulate the pair distribution function of a structure, or the part that involves one metal."""
    from bluesky_xpdml.simulation.pair_distribution import pair_distribution
    from bluesky_xpdml.simulation.structure import read_cif
    from bluesky_xpdml.sources.pdf_files import write_pdf

    if output.suffix != ".gr":
        raise typer.BadParameter(f"{output}: G(r) is written to a file named NAME.gr")
    atoms = read_cif(structure.read_text(encoding="utf-8"))
    r, g = pair_distribution(
        atoms, q_max=q_max, u_iso=u_iso, r_max=r_max, q_min=q_min, q_damp=q_damp, metal=metal, engine=engine
    )
    amounts = {
        symbol: atoms.species.count(symbol) / len(atoms.species) for symbol in dict.fromkeys(atoms.species)
    }
    settings = {
        "q_min": q_min,
        "q_max": q_max,
        "q_damp": q_damp,
        "u_iso": u_iso,
        "metal": metal,
        "engine": str(engine),
    }
    curve = PairDistribution(r=r, g=g, composition=amounts, settings=settings, source=structure.name)
    write_pdf(curve, output.parent, output.stem)
    if json:
        print_json(
            {"file": str(structure), "written": str(output), "settings": settings, "composition": amounts}
        )
    else:
        progress_console.print(f"written: {output}")
