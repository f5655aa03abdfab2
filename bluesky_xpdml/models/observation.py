"""What a XANES spectrum shows to a bundle before any answer: edge, pre-edge peak, features."""

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
from bluesky_xpdml.records import AxisSource, FloatArray, Xanes
from bluesky_xpdml.reduction.edge_position import edge_shape
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES, UNKNOWN_UNCERTAINTY

CALIBRATED_SHIFTS = np.arange(-2.0, 2.25, 0.5)
"""Shifts of a calibrated axis over which answers are averaged [eV]."""
UNCALIBRATED_SHIFTS = np.arange(-4.0, 4.5, 1.0)
"""The same for an axis of unknown error [eV]."""
CALIBRATED_SIGMA = 0.5
"""Weight of the shifts of a calibrated axis: standard deviation of a Gaussian [eV]."""
CALIBRATED_LIMIT = 0.75
"""A calibration that grew more uncertain than this is treated as an axis of unknown error [eV]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XanesObservation:
    """What a spectrum shows to one bundle, before any answer."""

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
        """Return how much each shift of the axis counts.

        Parameters
        ----------
        centre
            Error that the axis is supposed to have [eV].

        Returns
        -------
        FloatArray
            Weights that sum to one, (s,).
        """
        weights = np.exp(-0.5 * ((self.shifts - centre) / self.sigma) ** 2)
        return np.asarray(weights / weights.sum())


def observe(xanes: Xanes) -> XanesObservation:
    """Measure edge and pre-edge peak, and compute the features for every shift of the axis.

    Parameters
    ----------
    xanes
        Reduced spectrum of an element whose foil energy is tabulated.

    Raises
    ------
    FeatureError, ReductionError
        If the spectrum does not show what the models look at.
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


def require_input(bundle: Bundle) -> None:
    """Check that a bundle expects the features that this version computes.

    Parameters
    ----------
    bundle
        XANES models of one element.

    Raises
    ------
    BundleError
        If it was trained on other features.
    """
    expected, found = bundle.manifest["input"], input_description(bundle.element)
    for key, value in found.items():
        if expected[key] != value:
            msg = (
                f"{bundle.reference.name}-{bundle.reference.version} expects {key} {expected[key]}, this "
                f"version computes {value}: use the bundle with the version it came with, or train it anew"
            )
            raise BundleError(msg)
