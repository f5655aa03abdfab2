"""What the figures say: which findings of the literature come out again, and how far our targets are.

Nothing here is a sentence about a result that was known beforehand: each verdict is computed from the figures
with the rule that stands beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bluesky_xpdml.factory.bench.accuracy_cells import ALL, SHARED
from bluesky_xpdml.factory.bench.accuracy_tables import Lookup, Results, short

COMPARED = {
    "oxidation state, accuracy": ("oxidation_state", "accuracy"),
    "oxidation state, weighted F1": ("oxidation_state", "weighted_f1"),
    "coordination number, accuracy": ("coordination_number", "accuracy"),
    "coordination number, macro F1": ("coordination_number", "macro_f1"),
    "bond length, R2": ("bond_length", "r2"),
}
SLIGHT = 0.01
"""A combination that gains less than this over XANES adds nothing worth a second measurement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """One target of ours, with what the literature has beside it."""

    what: str
    rows: str
    modality: str
    target: str
    metric: str
    floor: float
    aim: float
    literature: str
    """Figure, split and source; a dash where there is none."""


ANCHORS = (
    Anchor(
        what="XANES oxidation state, accuracy",
        rows=ALL,
        modality="xanes",
        target="oxidation_state",
        metric="accuracy",
        floor=0.79,
        aim=0.85,
        literature=".702 formula-disjoint, all chemistries (re-run of public models)",
    ),
    Anchor(
        what="XANES coordination number, accuracy",
        rows=ALL,
        modality="xanes",
        target="coordination_number",
        metric="accuracy",
        floor=0.90,
        aim=0.94,
        literature=".853 random split (Torrisi 2020); .81-.89 grouped (third party's re-run)",
    ),
    Anchor(
        what="XANES coordination number, macro F1",
        rows=ALL,
        modality="xanes",
        target="coordination_number",
        metric="macro_f1",
        floor=0.71,
        aim=0.80,
        literature="-",
    ),
    Anchor(
        what="XANES T4/S5/O6, accuracy",
        rows=ALL,
        modality="xanes",
        target="geometry",
        metric="accuracy",
        floor=0.90,
        aim=0.94,
        literature=".86 random split (Carbone 2019)",
    ),
    Anchor(
        what="XANES bond length, RMSE [A]",
        rows=ALL,
        modality="xanes",
        target="bond_length",
        metric="rmse",
        floor=0.035,
        aim=0.025,
        literature="-",
    ),
    Anchor(
        what="XANES bond length, R2",
        rows=ALL,
        modality="xanes",
        target="bond_length",
        metric="r2",
        floor=0.75,
        aim=0.87,
        literature=".870 random split (Torrisi 2020)",
    ),
    Anchor(
        what="XANES bond length, MAE [A]",
        rows=ALL,
        modality="xanes",
        target="bond_length",
        metric="mae",
        floor=0.035,
        aim=0.020,
        literature="about .02 random split (Torrisi 2020); .014-.062 grouped (third party's re-run)",
    ),
    Anchor(
        what="dPDF bond length, R2",
        rows=ALL,
        modality="dpdf",
        target="bond_length",
        metric="r2",
        floor=0.80,
        aim=0.95,
        literature="-",
    ),
    Anchor(
        what="dPDF oxidation state, accuracy",
        rows=ALL,
        modality="dpdf",
        target="oxidation_state",
        metric="accuracy",
        floor=0.78,
        aim=0.82,
        literature="-",
    ),
    Anchor(
        what="PDF oxidation state, accuracy",
        rows=ALL,
        modality="pdf",
        target="oxidation_state",
        metric="accuracy",
        floor=0.69,
        aim=0.74,
        literature="-",
    ),
)
"""Floors and aims; the MAE has the RMSE's floor, since it is never larger."""


def anchors(lookup: Lookup) -> list[dict[str, Any]]:
    """Return our figures, averaged over elements, beside floors, aims and the literature.

    Parameters
    ----------
    lookup
        Figures by name.
    """
    rows = []
    for anchor in ANCHORS:
        row: dict[str, Any] = {"what": anchor.what}
        for split in ("formula", "record"):
            found = lookup(lookup.every, anchor.rows, anchor.modality, anchor.target, split, anchor.metric)
            row[f"ours, {split} split"] = None if found is None else short(found["mean"])
            if split == "formula":
                reached = None if found is None else _reached(anchor, found["mean"])
        rows.append(
            {
                **row,
                "floor": anchor.floor,
                "aim": anchor.aim,
                "reached": reached,
                "literature": anchor.literature,
            }
        )
    return rows


def _reached(anchor: Anchor, value: float) -> str:
    """Say which target a figure reaches; errors are to be small, the rest large."""
    sign = -1.0 if anchor.metric in ("rmse", "mae") else 1.0
    if sign * value >= sign * anchor.aim:
        return "aim"
    return "floor" if sign * value >= sign * anchor.floor else "neither"


