"""Other learners on the rows of the forests, to see whether one is worth its size and its time.

Every rival sees the same training rows, augmented copies and all, and is asked about the same test rows.
Learners that measure distances or slopes see standardised columns, boosted trees forty principal components.
Averages mix the probabilities, or the bond lengths, of their members evenly.
"""

import warnings
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import numpy as np

from bluesky_xpdml.factory.training.cells import Known
from bluesky_xpdml.factory.training.metrics import class_metrics, number_metrics
from bluesky_xpdml.factory.training.samples import COPIES
from bluesky_xpdml.records import FloatArray

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
    """Return every rival by name.

    Parameters
    ----------
    classes
        For classes, or for numbers.

    Examples
    --------
    >>> list(learners(classes=True))[:2]
    ['extra trees', 'random forest']
    """
    return {
        "extra trees": _trees("ExtraTrees", classes=classes),
        "random forest": _trees("RandomForest", classes=classes),
        "boosted trees": _boosted(classes=classes),
        "networks": _networks((64, 64), classes=classes, epochs=25, early=False),
        "wide networks": _networks((256, 128), classes=classes, epochs=60, early=True),
        "support vectors": _vectors(classes=classes),
    }


def score_rivals(target: str, known: Known, threads: int) -> dict[str, dict[str, Any]]:
    """Train every rival and score it.

    Parameters
    ----------
    target
        `bond_length`, or a target of classes.
    known
        Rows on both sides of a split.
    threads
        To train with.

    Returns
    -------
    dict
        By rival, plain JSON values: `metrics` as (value, of the trivial answer), and `seconds` of training;
        mixtures have none of their own.
    """
    classes = target != "bond_length"
    answers, seconds = {}, {}
    for name, make in learners(classes=classes).items():
        start = perf_counter()
        # Networks that are stopped after their last epoch warn of it; that is how they are meant.
        with warnings.catch_warnings(record=True):
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


def _answer(model: Any, known: Known, *, classes: bool) -> FloatArray:
    """Return probabilities, (m, k), or numbers, (m,)."""
    rows, unseen = np.hstack(known.blocks), np.hstack(known.unseen)
    labels = np.tile(known.labels, COPIES)
    if classes:
        return np.asarray(model.fit(rows, labels).predict_proba(unseen))
    centre, scale = float(labels.mean()), max(float(labels.std()), 1e-12)
    return np.asarray(centre + scale * model.fit(rows, (labels - centre) / scale).predict(unseen))
