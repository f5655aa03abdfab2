"""Measured standards: spectra of compounds with known labels, answered by models and calibrated on.

`xpdml calibrate` fits the edge curve of an element on a beamline's own standards by a Bayesian ridge
regression of the distance of each edge from the bundle's curve m::

    E_edge - m(v) = a + b (v - 3) + residual,  a ~ N(0, OFFSET_SIGMA^2),  b ~ N(0, SLOPE_SIGMA^2)

Few standards move the curve little, and none moves it at valences that they do not cover. Each standard is
also answered by the curve of the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.edge_calibration import CalibratedStandard, EdgeCalibration, calibrated
from bluesky_xpdml.models.edge_model import RESIDUAL_WEIGHT, EdgeModel, Standard
from bluesky_xpdml.models.xanes import (
    XanesObservation,
    edge_curve_state,
    expected_states,
    predict_descriptors,
)
from bluesky_xpdml.records import Estimate, FloatArray
from bluesky_xpdml.vocabulary import Descriptor, ReasonCode

OFFSET_SIGMA = 1.0
"""Prior standard deviation of the offset of a beamline's edges [eV]."""
SLOPE_SIGMA = 0.4
"""Prior standard deviation of their slope [eV/e]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSpectrum:
    """One measured spectrum of a compound with known labels; NaN for an unknown label."""

    element: str
    compound: str
    file: str
    source: str
    """Which collection it is from."""
    valence: float
    coordination_number: float
    bond_length: float
    stated_offset: float | None
    """Correction of the energy axis that the labels state [eV]; None if they state none."""
    observation: XanesObservation
    uncalibrated: XanesObservation | None
    """The same if nothing were known of the axis; None if no edge is found then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompoundAnswer:
    """Truth and answers for one compound, means over its spectra."""

    element: str
    compound: str
    n_spectra: int
    calibrated: bool
    """Whether any of its axes was on the foil's scale."""
    truth: Mapping[Descriptor, float]
    """NaN if unknown."""
    value: Mapping[Descriptor, float]
    state_sigma: float
    """Standard deviation of the oxidation state's posterior [e]."""
    edge_curve: float
    """Oxidation state by the edge position alone: the baseline [e]."""
    number_low: float
    number_high: float
    """Interval of the coordination number."""


def by_compound(spectra: Sequence[MeasuredSpectrum]) -> list[list[MeasuredSpectrum]]:
    """Group spectra by element and compound, in sorted order."""
    groups: dict[tuple[str, str], list[MeasuredSpectrum]] = {}
    for item in spectra:
        groups.setdefault((item.element, item.compound), []).append(item)
    return [groups[key] for key in sorted(groups)]


def edge_standards(spectra: Sequence[MeasuredSpectrum], pre_edge_shift: float) -> list[Standard]:
    """Return one standard per compound: the mean edge of its spectra on a calibrated axis.

    Compounds without any are left out; `pre_edge_shift` is added for every edge step of pre-edge peak [eV].
    """
    standards = []
    for members in by_compound([item for item in spectra if item.observation.calibrated]):
        edges = [
            member.observation.edge + pre_edge_shift * member.observation.pre_edge_peak for member in members
        ]
        first = members[0]
        standards.append(
            Standard(
                element=first.element,
                compound=first.compound,
                valence=first.valence,
                edge=float(np.mean(edges)),
            )
        )
    return standards


def answer_compound(members: Sequence[MeasuredSpectrum], bundle: Bundle) -> CompoundAnswer:
    """Answer one compound by the mean over its spectra; intervals of the bundle must be one sigma wide."""
    observations = [member.observation for member in members]
    predicted = [
        predict_descriptors(bundle, observation, expected_states(bundle, observation))
        for observation in observations
    ]
    mean = {name: _mean_estimate([answer[name] for answer in predicted]) for name in Descriptor.main()}
    value = {name: estimate.value for name, estimate in mean.items()}
    sigmas = [
        answer[Descriptor.OXIDATION_STATE].high - answer[Descriptor.OXIDATION_STATE].value
        for answer in predicted
    ]
    number = mean[Descriptor.COORDINATION_NUMBER]
    first = members[0]
    return CompoundAnswer(
        element=first.element,
        compound=first.compound,
        n_spectra=len(members),
        calibrated=any(observation.calibrated for observation in observations),
        truth={
            Descriptor.OXIDATION_STATE: first.valence,
            Descriptor.COORDINATION_NUMBER: first.coordination_number,
            Descriptor.BOND_LENGTH: first.bond_length,
        },
        value=value,
        state_sigma=float(np.mean(sigmas)),
        edge_curve=float(np.mean([edge_curve_state(bundle, observation) for observation in observations])),
        number_low=number.low,
        number_high=number.high,
    )


