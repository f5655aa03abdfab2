"""Figures of the answers on measured oxides: what is counted, over which compounds."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bluesky_xpdml.records import FloatArray

Compound = Mapping[str, Any]
Metric = tuple[str, Any, Any]

ALL = "all"
KNOWN = "all on the foil's scale"


def experiment_rows(case: str, compounds: Sequence[Compound]) -> Iterator[dict[str, Any]]:
    """Yield the figures of one case: by element, over all compounds, and over those on the foil's scale.

    Parameters
    ----------
    case
        How the compounds were answered.
    compounds
        Truth and answers: `element, calibrated, flagged, true_state, state, curve, plain_curve, plain_recipe,
        majority, true_number, number, true_length, length, trivial_length`, and the `_range` of each answer.

    Yields
    ------
    dict
        `case, element, target, metric, value, baseline, n`.
    """
    groups: dict[str, list[Compound]] = {}
    for compound in compounds:
        groups.setdefault(str(compound["element"]), []).append(compound)
    groups[ALL] = list(compounds)
    calibrated = [compound for compound in compounds if compound["calibrated"]]
    if 0 < len(calibrated) < len(compounds):
        groups[KNOWN] = calibrated
    for name, members in groups.items():
        for target, metric, value, baseline, n in _figures(members):
            yield {
                "case": case,
                "element": name,
                "target": target,
                "metric": metric,
                "value": float(value),
                "baseline": None if baseline is None else float(baseline),
                "n": n,
            }


def _figures(compounds: Sequence[Compound]) -> Iterator[tuple[str, str, Any, Any, int]]:
    numbered = [c for c in compounds if np.isfinite(c["true_number"])]
    measured = [c for c in compounds if np.isfinite(c["true_length"])]
    for target, metrics, among in (
        ("oxidation_state", _state_metrics, compounds),
        ("coordination_number", _number_metrics, numbered),
        ("bond_length", _length_metrics, measured),
    ):
        for metric, value, baseline in metrics(among) if among else ():
            yield target, metric, value, baseline, len(among)


def _state_metrics(compounds: Sequence[Compound]) -> Iterator[Metric]:
    truth = _column("true_state", compounds)
    errors = {
        key: np.abs(_column(key, compounds) - truth)
        for key in ("state", "curve", "plain_curve", "plain_recipe", "majority")
    }
    yield "within_0.5", np.mean(errors["state"] <= 0.5), np.mean(errors["plain_curve"] <= 0.5)
    yield "mae", errors["state"].mean(), errors["plain_curve"].mean()
    for key in ("curve", "plain_recipe", "majority"):
        yield f"{key}_within_0.5", np.mean(errors[key] <= 0.5), None
        yield f"{key}_mae", errors[key].mean(), None
    yield "coverage_90", _coverage("state", compounds), None
    low, high = np.array([c["state_range"] for c in compounds]).T
    yield "interval_width", np.mean(high - low), None
    yield "flagged_as_novel", np.mean([c["flagged"] for c in compounds]), None


def _number_metrics(compounds: Sequence[Compound]) -> Iterator[Metric]:
    whole = np.round(_column("true_number", compounds))
    hit = np.round(_column("number", compounds)) == whole
    values = np.unique(whole)
    balanced = [hit[whole == value].mean() for value in values]
    yield "accuracy", hit.mean(), np.mean(whole == 6.0)
    yield "balanced_accuracy", np.mean(balanced), np.mean(values == 6.0)
    yield "coverage_90", _coverage("number", compounds), None


def _length_metrics(compounds: Sequence[Compound]) -> Iterator[Metric]:
    truth = _column("true_length", compounds)
    off, trivial = (_column(key, compounds) - truth for key in ("length", "trivial_length"))
    yield "mae", np.abs(off).mean(), np.abs(trivial).mean()
    yield "bias", off.mean(), trivial.mean()
    yield "coverage_90", _coverage("length", compounds), None


def _column(key: str, compounds: Sequence[Compound]) -> FloatArray:
    return np.array([compound[key] for compound in compounds], dtype=float)


def _coverage(name: str, compounds: Sequence[Compound]) -> float:
    """Return the share of compounds whose truth lies within the stated interval."""
    inside = [c[f"{name}_range"][0] <= c[f"true_{name}"] <= c[f"{name}_range"][1] for c in compounds]
    return float(np.mean(inside))
