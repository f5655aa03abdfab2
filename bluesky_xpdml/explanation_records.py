"""Records of why a prediction is what it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """How one answer came about: `base`, what features add and what other parts of the model add up to it."""

    unit: str
    """Of every number here but the importances: `e`, `1` or `angstrom`."""
    answer: float
    """What was predicted."""
    base: float
    """What the model answers to its background, on the mean."""
    features: FloatArray
    """What each feature adds to that, Shapley values, (n_features,)."""
    others: Mapping[str, float]
    """What other parts of the model add, by name, such as `edge position`."""
    importance: FloatArray
    """Share of the forest's impurity decrease that each feature brought at training, (n_features,)."""
    permutation: FloatArray
    """Accuracy or R2 that is lost on unseen formulas where a feature is shuffled, (n_features,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A named part of a curve, with what its features add to each answer."""

    name: str
    """`pre-edge`, `edge`, `white line`, `post-edge`; `first shell`, `second shell`, `further shells`."""
    low: float
    """Where it begins [eV above the metal foil, or angstrom]."""
    high: float
    """Where it ends [same]."""
    attribution: Mapping[str, float]
    """By descriptor: sum over the region's features [unit of the descriptor]."""
    importance: Mapping[str, float]
    """By descriptor: sum of the impurity importances of its features, a share of 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Which parts of a curve led to the answers of a prediction. Arrays have the shape (n_features,)."""

    grid: FloatArray
    """Where each feature is read [eV above the metal foil, or angstrom]."""
    unit: str
    """Of the grid and of the regions: `eV` or `angstrom`."""
    features: tuple[str, ...]
    """Names of the features."""
    attributions: Mapping[str, Attribution]
    """By descriptor."""
    regions: tuple[Region, ...]
    """In the order of the curve, without gaps; each feature belongs to one."""
    edge_share: float | None = None
    """How far the oxidation state follows the edge position, 0 to 1, and not the shape. None where the edge
    is no part of the model, or both agree too well to tell."""
