"""Means and spreads over seeds of the cells of the simulated benchmark, as tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bluesky_xpdml.factory.bench.accuracy_cells import KINDS, Cell

Results = Mapping[Cell, Mapping[str, Any]]

MEAN = "mean"
"""Name of the row that averages over elements."""
HEADLINES = {
    "OS accuracy": ("oxidation_state", "accuracy"),
    "OS wF1": ("oxidation_state", "weighted_f1"),
    "OS mF1": ("oxidation_state", "macro_f1"),
    "CN accuracy": ("coordination_number", "accuracy"),
    "CN wF1": ("coordination_number", "weighted_f1"),
    "CN mF1": ("coordination_number", "macro_f1"),
    "T4/S5/O6 accuracy": ("geometry", "accuracy"),
    "T4/S5/O6 mF1": ("geometry", "macro_f1"),
    "BL RMSE [A]": ("bond_length", "rmse"),
    "BL MAE [A]": ("bond_length", "mae"),
    "BL R2": ("bond_length", "r2"),
    "OCN R2": ("ocn", "r2"),
    "NNRS R2": ("nnrs", "r2"),
    "MOOD R2": ("mood", "r2"),
}
"""Columns of the tables that are printed."""


def figures(results: Results) -> list[dict[str, Any]]:
    """Return every metric of every target: one row an element, kind of rows, modality and split.

    Parameters
    ----------
    results
        What the cells gave.

    Returns
    -------
    list of dict
        `mean` and `sd` over seeds (None for one seed); `majority` is that of the commonest class, or of the
        mean. The rows of element `mean` average over the elements; their `sd` is that of these averages.
    """
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
    """Figures by name.

    Parameters
    ----------
    rows
        From `figures`.
    """

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
        """Return one figure, None if it was not measured.

        Parameters
        ----------
        name
            Element, rows, modality, target, split and metric.
        """
        return self._rows.get(name)


def summary(lookup: Lookup) -> list[dict[str, Any]]:
    """Return the averages over elements: one row a split, kind of rows and modality; and the trivial answer.

    Parameters
    ----------
    lookup
        Figures by name.
    """
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
                    key == "mean" or modality in ("xanes", "pdf")
                ):
                    result.append({"split": split, "rows": rows, "modality": name, **cells})
    return result


def by_element(lookup: Lookup, split: str, rows: str, modality: str) -> list[dict[str, Any]]:
    """Return one row an element, and their mean.

    Parameters
    ----------
    lookup
        Figures by name.
    split, rows, modality
        Of the cells.
    """
    names = [*lookup.elements, *([lookup.every] if lookup.every == MEAN else [])]
    table = []
    for element in names:
        first = lookup(element, rows, modality, "oxidation_state", split, "accuracy")
        if first is None:
            continue
        cells = {
            title: _cell(lookup(element, rows, modality, target, split, metric), "mean")
            for title, (target, metric) in HEADLINES.items()
        }
        trivial = {
            f"commonest {name}": _cell(lookup(element, rows, modality, target, split, "accuracy"), "majority")
            for name, target in (("OS", "oxidation_state"), ("CN", "coordination_number"))
        }
        table.append({"element": element, **cells, **trivial, "n test": first["n_test"]})
    return table


def _cell(figure: Mapping[str, Any] | None, key: str) -> str | None:
    """Format a mean and its spread over seeds.

    Examples
    --------
    >>> _cell({"mean": 0.7963, "sd": 0.0123}, "mean")
    '.796 ± .012'
    """
    if figure is None:
        return None
    spread = figure["sd"] if key == "mean" else None
    return short(figure[key]) + (f" ± {short(spread)}" if spread is not None else "")


def short(value: float) -> str:
    """Write a figure with three digits after the point and no zero before it.

    Examples
    --------
    >>> short(0.7963), short(-0.05), short(1.0)
    ('.796', '-.050', '1.000')
    """
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1.0 else f"{value:.3f}"


def coverage(results: Results) -> list[dict[str, Any]]:
    """Count how many sets and intervals hold the truth, over elements and seeds.

    Parameters
    ----------
    results
        What the cells gave.

    Returns
    -------
    list of dict
        By rows, modality and target: all, and each class; the share that is held and the mean size of the
        sets, or the mean width of the intervals [angstrom].
    """
    rows = []
    for same in _by_kind(results):
        cell = next(iter(same))
        for target in ("oxidation_state", "coordination_number", "bond_length"):
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
