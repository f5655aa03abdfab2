"""The recipe that simulated spectra are usually put to measured ones with: the baseline beside ours.

One energy constant an element takes all simulated spectra to the measured axis; they are neither broadened
nor varied, the forest sees them as they are, and its likeliest valence is the answer.
"""

from dataclasses import replace

import numpy as np

from bluesky_xpdml.factory.dataset.library import SiteSpectra
from bluesky_xpdml.factory.training.alignment import align
from bluesky_xpdml.factory.training.augmentation import Augmentation, augmented_features
from bluesky_xpdml.factory.training.fitting import fitted
from bluesky_xpdml.factory.training.xanes import XanesRecipe, classifier
from bluesky_xpdml.models.edge_model import EdgeModel
from bluesky_xpdml.models.xanes import XanesObservation
from bluesky_xpdml.reduction.energy import FOIL_ENERGIES

UNVARIED = Augmentation(
    copies=1,
    width_below=(0.01, 0.01),
    width_above=(0.01, 0.01),
    axis_sigma=0.0,
    stretch=0.0,
    slope=0.0,
    self_absorption=0.0,
    noise=0.0,
)
"""Spectra as simulated."""


class PlainForest:
    """A forest of valences on unvaried spectra, moved by one constant.

    Parameters
    ----------
    spectra
        Usable sites of one element.
    edge_model
        Its measured edge curve: its mean distance to the simulated edges is the constant.
    recipe
        Sizes of the forest.
    """

    def __init__(self, spectra: SiteSpectra, edge_model: EdgeModel, recipe: XanesRecipe) -> None:
        aligned = align(spectra, FOIL_ENERGIES[spectra.element], edge_model)
        moved = replace(aligned, shift=np.full(len(spectra), float(aligned.shift.mean())))
        rows = augmented_features(moved, UNVARIED, np.random.default_rng(recipe.seed))
        self._forest = fitted(classifier(recipe), rows, spectra.valence).set_params(n_jobs=1)

    def likeliest(self, observation: XanesObservation) -> float:
        """Return the likeliest valence of a spectrum [e].

        Parameters
        ----------
        observation
            What the spectrum shows.
        """
        return float(self._forest.predict(observation.unshifted[None, :])[0])
