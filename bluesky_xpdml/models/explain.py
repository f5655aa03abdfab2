"""Why a prediction is what it is: Shapley values of the forests, and what the rest of the model adds.

For each descriptor, base + features + others = answer. The base is what the model answers, on the mean, to
some rows of its training; the features are those of the curve as it was measured. The others of XANES are

axis shifts
    What averaging over possible errors of the energy axis changes.
edge position
    How far the position of the edge pulls the oxidation state away from what the shape says.
oxidation state, coordination number
    What these answers change in the bond-valence distance, which is most of a bond length.
coordination number in the forest
    What the correction to that distance makes of the probabilities of coordination numbers.

and of PDF, `rounding`: stored probabilities do not quite add up to one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import BundleError, ModelError, XpdmlError
from bluesky_xpdml.features import pdf as pdf_side
from bluesky_xpdml.features import xanes as xanes_side
from bluesky_xpdml.features.pdf import GRID as DISTANCES
from bluesky_xpdml.features.pdf import SHELL_GRID, first_shell
from bluesky_xpdml.features.xanes import GRID as ENERGIES
from bluesky_xpdml.features.xanes import SMOOTHING, foil_scale
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.observation import observe
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.tree_shap import shapley_values
from bluesky_xpdml.models.xanes_answers import bond_valence_length
from bluesky_xpdml.records import (
    Attribution,
    Explanation,
    FloatArray,
    PairDistribution,
    Prediction,
    Region,
    Xanes,
)
from bluesky_xpdml.reduction.edge_position import edge_shape, smooth

TARGETS = ("oxidation_state", "coordination_number", "bond_length")
"""Descriptors that are explained."""
BACKGROUND = "background"
"""Table of a bundle: features of some rows of its training, (n_rows, n_features)."""
IMPORTANCES = "importances"
"""Key of a bundle's manifest: by target, `impurity` and `permutation`, a number a feature each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A prediction and the bundle that made it.

    Raises
    ------
    BundleError
        By every method that needs what bundles of older formats do not hold.
    """

    prediction: Prediction
    bundle: Bundle

    def known(self, targets: Iterable[str]) -> list[str]:
        """Return the targets, all of which can be explained.

        Raises
        ------
        ModelError
            If one of them cannot.
        """
        wanted = list(targets)
        known = [t for t in TARGETS if t in self.bundle.forests and t in self.prediction.descriptors]
        if not wanted or set(wanted) - set(known):
            asked, there = ", ".join(wanted) or "nothing", ", ".join(known) or "none"
            raise ModelError(f"cannot explain {asked}: expected some of {there}")
        return wanted

    @property
    def background(self) -> FloatArray:
        """Rows of the training that answers are compared with, (n_rows, n_features)."""
        if BACKGROUND not in self.bundle.tables:
            raise self._older(f"a table {BACKGROUND!r}")
        return self.bundle.tables[BACKGROUND]

    def answer(self, target: str) -> float:
        """Return what was predicted."""
        return self.prediction.descriptors[target].value

    def mean_answer(self, target: str) -> float:
        """Return what the forest of a target answers to the background, on the mean."""
        return float((self.bundle.forests[target].predict(self.background) @ self._outputs(target)).mean())

    def shapley(self, target: str, row: FloatArray) -> tuple[FloatArray, float]:
        """Return what each feature adds to the mean answer of the target's forest, and that mean."""
        return shapley_values(self.bundle.forests[target], row, self.background, self._outputs(target))

    def attribution(
        self, target: str, base: float, values: FloatArray, others: Mapping[str, float]
    ) -> Attribution:
        """Return the record of a target, with what its features brought at training."""
        found = self.bundle.manifest.get(IMPORTANCES, {}).get(target)
        if found is None:
            raise self._older(f"{IMPORTANCES} of {target} in the manifest")
        # Beyond the features of the curve, a forest may look at answers of another one.
        impurity, permutation = (
            np.asarray(found[kind], dtype=float)[: values.size] for kind in ("impurity", "permutation")
        )
        return Attribution(
            unit=self.prediction.descriptors[target].unit,
            answer=self.answer(target),
            base=base,
            features=values,
            others=others,
            importance=impurity,
            permutation=permutation,
        )

    def _outputs(self, target: str) -> FloatArray:
        return np.asarray(self.bundle.manifest["targets"][target].get("classes", [1.0]), dtype=float)

    def _older(self, missing: str) -> BundleError:
        said = self.bundle.manifest
        command = f"xpdml train --element {said['element']} --modality {said['modality']}"
        return BundleError(
            f"{said['name']}-{said['version']} is of an older format: expected {missing}, found none; train "
            f"it anew with `{command}`"
        )


