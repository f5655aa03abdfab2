"""Means and spreads over seeds of the cells of the simulated benchmark, as tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bluesky_xpdml.factory.bench.cells import ALL, KINDS, SHARED, Cell
from bluesky_xpdml.vocabulary import Descriptor, Modality

Results = Mapping[Cell, Mapping[str, Any]]

MEAN = "mean"
"""Name of the row that averages over elements."""
HEADLINES = {
    "OS accuracy": (Descriptor.OXIDATION_STATE, "accuracy"),
    "OS wF1": (Descriptor.OXIDATION_STATE, "weighted_f1"),
    "OS mF1": (Descriptor.OXIDATION_STATE, "macro_f1"),
    "CN accuracy": (Descriptor.COORDINATION_NUMBER, "accuracy"),
    "CN wF1": (Descriptor.COORDINATION_NUMBER, "weighted_f1"),
    "CN mF1": (Descriptor.COORDINATION_NUMBER, "macro_f1"),
    "T4/S5/O6 accuracy": (Descriptor.GEOMETRY, "accuracy"),
    "T4/S5/O6 mF1": (Descriptor.GEOMETRY, "macro_f1"),
    "BL RMSE [A]": (Descriptor.BOND_LENGTH, "rmse"),
    "BL MAE [A]": (Descriptor.BOND_LENGTH, "mae"),
    "BL R2": (Descriptor.BOND_LENGTH, "r2"),
    "OCN R2": (Descriptor.OCN, "r2"),
    "NNRS R2": (Descriptor.NNRS, "r2"),
    "MOOD R2": (Descriptor.MOOD, "r2"),
}
"""Columns of the tables that are printed."""


def figures(results: Results) -> list[dict[str, Any]]:
    """Return every metric of every target: one row per element, kind of rows, modality and split."""
    rows = []
    for same in _by_kind(results):
        elements = list(dict.fromkeys(cell.element for cell in same))
        for target, metric in _metrics(same.values()):
            table = {element: _seeds(same, element, target, metric) for element in elements}
            parts = [_figure(same, element, target, metric, found) for element, found in table.items()]
            rows += parts
            if len(elements) > 1:
                rows.append(_average(parts, list(table.values())))
    return rows


def _by_kind(results: Results) -> list[Results]:
    groups: dict[tuple[str, str, str], dict[Cell, Mapping[str, Any]]] = {}
    for cell, result in results.items():
        groups.setdefault((cell.split, cell.rows, cell.modality), {})[cell] = result
    return list(groups.values())


def _metrics(results: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    found = {
        (target, metric): None
        for result in results
        for target, part in result.items()
        for metric in part["metrics"]
    }
    return list(found)


def _seeds(same: Results, element: str, target: str, metric: str) -> dict[int, tuple[float, float]]:
    return {
        cell.seed: tuple(result[target]["metrics"][metric])
        for cell, result in same.items()
        if cell.element == element and target in result
    }


def _figure(
    same: Results, element: str, target: str, metric: str, found: Mapping[int, tuple[float, float]]
) -> dict[str, Any]:
    cell = next(iter(same))
    counts = [
        (result[target]["n_train"], result[target]["n_test"])
        for one, result in same.items()
        if one.element == element and target in result
    ]
    n_train, n_test = (round(float(np.mean(part))) for part in zip(*counts, strict=True))
    values, trivial = np.array(list(found.values())).T
    return {
        "element": element,
        "rows": cell.rows,
        "modality": cell.modality,
        "target": target,
        "split": cell.split,
        "metric": metric,
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if values.size > 1 else None,
        "n_train": n_train,
        "n_test": n_test,
        "majority": float(trivial.mean()),
    }


def _average(
    parts: Sequence[Mapping[str, Any]], seeds: Sequence[Mapping[int, tuple[float, float]]]
) -> dict[str, Any]:
    shared = sorted(set.intersection(*(set(part) for part in seeds)))
    means = [float(np.mean([part[seed][0] for part in seeds])) for seed in shared]
    return {
        **parts[0],
        "element": MEAN,
        "mean": float(np.mean([part["mean"] for part in parts])),
        "sd": float(np.std(means, ddof=1)) if len(means) > 1 else None,
        "majority": float(np.mean([part["majority"] for part in parts])),
        **{key: sum(part[key] for part in parts) for key in ("n_train", "n_test")},
    }


class Lookup:
    """Figures by name."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        keys = ("element", "rows", "modality", "target", "split", "metric")
        self._rows = {tuple(str(row[key]) for key in keys): row for row in rows}
        elements = list(dict.fromkeys(row["element"] for row in rows))
        self.elements = [element for element in elements if element != MEAN]
        """Chemical symbols, in order."""
        self.splits = list(dict.fromkeys(row["split"] for row in rows))
        """Splits, in order."""
        self.every = MEAN if MEAN in elements else elements[0]
        """Name of the rows over all elements."""

    def __call__(self, *name: str) -> Mapping[str, Any] | None:
        """Return one figure, None if it was not measured."""
        return self._rows.get(name)


