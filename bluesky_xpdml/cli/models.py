"""`xpdml models`: list, show, verify, compare and pin model bundles."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markdown import Markdown
from rich.text import Text

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import (
    JSON,
    answer_console,
    interval,
    print_json,
    print_table,
    verdict,
    visible,
)
from bluesky_xpdml.cli.reading import FileAnalysis, file_answer
from bluesky_xpdml.errors import ModelError, ModelNotFoundError, SettingsError
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import Verdict
from bluesky_xpdml.settings import Settings, resolve_settings
from bluesky_xpdml.settings_file import FILE_NAME
from bluesky_xpdml.sources.reading import FileKind, FileReading
from bluesky_xpdml.vocabulary import Descriptor

if TYPE_CHECKING:
    from bluesky_xpdml.models.bundle import Bundle
    from bluesky_xpdml.models.comparison import Comparison, Pair

DIFFERING = {"training": "data", "recipe": "recipe", "other": "other figures"}
"""Parts of a comparison that list only what differs."""
MEASURED = "mean absolute error, {} measured compounds"


@options.expand_options
def compare(
    first: Annotated[str, typer.Argument(help="Name of a bundle, or its folder.")],
    second: Annotated[str, typer.Argument(help="Another for the same element and modality.")],
    *,
    on: Annotated[
        list[Path] | None, typer.Option(help="File that both are to answer; repeat it for more.")
    ] = None,
    scan: options.ScanOptions,
    pattern: options.PatternOptions,
    model: options.ModelOptions,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Compare two bundles: data, recipe, scores, versions, size, and answers for files.

    Differences are second minus first. A file that cannot be used is answered with the reason, and the exit
    status is 1.
    """
    from bluesky_xpdml.models.comparison import compare_bundles

    resolved = options.resolve_options(settings, scan, pattern, model)
    store = BundleStore(resolved.models_folder)
    opened = [_opened(store, name) for name in (first, second)]
    bundles = [bundle for bundle, _ in opened]
    comparison = compare_bundles(*bundles)
    sizes = [sum(file.stat().st_size for file in folder.iterdir()) for _, folder in opened]
    reading = options.file_reading(
        resolved, scan, pattern, element=bundles[0].element, edge=bundles[0].manifest["edge"]
    )
    answers = _answers(on or [], bundles, reading, resolved)
    if json:
        print_json({**_plain(comparison), "bytes": sizes, "answers": answers})
    else:
        _show(comparison, sizes)
        _show_answers(comparison.names, answers)
    if any(answer["quality"]["verdict"] == Verdict.FAILED for row in answers for answer in row["answers"]):
        raise typer.Exit(1)


def _opened(store: BundleStore, name: str) -> tuple["Bundle", Path]:
    """Return a bundle by its name in the store, or by its folder."""
    from bluesky_xpdml.models.bundle import load_bundle

    if name in store.names():
        return store.load(name), store.folder / name
    folder = Path(name)
    if not folder.is_dir():
        known = ", ".join(store.names()) or "none"
        msg = f"no bundle {name!r}: expected a folder, or one of {known} in {store.folder}"
        raise ModelNotFoundError(msg)
    return load_bundle(folder), folder


def _answers(
    files: Sequence[Path], bundles: Sequence["Bundle"], reading: FileReading, settings: Settings
) -> list[dict[str, Any]]:
    """Return the answers of both bundles for each file, and their differences."""
    if not files:
        return []
    kind = _kind(bundles[0])
    rows = []
    for path in files:
        answers = [_answer(path, bundle, kind, reading, settings) for bundle in bundles]
        both = [name for name in answers[0]["descriptors"] if name in answers[1]["descriptors"]]
        values = [[answer["descriptors"][name]["value"] for name in both] for answer in answers]
        differences = {name: after - before for name, before, after in zip(both, *values, strict=True)}
        rows.append({"file": str(path), "answers": answers, "differences": differences})
    return rows


def _kind(bundle: "Bundle") -> FileKind:
    modality = bundle.manifest["modality"]
    known = [str(kind) for kind in FileKind if kind is not FileKind.AUTO]
    if modality not in known:
        raise typer.BadParameter(f"--on: expected bundles for {', '.join(known)}, found {modality}")
    return FileKind(modality)


def _answer(
    path: Path, bundle: "Bundle", kind: FileKind, reading: FileReading, settings: Settings
) -> dict[str, Any]:
    # A store without a folder holds the bundle alone.
    alone = BundleStore(settings.models_folder / "no bundles on disk", [bundle])
    answer = file_answer(path, FileAnalysis(reading, settings, store=alone).predict(path, kind)[0])
    return {key: answer[key] for key in ("models", "descriptors", "quality")}


def _plain(comparison: "Comparison") -> dict[str, Any]:
    plain = {key: value for key, value in asdict(comparison).items() if not isinstance(value, tuple)}
    plain |= {"names": list(comparison.names), "hashes": list(comparison.hashes)}
    for key in (*DIFFERING, "packages", "simulated", "measured"):
        pairs: Sequence[Pair] = getattr(comparison, key)
        plain[key] = [
            {"name": p.name, "first": p.first, "second": p.second, "difference": p.difference} for p in pairs
        ]
    return plain


