"""`xpdml reduce`: from data files to reduced curves, without asking a model."""

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, print_json, print_table, progress_console, verdict
from bluesky_xpdml.cli.reading import file_reading
from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.records import AbsorptionScan, PairDistribution, ScatteringPattern, Verdict, Xanes
from bluesky_xpdml.settings import Settings, resolve_settings
from bluesky_xpdml.sources.reading import FileKind, FileReading


def reduce(
    files: Annotated[list[Path], typer.Argument(help="Spectra, patterns, G(r) or detector images.")],
    *,
    technique: options.Kind = FileKind.AUTO,
    output: Annotated[
        Path | None, typer.Option(help="Folder for NAME.gr, .fq, .sq, .iq, or NAME.xanes.")
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Also draw NAME.png into that folder.")] = False,
    element: options.Element = "",
    edge: options.Edge = "",
    columns: options.Columns = "",
    energy_unit: options.Unit = None,
    energy_offset: options.Offset = None,
    composition: options.Composition = "",
    q_unit: options.QUnitOption = None,
    wavelength: options.Wavelength = None,
    poni: options.Poni = None,
    dark: options.Dark = None,
    mask: options.Mask = None,
    background: options.Background = None,
    background_scale: options.BackgroundScale = None,
    q_min: options.QMin = None,
    q_max: options.QMax = None,
    q_max_inst: options.QMaxInst = None,
    r_poly: options.RPoly = None,
    far: options.Far = None,
    far_wavelength: options.FarWavelength = None,
    far_poni: options.FarPoni = None,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Reduce absorption spectra to normalised XANES, and total scattering to G(r).

    Spectra are judged without a model. Where a file names no element, it is found from the edge, and said so.
    A file that cannot be reduced is answered with the reason, and the exit status is 1; the rest are still
    reduced. With --json: one object a line and a file, with `verdict` and `reasons`; for spectra also
    `element`, `edge`, `e0`, `edge_step` and `mode`, null where they could not be found.
    """
    if plot and output is None:
        raise typer.BadParameter("--plot draws into the folder that --output names: give it")
    resolved = resolve_settings(
        settings,
        options={
            "calibration.energy_offset": energy_offset,
            "pdf.composition": composition,
            "pdf.background_scale": background_scale,
            "pdf.q_min": q_min,
            "pdf.q_max": q_max,
            "pdf.q_max_inst": q_max_inst,
            "pdf.r_poly": r_poly,
        },
    )
    reading = file_reading(
        resolved,
        columns=columns,
        energy_unit=energy_unit,
        element=element,
        edge=edge,
        composition=composition,
        q_unit=q_unit,
        wavelength=wavelength,
        poni=poni,
        dark=dark,
        mask=mask,
        background=background,
        far=far,
        far_wavelength=far_wavelength,
        far_poni=far_poni,
    )
    answers = []
    for path in files:
        kind = technique.of(path)
        try:
            answer = _reduced(path, kind, reading, settings=resolved, writing=Writing(output, plot))
        except (XpdmlError, OSError) as error:
            answer = {"quality": {"verdict": "failed", "reasons": [str(error)]}}
        answers.append(_complete(path, kind, answer))
        if json:
            print_json(answers[-1])
    if not json:
        _show(answers)
    if any(answer["quality"]["verdict"] == "failed" for answer in answers):
        raise typer.Exit(1)


FOUND = ("element", "edge", "e0", "edge_step", "mode")
"""What is found of a spectrum."""


def _complete(path: Path, kind: FileKind, answer: dict[str, Any]) -> dict[str, Any]:
    """Put the verdict first, and say of a spectrum what is not known of it as well."""
    unknown = dict.fromkeys(FOUND) if kind is FileKind.XANES else {}
    found = {key: value for key, value in answer.items() if value != "" or key not in FOUND}
    return {"file": str(path), "technique": str(kind), **answer["quality"], **unknown, **found}


class Writing(NamedTuple):
    """What is written of a file."""

    folder: Path | None
    plot: bool


def _reduced(
    path: Path, kind: FileKind, reading: FileReading, *, settings: Settings, writing: Writing
) -> dict[str, Any]:
    from bluesky_xpdml.reduction.pdf import reduce_pdf

    data = reading.load(path, kind)
    if isinstance(data, AbsorptionScan):
        return _spectrum(data, settings, writing)
    if isinstance(data, ScatteringPattern):
        data = reduce_pdf(data, settings.scattering.pdf, background=reading.background_pattern())
    return _pdf_answer(data, writing)


def _spectrum(scan: AbsorptionScan, settings: Settings, writing: Writing) -> dict[str, Any]:
    """Answer a spectrum; one that cannot be reduced with what its file states, and the reason first."""
    from bluesky_xpdml.reduction.xanes import reduce_xanes

    try:
        xanes = reduce_xanes(scan, settings.xanes)
    except XpdmlError as error:
        reasons = list(dict.fromkeys((str(error), *scan.quality.reasons)))
        quality = {"verdict": str(Verdict.FAILED), "reasons": reasons}
        return {"element": scan.element, "edge": scan.edge, "quality": quality}
    return _xanes_answer(xanes, writing)


def _xanes_answer(xanes: Xanes, writing: Writing) -> dict[str, Any]:
    from bluesky_xpdml.publish.documents import plain_mapping
    from bluesky_xpdml.sources.pdf_files import write_xanes

    written = []
    if writing.folder is not None:
        written.append(write_xanes(xanes, writing.folder))
        if writing.plot:
            from bluesky_xpdml.figures.curves import draw_xanes

            written.append(draw_xanes(xanes, written[0].with_suffix(".png")))
    return plain_mapping(
        {
            "element": xanes.element,
            "edge": xanes.edge,
            "e0": xanes.e0,
            "edge_step": xanes.edge_step,
            "mode": xanes.mode,
            "quality": {"verdict": xanes.quality.verdict, "reasons": xanes.quality.reasons},
            "settings": xanes.settings,
            "written": [str(path) for path in written],
        }
    )


def _pdf_answer(pdf: PairDistribution, writing: Writing) -> dict[str, Any]:
    from bluesky_xpdml.publish.documents import plain_mapping
    from bluesky_xpdml.sources.pdf_files import write_pdf

    written: list[Path] = []
    if writing.folder is not None:
        written += write_pdf(pdf, writing.folder)
        if writing.plot:
            from bluesky_xpdml.figures.curves import draw_pdf

            written.append(draw_pdf(pdf, written[0].with_suffix(".png")))
    return plain_mapping(
        {
            "composition": pdf.composition,
            "quality": {"verdict": pdf.quality.verdict, "reasons": pdf.quality.reasons},
            "settings": pdf.settings,
            "written": [str(path) for path in written],
        }
    )


def _show(answers: list[dict[str, Any]]) -> None:
    rows = [[Path(a["file"]).name, a["technique"], _summary(a), verdict(a["quality"])] for a in answers]
    print_table("", ("file", "technique", "result", "verdict"), rows)
    for answer in answers:
        for reason in answer["quality"]["reasons"] if answer["quality"]["verdict"] != "good" else ():
            progress_console.print(f"{Path(answer['file']).name}: {reason}", markup=False, soft_wrap=True)
        for path in answer.get("written", ()):
            progress_console.print(f"written: {path}", markup=False, soft_wrap=True)


def _summary(answer: dict[str, Any]) -> str:
    if answer.get("e0") is not None:
        return f"E0 {answer['e0']:.2f} eV, edge step {answer['edge_step']:.3f}"
    chosen = answer.get("settings", {})
    names = {"q_min": "Qmin", "q_max": "Qmax", "r_poly": "rpoly"}
    return ", ".join(
        f"{label} {chosen[key]:.2f}" for key, label in names.items() if isinstance(chosen.get(key), float)
    )