def summary(lookup: Lookup) -> list[dict[str, Any]]:
    """Return the averages over elements and the trivial answers, one row per split, rows and modality."""
    result = []
    for split in lookup.splits:
        for rows, modality in KINDS:
            for key in ("mean", "majority"):
                cells = {
                    title: _cell(lookup(lookup.every, rows, modality, target, split, metric), key)
                    for title, (target, metric) in HEADLINES.items()
                }
                name = modality if key == "mean" else "  commonest class or mean"
                if any(value is not None for value in cells.values()) and (
                    key == "mean" or modality in (Modality.XANES, Modality.PDF)
                ):
                    result.append({"split": split, "rows": rows, "modality": name, **cells})
    return result


def by_element(lookup: Lookup, split: str, rows: str, modality: str) -> list[dict[str, Any]]:
    """Return one row per element, and their mean."""
    names = [*lookup.elements, *([lookup.every] if lookup.every == MEAN else [])]
    table = []
    for element in names:
        first = lookup(element, rows, modality, Descriptor.OXIDATION_STATE, split, "accuracy")
        if first is None:
            continue
        cells = {
            title: _cell(lookup(element, rows, modality, target, split, metric), "mean")
            for title, (target, metric) in HEADLINES.items()
        }
        trivial = {
            f"commonest {name}": _cell(lookup(element, rows, modality, target, split, "accuracy"), "majority")
            for name, target in (("OS", Descriptor.OXIDATION_STATE), ("CN", Descriptor.COORDINATION_NUMBER))
        }
        table.append({"element": element, **cells, **trivial, "n test": first["n_test"]})
    return table


def _cell(figure: Mapping[str, Any] | None, key: str) -> str | None:
    """Format a mean and its spread over seeds."""
    if figure is None:
        return None
    spread = figure["sd"] if key == "mean" else None
    return short(figure[key]) + (f" ± {short(spread)}" if spread is not None else "")


def short(value: float) -> str:
    """Write a figure with three digits after the point and no zero before it."""
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1.0 else f"{value:.3f}"


def coverage(results: Results) -> list[dict[str, Any]]:
    """Count how many sets and intervals hold the truth, over elements and seeds."""
    rows = []
    for same in _by_kind(results):
        cell = next(iter(same))
        for target in Descriptor.main():
            parts = [result[target] for result in same.values() if "held" in result.get(target, {})]
            if not parts:
                continue
            named = {"rows": cell.rows, "modality": cell.modality, "target": target}
            rows += [{**named, **row} for row in _held(parts)]
    return rows