BELOW_EDGE = 5.0
"""The pre-edge ends this far below the edge position [eV]."""
MAXIMUM_WITHIN = 20.0
"""The main maximum is sought this far above the edge position [eV]."""
NARROWEST = 1.0
"""Least distance between edge position and main maximum [eV], so that no region is empty."""
STEP = 0.1
"""Grid on which maxima are sought [eV]."""
BRIDGE = 2.0
"""The second shell ends at this many distances of the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Names of neighbouring regions and where they meet."""

    names: tuple[str, ...]
    """In the order of the curve."""
    ends: tuple[float, ...]
    """Start of the first region and the end of each [eV above the metal foil, or angstrom]."""

    def members(self, positions: FloatArray) -> NDArray[np.int64]:
        """Return which region each position lies in; those beyond the ends count for the outermost.

        Examples
        --------
        >>> Bounds(names=("left", "right"), ends=(0.0, 1.0, 2.0)).members(np.array([-1.0, 0.5, 1.0, 5.0]))
        array([0, 0, 1, 1])
        """
        return np.searchsorted(np.array(self.ends[1:-1]), positions, side="right")


def xanes_bounds(xanes: Xanes) -> Bounds:
    """Return pre-edge, edge, white line and post-edge of a spectrum [eV above the metal foil].

    Parameters
    ----------
    xanes
        Reduced spectrum.

    Raises
    ------
    FeatureError, ReductionError
        If the foil of the element is not known, or no edge is found.
    """
    x, signal = foil_scale(xanes)
    edge = edge_shape(x, xanes.mu).edge
    maximum = _main_maximum(x, signal, edge)
    half = 0.5 * (maximum - edge)
    inner = (edge - BELOW_EDGE, edge + half, maximum + half)
    # A region may lie beyond the window of the features: it is then named, and holds none.
    start, end = min(float(ENERGIES[0]), inner[0]), max(float(ENERGIES[-1]), inner[-1])
    return Bounds(names=("pre-edge", "edge", "white line", "post-edge"), ends=(start, *inner, end))


def pdf_bounds(distribution: PairDistribution) -> Bounds:
    """Return first, second and further shells of a pair distribution function [angstrom].

    Parameters
    ----------
    distribution
        On any scale; it covers the grid of the features.
    """
    curve = np.interp(SHELL_GRID, distribution.r, distribution.g)
    nearest = float(first_shell(curve)[0])
    behind = np.flatnonzero(nearest <= SHELL_GRID)
    falling = curve[behind]
    stops = np.flatnonzero((np.diff(falling) > 0.0) | (falling[1:] <= 0.0))
    end = float(SHELL_GRID[behind[stops[0]] + 1]) if stops.size else float(SHELL_GRID[-1])
    return Bounds(
        names=("first shell", "second shell", "further shells"),
        ends=(float(DISTANCES[0]), end, max(end, BRIDGE * nearest), float(DISTANCES[-1])),
    )


def _main_maximum(x: FloatArray, signal: FloatArray, edge: float) -> float:
    grid = np.arange(edge + NARROWEST, min(edge + MAXIMUM_WITHIN, x[-1], ENERGIES[-1]), STEP)
    if grid.size == 0:
        return edge + NARROWEST
    fine = np.arange(x[0], x[-1], STEP)
    smoothed = smooth(np.interp(fine, x, signal), SMOOTHING / STEP)
    return float(grid[np.argmax(np.interp(grid, fine, smoothed))])


TELLING = 0.1
"""Edge and shape must differ by this much before their shares can be told [e]."""
ROUNDING = 0.02
"""A share may be this far outside 0 to 1 before the answer counts as no mixture."""


