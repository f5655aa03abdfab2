"""`xpdml bench experiment`: predictions for measured spectra, as users get them.

Each file of the standards is replayed as a Bluesky run through `XpdmlCallback` into an embedded Tiled
server, and its prediction is read back from there. The bundle was trained without the compound: edge curve,
alignment of the classes and widths of intervals were refitted on the other compounds. The same compounds are
then predicted as if their energy axes were uncalibrated, and by bundles that were trained without the whole
source.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_xpdml.callbacks.callback import XpdmlCallback
from bluesky_xpdml.errors import PublishError
from bluesky_xpdml.factory.bench.report import Report
from bluesky_xpdml.factory.dataset.library import SiteSpectra, load_site_spectra
from bluesky_xpdml.factory.training.alignment import Augmentation, align, augmented_features
from bluesky_xpdml.factory.training.forests import fit_forest
from bluesky_xpdml.factory.training.leave_one_out import (
    as_uncalibrated,
    calibrate_intervals,
    left_out_folds,
    left_out_sources,
    without_source,
)
from bluesky_xpdml.factory.training.xanes import Intervals, XanesRecipe, classifier, usable_sites
from bluesky_xpdml.models.bundle import Bundle, manifest_sha256
from bluesky_xpdml.models.edge_model import EdgeModel, fit_edge_models
from bluesky_xpdml.models.standards import (
    CompoundAnswer,
    MeasuredSpectrum,
    answer_compound,
    by_compound,
    edge_standards,
)
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.xanes import (
    PEAK_SEEN,
    SLOWEST_RISE,
    XanesObservation,
    bond_valence_length,
    edge_curve_state,
    expected_states,
    predict_descriptors,
)
from bluesky_xpdml.publish import TiledPublisher, find_predictions
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES
from bluesky_xpdml.reduction.xanes import XanesSettings
from bluesky_xpdml.sources.files import read_scan
from bluesky_xpdml.sources.replay import scan_documents
from bluesky_xpdml.sources.standards import load_standards
from bluesky_xpdml.vocabulary import Descriptor

Answer = Mapping[str, Any]
NAMES = dict(zip(("state", "number", "length"), Descriptor.main(), strict=True))


UNVARIED = Augmentation(
    copies=1,
    width_below=(0.01, 0.01),
    width_above=(0.01, 0.01),
    axis_sigma=0.0,
    stretch=0.0,
    slope=0.0,
    self_absorption=0.0,
    noise=0.0,
)
"""Spectra as simulated."""


class PlainForest:
    """A forest of valences on spectra as simulated, moved by one energy constant: the usual simple recipe."""

    def __init__(self, spectra: SiteSpectra, edge_model: EdgeModel, recipe: XanesRecipe) -> None:
        aligned = align(spectra, FOIL_ENERGIES[spectra.element], edge_model)
        moved = replace(aligned, shift=np.full(len(spectra), float(aligned.shift.mean())))
        rows = augmented_features(moved, UNVARIED, np.random.default_rng(recipe.seed))
        self._forest = fit_forest(classifier(recipe), rows, spectra.valence).set_params(n_jobs=1)

    def likeliest(self, observation: XanesObservation) -> float:
        """Return the likeliest valence of a spectrum [e]."""
        return float(self._forest.predict(observation.unshifted[None, :])[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Baselines:
    """Simpler rules, built without the compound to be predicted."""

    curve: EdgeModel
    """Edge position alone, not corrected for pre-edge peaks."""
    forest: PlainForest
    majority: float
    """The commonest valence of the simulated sites [e]."""


def baselines(
    known: Sequence[MeasuredSpectrum], sites: SiteSpectra, bundle: Bundle, recipe: XanesRecipe
) -> Baselines:
    """Build the baselines of one element."""
    curve = fit_edge_models(edge_standards(known, 0.0), [sites.element])[sites.element]
    low, high = bundle.edge_model.valence[[0, -1]]
    kept = (curve.valence >= low - 1e-9) & (curve.valence <= high + 1e-9)
    within = replace(curve, valence=curve.valence[kept], edge=curve.edge[kept], sigma=curve.sigma[kept])
    values, counts = np.unique(sites.valence, return_counts=True)
    return Baselines(
        curve=within,
        forest=PlainForest(sites, curve, recipe),
        majority=float(values[np.argmax(counts)]),
    )


def with_intervals(bundle: Bundle, intervals: Intervals) -> Bundle:
    """Return the bundle with other interval widths."""
    targets = {name: dict(target) for name, target in bundle.manifest["targets"].items()}
    targets[Descriptor.OXIDATION_STATE]["interval_factor"] = intervals.state_factor
    targets[Descriptor.OXIDATION_STATE]["interval_factor_uncalibrated"] = intervals.uncalibrated_factor
    targets[Descriptor.BOND_LENGTH]["half_width"] = intervals.length_half_width
    manifest = {**bundle.manifest, "targets": targets}
    return replace(bundle, manifest=manifest, sha256=manifest_sha256(manifest))


def answer_of(item: MeasuredSpectrum, bundle: Bundle) -> Answer:
    """Return the prediction for one spectrum in the form of a derived run."""
    observation = item.observation
    descriptors = predict_descriptors(bundle, observation, expected_states(bundle, observation))
    found = {
        name: {"value": one.value, "low": one.low, "high": one.high} for name, one in descriptors.items()
    }
    return {
        "descriptors": found,
        "diagnostics": {
            "edge_curve_oxidation_state": edge_curve_state(bundle, observation),
            "edge_width": observation.edge_width,
            "pre_edge_peak": observation.pre_edge_peak,
        },
    }


def compound_record(
    members: Sequence[MeasuredSpectrum], answers: Sequence[Answer], simpler: Baselines, bundle: Bundle
) -> dict[str, Any]:
    """Average the predictions of a compound's spectra."""
    answered = [answer for answer in answers if answer["descriptors"]]

    def mean(name: str, key: str) -> float:
        return float(np.mean([one["descriptors"][name][key] for one in answered])) if answered else np.nan

    first, observations = members[0], [item.observation for item in members]
    parameters = bundle.manifest["targets"][Descriptor.BOND_LENGTH]["bond_valence_r0"]
    record: dict[str, Any] = {
        "element": first.element,
        "compound": first.compound,
        "calibrated": any(observation.calibrated for observation in observations),
        "flagged": float(np.mean([_is_novel(one["diagnostics"]) for one in answered])) > 0.5,
        "true_state": first.valence,
        "true_number": first.coordination_number,
        "true_length": first.bond_length,
        "curve": float(np.mean([one["diagnostics"]["edge_curve_oxidation_state"] for one in answered])),
        "plain_curve": float(
            np.mean([_by_plain_curve(simpler.curve, observation) for observation in observations])
        ),
        "plain_recipe": float(
            np.mean([simpler.forest.likeliest(observation) for observation in observations])
        ),
        "majority": simpler.majority,
    }
    for short, name in NAMES.items():
        record[short] = mean(name, "value")
        record[f"{short}_range"] = (mean(name, "low"), mean(name, "high"))
    return record | {"trivial_length": bond_valence_length(parameters, record["state"], 6.0)}


