"""From a reduced XANES spectrum to descriptors and their verdict.

Oxidation state
    The mean of a posterior over a continuous valence, which combines the edge above the metal foil,
    corrected for a pre-edge peak, with the valence E_F that a forest predicts from the shape
    (`EdgeModel.posterior`). On measured spectra of laboratories that no standard came from, the shape helps
    with a pre-edge peak or on an unknown axis, and harms otherwise: then the edge leads.
Coordination number
    The mean of a forest's classes.
Bond length
    Mostly bond-valence arithmetic (Brese and O'Keeffe, Acta Cryst. B47 (1991) 192), corrected by a forest;
    it holds for the coordination number published with it.

Further forests answer the local geometry (Carbone et al., Phys. Rev. Mater. 3 (2019) 033604) and the
surroundings (Liang et al., Phys. Rev. Mater. 7 (2023) 053802).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bluesky_xpdml.features.xanes import (
    FEATURE_NAMES,
    GRID,
    TAIL,
    features_of_shifts,
    fine_signal,
    foil_scale,
)
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.edge_model import class_probabilities
from bluesky_xpdml.models.forest import (
    SURROUNDINGS,
    likeliest_polyhedron,
    mean_of_classes,
    means_of_members,
)
from bluesky_xpdml.models.novelty import novelty_reasons
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import AxisSource, Estimate, FloatArray, Prediction, Xanes
from bluesky_xpdml.reduction.edge_position import edge_shape
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES, UNKNOWN_UNCERTAINTY, shows_metal
from bluesky_xpdml.reduction.xanes import unfit
from bluesky_xpdml.vocabulary import Descriptor, Modality, Reason, ReasonCode, Technique

CALIBRATED_SHIFTS = np.arange(-2.0, 2.25, 0.5)
"""Shifts of a calibrated axis over which answers are averaged [eV]."""
UNCALIBRATED_SHIFTS = np.arange(-4.0, 4.5, 1.0)
"""The same for an axis of unknown error [eV]."""
CALIBRATED_SIGMA = 0.5
"""Weight of the shifts of a calibrated axis: standard deviation of a Gaussian [eV]."""
CALIBRATED_LIMIT = 0.75
"""A calibration that is more uncertain than this is treated as an axis of unknown error [eV]."""
PEAK_SEEN = 0.05
"""A pre-edge peak higher than this counts as one [edge steps above a quarter]."""
SHAPE_IGNORED = 1e3
"""Standard deviation that takes the shape out of the posterior [e]."""
DISAGREEMENT = 1.0
"""Edge position and shape may differ by this much before the verdict says so [e]."""
OUTLYING = 2.0
"""Edges this many standard deviations beyond those of the outermost valences belong to no oxide."""
SLOWEST_RISE = 8.5
"""Measured oxides without pre-edge peak rise from 30 to 90 % within this [eV]: 40 of 43 do, and no metal, no
sulfide of Cr, Fe or Ni among those at hand."""
TETRAHEDRAL_RISE = 7.0
"""Octahedral Fe2+ rises within this [eV]; tetrahedral Fe2+ of spinels takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XanesObservation:
    """What a spectrum shows before any model answers: edge, pre-edge peak, features."""

    edge: float
    """Edge position [eV above the metal foil]."""
    edge_width: float
    """From 30 to 90 % of the rise [eV]."""
    pre_edge_peak: float
    """Height of the pre-edge peak above a quarter of the step [edge steps]; 0 without one."""
    features: FloatArray
    """Features for each shift of the axis, (s, 72)."""
    shifts: FloatArray
    """Shifts of the axis [eV], (s,)."""
    sigma: float
    """Standard uncertainty of the axis [eV]."""
    calibrated: bool
    """Whether the axis was put on the foil's scale."""

    @property
    def unshifted(self) -> FloatArray:
        """Features on the axis as it is, (72,)."""
        return np.asarray(self.features[np.argmin(np.abs(self.shifts))])

    def weights(self, centre: float = 0.0) -> FloatArray:
        """Return the weight of each shift, Gaussian around an assumed error of the axis [eV], (s,)."""
        weights = np.exp(-0.5 * ((self.shifts - centre) / self.sigma) ** 2)
        return np.asarray(weights / weights.sum())