def joint_against_single(lookup: Lookup) -> list[dict[str, Any]]:
    """Compare each combination with the better of its two parts, on the same rows.

    Parameters
    ----------
    lookup
        Figures by name.

    Returns
    -------
    list of dict
        By combination and metric: means over elements, the difference from the better part's mean, and the
        number of elements in which the combination is not below it by more than .01.
    """
    rows = []
    for curve in ("pdf", "dpdf"):
        for what, (target, metric) in COMPARED.items():
            kinds = ("xanes", curve, f"xanes+{curve}")
            found = {kind: _over_elements(lookup, kind, target, metric) for kind in kinds}
            if any(values.size == 0 for values in found.values()):
                continue
            parts = np.stack([found["xanes"], found[curve]])
            joint = found[f"xanes+{curve}"]
            even = int(np.sum(joint >= parts.max(axis=0) - SLIGHT))
            rows.append(
                {
                    "combination": f"xanes+{curve}",
                    "what": what,
                    "xanes": short(parts[0].mean()),
                    "curve": short(parts[1].mean()),
                    "both": short(joint.mean()),
                    "gain over the better": short(joint.mean() - parts.mean(axis=1).max()),
                    "elements not below the better by more than .01": f"{even} of {joint.size}",
                }
            )
    return rows


def findings(lookup: Lookup, results: Results) -> list[dict[str, Any]]:
    """Judge the paper's three findings, target by target, on rows that all modalities share.

    Parameters
    ----------
    lookup
        Figures by name.
    results
        What the cells gave: how much of the importance each part of a combination has.

    Returns
    -------
    list of dict
        Statement, target, the mean difference over elements with its standard error, and the verdict: `yes`
        or `no` where the difference is more than two standard errors from zero, otherwise `undecided`.
    """
    rows = []
    for what, (target, metric) in COMPARED.items():
        found = {
            kind: _over_elements(lookup, kind, target, metric)
            for kind in ("xanes", "pdf", "dpdf", "xanes+pdf", "xanes+dpdf")
        }
        if any(values.size == 0 for values in found.values()):
            continue
        before, after = found["xanes"] - found["pdf"], found["xanes"] - found["dpdf"]
        rows.append(_judged("XANES is ahead of PDF", what, before))
        rows.append(_judged("dPDF narrows the gap (is ahead of PDF)", what, before - after))
        rows.append(_judged("XANES is still ahead of dPDF", what, after))
        rows += [
            _dominance(f"xanes+{curve}", what, found, _importance(results, f"xanes+{curve}", target))
            for curve in ("pdf", "dpdf")
        ]
    return rows


def _judged(statement: str, what: str, difference: Any) -> dict[str, Any]:
    mean, error = float(difference.mean()), _standard_error(difference)
    verdict = "undecided" if abs(mean) <= 2.0 * error else ("yes" if mean > 0.0 else "no")
    return {
        "statement": statement,
        "what": what,
        "difference": f"{short(mean)} ± {short(error)}",
        "elements that agree": f"{int(np.sum(difference > 0.0))} of {difference.size}",
        "reproduces": verdict,
        "note": "",
    }


def _dominance(kind: str, what: str, found: Mapping[str, Any], share: float | None) -> dict[str, Any]:
    """XANES dominates where the curve adds nothing to it, though the combination is ahead of the curve."""
    curve = kind.removeprefix("xanes+")
    gain, ahead = found[kind] - found["xanes"], found[kind] - found[curve]
    dominates = gain.mean() < SLIGHT and ahead.mean() > SLIGHT
    name = "weight" if "bond" in what else "share of the importance"
    return {
        "statement": f"XANES dominates {kind}",
        "what": what,
        "difference": f"{short(float(gain.mean()))} ± {short(_standard_error(gain))}",
        "elements that agree": f"{int(np.sum(gain < SLIGHT))} of {gain.size}",
        "reproduces": "yes" if dominates else "no",
        "note": "" if share is None else f"{name} of XANES {short(share)}",
    }


def _standard_error(values: Any) -> float:
    return float(values.std(ddof=1) / values.size**0.5) if values.size > 1 else float("inf")


def _over_elements(lookup: Lookup, modality: str, target: str, metric: str) -> Any:
    found = [lookup(element, SHARED, modality, target, "formula", metric) for element in lookup.elements]
    return np.array([row["mean"] for row in found if row is not None])


def _importance(results: Results, modality: str, target: str) -> float | None:
    key = "weights" if target == "bond_length" else "importance"
    found: Sequence[float] = [
        result[target][key][0]
        for cell, result in results.items()
        if cell.modality == modality and cell.split == "formula" and target in result
    ]
    return float(np.mean(found)) if found else None
