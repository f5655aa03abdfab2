"""Accuracy on simulated spectra and curves: elements, modalities, splits and seeds, beside the literature."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bluesky_xpdml.factory.bench.accuracy_tables import (
    Lookup,
    anchors,
    by_element,
    coverage,
    figures,
    findings,
    joint_against_single,
    summary,
)
from bluesky_xpdml.factory.bench.cells import KINDS, Progress, compute_cells
from bluesky_xpdml.factory.bench.novelty import measure_novelty, novelty_table
from bluesky_xpdml.factory.bench.report import Report
from bluesky_xpdml.factory.bench.scoring import COVERAGE, CellRecipe
from bluesky_xpdml.factory.training.scores import TEST_SHARE, Split

CONDITIONS = {
    "formula split": "every reduced formula on one side: the honest figure",
    "record split": "rows drawn at random: shares formulas, for comparison with literature only",
    "rows": "all: each labelled site (xanes) or material (pdf, dpdf); shared: materials that have both, "
    "XANES as the mean of their sites' spectra; compare modalities on shared rows only",
    "spectra": "unaligned and as sharp as simulated; training adds distorted copies",
    "curves": "tested with random thermal motion, range of Q, resolution, and noise",
    "frequencies": "those of the data base, for source omnixas and curves; sites of source feff10 (all Fe, "
    "all Mn, some of the others) were drawn to cover classes, so that rare classes are over-represented",
    "majority": "the same metric of the commonest class, or of the mean, of the training rows",
    "spread": "standard deviation over seeds",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Results of the simulated benchmark."""

    report: Report
    """Tables for people: averages, single elements, findings, targets, coverage, novelty."""
    figures: Sequence[Mapping[str, Any]]
    """Every metric of every target, element, modality and split."""

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {**self.report.as_json(), "figures": [dict(row) for row in self.figures]}


def measure_accuracy(
    simulation: Path,
    elements: Sequence[str],
    *,
    seeds: Sequence[int],
    splits: Sequence[Split],
    recipe: CellRecipe,
    cache: Path,
    progress: Progress,
) -> Accuracy:
    """Train and score forests on several splits of the simulated sites and materials."""
    results = compute_cells(
        simulation,
        elements,
        splits=splits,
        seeds=seeds,
        recipe=recipe,
        cache=cache,
        progress=progress,
    )
    strange = measure_novelty(simulation, elements, seeds=seeds, cache=cache, progress=progress)
    rows = figures(results)
    lookup = Lookup(rows)
    tables: dict[str, Any] = {"targets and literature": anchors(lookup)}
    if "formula" in splits and len(elements) > 1:
        tables["findings of the paper, on shared rows, formula split"] = findings(lookup, results)
        tables["combinations beside their better part, shared rows, formula split"] = joint_against_single(
            lookup
        )
    tables[f"share of {COVERAGE:.0%} sets and intervals that hold the truth"] = coverage(results)
    tables["novelty, area under the curve, means over elements and seeds"] = novelty_table(strange)
    for split in splits:
        for kind, modality in KINDS:
            title = f"{modality}, {kind} rows, {split} split"
            tables[title] = by_element(lookup, split, kind, modality)
    conditions = {
        "elements": list(elements),
        "seeds": list(seeds),
        "test share": TEST_SHARE,
        **CONDITIONS,
        "recipe": {key: value for key, value in asdict(recipe).items() if key != "threads"},
        **{title: table for title, table in tables.items() if table},
    }
    return Accuracy(
        report=Report(
            what="accuracy of forests on simulated spectra and curves",
            conditions=conditions,
            rows=summary(lookup),
        ),
        figures=[*rows, *strange],
    )