def observe(xanes: Xanes) -> XanesObservation:
    """Measure edge and pre-edge peak, and compute the features for every shift of the axis.

    The foil energy of the element must be tabulated. A FeatureError or ReductionError is raised if the
    spectrum does not cover the window of the features, or shows no edge in it.
    """
    x, signal = foil_scale(xanes)
    uncertainty = xanes.axis.uncertainty if xanes.axis.source is not AxisSource.NONE else UNKNOWN_UNCERTAINTY
    calibrated = uncertainty <= CALIBRATED_LIMIT
    shifts = CALIBRATED_SHIFTS if calibrated else UNCALIBRATED_SHIFTS
    shape = edge_shape(x, xanes.mu)
    return XanesObservation(
        edge=shape.edge,
        edge_width=shape.width,
        pre_edge_peak=shape.pre_edge_peak,
        features=features_of_shifts(fine_signal(x, signal), shifts),
        shifts=shifts,
        sigma=CALIBRATED_SIGMA if calibrated else min(uncertainty, UNKNOWN_UNCERTAINTY),
        calibrated=calibrated,
    )


def input_description(element: str) -> dict[str, Any]:
    """Return what the features of this version are for an element, for the manifest of a bundle."""
    return {
        "scale": "energy above the metal foil [eV], pre-edge removed",
        "foil_energy": FOIL_ENERGIES[element],
        "grid": GRID.tolist(),
        "normalisation": f"divided by the mean over the last {TAIL} eV of the grid",
        "features": list(FEATURE_NAMES),
    }


def predict_xanes(xanes: Xanes, store: BundleStore) -> Prediction:
    """Predict oxidation state, coordination number and bond length from a K-edge spectrum.

    Parameters
    ----------
    xanes
        Reduced spectrum.
    store
        Where the bundle of the element is found.

    Returns
    -------
    Prediction
        With descriptors and 90 % intervals; its quality continues that of the spectrum.

    Raises
    ------
    ModelNotFoundError
        If there is no bundle for the element and edge.
    BundleError
        If the bundle was trained on other features than this version computes.
    FeatureError
        If the spectrum does not cover the window of the model.
    ReductionError
        If no edge is found in the window of the element.
    """
    bundle = store.find(xanes.element, xanes.edge, Modality.XANES)
    bundle.require_input(input_description(bundle.element))
    observation = observe(xanes)
    expected = expected_states(bundle, observation)
    descriptors = predict_descriptors(bundle, observation, expected)
    diagnostics = _diagnostics(bundle, observation, expected, descriptors[Descriptor.OXIDATION_STATE].value)
    return Prediction(
        technique=Technique.XANES,
        element=xanes.element,
        edge=xanes.edge,
        quality=xanes.quality.suspect(
            *unfit(xanes.quality),
            *_not_an_oxide(xanes, observation),
            *_doubts(bundle, diagnostics),
            *novelty_reasons(diagnostics),
            *_iron_ii_doubts(bundle, descriptors, diagnostics),
        ),
        descriptors=descriptors,
        models=(bundle.reference,),
        sample=xanes.sample,
        raw_uids=xanes.raw_uids,
        source=xanes.source,
        completeness=xanes.completeness,
        settings={
            "reduction": dict(xanes.settings),
            "energy_axis": {
                "source": str(xanes.axis.source),
                "offset": xanes.axis.offset,
                "uncertainty": xanes.axis.uncertainty,
            },
        },
        diagnostics=diagnostics,
        xanes=xanes,
    )


def expected_states(bundle: Bundle, observation: XanesObservation) -> FloatArray:
    """Return the valence that the forest predicts on each shifted axis [e], (s,)."""
    classes = np.asarray(bundle.targets[Descriptor.OXIDATION_STATE]["classes"], dtype=float)
    return np.asarray(bundle.forests[Descriptor.OXIDATION_STATE].predict(observation.features) @ classes)


