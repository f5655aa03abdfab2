"""Measured oxides, replayed as Bluesky runs through the callback into Tiled and compared with their labels.

Every compound is answered by a bundle that was built without it: the edge curve, the alignment of the
simulated classes and the widths of intervals were all refitted on the other compounds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_xpdml.bench.report import Report
from bluesky_xpdml.callbacks.callback import XpdmlCallback
from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.models.bundle import Bundle, manifest_sha256
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.xanes_answers import bond_valence_length
from bluesky_xpdml.publish import TiledPublisher, find_predictions
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.reduction.xanes import XanesSettings
from bluesky_xpdml.simulation.library import load_site_spectra
from bluesky_xpdml.sources.files import read_scan
from bluesky_xpdml.sources.replay import scan_documents
from bluesky_xpdml.sources.standards import load_standards
from bluesky_xpdml.training.leave_one_out import (
    CompoundAnswer,
    MeasuredSpectrum,
    answer_compound,
    calibrate_intervals,
    left_out_folds,
)
from bluesky_xpdml.training.xanes import Intervals, XanesRecipe, usable_sites

Answers = Mapping[str, Any]
Compound = dict[str, Any]
Metric = tuple[str, Any, Any]
Fold = tuple[list[MeasuredSpectrum], Bundle]
PATIENCE = 60.0


class KeptOpen:
    """A publisher that stays open when a callback that uses it is closed."""

    def __init__(self, publisher: TiledPublisher) -> None:
        self.publish = publisher.publish

    def close(self) -> None:
        """Leave the publisher open."""


def measure_experiment(
    standards: Path, simulation: Path, *, seed: int, progress: Callable[[str, int, int], None]
) -> Report:
    """Answer every measured oxide without its own label, by way of Tiled.

    Parameters
    ----------
    standards
        Folder of measured spectra with `labels.csv`.
    simulation
        Folder of simulated spectra.
    seed
        Of the training.
    progress
        Called with what is done, how many of it, and of how many.
    """
    from tiled.client import from_uri
    from tiled.server.simple import SimpleTiledServer

    known = load_standards(standards)
    recipe = XanesRecipe(seed=seed)
    elements = sorted({item.element for item in known.spectra}, key=list(FOIL_ENERGIES).index)
    sites = {el: usable_sites(load_site_spectra(simulation, el), recipe) for el in elements}
    folds = list(
        left_out_folds(
            known.spectra, sites, recipe, lambda done, total: progress("trained without", done, total)
        )
    )
    answers = [answer_compound(*fold) for fold in folds]
    with SimpleTiledServer() as server:
        publisher = TiledPublisher.from_uri(server.uri)
        catalog: Any = from_uri(server.uri)["xpdml"]
        found = []
        for number, (members, bundle) in enumerate(folds):
            others = answers[:number] + answers[number + 1 :]
            calibrated = with_intervals(bundle, calibrate_intervals(others))
            found.append([_replayed(standards, item, calibrated, publisher, catalog) for item in members])
            progress("replayed", number + 1, len(folds))
    majority = {element: _majority(sites[element].valence) for element in elements}
    compounds = [
        _compound(answer, starts, majority[answer.element], folds[n][1])
        for n, (answer, starts) in enumerate(zip(answers, found, strict=True))
    ]
    return Report(
        what="measured oxides, by compound, each left out of everything that standards enter",
        conditions={
            "spectra": len(known.spectra),
            "compounds": len(compounds),
            "compounds on the foil's scale": sum(c["calibrated"] for c in compounds),
            "files refused": dict(known.refused),
            "seed": seed,
            "answer of a compound": "mean over its spectra, as read back from Tiled",
            "axis": "the stated energy offset, else the reference channel, else unknown",
            "baseline": "edge position alone (oxidation state), always 6 (coordination number), "
            "bond valence at 6 neighbours (bond length)",
            "answers": [_published(c) for c in compounds],
        },
        rows=_rows(compounds, elements),
    )


def with_intervals(bundle: Bundle, intervals: Intervals) -> Bundle:
    """Return a bundle with other widths of its intervals.

    Parameters
    ----------
    bundle
        Models of an element.
    intervals
        Widths.
    """
    targets = {name: dict(target) for name, target in bundle.manifest["targets"].items()}
    targets["oxidation_state"]["interval_factor"] = intervals.state_factor
    targets["bond_length"]["half_width"] = intervals.length_half_width
    manifest = {**bundle.manifest, "targets": targets}
    return replace(bundle, manifest=manifest, sha256=manifest_sha256(manifest))


def _replayed(
    folder: Path, item: MeasuredSpectrum, bundle: Bundle, publisher: TiledPublisher, catalog: Any
) -> Answers:
    """Replay one file through the callback and read its prediction back from Tiled."""
    scan = read_scan(folder / item.file, element=item.element, edge="K")
    offset: Any = item.stated_offset if item.stated_offset is not None else "reference"
    store = BundleStore(folder / "no bundles on disk", [bundle])
    settings = XanesSettings(energy_offset=offset)
    with XpdmlCallback(KeptOpen(publisher), store=store, settings=settings) as callback:
        documents = list(scan_documents(scan))
        for name, document in documents:
            callback(name, document)
        callback.drain(PATIENCE)
    runs = find_predictions(catalog, documents[0][1]["uid"])
    if not runs:
        msg = f"the prediction for {item.file} is not in Tiled: {callback.statistics}"
        raise PublishError(msg)
    return dict(runs[-1].metadata["start"])


def _majority(valence: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    values, counts = np.unique(valence, return_counts=True)
    return float(values[np.argmax(counts)])


def _compound(
    answer: CompoundAnswer, starts: Sequence[Answers], majority: float, bundle: Bundle
) -> dict[str, Any]:
    """Average the published answers of a compound's spectra."""
    answered = [start for start in starts if start["descriptors"]]

    def mean(name: str, key: str) -> float:
        return float(np.mean([start["descriptors"][name][key] for start in answered])) if answered else np.nan

    state = mean("oxidation_state", "value")
    parameters = bundle.manifest["targets"]["bond_length"]["bond_valence_r0"]
    return {
        "element": answer.element,
        "compound": answer.compound,
        "calibrated": answer.calibrated,
        "majority": majority,
        "true_state": answer.truth["oxidation_state"],
        "true_number": answer.truth["coordination_number"],
        "true_length": answer.truth["bond_length"],
        "state": state,
        "curve": float(np.mean([s["diagnostics"]["edge_curve_oxidation_state"] for s in answered])),
        "number": mean("coordination_number", "value"),
        "length": mean("bond_length", "value"),
        "trivial_length": bond_valence_length(parameters, state, 6.0),
        "state_range": (mean("oxidation_state", "low"), mean("oxidation_state", "high")),
        "number_range": (mean("coordination_number", "low"), mean("coordination_number", "high")),
        "length_range": (mean("bond_length", "low"), mean("bond_length", "high")),
    }


