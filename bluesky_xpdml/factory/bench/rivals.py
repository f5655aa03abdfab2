"""Forests beside boosted trees, networks, support vectors, and averages of them, on the same splits."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bluesky_xpdml.factory.bench.accuracy_tables import HEADLINES, short
from bluesky_xpdml.factory.bench.cells import (
    SHARED,
    Cell,
    Progress,
    element_data,
    run_cells,
)
from bluesky_xpdml.factory.bench.report import Report
from bluesky_xpdml.factory.bench.samples import COPIES, Samples
from bluesky_xpdml.factory.bench.scoring import CellRecipe, TargetRows, split_samples
from bluesky_xpdml.factory.training.scores import class_metrics, number_metrics
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.vocabulary import Descriptor, Modality

MODALITIES = (Modality.XANES, Modality.DPDF, Modality.XANES_DPDF)
TARGETS = Descriptor.main()
TITLES = ("OS accuracy", "OS mF1", "CN accuracy", "CN mF1", "BL RMSE [A]", "BL R2")
COLUMNS = {title: HEADLINES[title] for title in TITLES}
FOLDER = "rivals"
"""Folder of the rivals' cells, in that of the forests' cells."""


def measure_rivals(
    simulation: Path,
    elements: Sequence[str],
    *,
    seeds: Sequence[int],
    cache: Path,
    threads: int,
    progress: Progress,
) -> Report:
    """Train and score every rival on splits by formula, on the materials that all modalities share."""
    cells = [
        Cell(element=element, rows=SHARED, modality=modality, split="formula", seed=seed)
        for seed in seeds
        for element in elements
        for modality in MODALITIES
    ]

    def compute(cell: Cell, samples: Samples) -> dict[str, Any]:
        rows = split_samples(samples, cell.split, cell.seed)
        return {
            target: score_rivals(target, rows.known(samples.labels[target]), threads) for target in TARGETS
        }

    data = element_data(simulation, elements, cache=cache, progress=progress)
    results = run_cells(cells, data, cache / FOLDER, CellRecipe(), compute, what="rivals")
    return Report(
        what="rivals of the forests on simulated spectra and curves",
        conditions={
            "elements": list(elements),
            "seeds": list(seeds),
            "split": "20 % of the reduced formulas held out",
            "rows": "materials that have both a spectrum and a curve; each learner sees all columns",
            "networks": f"{MEMBERS} members of 64 and 64 units, 25 epochs",
            "wide networks": f"{MEMBERS} members of 256 and 128 units, at most 60 epochs, stopped early",
            "seconds": "of training on a shared machine, oxidation state",
        },
        rows=[row for modality in MODALITIES for row in _rows(modality, results)],
    )


def _rows(modality: str, results: Mapping[Cell, Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = [result for cell, result in results.items() if cell.modality == modality]
    rows = []
    for name in found[0][TARGETS[0]]:
        figures = {
            title: short(float(np.mean([part[target][name]["metrics"][metric][0] for part in found])))
            for title, (target, metric) in COLUMNS.items()
        }
        spent = [part[TARGETS[0]][name]["seconds"] for part in found]
        seconds = None if spent[0] is None else round(float(np.mean(spent)), 2)
        rows.append({"modality": modality, "learner": name, **figures, "seconds": seconds})
    return rows


MEMBERS = 3
"""Networks of an ensemble."""
COMPONENTS = 40
"""Principal components that boosted trees see."""
MIXTURES = {
    "trees + networks": ("extra trees", "wide networks"),
    "trees + support vectors": ("extra trees", "support vectors"),
    "trees + networks + support vectors": ("extra trees", "wide networks", "support vectors"),
}
"""Averages, by name."""
Learner = Callable[[int, int], Any]
"""Makes an unfitted model from a seed and a number of threads."""


def _networks(layers: tuple[int, ...], *, classes: bool, epochs: int, early: bool) -> Learner:
    def make(seed: int, threads: int) -> Any:
        from sklearn.ensemble import VotingClassifier, VotingRegressor
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        kind = MLPClassifier if classes else MLPRegressor
        settings = {
            "hidden_layer_sizes": layers,
            "alpha": 1e-2,
            "batch_size": 128,
            "learning_rate_init": 2e-3,
            "max_iter": epochs,
        }
        stop = {"early_stopping": early, "n_iter_no_change": 8}
        members = [
            (str(number), kind(random_state=seed * MEMBERS + number, **settings, **stop))
            for number in range(MEMBERS)
        ]
        if classes:
            return _standardised(VotingClassifier(members, voting="soft", n_jobs=threads))
        return _standardised(VotingRegressor(members, n_jobs=threads))

    return make


def _standardised(model: Any, *, components: int = 0) -> Any:
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    parts = [PCA(components, whiten=True, random_state=0)] if components else []
    return make_pipeline(StandardScaler(), *parts, model)


def _trees(name: str, *, classes: bool) -> Learner:
    def make(seed: int, threads: int) -> Any:
        from sklearn import ensemble

        model = getattr(ensemble, f"{name}{'Classifier' if classes else 'Regressor'}")
        settings = {"min_samples_leaf": 2, "max_features": "sqrt", "random_state": seed, "n_jobs": threads}
        return model(150 if classes else 100, **settings)

    return make


def _boosted(*, classes: bool) -> Learner:
    def make(seed: int, _threads: int) -> Any:
        from sklearn import ensemble

        model = getattr(ensemble, f"HistGradientBoosting{'Classifier' if classes else 'Regressor'}")
        return _standardised(
            model(max_iter=80, learning_rate=0.1, max_leaf_nodes=15, random_state=seed), components=COMPONENTS
        )

    return make


def _vectors(*, classes: bool) -> Learner:
    def make(seed: int, _threads: int) -> Any:
        from sklearn.svm import SVC, SVR

        if classes:
            return _standardised(SVC(C=10.0, gamma="scale", probability=True, random_state=seed))
        return _standardised(SVR(C=10.0, epsilon=0.05))

    return make


def learners(*, classes: bool) -> Mapping[str, Learner]:
    """Return every rival by name."""
    return {
        "extra trees": _trees("ExtraTrees", classes=classes),
        "random forest": _trees("RandomForest", classes=classes),
        "boosted trees": _boosted(classes=classes),
        "networks": _networks((64, 64), classes=classes, epochs=25, early=False),
        "wide networks": _networks((256, 128), classes=classes, epochs=60, early=True),
        "support vectors": _vectors(classes=classes),
    }


def score_rivals(target: str, known: TargetRows, threads: int) -> dict[str, dict[str, Any]]:
    """Train every rival and score it."""
    classes = target != Descriptor.BOND_LENGTH
    answers, seconds = {}, {}
    for name, make in learners(classes=classes).items():
        start = perf_counter()
        # Networks have a fixed number of epochs: that they have not converged after the last one is no error.
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            answers[name] = _answer(make(known.seed, threads), known, classes=classes)
        seconds[name] = perf_counter() - start
    for name, members in MIXTURES.items():
        answers[name] = np.mean([answers[member] for member in members], axis=0)
    values = np.unique(known.labels)
    result = {}
    for name, answer in answers.items():
        if classes:
            metrics = class_metrics(known.labels, known.truth, values[answer.argmax(axis=1)])
        else:
            metrics = number_metrics(known.labels, known.truth, answer)
        result[name] = {"metrics": metrics, "seconds": seconds.get(name)}
    return result


def _answer(model: Any, known: TargetRows, *, classes: bool) -> FloatArray:
    """Return probabilities, (m, k), or numbers, (m,)."""
    rows, unseen = np.hstack(known.blocks), np.hstack(known.unseen)
    labels = np.tile(known.labels, COPIES)
    if classes:
        return np.asarray(model.fit(rows, labels).predict_proba(unseen))
    centre, scale = float(labels.mean()), max(float(labels.std()), 1e-12)
    return np.asarray(centre + scale * model.fit(rows, (labels - centre) / scale).predict(unseen))
