"""From a reduced XANES spectrum to descriptors.

The oxidation state is the mean of a posterior that fuses two witnesses: the position of the edge above the
metal foil, and what a forest sees in the shape. The coordination number is the mean of a forest's classes.
The bond length is mostly bond-valence arithmetic, d = R0 - 0.37 ln(v / CN) (Brese and O'Keeffe, Acta
Cryst. B47 (1991) 192), corrected by a forest; it holds for the coordination number published with it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bluesky_xpdml.errors import BundleError
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
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import AxisSource, Descriptor, EnergyAxis, FloatArray, Prediction, Quality, Xanes
from bluesky_xpdml.reduction.edge_position import edge_position
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES, UNKNOWN_UNCERTAINTY, shows_metal
from bluesky_xpdml.reduction.quality import unfit

CALIBRATED_SHIFTS = np.arange(-2.0, 2.25, 0.5)
"""Shifts of a calibrated axis over which answers are averaged [eV]."""
UNCALIBRATED_SHIFTS = np.arange(-4.0, 4.5, 1.0)
"""The same for an axis of unknown error [eV]."""
CALIBRATED_SIGMA = 0.5
"""Weight of the shifts of a calibrated axis: standard deviation of a Gaussian [eV]."""
DISAGREEMENT = 1.0
"""Edge position and shape may differ by this much before the verdict says so [e]."""
OUTLYING = 2.0
"""Edges this many standard deviations beyond those of the outermost valences belong to no oxide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """What a spectrum shows to one bundle, before any answer."""

    edge: float
    """Edge position [eV above the metal foil]."""
    features: FloatArray
    """Features for each shift of the axis, (s, 72)."""
    shifts: FloatArray
    """Shifts of the axis [eV], (s,)."""
    sigma: float
    """Standard uncertainty of the axis [eV]."""
    calibrated: bool
    """Whether the axis was put on the foil's scale."""


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
        If no edge is found where the element's should be.
    """
    bundle = store.find(xanes.element, xanes.edge, "xanes")
    _require_input(bundle)
    witness = observe(xanes)
    expected = expected_states(bundle, witness)
    answer = _descriptors(bundle, witness, expected)
    diagnostics = _diagnostics(bundle, witness, expected, answer["oxidation_state"].value)
    return Prediction(
        technique="xanes",
        element=xanes.element,
        edge=xanes.edge,
        quality=_judge(
            xanes.quality.suspect(*unfit(xanes.quality), *_foreign(xanes)), bundle, answer, diagnostics
        ),
        descriptors=answer,
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


def input_description(element: str) -> dict[str, Any]:
    """Return what the features of this version are, for the manifest of a bundle.

    Parameters
    ----------
    element
        Chemical symbol.

    Examples
    --------
    >>> input_description("Fe")["foil_energy"]
    7110.75
    """
    return {
        "scale": "energy above the metal foil [eV], pre-edge removed",
        "foil_energy": FOIL_ENERGIES[element],
        "grid": GRID.tolist(),
        "normalisation": f"divided by the mean over the last {TAIL} eV of the grid",
        "features": list(FEATURE_NAMES),
    }


def _require_input(bundle: Bundle) -> None:
    expected, found = bundle.manifest["input"], input_description(bundle.element)
    for key, value in found.items():
        if expected[key] != value:
            msg = (
                f"{bundle.reference.name}-{bundle.reference.version} expects {key} {expected[key]}, this "
                f"version computes {value}: use the bundle with the version it came with, or train it anew"
            )
            raise BundleError(msg)


def observe(xanes: Xanes) -> Witness:
    """Measure the edge position and compute the features for every shift of the axis.

    Raises
    ------
    FeatureError, ReductionError
        If the spectrum does not show what the models look at.
    """
    x, signal = foil_scale(xanes)
    calibrated = xanes.axis.source in {AxisSource.REFERENCE, AxisSource.GIVEN}
    shifts, sigma = _shifts(xanes.axis)
    edge, _ = edge_position(x, xanes.mu)
    return Witness(
        edge=edge,
        features=features_of_shifts(fine_signal(x, signal), shifts),
        shifts=shifts,
        sigma=sigma,
        calibrated=calibrated,
    )


def _shifts(axis: EnergyAxis) -> tuple[FloatArray, float]:
    """Return the shifts over which answers are averaged, and the weight of these as a Gaussian [eV]."""
    if axis.source is AxisSource.NONE:
        return UNCALIBRATED_SHIFTS, UNKNOWN_UNCERTAINTY
    if axis.source is AxisSource.STORED:
        # Over what the foil's own error allows, a stored axis may have drifted.
        sigma = max(axis.uncertainty, CALIBRATED_SIGMA)
        return (CALIBRATED_SHIFTS if sigma < 1.0 else UNCALIBRATED_SHIFTS), sigma
    return CALIBRATED_SHIFTS, CALIBRATED_SIGMA


def descriptors(bundle: Bundle, witness: Witness) -> dict[str, Descriptor]:
    """Answer from what a spectrum shows.

    Parameters
    ----------
    bundle
        Models of the element.
    witness
        Edge position and features.

    Returns
    -------
    dict
        `oxidation_state` [e], `coordination_number` [1] and `bond_length` [angstrom].
    """
    return _descriptors(bundle, witness, expected_states(bundle, witness))


def expected_states(bundle: Bundle, witness: Witness) -> FloatArray:
    """Return the valence that the forest sees on each shifted axis [e], (s,)."""
    classes = np.asarray(bundle.manifest["targets"]["oxidation_state"]["classes"], dtype=float)
    return np.asarray(bundle.forests["oxidation_state"].predict(witness.features) @ classes)


def _descriptors(bundle: Bundle, witness: Witness, expected: FloatArray) -> dict[str, Descriptor]:
    weights = _shift_weights(witness, 0.0)
    state = _oxidation_state(bundle, witness, expected, 0.0)
    members = bundle.forests["coordination_number"].predict(witness.features)
    number = _coordination_number(bundle.manifest["targets"]["coordination_number"], weights @ members)
    residuals = bundle.forests["bond_length"].predict(np.concatenate([witness.features, members], axis=1))
    length = _bond_length(
        bundle.manifest["targets"]["bond_length"], state, number, float(weights @ residuals[:, 0])
    )
    return {"oxidation_state": state, "coordination_number": number, "bond_length": length}


def bond_valence_length(parameters: Mapping[str, float], valence: float, coordination_number: float) -> float:
    """Return the mean cation-oxygen distance that the bond valence sum demands [angstrom].

    d = R0(v) - 0.37 ln(v / CN), R0 interpolated between the tabulated valences.

    Parameters
    ----------
    parameters
        R0 [angstrom] by valence.
    valence
        Oxidation state [e], positive.
    coordination_number
        Number of oxygen neighbours.

    Examples
    --------
    >>> round(bond_valence_length({"2": 1.734, "3": 1.759}, 2.0, 6.0), 3)
    2.14
    """
    tabulated = sorted((float(key), value) for key, value in parameters.items())
    r0 = float(np.interp(valence, [key for key, _ in tabulated], [value for _, value in tabulated]))
    return r0 - 0.37 * float(np.log(valence / coordination_number))


def _shift_weights(witness: Witness, centre: float) -> FloatArray:
    weights = np.exp(-0.5 * ((witness.shifts - centre) / witness.sigma) ** 2)
    return np.asarray(weights / weights.sum())


def edge_curve_state(bundle: Bundle, witness: Witness) -> float:
    """Return the oxidation state by the edge position alone [e]: the baseline beside the answer."""
    return bundle.edge_model.mean_valence(*_edges(witness, 0.0))


def _edges(witness: Witness, centre: float) -> tuple[FloatArray, FloatArray]:
    """Return edge positions and weights of the axes that may be the true one.

    The edge curve was fitted on foil-calibrated spectra: its width holds the error of such an axis already.
    """
    if witness.calibrated:
        return np.array([witness.edge + centre]), np.ones(1)
    return witness.edge + witness.shifts, _shift_weights(witness, centre)


def _oxidation_state(bundle: Bundle, witness: Witness, expected: FloatArray, centre: float) -> Descriptor:
    target = bundle.manifest["targets"]["oxidation_state"]
    if witness.calibrated:
        expected = np.array([_shift_weights(witness, centre) @ expected])
    edges, weights = _edges(witness, centre)
    valence, weight = bundle.edge_model.posterior(
        edges, weights, expected=expected, expected_sigma=target["forest_sigma"]
    )
    mean = float(valence @ weight)
    half_width = target["interval_factor"] * float(np.sqrt(weight @ (valence - mean) ** 2))
    classes = range(int(valence[0]), int(np.ceil(valence[-1])) + 1)
    return Descriptor(
        value=mean,
        low=max(mean - half_width, 0.0),
        high=mean + half_width,
        unit="e",
        probabilities=class_probabilities(valence, weight, classes),
    )


def _coordination_number(target: Mapping[str, Any], probabilities: FloatArray) -> Descriptor:
    classes = np.asarray(target["classes"], dtype=float)
    probabilities = probabilities / probabilities.sum()
    running = np.cumsum(probabilities)
    low, high = np.minimum(np.searchsorted(running, [0.05, 0.95]), classes.size - 1)
    mean = float(probabilities @ classes)
    return Descriptor(
        value=mean,
        # Where one class holds nearly all, the mean lies beside it, just outside the classes' interval.
        low=min(float(classes[low]), mean),
        high=max(float(classes[high]), mean),
        unit="1",
        probabilities={f"{name:.0f}": float(p) for name, p in zip(classes, probabilities, strict=True)},
    )


def _bond_length(
    target: Mapping[str, Any], state: Descriptor, number: Descriptor, residual: float
) -> Descriptor:
    from_valence = bond_valence_length(target["bond_valence_r0"], state.value, number.value)
    length = from_valence + target["forest_weight"] * residual
    return Descriptor(
        value=length,
        low=length - target["half_width"],
        high=length + target["half_width"],
        unit="angstrom",
    )


def _diagnostics(bundle: Bundle, witness: Witness, expected: FloatArray, state: float) -> dict[str, float]:
    moved = [_oxidation_state(bundle, witness, expected, centre).value for centre in (-1.0, 1.0)]
    return {
        "edge_position": witness.edge,
        "edge_curve_oxidation_state": edge_curve_state(bundle, witness),
        "forest_oxidation_state": float(_shift_weights(witness, 0.0) @ expected),
        "oxidation_state_axis_minus_1_ev": moved[0],
        "oxidation_state_axis_plus_1_ev": moved[1],
        "largest_move_over_1_ev": max(abs(value - state) for value in moved),
    }


def _foreign(xanes: Xanes) -> Iterator[str]:
    """Say why a spectrum is not one of those that the models know."""
    if shows_metal(xanes.energy - FOIL_ENERGIES[xanes.element], xanes.mu, xanes.element):
        yield f"the spectrum is that of {xanes.element} metal or an alloy of it: the models know oxides only"


def _judge(
    quality: Quality, bundle: Bundle, answer: Mapping[str, Descriptor], diagnostics: Mapping[str, float]
) -> Quality:
    """Say what makes the answer doubtful beyond the quality of the spectrum."""
    model = bundle.edge_model
    edge, state = diagnostics["edge_position"], answer["oxidation_state"].value
    by_edge, by_shape = diagnostics["edge_curve_oxidation_state"], diagnostics["forest_oxidation_state"]
    if abs(by_edge - by_shape) > DISAGREEMENT:
        quality = quality.suspect(
            f"edge position and shape disagree: oxidation state {by_edge:.2f} by the one, {by_shape:.2f} "
            "by the other"
        )
    low = model.edge[0] - OUTLYING * model.sigma[0]
    high = model.edge.max() + OUTLYING * model.sigma[-1]
    if not low <= edge <= high:
        quality = quality.suspect(
            f"edge {edge:.1f} eV above the foil, oxides of {bundle.element} lie within {low:.1f} to "
            f"{high:.1f} eV: metallic, not an oxide, or the energy axis is off"
        )
    if bundle.element == "Fe" and state < 2.5 and answer["coordination_number"].value < 5.5:
        quality = quality.suspect(
            "coordination numbers of Fe2+ below 6 are unreliable: tetrahedra look octahedral"
        )
    return quality
