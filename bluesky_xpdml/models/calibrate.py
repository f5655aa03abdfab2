"""Calibration of a bundle's edge curve on a beamline's own standards.

Bayesian ridge regression of the distance of each standard's edge from the bundle's curve on (1, v - 3). Few
standards move the curve little, and none moves it where they say nothing: the priors draw offset and slope
to zero, and the width of the curve to that of the shipped standards. Each standard is also answered by the
curve of the others.
"""

from collections.abc import Sequence

import numpy as np

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.edge_calibration import CalibratedStandard, EdgeCalibration, calibrated
from bluesky_xpdml.models.edge_fit import RESIDUAL_WEIGHT, Standard
from bluesky_xpdml.models.standards import MeasuredSpectrum, edge_standards
from bluesky_xpdml.records import FloatArray

OFFSET_SIGMA = 1.0
"""Prior standard deviation of the offset of a beamline's edges [eV]."""
SLOPE_SIGMA = 0.4
"""Prior standard deviation of their slope [eV/e]."""


def calibrate_edges(bundle: Bundle, spectra: Sequence[MeasuredSpectrum]) -> EdgeCalibration:
    """Fit a beamline's edge curve of one element.

    Parameters
    ----------
    bundle
        XANES models of the element.
    spectra
        Standards of the element, measured at the beamline.

    Raises
    ------
    TrainingError
        If no standard of the element is on a calibrated axis, or one lies outside the curve's valences.
    """
    model = bundle.edge_model
    own = [item for item in spectra if item.element == bundle.element]
    standards = edge_standards(own, model.pre_edge_shift)
    if not standards:
        msg = (
            f"none of {len(own)} spectra of {bundle.element} is on the foil's scale: measure a foil in the "
            "reference channel, or state energy offsets in labels.csv"
        )
        raise TrainingError(msg)
    low, high = model.valence[[0, -1]]
    outside = [one.compound for one in standards if not low <= one.valence <= high]
    if outside:
        msg = (
            f"the curve of {bundle.element} covers valences {low:g} to {high:g}, found others for "
            f"{', '.join(outside)}: leave them out"
        )
        raise TrainingError(msg)
    fitted = _fitted(bundle, standards, ())
    curve = calibrated(bundle, fitted).edge_model
    told = []
    for number, one in enumerate(standards):
        others = standards[:number] + standards[number + 1 :]
        left_out = calibrated(bundle, _fitted(bundle, others, ())).edge_model if others else model
        at = np.array([one.edge])
        told.append(
            CalibratedStandard(
                compound=one.compound,
                valence=one.valence,
                edge=round(one.edge, 4),
                residual=round(one.edge - float(np.interp(one.valence, curve.valence, curve.edge)), 4),
                state_before=round(model.mean_valence(at, np.ones(1)), 4),
                state_left_out=round(left_out.mean_valence(at, np.ones(1)), 4),
            )
        )
    return _fitted(bundle, standards, told)


def _fitted(
    bundle: Bundle, standards: Sequence[Standard], told: Sequence[CalibratedStandard]
) -> EdgeCalibration:
    model = bundle.edge_model
    valence = np.array([one.valence for one in standards])
    off = np.array([one.edge for one in standards]) - np.interp(valence, model.valence, model.edge)
    usual = np.interp(valence, model.valence, model.sigma)
    rows = np.stack([np.ones_like(valence), valence - 3.0], axis=1)
    covariance, coefficients = _ridge(rows, off, usual)
    residual = off - np.einsum("ij,j->i", rows, coefficients)
    prior = float(np.mean(usual**2))
    variance = (RESIDUAL_WEIGHT * prior + float(residual @ residual)) / (RESIDUAL_WEIGHT + residual.size)
    (a, b), (c, d) = covariance.round(6).tolist()
    return EdgeCalibration(
        element=bundle.element,
        bundle=f"{bundle.reference.name}-{bundle.reference.version}",
        offset=round(float(coefficients[0]), 4),
        slope=round(float(coefficients[1]), 4),
        covariance=((a, b), (c, d)),
        sigma=round(float(np.sqrt(variance)), 4),
        standards=tuple(told),
    )


def _ridge(rows: FloatArray, off: FloatArray, sigma: FloatArray) -> tuple[FloatArray, FloatArray]:
    weight = sigma**-2
    precision = np.diag([OFFSET_SIGMA**-2, SLOPE_SIGMA**-2])
    covariance = np.linalg.inv(precision + np.einsum("ij,i,ik->jk", rows, weight, rows))
    return covariance, np.einsum("jk,ik,i,i->j", covariance, rows, weight, off)