def answer_row(compound: Answer) -> dict[str, Any]:
    """Return the printed row of one compound: truth, prediction and interval of the oxidation state."""
    low, high = compound["state_range"]
    figures = {
        "true": compound["true_state"],
        "value": compound["state"],
        "low": low,
        "high": high,
        "edge_curve": compound["plain_curve"],
        "true_number": compound["true_number"],
        "number": compound["number"],
    }
    rounded = {key: None if np.isnan(value) else round(value, 3) for key, value in figures.items()}
    return {key: compound[key] for key in ("element", "compound", "calibrated")} | rounded


def _by_plain_curve(curve: EdgeModel, observation: XanesObservation) -> float:
    if observation.calibrated:
        return curve.mean_valence(np.array([observation.edge]), np.ones(1))
    return curve.mean_valence(observation.edge + observation.shifts, observation.weights())


def _is_novel(diagnostics: Mapping[str, float]) -> bool:
    slow = diagnostics["edge_width"] > SLOWEST_RISE and diagnostics["pre_edge_peak"] <= PEAK_SEEN
    return slow or diagnostics.get("novelty_score", 0.0) > diagnostics.get("novelty_threshold", 0.0)


Answers = Mapping[str, Sequence[CompoundAnswer]]
Progress = Callable[[str, int, int], None]
PATIENCE = 60.0
LEFT_OUT = "compound left out"
SOURCE = "source left out"
UNKNOWN = ", axis unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Spectra of one compound, with a bundle and baselines trained without it."""

    members: list[MeasuredSpectrum]
    bundle: Bundle
    simpler: Baselines


