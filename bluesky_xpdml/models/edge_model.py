"""Oxidation state from the position of the edge, fused with what a forest sees in the shape.

The edge of measured oxides lies nearly at the same height above the metal foil for all 3d metals, and turns
over at high valence. An `EdgeModel` holds that curve for one element with its standard deviation; fused with
the forest's expectation it gives a posterior over a continuous valence, so that mixed valence is a number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.records import FloatArray

VALENCE_STEP = 0.05


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
    from the rise, and sites that have one are more oxidised than their edge tells."""

    def corrected(self, edge: float, pre_edge_peak: float) -> float:
        """Return an edge position corrected for the pre-edge peak [eV above the foil].

        Parameters
        ----------
        edge
            As measured [eV above the foil].
        pre_edge_peak
            Height of the peak above a quarter of the step [edge steps].

        Examples
        --------
        >>> model = EdgeModel(valence=np.ones(1), edge=np.ones(1), sigma=np.ones(1), pre_edge_shift=7.0)
        >>> round(model.corrected(17.0, 0.3), 3)
        19.1
        """
        return edge + self.pre_edge_shift * pre_edge_peak

    def posterior(
        self, edges: FloatArray, weights: FloatArray, *, expected: FloatArray, expected_sigma: float
    ) -> tuple[FloatArray, FloatArray]:
        """Fuse a measured edge with the valence that the shape suggests.

        Parameters
        ----------
        edges
            Measured edge position on each axis that may be the true one [eV above the foil], (s,).
        weights
            Prior weight of each axis, (s,).
        expected
            Valence that the shape suggests on each axis [e], (s,).
        expected_sigma
            How far that is trusted [e]; infinite to let the edge speak alone.

        Returns
        -------
        valence, weight
            Grid of valences and posterior weights that sum to one, both (n,). An axis on which edge and
            shape agree counts more.

        Examples
        --------
        >>> grid = np.linspace(2.0, 4.0, 41)
        >>> model = EdgeModel(valence=grid, edge=4.0 * grid, sigma=np.full(41, 0.5))
        >>> one = np.ones(1)
        >>> valence, weight = model.posterior(12.0 * one, one, expected=3.2 * one, expected_sigma=0.35)
        >>> round(float(valence @ weight), 2)
        3.02
        """
        misfit = (edges[:, None] - self.edge) / self.sigma
        doubt = (self.valence - expected[:, None]) / expected_sigma
        log_weight = np.log(weights[:, None]) - 0.5 * (misfit**2 + doubt**2) - np.log(self.sigma)
        mixed = np.exp(log_weight - log_weight.max()).sum(axis=0)
        return self.valence, mixed / mixed.sum()

    def mean_valence(self, edges: FloatArray, weights: FloatArray) -> float:
        """Return the valence that the edge position alone suggests [e]: the baseline beside every model.

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
    """Split a posterior over a continuous valence between neighbouring integer classes.

    A valence between two classes counts for both, in proportion to its nearness, so that the mean of the
    classes is the mean of the posterior.

    Parameters
    ----------
    valence, weight
        Grid and weights that sum to one, (n,).
    classes
        Consecutive integers that span the grid.

    Examples
    --------
    >>> class_probabilities(np.array([2.0, 2.5]), np.array([0.4, 0.6]), [2, 3])
    {'2': 0.7, '3': 0.3}
    """
    shares = np.clip(1.0 - np.abs(valence[None, :] - np.asarray(classes, dtype=float)[:, None]), 0.0, 1.0)
    return {str(name): round(float(share), 9) for name, share in zip(classes, shares @ weight, strict=True)}
