"""Edge position against oxidation state: the curve of an element, and its fit on measured standards.

The edge of measured oxides lies nearly at the same height above the metal foil for all 3d metals, and turns
over at high valence. An `EdgeModel` holds that curve for one element with its standard deviation.

The fit is a Bayesian ridge regression, with d = v - 3::

    E_edge = a + b d + c d^2 + a_el + b_el d + residual
    a_el ~ N(0, OFFSET_SIGMA^2),  b_el ~ N(0, SLOPE_SIGMA^2),  residual ~ N(0, sigma_el^2)
    sigma_el^2 = (nu s0^2 + sum of squared residuals) / (nu + n_el)

with nu = RESIDUAL_WEIGHT and s0 = RESIDUAL_SIGMA; a, b and c are common to all elements. Elements without
standards get the common curve with the width of the prior.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.errors import TrainingError
from bluesky_xpdml.records import FloatArray

VALENCE_STEP = 0.05
"""Step of the tabulated curves [e]."""
OFFSET_SIGMA = 0.6
"""Prior standard deviation of an element's offset [eV]."""
SLOPE_SIGMA = 0.8
"""Prior standard deviation of an element's slope [eV/e]."""
RESIDUAL_SIGMA = 0.7
"""Value to which the residual width of each element is shrunk [eV]."""
RESIDUAL_WEIGHT = 3.0
"""Number of pseudo-residuals of that width."""
ITERATIONS = 10
"""Rounds of regression, after each of which the residual widths are estimated again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeModel:
    """Expected edge position of an element against its oxidation state."""

    valence: FloatArray
    """Formal valence [e], ascending, (n,)."""
    edge: FloatArray
    """Expected edge position [eV above the metal foil], (n,)."""
    sigma: FloatArray
    """Standard deviation of a measured edge around it [eV], (n,)."""
    pre_edge_shift: float = 0.0
    """Added to a measured edge for every edge step of pre-edge peak [eV]: what goes into the peak is missing
    from the rise, and sites that have one are more oxidised than their edge indicates."""

    def corrected(self, edge: float, pre_edge_peak: float) -> float:
        """Return an edge position corrected for the pre-edge peak [edge steps], both [eV above the foil]."""
        return edge + self.pre_edge_shift * pre_edge_peak

    def posterior(
        self, edges: FloatArray, weights: FloatArray, *, expected: FloatArray, expected_sigma: float
    ) -> tuple[FloatArray, FloatArray]:
        """Combine a measured edge with the valence that the shape suggests.

        ::

            p(v) ~ sum_s w_s N(E_s; m(v), sigma(v)) N(v; E_F(s), sigma_F)

        m and sigma are `edge` and `sigma` of this model, s runs over the axes that may be the true one. E_s
        is the measured edge on each axis [eV above the foil], w_s its prior weight, E_F(s) the valence that
        the shape suggests on it [e], all (s,); sigma_F the standard deviation of that valence [e], infinite
        to use the edge alone. The result is a grid of valences and posterior weights that sum to one, both
        (n,): an axis on which edge and shape agree counts more.
        """
        misfit = (edges[:, None] - self.edge) / self.sigma
        doubt = (self.valence - expected[:, None]) / expected_sigma
        log_weight = np.log(weights[:, None]) - 0.5 * (misfit**2 + doubt**2) - np.log(self.sigma)
        mixed = np.exp(log_weight - log_weight.max()).sum(axis=0)
        return self.valence, mixed / mixed.sum()

    def mean_valence(self, edges: FloatArray, weights: FloatArray) -> float:
        """Return the valence by the edge position alone [e]: the baseline beside every model.

        Parameters
        ----------
        edges, weights
            As for `posterior`, (s,).
        """
        alone = np.zeros_like(edges)
        valence, weight = self.posterior(edges, weights, expected=alone, expected_sigma=np.inf)
        return float(valence @ weight)


def class_probabilities(
    valence: FloatArray, weight: FloatArray, classes: Sequence[int]
) -> Mapping[str, float]:
    """Split a posterior, on a grid of valences (n,), between neighbouring integer classes that span it.

    P(k) = sum_v p(v) max(0, 1 - abs(v - k)), so that the mean of the classes is the mean of the posterior.
    """
    shares = np.clip(1.0 - np.abs(valence[None, :] - np.asarray(classes, dtype=float)[:, None]), 0.0, 1.0)
    return {str(name): round(float(share), 9) for name, share in zip(classes, shares @ weight, strict=True)}


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
    """Fit the edge curves of all elements together, tabulated over a range of valences [e].

    The standards are compounds of known valence, measured on the foil's scale, their edges corrected by
    `pre_edge_shift` [eV per edge step of pre-edge peak]. Elements without standards get the common curve. A
    TrainingError is raised if there are fewer than four standards.
    """
    if len(standards) < 4:
        msg = f"{len(standards)} standards: the common edge curve needs four compounds of known valence"
        raise TrainingError(msg)
    names = sorted({*elements, *(standard.element for standard in standards)})
    coefficients, covariance, variance = _regress(standards, names)
    grid = np.arange(valences[0], valences[1] + VALENCE_STEP / 2, VALENCE_STEP)
    models = {}
    for element in elements:
        rows = np.stack([_design_row(element, valence, names) for valence in grid])
        doubt = np.einsum("ij,jk,ik->i", rows, covariance, rows)
        sigma = np.sqrt(variance[names.index(element)] + doubt)
        # A quadratic may turn over at valences that no standard has; edges do not fall there.
        edge = np.maximum.accumulate(rows @ coefficients)
        models[element] = EdgeModel(valence=grid, edge=edge, sigma=sigma, pre_edge_shift=pre_edge_shift)
    return models


def _regress(
    standards: Sequence[Standard], names: Sequence[str]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return coefficients with their covariance, and the variance of the residuals of each element."""
    design = np.stack([_design_row(standard.element, standard.valence, names) for standard in standards])
    edges = np.array([standard.edge for standard in standards])
    owner = np.array([names.index(standard.element) for standard in standards])
    precision = np.concatenate(
        [np.full(3, 1e-6), np.full(len(names), OFFSET_SIGMA**-2), np.full(len(names), SLOPE_SIGMA**-2)]
    )
    counts = np.bincount(owner, minlength=len(names))
    variance = np.full(len(names), RESIDUAL_SIGMA**2)
    for _ in range(ITERATIONS):
        weight = 1.0 / variance[owner]
        covariance = np.linalg.inv(np.diag(precision) + design.T @ (design * weight[:, None]))
        coefficients = covariance @ (design.T @ (weight * edges))
        residual = edges - design @ coefficients
        squares = np.bincount(owner, residual**2, minlength=len(names))
        variance = (RESIDUAL_WEIGHT * RESIDUAL_SIGMA**2 + squares) / (RESIDUAL_WEIGHT + counts)
    return coefficients, covariance, variance


def _design_row(element: str, valence: float, names: Sequence[str]) -> FloatArray:
    distance = valence - 3.0
    own = np.array([name == element for name in names], dtype=float)
    return np.concatenate([[1.0, distance, distance**2], own, own * distance])