def _show(comparison: "Comparison", sizes: Sequence[int]) -> None:
    columns = ("", *comparison.names, "difference")
    whole = [["SHA-256", *(found[:12] for found in comparison.hashes), ""]]
    whole.append(
        ["kB on disk", *(f"{size / 1e3:.0f}" for size in sizes), f"{(sizes[1] - sizes[0]) / 1e3:+.0f}"]
    )
    print_table("", columns, whole + _rows(comparison.packages))
    for part, title in DIFFERING.items():
        pairs = getattr(comparison, part)
        if pairs:
            print_table(f"{title}: what differs", columns, _rows(pairs))
        else:
            answer_console.print(f"{title}: the same\n")
    print_table("scores on simulated data", columns, _rows(comparison.simulated))
    if comparison.measured:
        print_table(MEASURED.format(comparison.n_compounds), columns, _rows(comparison.measured))


def _rows(pairs: Sequence["Pair"]) -> list[list[str]]:
    return [[pair.name, _cell(pair.first), _cell(pair.second), _difference(pair)] for pair in pairs]


def _cell(value: object) -> str:
    if value is None:
        return "-"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _difference(pair: "Pair") -> str:
    return "" if pair.difference is None else f"{pair.difference:+.3g}"


def _show_answers(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    cells: list[list[str | Text]] = []
    for row in rows:
        first, second = row["answers"]
        found = {**first["descriptors"], **second["descriptors"]}
        for descriptor in found:
            values = [interval(answer["descriptors"].get(descriptor)) for answer in (first, second)]
            moved = row["differences"].get(descriptor)
            difference = "" if moved is None else f"{moved:+.3f}"
            cells.append([Path(row["file"]).name, Descriptor(descriptor).heading, *values, difference])
        verdicts = [verdict(answer["quality"]) for answer in (first, second)]
        cells.append([Path(row["file"]).name, "verdict", *verdicts, ""])
    print_table("answers", ("file", "", *names, "difference"), cells)


BARE = re.compile(r"[A-Za-z0-9_-]+")
"""Keys that TOML takes without quotes."""
HEADING = re.compile(r"^[ \t]*\[[ \t]*models[ \t]*\][^\n]*(?:\n|\Z)", re.MULTILINE)


def pin(
    name: Annotated[str, typer.Argument(help="Bundle without its version, such as Fe-xanes.")],
    version: Annotated[int, typer.Argument(min=1, help="The version that is to answer.")],
    *,
    models: options.Models = None,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Pin a bundle in the settings file, so that this version answers and not the newest.

    The rest of the file stays as it is; if there is no file, xpdml.toml is created here. To return to the
    newest version, delete the line.
    """
    found = resolve_settings(settings, options={"models.folder": models})
    BundleStore(found.models_folder, pins={name: version}).chosen(name)
    path = found.file or Path(FILE_NAME)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(pinned_text(before, name, version), encoding="utf-8")
    if json:
        print_json({"file": str(path), "name": name, "version": version, "before": found.pins.get(name)})
        return
    answer_console.print(f"{path}: {name} = {version}")


def pinned_text(text: str, name: str, version: int) -> str:
    r"""Return the text of a settings file in which a bundle is pinned; all other lines stay as they are.

    A `SettingsError` if the line cannot be placed, as in a file that writes its tables in another way.

    Examples
    --------
    >>> pinned_text("[models]  # ours\nFe-xanes = 2 # newest\n", "Fe-xanes", 1)
    '[models]  # ours\nFe-xanes = 1 # newest\n'
    """
    line = re.compile(rf"""^([ \t]*["']?{re.escape(name)}["']?[ \t]*=[ \t]*)[^\s#]+""", re.MULTILINE)
    key = name if BARE.fullmatch(name) else f'"{name}"'
    heading = HEADING.search(text)
    if heading is None:
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        changed = f"{text}{gap}[models]\n{key} = {version}\n"
    else:
        head, body = text[: heading.end()], text[heading.end() :]
        head = head if head.endswith("\n") else f"{head}\n"
        changed_body, n_changed = line.subn(rf"\g<1>{version}", body, count=1)
        changed = head + (changed_body if n_changed else f"{key} = {version}\n{body}")
    if _parsed(changed) != _with_pin(_parsed(text), name, version):
        raise SettingsError(
            f"the pin cannot be placed: write the line {key} = {version} under [models] yourself"
        )
    return changed


def _with_pin(table: dict[str, Any] | None, name: str, version: int) -> dict[str, Any]:
    known = table or {}
    return known | {"models": {**known.get("models", {}), name: version}}


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


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
    card = (store.folder / name / CARD).read_text(encoding="utf-8")
    answer_console.print(Markdown("\n".join(map(visible, card.split("\n")))), soft_wrap=False)


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
        marks = {True: Text("whole", style="green"), False: Text("broken", style="red")}
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