def _mean_estimate(estimates: Sequence[Estimate]) -> Estimate:
    columns = zip(*((one.value, one.low, one.high) for one in estimates), strict=True)
    value, low, high = (float(np.mean(column)) for column in columns)
    return Estimate(value=value, low=low, high=high, unit=estimates[0].unit)


def calibrate_edges(bundle: Bundle, spectra: Sequence[MeasuredSpectrum]) -> EdgeCalibration:
    """Fit a beamline's edge curve of one element to standards measured there; other elements are ignored.

    A TrainingError is raised if no standard is on a calibrated axis, or one lies outside the curve's
    valences.
    """
    model = bundle.edge_model
    own = [item for item in spectra if item.element == bundle.element]
    standards = edge_standards(own, model.pre_edge_shift)
    if not standards:
        raise TrainingError(
            f"none of {len(own)} spectra of {bundle.element} is on the foil's scale: measure a foil in the "
            "reference channel, or state energy offsets in labels.csv",
            ReasonCode.AXIS_UNCALIBRATED,
        )
    low, high = model.valence[[0, -1]]
    outside = [standard.compound for standard in standards if not low <= standard.valence <= high]
    if outside:
        raise TrainingError(
            f"the curve of {bundle.element} covers valences {low:g} to {high:g}, found others for "
            f"{', '.join(outside)}: leave them out"
        )
    curve = calibrated(bundle, _fit(bundle, standards, ())).edge_model
    results = []
    for number, standard in enumerate(standards):
        others = standards[:number] + standards[number + 1 :]
        left_out = calibrated(bundle, _fit(bundle, others, ())).edge_model if others else model
        residual = standard.edge - float(np.interp(standard.valence, curve.valence, curve.edge))
        results.append(
            CalibratedStandard(
                compound=standard.compound,
                valence=standard.valence,
                edge=round(standard.edge, 4),
                residual=round(residual, 4),
                state_before=_valence_by_edge(model, standard),
                state_left_out=_valence_by_edge(left_out, standard),
            )
        )
    return _fit(bundle, standards, results)


def _valence_by_edge(model: EdgeModel, standard: Standard) -> float:
    return round(model.mean_valence(np.array([standard.edge]), np.ones(1)), 4)


def _fit(
    bundle: Bundle, standards: Sequence[Standard], results: Sequence[CalibratedStandard]
) -> EdgeCalibration:
    model = bundle.edge_model
    valence = np.array([standard.valence for standard in standards])
    distance = np.array([standard.edge for standard in standards]) - np.interp(
        valence, model.valence, model.edge
    )
    usual = np.interp(valence, model.valence, model.sigma)
    rows = np.stack([np.ones_like(valence), valence - 3.0], axis=1)
    covariance, coefficients = _ridge(rows, distance, usual)
    residual = distance - np.einsum("ij,j->i", rows, coefficients)
    prior = float(np.mean(usual**2))
    variance = (RESIDUAL_WEIGHT * prior + float(residual @ residual)) / (RESIDUAL_WEIGHT + residual.size)
    (a, b), (c, d) = covariance.round(6).tolist()
    return EdgeCalibration(
        element=bundle.element,
        bundle=bundle.name,
        offset=round(float(coefficients[0]), 4),
        slope=round(float(coefficients[1]), 4),
        covariance=((a, b), (c, d)),
        sigma=round(float(np.sqrt(variance)), 4),
        standards=tuple(results),
    )


def _ridge(rows: FloatArray, distance: FloatArray, sigma: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return covariance and mean of offset and slope."""
    weight = sigma**-2
    precision = np.diag([OFFSET_SIGMA**-2, SLOPE_SIGMA**-2])
    covariance = np.linalg.inv(precision + np.einsum("ij,i,ik->jk", rows, weight, rows))
    return covariance, np.einsum("jk,ik,i,i->j", covariance, rows, weight, distance)
