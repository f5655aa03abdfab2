"""`xpdml models`: what bundles there are, what they say of themselves, and whether they are whole."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.markdown import Markdown

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, answer_console, print_json, print_table
from bluesky_xpdml.cli.predict import open_store
from bluesky_xpdml.errors import ModelError

app = typer.Typer(help="List, show and verify model bundles.", no_args_is_help=True)


@app.command(name="list", epilog="Example: xpdml models list")
def list_models(*, models: options.Models = None, json: bool = JSON) -> None:
    """List the bundles, what they predict and how they were measured."""
    store = open_store(models)
    bundles = [store.load(name) for name in store.names()]
    if json:
        print_json({"folder": str(store.folder), "models": [_entry(bundle) for bundle in bundles]})
        return
    rows = [
        [
            f"{entry['name']}-{entry['version']}",
            f"{entry['element']} {entry['edge']}".strip(),
            f"{entry['n_trained']} {entry['trained_on']}",
            str(entry["n_measured_compounds"]),
            entry["sha256"][:12],
        ]
        for entry in map(_entry, bundles)
    ]
    print_table("", ("bundle", "edge", "trained on simulated", "measured compounds", "SHA-256"), rows)


@app.command(epilog="Example: xpdml models show Fe-xanes-1")
def show(
    name: Annotated[str, typer.Argument(help="Name of a bundle, as `xpdml models list` gives it.")],
    *,
    models: options.Models = None,
    json: bool = JSON,
) -> None:
    """Show the card of a bundle; with --json its whole manifest."""
    from bluesky_xpdml.models.bundle import CARD

    store = open_store(models)
    bundle = store.load(name)
    if json:
        print_json({**bundle.manifest, "sha256": bundle.sha256})
        return
    answer_console.print(Markdown((store.folder / name / CARD).read_text(encoding="utf-8")))


@app.command(epilog="Example: xpdml models verify")
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of bundles; all of them by default.")
    ] = None,
    *,
    models: options.Models = None,
    json: bool = JSON,
) -> None:
    """Check every file of the bundles against its hash, and load every forest."""
    store = open_store(models)
    results = [_verified(store, name) for name in names or store.names()]
    if json:
        print_json({"models": results})
    else:
        marks = {True: "[green]whole[/]", False: "[red]broken[/]"}
        print_table("", ("bundle", "", "why"), [[r["name"], marks[r["ok"]], r["reason"]] for r in results])
    if not results or not all(result["ok"] for result in results):
        raise typer.Exit(1)


def _entry(bundle: Any) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        **{key: manifest[key] for key in ("name", "version", "element", "edge", "modality")},
        "targets": sorted(manifest["targets"]),
        "n_trained": _trained(manifest["training"])[0],
        "trained_on": _trained(manifest["training"])[1],
        "n_measured_compounds": len(manifest["metrics"]["measured"]),
        "sha256": bundle.sha256,
    }


def _trained(training: Mapping[str, Any]) -> tuple[int, str]:
    """Return how many simulated curves a bundle was trained on, and of what: sites or whole materials."""
    kind = "sites" if "n_sites" in training else "materials"
    return training[f"n_{kind}"], kind


def _verified(store: Any, name: str) -> dict[str, Any]:
    try:
        store.load(name)
    except ModelError as error:
        return {"name": name, "ok": False, "reason": str(error)}
    return {"name": name, "ok": True, "reason": ""}