def _held(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if "width" in parts[0]:
        members, right = np.sum([part["held"]["all"] for part in parts], axis=0)
        width = float(np.mean([part["width"] for part in parts]))
        return [_share("all", int(members), int(right), width)]
    totals: dict[str, Any] = {}
    for part in parts:
        for name, counts in part["held"].items():
            totals[name] = totals.get(name, 0) + np.array(counts)
    everything = np.sum(list(totals.values()), axis=0)
    ordered = sorted(totals, key=float)
    named = [("all", everything), *((name, totals[name]) for name in ordered)]
    return [_share(name, int(c[0]), int(c[1]), float(c[2] / c[0])) for name, c in named]


def _share(name: str, members: int, right: int, size: float) -> dict[str, Any]:
    return {"class": name, "members": members, "held": right / members, "size or width": size}


COMPARED = {
    "oxidation state, accuracy": (Descriptor.OXIDATION_STATE, "accuracy"),
    "oxidation state, weighted F1": (Descriptor.OXIDATION_STATE, "weighted_f1"),
    "coordination number, accuracy": (Descriptor.COORDINATION_NUMBER, "accuracy"),
    "coordination number, macro F1": (Descriptor.COORDINATION_NUMBER, "macro_f1"),
    "bond length, R2": (Descriptor.BOND_LENGTH, "r2"),
}
SLIGHT = 0.01
"""A combination that gains less than this over XANES adds nothing worth a second measurement."""


class Anchor(NamedTuple):
    """One target of this package beside the value in the literature."""

    what: str
    modality: Modality
    target: Descriptor
    metric: str
    floor: float
    aim: float
    literature: str = "-"
    """Figure, split and source; a dash if there is none."""


X, P, D = Modality.XANES, Modality.PDF, Modality.DPDF
OS, CN, BL = Descriptor.main()
ANCHORS = (
    Anchor(
        "XANES oxidation state, accuracy",
        *(X, OS, "accuracy", 0.79, 0.85),
        ".702 formula-disjoint, all chemistries (re-run of public models)",
    ),
    Anchor(
        "XANES coordination number, accuracy",
        *(X, CN, "accuracy", 0.90, 0.94),
        ".853 random split (Torrisi 2020); .81-.89 grouped (third party's re-run)",
    ),
    Anchor("XANES coordination number, macro F1", X, CN, "macro_f1", 0.71, 0.80),
    Anchor(
        "XANES T4/S5/O6, accuracy",
        *(X, Descriptor.GEOMETRY, "accuracy", 0.90, 0.94),
        ".86 random split (Carbone 2019)",
    ),
    Anchor("XANES bond length, RMSE [A]", X, BL, "rmse", 0.035, 0.025),
    Anchor("XANES bond length, R2", X, BL, "r2", 0.75, 0.87, ".870 random split (Torrisi 2020)"),
    Anchor(
        "XANES bond length, MAE [A]",
        *(X, BL, "mae", 0.035, 0.020),
        "about .02 random split (Torrisi 2020); .014-.062 grouped (third party's re-run)",
    ),
    Anchor("dPDF bond length, R2", D, BL, "r2", 0.80, 0.95),
    Anchor("dPDF oxidation state, accuracy", D, OS, "accuracy", 0.78, 0.82),
    Anchor("PDF oxidation state, accuracy", P, OS, "accuracy", 0.69, 0.74),
)
"""Floors and aims; the MAE has the RMSE's floor, since it is never larger."""


def anchors(lookup: Lookup) -> list[dict[str, Any]]:
    """Return the metrics, averaged over elements, beside floors, aims and the literature."""
    rows = []
    for anchor in ANCHORS:
        row: dict[str, Any] = {"what": anchor.what}
        for split in ("formula", "record"):
            found = lookup(lookup.every, ALL, anchor.modality, anchor.target, split, anchor.metric)
            row[f"ours, {split} split"] = None if found is None else short(found["mean"])
            if split == "formula":
                reached = None if found is None else _reached(anchor, found["mean"])
        targets = {"floor": anchor.floor, "aim": anchor.aim, "reached": reached}
        rows.append({**row, **targets, "literature": anchor.literature})
    return rows


def _reached(anchor: Anchor, value: float) -> str:
    """Return which target a value reaches; errors should be small, everything else large."""
    sign = -1.0 if anchor.metric in ("rmse", "mae") else 1.0
    if sign * value >= sign * anchor.aim:
        return "aim"
    return "floor" if sign * value >= sign * anchor.floor else "neither"


def joint_against_single(lookup: Lookup) -> list[dict[str, Any]]:
    """Compare each combination with the better of its two parts, on the same rows."""
    rows = []
    for curve in (Modality.PDF, Modality.DPDF):
        for what, (target, metric) in COMPARED.items():
            kinds = (Modality.XANES, curve, f"xanes+{curve}")
            found = {kind: _over_elements(lookup, kind, target, metric) for kind in kinds}
            if any(values.size == 0 for values in found.values()):
                continue
            parts = np.stack([found[Modality.XANES], found[curve]])
            joint = found[f"xanes+{curve}"]
            even = int(np.sum(joint >= parts.max(axis=0) - SLIGHT))
            rows.append(
                {
                    "combination": f"xanes+{curve}",
                    "what": what,
                    Modality.XANES: short(parts[0].mean()),
                    "curve": short(parts[1].mean()),
                    "both": short(joint.mean()),
                    "gain over the better": short(joint.mean() - parts.mean(axis=1).max()),
                    "elements not below the better by more than .01": f"{even} of {joint.size}",
                }
            )
    return rows


def findings(lookup: Lookup, results: Results) -> list[dict[str, Any]]:
    """Test the three findings of the paper, target by target, on rows that all modalities share."""
    rows = []
    for what, (target, metric) in COMPARED.items():
        found: dict[str, Any] = {
            kind: _over_elements(lookup, kind, target, metric)
            for kind in (Modality.XANES, Modality.PDF, Modality.DPDF, Modality.XANES_PDF, Modality.XANES_DPDF)
        }
        if any(values.size == 0 for values in found.values()):
            continue
        before, after = (found[X] - found[curve] for curve in (P, D))
        rows.append(_judged("XANES is ahead of PDF", what, before))
        rows.append(_judged("dPDF narrows the gap (is ahead of PDF)", what, before - after))
        rows.append(_judged("XANES is still ahead of dPDF", what, after))
        rows += [
            _dominance(f"xanes+{curve}", what, found, _importance(results, f"xanes+{curve}", target))
            for curve in (Modality.PDF, Modality.DPDF)
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
    """XANES dominates if the curve adds nothing to it but the combination is better than the curve."""
    curve = kind.removeprefix("xanes+")
    gain, ahead = found[kind] - found[Modality.XANES], found[kind] - found[curve]
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
    key = "weights" if target == Descriptor.BOND_LENGTH else "importance"
    found: Sequence[float] = [
        result[target][key][0]
        for cell, result in results.items()
        if cell.modality == modality and cell.split == "formula" and target in result
    ]
    return float(np.mean(found)) if found else None