def explain(prediction: Prediction, store: BundleStore, *, targets: Iterable[str] = TARGETS) -> Explanation:
    """Return why a prediction is what it is, by the bundle that made it.

    Parameters
    ----------
    prediction
        With the curve that its answer was read from.
    store
        Holds the bundle that answered.
    targets
        Descriptors to explain.

    Raises
    ------
    ModelError
        If there is no answer, it was made by several bundles, or a descriptor has no forest.
    BundleError
        If the bundle is of an older format, without background or importances.
    """
    if not prediction.descriptors or len(prediction.models) != 1:
        reasons = "; ".join(prediction.quality.reasons) or f"{len(prediction.models)} bundles answered"
        msg = f"expected the answer of one bundle to explain, found none for {prediction.source}: {reasons}"
        raise ModelError(msg)
    (model,) = prediction.models
    bundle = store.load(f"{model.name}-{model.version}")
    if bundle.sha256 != model.sha256:
        msg = f"{model.name}-{model.version} is not the bundle that answered: predict again, then explain"
        raise ModelError(msg)
    by_technique = explain_xanes if prediction.xanes is not None else explain_pdf
    return by_technique(prediction, bundle, targets=targets)


def explain_xanes(prediction: Prediction, bundle: Bundle, *, targets: Iterable[str] = TARGETS) -> Explanation:
    """Return why a prediction from an absorption spectrum is what it is.

    Parameters
    ----------
    prediction
        With its spectrum.
    bundle
        Models that answered.
    targets
        Descriptors to explain.

    Raises
    ------
    ModelError
        If the prediction holds no spectrum, or a descriptor has no forest.
    """
    if prediction.xanes is None:
        raise ModelError(f"expected a spectrum in the prediction for {prediction.source}, found none")
    question = Question(prediction=prediction, bundle=bundle)
    row = _unshifted(prediction.xanes)
    attributions = {
        target: _of_length(row, question) if target == "bond_length" else _of_shape(target, row, question)
        for target in question.known(targets)
    }
    grid = np.tile(xanes_side.GRID, 2)
    return Explanation(
        grid=grid,
        unit="eV",
        features=xanes_side.FEATURE_NAMES,
        attributions=attributions,
        regions=_regions(grid, xanes_bounds(prediction.xanes), attributions),
        edge_share=edge_share(prediction),
    )


def explain_pdf(prediction: Prediction, bundle: Bundle, *, targets: Iterable[str] = TARGETS) -> Explanation:
    """Return why a prediction from a pair distribution function is what it is.

    Parameters
    ----------
    prediction
        With its curve.
    bundle
        Models that answered.
    targets
        Descriptors to explain.

    Raises
    ------
    ModelError
        If the prediction holds no curve, or a descriptor has no forest.
    """
    if prediction.pdf is None:
        raise ModelError(f"expected a curve G(r) in the prediction for {prediction.source}, found none")
    question = Question(prediction=prediction, bundle=bundle)
    row = pdf_side.pdf_features(prediction.pdf.r, prediction.pdf.g)
    attributions = {}
    for target in question.known(targets):
        values, base = question.shapley(target, row)
        others = {"rounding": question.answer(target) - base - float(values.sum())}
        attributions[target] = question.attribution(target, base, values, others)
    nearest = row[pdf_side.GRID.size]
    grid = np.append(pdf_side.GRID, np.full(len(pdf_side.SHELL_NAMES), nearest))
    return Explanation(
        grid=grid,
        unit="angstrom",
        features=pdf_side.FEATURE_NAMES,
        attributions=attributions,
        regions=_regions(grid, pdf_bounds(prediction.pdf), attributions),
    )


def explained(prediction: Prediction, store: BundleStore) -> Prediction:
    """Return a prediction with its explanation; where it cannot be explained, with the reason as a remark.

    Parameters
    ----------
    prediction
        Any; without an answer it comes back as it is.
    store
        Holds the bundle that answered.
    """
    if not prediction.descriptors:
        return prediction
    targets = [target for target in TARGETS if target in prediction.descriptors]
    try:
        found = explain(prediction, store, targets=targets)
    except XpdmlError as error:
        return prediction.with_quality(prediction.quality.note(f"not explained: {error}"))
    return replace(prediction, explanation=found)