def predict_descriptors(
    bundle: Bundle, observation: XanesObservation, expected: FloatArray
) -> dict[Descriptor, Estimate]:
    """Predict every descriptor that a bundle has models of, with `expected_states` [e], (s,)."""
    targets, weights = bundle.targets, observation.weights()
    state = oxidation_state(bundle, observation, expected)
    classes = bundle.forests[Descriptor.COORDINATION_NUMBER].predict(observation.features)
    number = mean_of_classes(targets[Descriptor.COORDINATION_NUMBER], weights @ classes)
    rows = np.concatenate([observation.features, classes], axis=1)
    residual = float(weights @ bundle.forests[Descriptor.BOND_LENGTH].predict(rows)[:, 0])
    found = {
        Descriptor.OXIDATION_STATE: state,
        Descriptor.COORDINATION_NUMBER: number,
        Descriptor.BOND_LENGTH: _bond_length(targets[Descriptor.BOND_LENGTH], state, number, residual),
    }
    row = observation.unshifted[None, :]
    if Descriptor.GEOMETRY in targets:
        shares = bundle.forests[Descriptor.GEOMETRY].predict(row)[0]
        found[Descriptor.GEOMETRY] = likeliest_polyhedron(targets[Descriptor.GEOMETRY], shares)
    if SURROUNDINGS in targets:
        found |= means_of_members(bundle.forests[SURROUNDINGS], targets[SURROUNDINGS], row)
    return found


def oxidation_state(
    bundle: Bundle, observation: XanesObservation, expected: FloatArray, centre: float = 0.0
) -> Estimate:
    """Combine edge and shape into an oxidation state, with `expected_states` [e], (s,).

    With p(v) from `EdgeModel.posterior`::

        value    = sum_v p(v) v
        interval = value -+ k sqrt(sum_v p(v) (v - value)^2 + floor^2)

    k and floor were calibrated on measured standards of which each was left out in turn. On an axis of
    unknown error the interval is at least as wide as it would be on a calibrated one; `centre` is the assumed
    error of the axis [eV].
    """
    target = bundle.targets[Descriptor.OXIDATION_STATE]
    if observation.calibrated:
        expected = np.array([observation.weights(centre) @ expected])
    edges, weights = _edges(bundle, observation, centre)
    valence, weight = bundle.edge_model.posterior(
        edges, weights, expected=expected, expected_sigma=_shape_sigma(target, observation)
    )
    mean = float(valence @ weight)
    factor = target["interval_factor"] if observation.calibrated else target["interval_factor_uncalibrated"]
    variance = float(weight @ (valence - mean) ** 2) + target["interval_floor"] ** 2
    half_width = factor * float(np.sqrt(variance))
    if not observation.calibrated:
        calibrated = replace(observation, calibrated=True, sigma=CALIBRATED_SIGMA)
        least = oxidation_state(bundle, calibrated, expected, centre)
        half_width = max(half_width, least.high - least.value)
    classes = range(int(valence[0]), int(np.ceil(valence[-1])) + 1)
    return Estimate(
        value=mean,
        low=max(mean - half_width, 0.0),
        high=mean + half_width,
        unit=Descriptor.OXIDATION_STATE.unit,
        probabilities=class_probabilities(valence, weight, classes),
    )


def edge_curve_state(bundle: Bundle, observation: XanesObservation) -> float:
    """Return the oxidation state by edge position and pre-edge peak alone [e]."""
    return bundle.edge_model.mean_valence(*_edges(bundle, observation, 0.0))


def bond_valence_length(parameters: Mapping[str, float], valence: float, coordination_number: float) -> float:
    """Return the mean cation-oxygen distance by the bond valence sum [angstrom].

    d_BV = R0(v) - 0.37 ln(v / CN), R0 interpolated between the tabulated valences.
    """
    tabulated = sorted((float(key), value) for key, value in parameters.items())
    r0 = float(np.interp(valence, [key for key, _ in tabulated], [value for _, value in tabulated]))
    return r0 - 0.37 * float(np.log(valence / coordination_number))


def _shape_sigma(target: Mapping[str, Any], observation: XanesObservation) -> float:
    """Return the standard deviation of the valence that the shape suggests [e]."""
    peak = observation.pre_edge_peak > PEAK_SEEN
    if peak and not target["knows_pre_edge_peaks"]:
        return SHAPE_IGNORED
    if peak or not observation.calibrated:
        return float(target["forest_sigma"])
    return float(target["forest_sigma_without_peak"])


def _edges(bundle: Bundle, observation: XanesObservation, centre: float) -> tuple[FloatArray, FloatArray]:
    """Return edge positions and weights of the axes that may be the true one.

    The edge curve was fitted on foil-calibrated spectra: its width includes the error of such an axis.
    """
    edge = bundle.edge_model.corrected(observation.edge, observation.pre_edge_peak)
    if observation.calibrated:
        return np.array([edge + centre]), np.ones(1)
    return edge + observation.shifts, observation.weights(centre)


