"""Fit of the edge curves on measured standards.

Bayesian ridge regression of the edge position on (1, d, d^2), d = v - 3, common to all 3d metals, with an
offset and a slope of each element drawn to zero. Elements without standards get the common curve, and the
width of the prior.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.models.edge_model import VALENCE_STEP, EdgeModel
from bluesky_xpdml.records import FloatArray

OFFSET_SIGMA = 0.6
"""Prior standard deviation of an element's offset [eV]."""
SLOPE_SIGMA = 0.8
"""Prior standard deviation of an element's slope [eV/e]."""
RESIDUAL_SIGMA = 0.7
"""Value to which the residual width of each element is shrunk [eV]."""
RESIDUAL_WEIGHT = 3.0
"""Number of pseudo-residuals of that width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """The measured edge of one compound, the mean over its spectra."""

    element: str
    compound: str
    valence: float
    """Formal valence [e]."""
    edge: float
    """Edge position, corrected for the pre-edge peak [eV above the metal foil]."""


def fit_edge_models(
    standards: Sequence[Standard],
    elements: Sequence[str],
    *,
    pre_edge_shift: float = 0.0,
    valences: tuple[float, float] = (1.0, 7.0),
) -> dict[str, EdgeModel]:
    """Fit the edge curves of all elements together.

    Parameters
    ----------
    standards
        Compounds of known valence, measured on the foil's scale; at least four.
    elements
        Elements wanted; those without standards get the common curve.
    pre_edge_shift
        With which the standards' edges were corrected [eV per edge step of pre-edge peak].
    valences
        Range of the tabulated curves [e].

    Raises
    ------
    TrainingError
        If there are fewer than four standards.

    Examples
    --------
    >>> known = [
    ...     Standard(element="Fe", compound=str(v), valence=v, edge=4.0 + 3.2 * v) for v in (2, 3, 4, 5)
    ... ]
    >>> model = fit_edge_models(known, ["Fe", "Co"])["Co"]
    >>> abs(float(np.interp(3.0, model.valence, model.edge)) - 13.7) < 0.5
    True
    """
    if len(standards) < 4:
        msg = f"{len(standards)} standards: the common edge curve needs four compounds of known valence"
        raise TrainingError(msg)
    names = sorted({*elements, *(standard.element for standard in standards)})
    design = np.stack([_row(standard.element, standard.valence, names) for standard in standards])
    edges = np.array([standard.edge for standard in standards])
    owner = np.array([names.index(standard.element) for standard in standards])
    precision = np.concatenate(
        [np.full(3, 1e-6), np.full(len(names), OFFSET_SIGMA**-2), np.full(len(names), SLOPE_SIGMA**-2)]
    )
    variance = np.full(len(names), RESIDUAL_SIGMA**2)
    for _ in range(10):
        weight = 1.0 / variance[owner]
        covariance = np.linalg.inv(np.diag(precision) + design.T @ (design * weight[:, None]))
        coefficients = covariance @ (design.T @ (weight * edges))
        residual = edges - design @ coefficients
        squares = np.bincount(owner, residual**2, minlength=len(names))
        counts = np.bincount(owner, minlength=len(names))
        variance = (RESIDUAL_WEIGHT * RESIDUAL_SIGMA**2 + squares) / (RESIDUAL_WEIGHT + counts)
    grid = np.arange(valences[0], valences[1] + VALENCE_STEP / 2, VALENCE_STEP)
    models = {}
    for element in elements:
        rows = np.stack([_row(element, valence, names) for valence in grid])
        doubt = np.einsum("ij,jk,ik->i", rows, covariance, rows)
        sigma = np.sqrt(variance[names.index(element)] + doubt)
        # A quadratic may turn over at valences that no standard has; edges do not fall there.
        edge = np.maximum.accumulate(rows @ coefficients)
        models[element] = EdgeModel(valence=grid, edge=edge, sigma=sigma, pre_edge_shift=pre_edge_shift)
    return models


def _row(element: str, valence: float, names: Sequence[str]) -> FloatArray:
    distance = valence - 3.0
    own = np.array([name == element for name in names], dtype=float)
    return np.concatenate([[1.0, distance, distance**2], own, own * distance])