def edge_share(prediction: Prediction) -> float | None:
    """Return how far an oxidation state follows the edge position and not the shape, 0 to 1.

    The answer lies between what both say; the share is where. None where they agree to within 0.1 e, where
    the answer is no mixture of them, or the model knows no edge.

    Parameters
    ----------
    prediction
        With its diagnostics.

    Examples
    --------
    >>> from bluesky_xpdml.records import Estimate, Quality
    >>> state = Estimate(value=2.9, low=2.5, high=3.3, unit="e")
    >>> said = {"edge_curve_oxidation_state": 3.0, "forest_oxidation_state": 2.5}
    >>> fused = Prediction(technique="xanes", element="Fe", edge="K", quality=Quality(),
    ...                    descriptors={"oxidation_state": state}, diagnostics=said)
    >>> round(edge_share(fused), 6)
    0.8
    """
    by_edge = prediction.diagnostics.get("edge_curve_oxidation_state")
    by_shape = prediction.diagnostics.get("forest_oxidation_state")
    state = prediction.descriptors.get("oxidation_state")
    if by_edge is None or by_shape is None or state is None or abs(by_edge - by_shape) < TELLING:
        return None
    share = (state.value - by_shape) / (by_edge - by_shape)
    # An answer that follows one alone may lie a rounding beyond it.
    return min(max(share, 0.0), 1.0) if -ROUNDING <= share <= 1.0 + ROUNDING else None


def _unshifted(xanes: Xanes) -> FloatArray:
    observation = observe(xanes)
    return np.asarray(observation.features[np.argmin(np.abs(observation.shifts))])


def _of_shape(target: str, row: FloatArray, question: Question) -> Attribution:
    """Attribute a target that a forest of classes answers from the shape of a spectrum."""
    values, base = question.shapley(target, row)
    unshifted, answer = base + float(values.sum()), question.answer(target)
    if target != "oxidation_state":
        return question.attribution(target, base, values, {"axis shifts": answer - unshifted})
    shape = question.prediction.diagnostics["forest_oxidation_state"]
    others = {"axis shifts": shape - unshifted, "edge position": answer - shape}
    return question.attribution(target, base, values, others)


def _of_length(row: FloatArray, question: Question) -> Attribution:
    """Attribute a bond length: the bond-valence distance, and the forest's correction to it."""
    forests, settings = question.bundle.forests, question.bundle.manifest["targets"]["bond_length"]
    rows = np.vstack([row, question.background])
    rows = np.hstack([rows, forests["coordination_number"].predict(rows)])
    values, correction = shapley_values(forests["bond_length"], rows[0], rows[1:], np.ones(1))
    weight = settings["forest_weight"]
    base, others = _of_bond_valence(settings["bond_valence_r0"], question)
    base += weight * correction
    others["coordination number in the forest"] = weight * float(values[row.size :].sum())
    values = weight * values[: row.size]
    reached = base + float(values.sum()) + sum(others.values())
    others["axis shifts"] = question.answer("bond_length") - reached
    return question.attribution("bond_length", base, values, others)


def _of_bond_valence(parameters: Mapping[str, float], question: Question) -> tuple[float, dict[str, float]]:
    """Share the bond-valence distance between both answers that enter it, in either order."""
    names = ("oxidation_state", "coordination_number")
    state, number = (question.answer(name) for name in names)
    usual_state, usual_number = (question.mean_answer(name) for name in names)
    neither = bond_valence_length(parameters, usual_state, usual_number)
    by_state = bond_valence_length(parameters, state, usual_number)
    by_number = bond_valence_length(parameters, usual_state, number)
    both = bond_valence_length(parameters, state, number)
    return neither, {
        "oxidation state": 0.5 * (by_state - neither + both - by_number),
        "coordination number": 0.5 * (by_number - neither + both - by_state),
    }


def _regions(grid: FloatArray, bounds: Bounds, attributions: Mapping[str, Attribution]) -> tuple[Region, ...]:
    members = bounds.members(grid)
    return tuple(
        Region(
            name=name,
            low=bounds.ends[place],
            high=bounds.ends[place + 1],
            attribution={t: float(a.features[members == place].sum()) for t, a in attributions.items()},
            importance={t: float(a.importance[members == place].sum()) for t, a in attributions.items()},
        )
        for place, name in enumerate(bounds.names)
    )
