"""`xpdml models`: what bundles there are, what they say of themselves, whether they answer as they did."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markdown import Markdown

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, answer_console, print_json, print_table
from bluesky_xpdml.cli.models_compare import compare
from bluesky_xpdml.cli.models_pin import pin
from bluesky_xpdml.errors import ModelError
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.settings import resolve_settings

app = typer.Typer(help="List, show, verify, compare and pin model bundles.", no_args_is_help=True)
app.command(epilog="Example: xpdml models compare Fe-xanes-1 my_models/Fe-xanes-2 --on spectrum.xdi")(compare)
app.command(epilog="Example: xpdml models pin Fe-xanes 1")(pin)


@app.command(name="list", epilog="Example: xpdml models list")
def list_models(
    *, models: options.Models = None, settings: options.SettingsFile = None, json: bool = JSON
) -> None:
    """List the bundles, what they predict, how they were measured, and which of them answer."""
    store = _store(models, settings)
    entries = [_entry(bundle) | _marks(store, bundle) for bundle in map(store.load, store.names())]
    if json:
        print_json({"folder": str(store.folder), "models": entries})
        return
    rows = [
        [
            f"{entry['name']}-{entry['version']}",
            f"{entry['element']} {entry['edge']}".strip(),
            ", ".join(mark for mark in ("pinned", "newest", "answers") if entry[mark]),
            f"{entry['n_trained']} {entry['trained_on']}",
            str(entry["n_measured_compounds"]),
            entry["sha256"][:12],
        ]
        for entry in entries
    ]
    columns = ("bundle", "edge", "", "trained on simulated", "measured compounds", "SHA-256")
    print_table("", columns, rows)


@app.command(epilog="Example: xpdml models show Fe-xanes-1")
def show(
    name: Annotated[str, typer.Argument(help="Name of a bundle, as `xpdml models list` gives it.")],
    *,
    models: options.Models = None,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Show the card of a bundle; with --json its whole manifest."""
    from bluesky_xpdml.models.bundle import CARD

    store = _store(models, settings)
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
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Check every file of the bundles against its hash, and every forest against its golden predictions.

    Golden predictions are the answers to a few rows when the bundle was written; a bundle without them is
    checked by its hashes alone, and says so.
    """
    store = _store(models, settings)
    results = [_verified(store, name) for name in names or store.names()]
    if json:
        print_json({"models": results})
    else:
        marks = {True: "[green]whole[/]", False: "[red]broken[/]"}
        rows = [[r["name"], marks[r["ok"]], _golden(r["golden"]), r["reason"]] for r in results]
        print_table("", ("bundle", "", "golden predictions", "why"), rows)
    if not results or not all(result["ok"] for result in results):
        raise typer.Exit(1)


def _store(models: Path | None, file: Path | None) -> BundleStore:
    return resolve_settings(file, options={"models.folder": models}).store()


def _marks(store: BundleStore, bundle: Any) -> dict[str, bool]:
    name, version = bundle.reference.name, bundle.reference.version
    return {
        "pinned": store.pins.get(name) == version,
        "newest": store.versions(name)[-1] == version,
        "answers": store.chosen(name) == version,
    }


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


def _verified(store: BundleStore, name: str) -> dict[str, Any]:
    from bluesky_xpdml.models.golden import check_golden

    try:
        check = check_golden(store.load(name))
    except ModelError as error:
        return {"name": name, "ok": False, "golden": None, "reason": str(error)}
    reason = "" if check.ok else f"{check.target} answers otherwise than when the bundle was written"
    golden = {"n_rows": check.n_rows, "deviation": check.deviation, "target": check.target}
    return {"name": name, "ok": check.ok, "golden": golden if check.checked else None, "reason": reason}


def _golden(check: Mapping[str, Any] | None) -> str:
    return (
        "none: hashes only" if check is None else f"{check['n_rows']} rows, within {check['deviation']:.1e}"
    )