def _published(compound: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is told of one compound: truth, answer and interval of the oxidation state."""
    low, high = compound["state_range"]
    told: dict[str, Any] = {key: compound[key] for key in ("element", "compound", "calibrated")}
    figures = {
        "true": compound["true_state"],
        "value": compound["state"],
        "low": low,
        "high": high,
        "edge_curve": compound["curve"],
    }
    return told | {key: round(value, 3) for key, value in figures.items()}


def _rows(compounds: Sequence[Compound], elements: Sequence[str]) -> list[dict[str, Any]]:
    groups = {element: [c for c in compounds if c["element"] == element] for element in elements}
    groups["all"] = list(compounds)
    groups["all on the foil's scale"] = [c for c in compounds if c["calibrated"]]
    return [row for name, members in groups.items() for row in _group_rows(name, members)]


def _group_rows(element: str, compounds: Sequence[Compound]) -> Iterator[dict[str, Any]]:
    numbered = [c for c in compounds if np.isfinite(c["true_number"])]
    measured = [c for c in compounds if np.isfinite(c["true_length"])]
    for target, metrics, among in (
        ("oxidation_state", _state_metrics, compounds),
        ("coordination_number", _number_metrics, numbered),
        ("bond_length", _length_metrics, measured),
    ):
        for metric, value, baseline in metrics(among) if among else ():
            yield {
                "element": element,
                "target": target,
                "metric": metric,
                "value": float(value),
                "baseline": None if baseline is None else float(baseline),
                "n_compounds": len(among),
            }


def _state_metrics(compounds: Sequence[Compound]) -> Iterator[Metric]:
    truth = _column("true_state", compounds)
    error, by_curve, by_majority = (
        np.abs(_column(key, compounds) - truth) for key in ("state", "curve", "majority")
    )
    yield "within_0.5", np.mean(error <= 0.5), np.mean(by_curve <= 0.5)
    yield "mae", error.mean(), by_curve.mean()
    yield "majority_within_0.5", np.mean(by_majority <= 0.5), None
    yield "coverage_90", _coverage("state", compounds), None


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
    """Return the share of compounds whose truth lies within the published interval."""
    inside = [c[f"{name}_range"][0] <= c[f"true_{name}"] <= c[f"{name}_range"][1] for c in compounds]
    return float(np.mean(inside))