class SharedPublisher:
    """A publisher that stays open when a callback closes it."""

    def __init__(self, publisher: TiledPublisher) -> None:
        self.publish = publisher.publish

    def close(self) -> None:
        """Leave the publisher open."""


def measure_experiment(standards: Path, simulation: Path, *, seed: int, progress: Progress) -> Report:
    """Predict every measured oxide without its own label, by way of Tiled."""
    known = load_standards(standards)
    recipe = XanesRecipe(seed=seed)
    elements = sorted({item.element for item in known.spectra}, key=list(FOIL_ENERGIES).index)
    sites = {el: usable_sites(load_site_spectra(simulation, el), recipe) for el in elements}
    compounds = [
        Fold(members=members, bundle=bundle, simpler=_simpler(members, known.spectra, sites, bundle, recipe))
        for members, bundle in left_out_folds(
            known.spectra, sites, recipe, _named(progress, "trained without compound")
        )
    ]
    sources = list(_source_folds(known.spectra, sites, recipe, progress))
    answers = {fold.members[0].compound: _both(fold) for fold in compounds}
    published = _published(standards, compounds, answers, progress)
    cases = {
        LEFT_OUT: [
            compound_record(fold.members, found, fold.simpler, fold.bundle)
            for fold, found in zip(compounds, published, strict=True)
        ],
        LEFT_OUT + UNKNOWN: _unpublished(compounds, answers, unknown=True),
        SOURCE: _unpublished(sources, answers, unknown=False),
        SOURCE + UNKNOWN: _unpublished(sources, answers, unknown=True),
    }
    first = cases[LEFT_OUT]
    return Report(
        what="measured oxides, by compound, each left out of everything that standards enter",
        conditions={
            "spectra": len(known.spectra),
            "compounds": len(first),
            "compounds on the foil's scale": sum(c["calibrated"] for c in first),
            "files refused": dict(known.refused),
            "seed": seed,
            "answer of a compound": "mean over its spectra; of whole compounds as read back from Tiled, the "
            "other cases straight from the models",
            "source left out": "all standards of a collection, and their compounds in the others; a compound "
            "counts once a collection",
            "axis": "the stated energy offset, else the reference channel, else unknown",
            "baseline": "edge position alone (oxidation state), always 6 (coordination number), "
            "bond valence at 6 neighbours (bond length)",
            "curve": "edge position corrected for the pre-edge peak",
            "plain_recipe": "forest on spectra as simulated, one energy constant an element, its likeliest "
            "valence",
            "majority": "commonest valence of the simulated sites",
            "answers": [answer_row(c) for c in first],
        },
        rows=[row for case, compounds in cases.items() for row in experiment_rows(case, compounds)],
    )


