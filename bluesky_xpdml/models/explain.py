"""Why a prediction is what it is: Shapley values of the forests, and what the rest of the model adds.

For each descriptor, base + features + others = answer. The base is the mean answer of the forest to some rows
of its training; the features are those of the measured curve. The others of XANES are

axis shifts
    What averaging over possible errors of the energy axis changes.
edge position
    How far the position of the edge moves the oxidation state away from the valence by the shape.
oxidation state, coordination number
    What these answers change in the bond-valence distance, which is most of a bond length.
coordination number in the forest
    What the probabilities of coordination numbers change in the correction to that distance.

and of PDF, `rounding`: stored probabilities do not quite add up to one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import BundleError, ModelError, XpdmlError
from bluesky_xpdml.features import pdf as pdf_inputs
from bluesky_xpdml.features import xanes as xanes_inputs
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.models.tree_shap import shapley_values
from bluesky_xpdml.models.xanes import bond_valence_length, observe
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
from bluesky_xpdml.vocabulary import Descriptor, Reason, ReasonCode

BACKGROUND = "background"
"""Table of a bundle: features of some rows of its training, (n_rows, n_features)."""
IMPORTANCES = "importances"
"""Key of a bundle's manifest: by target, `impurity` and `permutation`, one number per feature."""
BELOW_EDGE = 5.0
"""The pre-edge ends this far below the edge position [eV]."""
MAXIMUM_WITHIN = 20.0
"""The main maximum lies within this range above the edge position [eV]."""
NARROWEST = 1.0
"""Least distance between edge position and main maximum [eV], so that no region is empty."""
STEP = 0.1
"""Step of the grid on which maxima are located [eV]."""
BRIDGE = 2.0
"""The second shell ends at this many distances of the first."""
DISTINGUISHABLE = 0.1
"""Edge and shape must differ by this much before their shares are defined [e]."""
ROUNDING = 0.02
"""Tolerance of a share outside 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """A prediction and the bundle that made it."""

    prediction: Prediction
    bundle: Bundle

    def explainable(self, targets: Iterable[str]) -> list[Descriptor]:
        """Return the targets as descriptors; `ModelError` if one of them cannot be explained."""
        wanted = list(targets)
        known = [
            name
            for name in Descriptor.main()
            if name in self.bundle.forests and name in self.prediction.descriptors
        ]
        if not wanted or set(wanted) - set(known):
            found, expected = ", ".join(wanted) or "nothing", ", ".join(known) or "none"
            raise ModelError(f"cannot explain {found}: expected some of {expected}", ReasonCode.NOT_EXPLAINED)
        return [Descriptor(name) for name in wanted]

    @property
    def background(self) -> FloatArray:
        """Rows of the training that answers are compared with, (n_rows, n_features)."""
        if BACKGROUND not in self.bundle.tables:
            raise self._older(f"a table {BACKGROUND!r}")
        return self.bundle.tables[BACKGROUND]

    def value(self, target: Descriptor) -> float:
        return self.prediction.descriptors[target].value

    def background_mean(self, target: Descriptor) -> float:
        """Return the mean answer of the target's forest to the background."""
        return float((self.bundle.forests[target].predict(self.background) @ self._outputs(target)).mean())

    def shapley(self, target: Descriptor, row: FloatArray) -> tuple[FloatArray, float]:
        """Return what each feature adds to the mean answer of the target's forest, and that mean."""
        return shapley_values(self.bundle.forests[target], row, self.background, self._outputs(target))

    def attribution(
        self, target: Descriptor, base: float, values: FloatArray, others: Mapping[str, float]
    ) -> Attribution:
        """Return the record of a target, with the importances of its features."""
        found = self.bundle.manifest.get(IMPORTANCES, {}).get(target)
        if found is None:
            raise self._older(f"{IMPORTANCES} of {target} in the manifest")
        # Beyond the features of the curve, a forest may have answers of another one as inputs.
        impurity, permutation = (
            np.asarray(found[kind], dtype=float)[: values.size] for kind in ("impurity", "permutation")
        )
        return Attribution(
            unit=self.prediction.descriptors[target].unit,
            answer=self.value(target),
            base=base,
            features=values,
            others=others,
            importance=impurity,
            permutation=permutation,
        )

    def _outputs(self, target: Descriptor) -> FloatArray:
        return np.asarray(self.bundle.targets[target].get("classes", [1.0]), dtype=float)

    def _older(self, missing: str) -> BundleError:
        manifest = self.bundle.manifest
        command = f"xpdml train --element {manifest['element']} --modality {manifest['modality']}"
        return BundleError(
            f"{self.bundle.name} is of an older format: expected {missing}, found none; train it again with "
            f"`{command}`"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Names and limits of neighbouring regions."""

    names: tuple[str, ...]
    """In the order of the curve."""
    ends: tuple[float, ...]
    """Start of the first region and the end of each [eV above the metal foil, or angstrom]."""

    def members(self, positions: FloatArray) -> NDArray[np.int64]:
        """Return the region of each position; those beyond the ends belong to the outermost.

        Examples
        --------
        >>> Bounds(names=("left", "right"), ends=(0.0, 1.0, 2.0)).members(np.array([-1.0, 0.5, 1.0, 5.0]))
        array([0, 0, 1, 1])
        """
        return np.searchsorted(np.array(self.ends[1:-1]), positions, side="right")


def xanes_bounds(xanes: Xanes) -> Bounds:
    """Return pre-edge, edge, white line and post-edge of a reduced spectrum [eV above the metal foil]."""
    x, signal = xanes_inputs.foil_scale(xanes)
    edge = edge_shape(x, xanes.mu).edge
    maximum = _main_maximum(x, signal, edge)
    half = 0.5 * (maximum - edge)
    inner = (edge - BELOW_EDGE, edge + half, maximum + half)
    # A region beyond the window of the features is listed without features.
    start, end = min(float(xanes_inputs.GRID[0]), inner[0]), max(float(xanes_inputs.GRID[-1]), inner[-1])
    return Bounds(names=("pre-edge", "edge", "white line", "post-edge"), ends=(start, *inner, end))


def pdf_bounds(distribution: PairDistribution) -> Bounds:
    """Return first, second and further shells of a pair distribution function on any scale [angstrom]."""
    curve = np.interp(pdf_inputs.SHELL_GRID, distribution.r, distribution.g)
    nearest = float(pdf_inputs.first_shell(curve)[0])
    behind = np.flatnonzero(nearest <= pdf_inputs.SHELL_GRID)
    falling = curve[behind]
    stops = np.flatnonzero((np.diff(falling) > 0.0) | (falling[1:] <= 0.0))
    end = (
        float(pdf_inputs.SHELL_GRID[behind[stops[0]] + 1]) if stops.size else float(pdf_inputs.SHELL_GRID[-1])
    )
    return Bounds(
        names=("first shell", "second shell", "further shells"),
        ends=(float(pdf_inputs.GRID[0]), end, max(end, BRIDGE * nearest), float(pdf_inputs.GRID[-1])),
    )


def _main_maximum(x: FloatArray, signal: FloatArray, edge: float) -> float:
    grid = np.arange(edge + NARROWEST, min(edge + MAXIMUM_WITHIN, x[-1], xanes_inputs.GRID[-1]), STEP)
    if grid.size == 0:
        return edge + NARROWEST
    fine = np.arange(x[0], x[-1], STEP)
    smoothed = smooth(np.interp(fine, x, signal), xanes_inputs.SMOOTHING / STEP)
    return float(grid[np.argmax(np.interp(grid, fine, smoothed))])


def explain(
    prediction: Prediction, store: BundleStore, *, targets: Iterable[str] = Descriptor.main()
) -> Explanation:
    """Explain a prediction by the bundle that made it.

    Parameters
    ----------
    prediction
        With the curve that it was made from.
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


def explain_xanes(
    prediction: Prediction, bundle: Bundle, *, targets: Iterable[str] = Descriptor.main()
) -> Explanation:
    """Explain a prediction from an absorption spectrum, by the bundle that made it."""
    if prediction.xanes is None:
        raise ModelError(f"expected a spectrum in the prediction for {prediction.source}, found none")
    answer = _Answer(prediction=prediction, bundle=bundle)
    row = observe(prediction.xanes).unshifted
    attributions = {
        target: _attribute_length(row, answer)
        if target is Descriptor.BOND_LENGTH
        else _attribute_class(target, row, answer)
        for target in answer.explainable(targets)
    }
    grid = np.tile(xanes_inputs.GRID, 2)
    return Explanation(
        grid=grid,
        unit="eV",
        features=xanes_inputs.FEATURE_NAMES,
        attributions=attributions,
        regions=_regions(grid, xanes_bounds(prediction.xanes), attributions),
        edge_share=edge_share(prediction),
    )


def explain_pdf(
    prediction: Prediction, bundle: Bundle, *, targets: Iterable[str] = Descriptor.main()
) -> Explanation:
    """Explain a prediction from a pair distribution function, by the bundle that made it."""
    if prediction.pdf is None:
        raise ModelError(f"expected a curve G(r) in the prediction for {prediction.source}, found none")
    answer = _Answer(prediction=prediction, bundle=bundle)
    row = pdf_inputs.pdf_features(prediction.pdf.r, prediction.pdf.g)
    attributions = {}
    for target in answer.explainable(targets):
        values, base = answer.shapley(target, row)
        others = {"rounding": answer.value(target) - base - float(values.sum())}
        attributions[target] = answer.attribution(target, base, values, others)
    nearest = row[pdf_inputs.GRID.size]
    grid = np.append(pdf_inputs.GRID, np.full(len(pdf_inputs.SHELL_NAMES), nearest))
    return Explanation(
        grid=grid,
        unit="angstrom",
        features=pdf_inputs.FEATURE_NAMES,
        attributions=attributions,
        regions=_regions(grid, pdf_bounds(prediction.pdf), attributions),
    )


def with_explanation(prediction: Prediction, store: BundleStore) -> Prediction:
    """Return a prediction with its explanation, or with the reason why there is none as a note."""
    if not prediction.descriptors:
        return prediction
    targets = [target for target in Descriptor.main() if target in prediction.descriptors]
    try:
        explanation = explain(prediction, store, targets=targets)
    except XpdmlError as error:
        note = Reason(f"not explained: {error}", ReasonCode.NOT_EXPLAINED)
        return prediction.with_quality(prediction.quality.note(note))
    return replace(prediction, explanation=explanation)


def edge_share(prediction: Prediction) -> float | None:
    """Return how far an oxidation state v follows the edge position and not the shape, 0 to 1.

    share = (v - v_shape) / (v_edge - v_shape). None if the two agree to within 0.1 e, the answer does not lie
    between them, or the model uses no edge.
    """
    by_edge = prediction.diagnostics.get("edge_curve_oxidation_state")
    by_shape = prediction.diagnostics.get("forest_oxidation_state")
    state = prediction.descriptors.get(Descriptor.OXIDATION_STATE)
    if by_edge is None or by_shape is None or state is None or abs(by_edge - by_shape) < DISTINGUISHABLE:
        return None
    share = (state.value - by_shape) / (by_edge - by_shape)
    return min(max(share, 0.0), 1.0) if -ROUNDING <= share <= 1.0 + ROUNDING else None


def _attribute_class(target: Descriptor, row: FloatArray, answer: _Answer) -> Attribution:
    """Attribute a target that a forest of classes answers from the shape of a spectrum."""
    values, base = answer.shapley(target, row)
    unshifted, value = base + float(values.sum()), answer.value(target)
    if target is not Descriptor.OXIDATION_STATE:
        return answer.attribution(target, base, values, {"axis shifts": value - unshifted})
    shape = answer.prediction.diagnostics["forest_oxidation_state"]
    others = {"axis shifts": shape - unshifted, "edge position": value - shape}
    return answer.attribution(target, base, values, others)


def _attribute_length(row: FloatArray, answer: _Answer) -> Attribution:
    """Attribute a bond length: the bond-valence distance, and the forest's correction to it."""
    target = Descriptor.BOND_LENGTH
    forests, settings = answer.bundle.forests, answer.bundle.targets[target]
    rows = np.vstack([row, answer.background])
    rows = np.hstack([rows, forests[Descriptor.COORDINATION_NUMBER].predict(rows)])
    values, correction = shapley_values(forests[target], rows[0], rows[1:], np.ones(1))
    weight = settings["forest_weight"]
    base, others = _attribute_bond_valence(settings["bond_valence_r0"], answer)
    base += weight * correction
    others["coordination number in the forest"] = weight * float(values[row.size :].sum())
    values = weight * values[: row.size]
    explained = base + float(values.sum()) + sum(others.values())
    others["axis shifts"] = answer.value(target) - explained
    return answer.attribution(target, base, values, others)


def _attribute_bond_valence(
    parameters: Mapping[str, float], answer: _Answer
) -> tuple[float, dict[str, float]]:
    """Return the bond-valence distance of the background, and the share of either answer in the difference.

    With d(v, CN) and the means v0, CN0 of the background, the share of v is
    (d(v, CN0) - d(v0, CN0) + d(v, CN) - d(v0, CN)) / 2: its Shapley value.
    """
    state, number = Descriptor.OXIDATION_STATE, Descriptor.COORDINATION_NUMBER
    mean_state, mean_number = answer.background_mean(state), answer.background_mean(number)
    neither = bond_valence_length(parameters, mean_state, mean_number)
    by_state = bond_valence_length(parameters, answer.value(state), mean_number)
    by_number = bond_valence_length(parameters, mean_state, answer.value(number))
    both = bond_valence_length(parameters, answer.value(state), answer.value(number))
    return neither, {
        state.label: 0.5 * (by_state - neither + both - by_number),
        number.label: 0.5 * (by_number - neither + both - by_state),
    }


def _regions(
    grid: FloatArray, bounds: Bounds, attributions: Mapping[Descriptor, Attribution]
) -> tuple[Region, ...]:
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
