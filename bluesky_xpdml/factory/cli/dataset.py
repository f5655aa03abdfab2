"""`xpdml dataset`: from structures and simulated spectra to a labelled data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bluesky_xpdml.cli.console import JSON, print_json, print_table, progress_bars, progress_console
from bluesky_xpdml.factory.cli import require_train_extra

if TYPE_CHECKING:
    from bluesky_xpdml.factory.dataset.build import Built
    from bluesky_xpdml.factory.dataset.join import EnergyAxis

app = typer.Typer(help="Build labelled data sets for training.", no_args_is_help=True)


@app.callback()
def dataset() -> None:
    """Build labelled data sets for training."""
    require_train_extra()


@app.command(
    epilog="Example: xpdml dataset build --structures cifs --spectra feff --element Fe "
    "--energy Fe=7105:7175:0.25 --output iron"
)
def build(
    *,
    structures: Annotated[
        list[Path], typer.Option(help="CIF, JSON, JSON lines, or a folder; repeat it for more.")
    ],
    element: Annotated[list[str], typer.Option(help="Absorbing element; repeat it for more.")],
    output: Annotated[Path, typer.Option(help="Folder for the data set.")],
    spectra: Annotated[
        list[Path] | None,
        typer.Option(help="xmu.dat, JSON, npz, parquet, or a folder; repeat it for more."),
    ] = None,
    energy: Annotated[
        list[str] | None,
        typer.Option(help="Axis of an element's spectra [eV], ELEMENT=LOW:HIGH:STEP, where files differ."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that label.")] = 1,
    dask: Annotated[str, typer.Option(help="Address of a Dask scheduler that labels instead.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Only so many structures; 0 for all.")] = 0,
    json: bool = JSON,
) -> None:
    """Label the sites of structures, and join them with their spectra.

    A build that was stopped goes on where it was when the same command is given again.
    """
    from bluesky_xpdml.factory.dataset.build import DatasetSettings, Workers, build_dataset

    settings = DatasetSettings(elements=tuple(_elements(element)), axes=_axes(energy or ()), limit=limit)
    with progress_bars() as advance:
        built = build_dataset(
            structures,
            spectra or [],
            output,
            settings,
            workers=Workers(n_jobs=jobs, scheduler=dask),
            progress=advance,
        )
    if json:
        print_json({"folder": str(built.folder), **_answer(built.manifest), **_work(built)})
        return
    _show(built.manifest)
    work = _work(built)
    times = ", ".join(f"{label} {value:.0f}" for label, value in work["milliseconds_a_structure"].items())
    progress_console.print(
        f"written: {built.folder}; labelled now: {work['labelled_now']} structures"
        + (f" (ms each: {times})" if times else ""),
        markup=False,
    )


@app.command(epilog="Example: xpdml dataset show iron")
def show(
    folder: Annotated[Path, typer.Argument(help="A built data set.")],
    *,
    json: bool = JSON,
) -> None:
    """Check a data set against its manifest, and say what it holds and what was left out."""
    from bluesky_xpdml.factory.dataset.library import load_dataset

    found = load_dataset(folder, verify=True)
    if json:
        print_json({"folder": str(folder), **_answer(found.manifest)})
    else:
        _show(found.manifest)


@app.command(epilog="Example: xpdml dataset fetch --element Fe --output materials_project")
def fetch(
    *,
    element: Annotated[list[str], typer.Option(help="Absorbing element; repeat it for more.")],
    output: Annotated[Path, typer.Option(help="Folder for structures.jsonl.gz and spectra.json.")],
    together_with: Annotated[
        list[str] | None, typer.Option("--with", help="Element that the materials also hold; repeat it.")
    ] = None,
    key: Annotated[str, typer.Option(envvar="MP_API_KEY", help="Key of the Materials Project.")] = "",
    json: bool = JSON,
) -> None:
    """Download structures and K-edge XANES from the Materials Project, to build a data set from."""
    from bluesky_xpdml.factory.dataset.materials_project import fetch as download

    found = download(_elements(element), together_with=together_with or [], key=key, output=output)
    counts = {
        "structures": found.n_structures,
        "spectra": found.n_spectra,
        "left_out": found.n_other_setting,
    }
    if json:
        print_json({"folder": str(output), **counts})
    else:
        print_table("", ("what", "number"), [[what, str(number)] for what, number in counts.items()])


def _elements(given: Sequence[str]) -> list[str]:
    from pymatgen.core import Element

    unknown = sorted(name for name in given if not Element.is_valid_symbol(name))
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: expected chemical symbols such as Fe")
    return list(dict.fromkeys(given))


def _axes(given: Sequence[str]) -> dict[str, "EnergyAxis"]:
    from bluesky_xpdml.factory.dataset.join import EnergyAxis

    axes: dict[str, EnergyAxis] = {}
    for text in given:
        element, _, numbers = text.partition("=")
        try:
            low, high, step = (float(number) for number in numbers.split(":"))
        except ValueError as error:
            raise typer.BadParameter(
                f"{text}: expected ELEMENT=LOW:HIGH:STEP, such as Fe=7105:7175:0.25"
            ) from error
        axes[element] = EnergyAxis(low=low, high=high, step=step)
    return axes


def _answer(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {key: manifest[key] for key in ("counts", "unknown", "dropped", "files")}


def _work(built: "Built") -> dict[str, Any]:
    """Return what this run did, which is no part of the data set."""
    each = {
        label: 1e3 * seconds / built.n_labelled
        for label, seconds in built.seconds.items()
        if built.n_labelled
    }
    return {
        "labelled_now": built.n_labelled,
        "parts_found": built.n_resumed,
        "milliseconds_a_structure": each,
    }


def _show(manifest: Mapping[str, Any]) -> None:
    counts = manifest["counts"]
    rows = [
        [element, str(number), str(counts["spectra"].get(element, 0))]
        for element, number in counts["sites"].items()
    ]
    print_table(f"{counts['structures']} structures", ("element", "labelled sites", "spectra"), rows)
    for title in ("unknown", "dropped"):
        found = [
            [what, reason, str(number)]
            for what, reasons in manifest[title].items()
            for reason, number in reasons.items()
        ]
        if found:
            print_table(title, ("what", "reason", "number"), found)


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="dataset")
