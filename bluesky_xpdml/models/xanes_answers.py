"""From what a XANES spectrum shows to descriptors.

The oxidation state is the mean of a posterior over a continuous valence. It combines the edge above the
metal foil, corrected for a pre-edge peak, with the valence that a forest predicts from the shape. On measured
spectra of laboratories that no standard came from, the shape helps where there is a pre-edge peak or where
the axis is unknown, and harms elsewhere: there the edge is followed.

The coordination number is the mean of a forest's classes. The bond length is mostly bond-valence arithmetic,
d = R0 - 0.37 ln(v / CN) (Brese and O'Keeffe, Acta Cryst. B47 (1991) 192), corrected by a forest; it holds for
the coordination number published with it. Further forests answer the local geometry (Carbone et al., Phys.
Rev. Mater. 3 (2019) 033604) and the surroundings (Liang et al., Phys. Rev. Mater. 7 (2023) 053802).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.class_answers import likeliest_polyhedron, mean_of_classes, means_of_members
from bluesky_xpdml.models.edge_model import class_probabilities
from bluesky_xpdml.models.observation import CALIBRATED_SIGMA, XanesObservation
from bluesky_xpdml.records import Estimate, FloatArray

PEAK_SEEN = 0.05
"""A pre-edge peak higher than this is one [edge steps above a quarter]."""
SHAPE_IGNORED = 1e3
"""Standard deviation that takes the shape out of the posterior [e]."""
SURROUNDINGS = ("ocn", "nnrs", "mood")
"""Mean coordination of the neighbouring oxygen atoms; spread of the nearest distances; smallest distance
between two oxygen atoms of the shell."""


def descriptors(bundle: Bundle, observation: XanesObservation) -> dict[str, Estimate]:
    """Answer from what a spectrum shows.

    Parameters
    ----------
    bundle
        Models of the element.
    observation
        Edge position and features.

    Returns
    -------
    dict
        `oxidation_state` [e], `coordination_number` [1] and `bond_length` [angstrom]; where the bundle
        knows them, `geometry`, `ocn` [1], `nnrs` [angstrom] and `mood` [angstrom].
    """
    return answers_with(bundle, observation, expected_states(bundle, observation))


def expected_states(bundle: Bundle, observation: XanesObservation) -> FloatArray:
    """Return the valence that the forest sees on each shifted axis [e], (s,)."""
    classes = np.asarray(bundle.manifest["targets"]["oxidation_state"]["classes"], dtype=float)
    return np.asarray(bundle.forests["oxidation_state"].predict(observation.features) @ classes)


def answers_with(bundle: Bundle, observation: XanesObservation, expected: FloatArray) -> dict[str, Estimate]:
    """Answer from what a spectrum shows, given what the forest of valences says of it.

    Parameters
    ----------
    bundle, observation
        As for `descriptors`.
    expected
        From `expected_states`, (s,).
    """
    targets = bundle.manifest["targets"]
    weights = observation.weights()
    state = oxidation_state(bundle, observation, expected)
    members = bundle.forests["coordination_number"].predict(observation.features)
    number = mean_of_classes(targets["coordination_number"], weights @ members)
    residuals = bundle.forests["bond_length"].predict(np.concatenate([observation.features, members], axis=1))
    length = _bond_length(targets["bond_length"], state, number, float(weights @ residuals[:, 0]))
    found = {"oxidation_state": state, "coordination_number": number, "bond_length": length}
    row = observation.unshifted[None, :]
    if "geometry" in targets:
        shares = bundle.forests["geometry"].predict(row)[0]
        found["geometry"] = likeliest_polyhedron(targets["geometry"], shares)
    if "surroundings" in targets:
        found |= means_of_members(bundle.forests["surroundings"], targets["surroundings"], row)
    return found


def oxidation_state(
    bundle: Bundle, observation: XanesObservation, expected: FloatArray, centre: float = 0.0
) -> Estimate:
    """Fuse edge and shape into an oxidation state.

    Parameters
    ----------
    bundle, observation, expected
        As for `answers_with`.
    centre
        Error that the axis is supposed to have [eV].
    """
    target = bundle.manifest["targets"]["oxidation_state"]
    if observation.calibrated:
        expected = np.array([observation.weights(centre) @ expected])
    edges, weights = _edges(bundle, observation, centre)
    valence, weight = bundle.edge_model.posterior(
        edges, weights, expected=expected, expected_sigma=shape_sigma(target, observation)
    )
    mean = float(valence @ weight)
    factor = target["interval_factor"] if observation.calibrated else target["interval_factor_uncalibrated"]
    variance = float(weight @ (valence - mean) ** 2) + target["interval_floor"] ** 2
    half_width = factor * float(np.sqrt(variance))
    if not observation.calibrated:
        # Less is known than on a calibrated axis: the interval is not narrower than there.
        known = replace(observation, calibrated=True, sigma=CALIBRATED_SIGMA)
        steady = oxidation_state(bundle, known, expected, centre)
        half_width = max(half_width, steady.high - steady.value)
    classes = range(int(valence[0]), int(np.ceil(valence[-1])) + 1)
    return Estimate(
        value=mean,
        low=max(mean - half_width, 0.0),
        high=mean + half_width,
        unit="e",
        probabilities=class_probabilities(valence, weight, classes),
    )


def shape_sigma(target: Mapping[str, Any], observation: XanesObservation) -> float:
    """Return how far the valence seen in the shape is trusted: a standard deviation [e].

    Parameters
    ----------
    target
        The oxidation state in the manifest of a bundle.
    observation
        What the spectrum shows.
    """
    peak = observation.pre_edge_peak > PEAK_SEEN
    if peak and not target["knows_pre_edge_peaks"]:
        return SHAPE_IGNORED
    if peak or not observation.calibrated:
        return float(target["forest_sigma"])
    return float(target["forest_sigma_without_peak"])


def edge_curve_state(bundle: Bundle, observation: XanesObservation) -> float:
    """Return the oxidation state by edge position and pre-edge peak alone [e]."""
    return bundle.edge_model.mean_valence(*_edges(bundle, observation, 0.0))


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


def _edges(bundle: Bundle, observation: XanesObservation, centre: float) -> tuple[FloatArray, FloatArray]:
    """Return edge positions and weights of the axes that may be the true one.

    The edge curve was fitted on foil-calibrated spectra: its width holds the error of such an axis already.
    """
    edge = bundle.edge_model.corrected(observation.edge, observation.pre_edge_peak)
    if observation.calibrated:
        return np.array([edge + centre]), np.ones(1)
    return edge + observation.shifts, observation.weights(centre)


def _bond_length(target: Mapping[str, Any], state: Estimate, number: Estimate, residual: float) -> Estimate:
    from_valence = bond_valence_length(target["bond_valence_r0"], state.value, number.value)
    length = from_valence + target["forest_weight"] * residual
    return Estimate(
        value=length,
        low=length - target["half_width"],
        high=length + target["half_width"],
        unit="angstrom",
    )