def _bond_length(target: Mapping[str, Any], state: Estimate, number: Estimate, residual: float) -> Estimate:
    """Return d = (1 - w) d_BV + w d_forest; the forest predicts the residual d_forest - d_BV, w is .25."""
    from_valence = bond_valence_length(target["bond_valence_r0"], state.value, number.value)
    length = from_valence + target["forest_weight"] * residual
    return Estimate(
        value=length,
        low=length - target["half_width"],
        high=length + target["half_width"],
        unit=Descriptor.BOND_LENGTH.unit,
    )


def _diagnostics(
    bundle: Bundle, observation: XanesObservation, expected: FloatArray, state: float
) -> dict[str, float]:
    moved = [oxidation_state(bundle, observation, expected, centre).value for centre in (-1.0, 1.0)]
    return {
        "edge_position": observation.edge,
        "edge_width": observation.edge_width,
        "pre_edge_peak": observation.pre_edge_peak,
        "edge_curve_oxidation_state": edge_curve_state(bundle, observation),
        "forest_oxidation_state": float(observation.weights() @ expected),
        "oxidation_state_axis_minus_1_ev": moved[0],
        "oxidation_state_axis_plus_1_ev": moved[1],
        "largest_move_over_1_ev": max(abs(value - state) for value in moved),
        **bundle.novelty_diagnostics(observation.unshifted),
    }


def _not_an_oxide(xanes: Xanes, observation: XanesObservation) -> Iterator[Reason]:
    """Yield why a spectrum is not of a kind that the models know."""
    if shows_metal(xanes.energy - FOIL_ENERGIES[xanes.element], xanes.mu, xanes.element):
        yield Reason(
            f"the spectrum is that of {xanes.element} metal or an alloy of it: the models know oxides only",
            ReasonCode.NOT_AN_OXIDE,
        )
    elif observation.edge_width > SLOWEST_RISE and observation.pre_edge_peak <= PEAK_SEEN:
        yield Reason(
            f"the edge takes {observation.edge_width:.1f} eV from 30 to 90 % of its rise, oxides up to "
            f"{SLOWEST_RISE} eV: metals, sulfides and phosphides rise so slowly, and the models know oxides "
            "only",
            ReasonCode.NOT_AN_OXIDE,
        )


def _doubts(bundle: Bundle, diagnostics: Mapping[str, float]) -> Iterator[Reason]:
    """Yield how the edge position contradicts the shape or the edges of oxides."""
    by_edge, by_shape = diagnostics["edge_curve_oxidation_state"], diagnostics["forest_oxidation_state"]
    if abs(by_edge - by_shape) > DISAGREEMENT:
        yield Reason(
            f"edge position and shape disagree: oxidation state {by_edge:.2f} by the one, {by_shape:.2f} "
            "by the other",
            ReasonCode.ANSWERS_DISAGREE,
        )
    model = bundle.edge_model
    edge = model.corrected(diagnostics["edge_position"], diagnostics["pre_edge_peak"])
    low = model.edge[0] - OUTLYING * model.sigma[0]
    high = model.edge.max() + OUTLYING * model.sigma[-1]
    if not low <= edge <= high:
        yield Reason(
            f"edge {edge:.1f} eV above the foil, oxides of {bundle.element} lie within {low:.1f} to "
            f"{high:.1f} eV: metallic, not an oxide, or the energy axis is off",
            ReasonCode.EDGE_IMPLAUSIBLE,
        )


def _iron_ii_doubts(
    bundle: Bundle, descriptors: Mapping[Descriptor, Estimate], diagnostics: Mapping[str, float]
) -> Iterator[Reason]:
    """Yield why the coordination number of Fe2+ cannot be trusted."""
    if bundle.element != "Fe" or descriptors[Descriptor.OXIDATION_STATE].value >= 2.5:
        return
    width = diagnostics["edge_width"]
    if descriptors[Descriptor.COORDINATION_NUMBER].value < 5.5:
        yield Reason(
            "coordination numbers of Fe2+ below 6 are unreliable: tetrahedra look octahedral",
            ReasonCode.COORDINATION_UNRELIABLE,
        )
    elif width > TETRAHEDRAL_RISE:
        yield Reason(
            f"the edge of this Fe2+ takes {width:.1f} eV from 30 to 90 %, octahedral Fe2+ up to "
            f"{TETRAHEDRAL_RISE} eV: tetrahedral sites look so, the coordination number may be too high",
            ReasonCode.COORDINATION_UNRELIABLE,
        )