def _named(progress: Progress, what: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(what, done, total)


def _simpler(
    members: Sequence[MeasuredSpectrum],
    spectra: Sequence[MeasuredSpectrum],
    sites: Mapping[str, SiteSpectra],
    bundle: Bundle,
    recipe: XanesRecipe,
) -> Baselines:
    """Build the baselines without a compound."""
    element, compound = members[0].element, members[0].compound
    others = [item for item in spectra if (item.element, item.compound) != (element, compound)]
    return baselines(others, sites[element], bundle, recipe)


def _source_folds(
    spectra: Sequence[MeasuredSpectrum],
    sites: Mapping[str, SiteSpectra],
    recipe: XanesRecipe,
    progress: Progress,
) -> Iterator[Fold]:
    """Yield the compounds of each source, with bundles and baselines that were trained without it."""
    trained = _named(progress, "trained without source")
    for members, bundle in left_out_sources(spectra, sites, recipe, trained):
        simpler = baselines(without_source(spectra, members), sites[members[0].element], bundle, recipe)
        for group in by_compound(members):
            yield Fold(members=group, bundle=bundle, simpler=simpler)


def _both(fold: Fold) -> list[CompoundAnswer]:
    """Predict a compound on its own axis, and on an uncalibrated one."""
    unknown = as_uncalibrated(fold.members)
    own = answer_compound(fold.members, fold.bundle)
    return [own, answer_compound(unknown, fold.bundle)] if unknown else [own]


def _calibrated(fold: Fold, answers: Answers) -> Bundle:
    """Return the bundle of a fold with intervals that were calibrated on other compounds."""
    own = fold.members[0].compound
    others = [one for name, found in answers.items() if name != own for one in found]
    return with_intervals(fold.bundle, calibrate_intervals(others))


def _published(
    standards: Path, folds: Sequence[Fold], answers: Answers, progress: Progress
) -> list[list[Answer]]:
    """Replay all spectra into a Tiled server, and read the predictions of each compound back."""
    from tiled.client import from_uri
    from tiled.server.simple import SimpleTiledServer

    found = []
    with SimpleTiledServer() as server:
        publisher = TiledPublisher.from_uri(server.uri)
        catalog: Any = from_uri(server.uri)["xpdml"]
        for number, fold in enumerate(folds, start=1):
            bundle = _calibrated(fold, answers)
            found.append([_replayed(standards, item, bundle, publisher, catalog) for item in fold.members])
            progress("replayed", number, len(folds))
    return found


def _replayed(
    folder: Path, item: MeasuredSpectrum, bundle: Bundle, publisher: TiledPublisher, catalog: Any
) -> Answer:
    """Replay one file through the callback and read its prediction back from Tiled."""
    scan = read_scan(folder / item.file, element=item.element, edge="K")
    offset: Any = item.stated_offset if item.stated_offset is not None else "reference"
    store = BundleStore(folder / "no bundles on disk", [bundle])
    settings = XanesSettings(energy_offset=offset)
    with XpdmlCallback(SharedPublisher(publisher), store=store, settings=settings) as callback:
        documents = list(scan_documents(scan))
        for name, document in documents:
            callback(name, document)
        callback.drain(PATIENCE)
    runs = find_predictions(catalog, documents[0][1]["uid"])
    if not runs:
        msg = f"the prediction for {item.file} is not in Tiled: {callback.statistics}"
        raise PublishError(msg)
    return dict(runs[-1].metadata["start"])


def _unpublished(folds: Sequence[Fold], answers: Answers, *, unknown: bool) -> list[dict[str, Any]]:
    """Predict without a server, on the spectra's own axes or on uncalibrated ones."""
    records = []
    for fold in folds:
        asked = as_uncalibrated(fold.members) if unknown else fold.members
        if asked:
            bundle = _calibrated(fold, answers)
            found = [answer_of(item, bundle) for item in asked]
            records.append(compound_record(asked, found, fold.simpler, bundle))
    return records


Compound = Mapping[str, Any]
Metric = tuple[str, Any, Any]

ALL = "all"
KNOWN = "all on the foil's scale"


def experiment_rows(case: str, compounds: Sequence[Compound]) -> Iterator[dict[str, Any]]:
    """Yield the figures of one case: by element, over all compounds, and over those on the foil's scale."""
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
        (Descriptor.OXIDATION_STATE, _state_metrics, compounds),
        (Descriptor.COORDINATION_NUMBER, _number_metrics, numbered),
        (Descriptor.BOND_LENGTH, _length_metrics, measured),
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
