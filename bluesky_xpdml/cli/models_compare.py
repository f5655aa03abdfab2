"""`xpdml models compare`: two bundles for the same question, and what they answer for the same files."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, answer_console, interval, print_json, print_table, verdict
from bluesky_xpdml.cli.predict import Reader, file_answer
from bluesky_xpdml.cli.scattering import scattering_reading
from bluesky_xpdml.errors import ModelNotFoundError
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.settings import resolve_settings

if TYPE_CHECKING:
    from bluesky_xpdml.models.bundle import Bundle
    from bluesky_xpdml.models.comparison import Comparison, Pair

DIFFERING = {"training": "data", "recipe": "recipe", "other": "other figures"}
"""Parts of a comparison of which only what differs is there."""
MEASURED = "mean absolute error, {} measured compounds"


def compare(
    first: Annotated[str, typer.Argument(help="Name of a bundle, or its folder.")],
    second: Annotated[str, typer.Argument(help="Another for the same element and modality.")],
    *,
    on: Annotated[
        list[Path] | None, typer.Option(help="File that both are to answer; repeat it for more.")
    ] = None,
    columns: options.Columns = "",
    energy_unit: options.Unit = None,
    energy_offset: options.Offset = None,
    composition: options.Composition = "",
    q_unit: options.QUnitOption = None,
    wavelength: options.Wavelength = None,
    models: options.Models = None,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Put two bundles side by side: data, recipe, scores, versions, size, and answers for files.

    Differences are second less first. A file that cannot be used is answered with the reason, and the exit
    status is 1.
    """
    from bluesky_xpdml.models.comparison import compare_bundles

    resolved = resolve_settings(
        settings, options={"models.folder": models, "calibration.energy_offset": energy_offset}
    )
    store = BundleStore(resolved.models_folder)
    opened = [_opened(store, name) for name in (first, second)]
    bundles = [bundle for bundle, _ in opened]
    comparison = compare_bundles(*bundles)
    sizes = [sum(file.stat().st_size for file in folder.iterdir()) for _, folder in opened]
    spectra = options.Reading(
        element=bundles[0].element, edge=bundles[0].manifest["edge"], columns=columns, unit=energy_unit
    )
    scattering = scattering_reading(composition, q_unit, wavelength)
    reader = Reader(spectra=spectra, settings=resolved, scattering=scattering, store=store)
    answers = _answers(on or [], bundles, reader)
    if json:
        print_json({**_plain(comparison), "bytes": sizes, "answers": answers})
    else:
        _show(comparison, sizes)
        _show_answers(comparison.names, answers)
    if any(answer["quality"]["verdict"] == "failed" for row in answers for answer in row["answers"]):
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


def _answers(files: Sequence[Path], bundles: Sequence["Bundle"], reader: Reader) -> list[dict[str, Any]]:
    """Return what both bundles answer for each file, and by how much the second answers more."""
    if not files:
        return []
    technique = _technique(bundles[0])
    rows = []
    for path in files:
        told = [_answer(path, bundle, technique, reader) for bundle in bundles]
        both = [name for name in told[0]["descriptors"] if name in told[1]["descriptors"]]
        values = [[answer["descriptors"][name]["value"] for name in both] for answer in told]
        differences = {name: after - before for name, before, after in zip(both, *values, strict=True)}
        rows.append({"file": str(path), "answers": told, "differences": differences})
    return rows


def _technique(bundle: "Bundle") -> options.Technique:
    modality = bundle.manifest["modality"]
    known = [str(technique) for technique in options.Technique if technique is not options.Technique.AUTO]
    if modality not in known:
        raise typer.BadParameter(f"--on: expected bundles for {', '.join(known)}, found {modality}")
    return options.Technique(modality)


def _answer(path: Path, bundle: "Bundle", technique: options.Technique, reader: Reader) -> dict[str, Any]:
    # Only the bundle itself: there is nothing else in this store.
    alone = BundleStore(reader.settings.models_folder / "no bundles on disk", [bundle])
    told = file_answer(path, replace(reader, store=alone).predict(path, technique)[0])
    return {key: told[key] for key in ("models", "descriptors", "quality")}


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
    cells = []
    for row in rows:
        first, second = row["answers"]
        found = {**first["descriptors"], **second["descriptors"]}
        for descriptor in found:
            values = [interval(answer["descriptors"].get(descriptor)) for answer in (first, second)]
            moved = row["differences"].get(descriptor)
            difference = "" if moved is None else f"{moved:+.3f}"
            cells.append([Path(row["file"]).name, descriptor, *values, difference])
        verdicts = [verdict(answer["quality"]) for answer in (first, second)]
        cells.append([Path(row["file"]).name, "verdict", *verdicts, ""])
    print_table("answers", ("file", "", *names, "difference"), cells)
