"""`xpdml reduce`: from data files to reduced curves, without a model."""

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from bluesky_xpdml.cli import options
from bluesky_xpdml.cli.console import JSON, print_json, print_table, progress_console, verdict
from bluesky_xpdml.cli.reading import guarded
from bluesky_xpdml.errors import XpdmlError
from bluesky_xpdml.records import (
    AbsorptionScan,
    PairDistribution,
    Quality,
    ScatteringPattern,
    Verdict,
    Xanes,
)
from bluesky_xpdml.settings import Settings
from bluesky_xpdml.sources.reading import FileKind, FileReading
from bluesky_xpdml.vocabulary import Reason

FOUND = ("element", "edge", "e0", "edge_step", "mode")
"""What is found of a spectrum."""


@options.expand_options
def reduce(
    files: Annotated[list[Path], typer.Argument(help="Spectra, patterns, G(r) or detector images.")],
    *,
    technique: options.Kind = FileKind.AUTO,
    output: Annotated[
        Path | None, typer.Option(help="Folder for NAME.gr, .fq, .sq, .iq, or NAME.xanes.")
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Also draw NAME.png into that folder.")] = False,
    sample: options.ElementOptions,
    scan: options.ScanOptions,
    pattern: options.PatternOptions,
    image: options.ImageOptions,
    settings: options.SettingsFile = None,
    json: bool = JSON,
) -> None:
    """Reduce absorption spectra to normalised XANES, and total scattering to G(r).

    Spectra are judged without a model. If a file names no element, it is found from the edge, and said so. A
    file that cannot be reduced is answered with the reason, and the exit status is 1; the rest are still
    reduced. With --json: one object per line and file, with `verdict` and `reasons`; for spectra also
    `element`, `edge`, `e0`, `edge_step` and `mode`, null if they could not be found.
    """
    if plot and output is None:
        raise typer.BadParameter("--plot draws into the folder that --output names: give it")
    resolved = options.resolve_options(settings, scan, pattern, image)
    reduction = _Reduction(
        options.file_reading(resolved, sample, scan, pattern, image), resolved, output, plot
    )
    answers = []
    for path in files:
        answers.append(reduction.answer(path, technique.of(path)))
        if json:
            print_json(answers[-1])
    if not json:
        _show(answers)
    if any(answer["verdict"] == Verdict.FAILED for answer in answers):
        raise typer.Exit(1)


class _Reduction(NamedTuple):
    """How files are read and reduced, and what is written of each."""

    reading: FileReading
    settings: Settings
    folder: Path | None
    plot: bool

    def answer(self, path: Path, kind: FileKind) -> dict[str, Any]:
        """Return what is printed of a file: the verdict first, and of a spectrum also what is unknown."""
        from bluesky_xpdml.publish.documents import plain_mapping
        from bluesky_xpdml.publish.published import quality_entry

        found = guarded(lambda: self._reduced(path, kind), path)
        if isinstance(found, Reason):
            found = {"quality": Quality().failed(found)}
        quality = plain_mapping(quality_entry(found.pop("quality")))
        unknown = dict.fromkeys(FOUND) if kind is FileKind.XANES else {}
        known = {key: value for key, value in found.items() if value != "" or key not in FOUND}
        judged = {"file": str(path), "technique": str(kind), **quality, **unknown, "quality": quality}
        return judged | plain_mapping(known)

    def _reduced(self, path: Path, kind: FileKind) -> dict[str, Any]:
        from bluesky_xpdml.reduction.pdf import reduce_pdf

        data = self.reading.load(path, kind)
        if isinstance(data, AbsorptionScan):
            return self._spectrum(data)
        if isinstance(data, ScatteringPattern):
            background = self.reading.background_pattern()
            data = reduce_pdf(data, self.settings.scattering.pdf, background=background)
        return {
            "composition": data.composition,
            "quality": data.quality,
            "settings": data.settings,
            "written": [str(path) for path in self._written(data)],
        }

    def _spectrum(self, scan: AbsorptionScan) -> dict[str, Any]:
        """Return what is found of a spectrum; of one that cannot be reduced what its file states."""
        from bluesky_xpdml.reduction.xanes import reduce_xanes

        try:
            xanes = reduce_xanes(scan, self.settings.xanes)
        except XpdmlError as error:
            quality = Quality().failed(error.reason, *scan.quality.reasons)
            return {"element": scan.element, "edge": scan.edge, "quality": quality}
        return {
            **{name: getattr(xanes, name) for name in FOUND},
            "quality": xanes.quality,
            "settings": xanes.settings,
            "written": [str(path) for path in self._written(xanes)],
        }

    def _written(self, curve: Xanes | PairDistribution) -> list[Path]:
        """Write a curve and its picture, and return the paths."""
        if self.folder is None:
            return []
        from bluesky_xpdml.sources.pdf_files import write_pdf, write_xanes

        written = [
            *(
                [write_xanes(curve, self.folder)]
                if isinstance(curve, Xanes)
                else write_pdf(curve, self.folder)
            )
        ]
        if self.plot:
            from bluesky_xpdml.figures.curves import draw_pdf, draw_xanes

            picture = written[0].with_suffix(".png")
            drawn = draw_xanes(curve, picture) if isinstance(curve, Xanes) else draw_pdf(curve, picture)
            written.append(drawn)
        return written


def _show(answers: list[dict[str, Any]]) -> None:
    rows = [[Path(a["file"]).name, a["technique"], _summary(a), verdict(a)] for a in answers]
    print_table("", ("file", "technique", "result", "verdict"), rows)
    for answer in answers:
        for reason in answer["reasons"] if answer["verdict"] != Verdict.GOOD else ():
            progress_console.print(f"{Path(answer['file']).name}: {reason}")
        for path in answer.get("written", ()):
            progress_console.print(f"written: {path}")


def _summary(answer: dict[str, Any]) -> str:
    if answer.get("e0") is not None:
        return f"E0 {answer['e0']:.2f} eV, edge step {answer['edge_step']:.3f}"
    chosen = answer.get("settings", {})
    names = {"q_min": "Qmin", "q_max": "Qmax", "r_poly": "rpoly"}
    return ", ".join(
        f"{label} {chosen[key]:.2f}" for key, label in names.items() if isinstance(chosen.get(key), float)
    )
