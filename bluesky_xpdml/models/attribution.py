"""What an explanation takes from a prediction and from the bundle that made it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.errors import BundleError, ModelError
from bluesky_xpdml.explanation_records import Attribution
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.tree_shap import shapley_values
from bluesky_xpdml.records import FloatArray, Prediction

TARGETS = ("oxidation_state", "coordination_number", "bond_length")
"""Descriptors that are explained."""
BACKGROUND = "background"
"""Table of a bundle: features of some rows of its training, (n_rows, n_features)."""
IMPORTANCES = "importances"
"""Key of a bundle's manifest: by target, `impurity` and `permutation`, a number a feature each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A prediction and the bundle that made it.

    Raises
    ------
    BundleError
        By every method that needs what bundles of older formats do not hold.
    """

    prediction: Prediction
    bundle: Bundle

    def known(self, targets: Iterable[str]) -> list[str]:
        """Return the targets, all of which can be explained.

        Raises
        ------
        ModelError
            If one of them cannot.
        """
        wanted = list(targets)
        known = [t for t in TARGETS if t in self.bundle.forests and t in self.prediction.descriptors]
        if not wanted or set(wanted) - set(known):
            asked, there = ", ".join(wanted) or "nothing", ", ".join(known) or "none"
            raise ModelError(f"cannot explain {asked}: expected some of {there}")
        return wanted

    @property
    def background(self) -> FloatArray:
        """Rows of the training that answers are compared with, (n_rows, n_features)."""
        if BACKGROUND not in self.bundle.tables:
            raise self._older(f"a table {BACKGROUND!r}")
        return self.bundle.tables[BACKGROUND]

    def answer(self, target: str) -> float:
        """Return what was predicted."""
        return self.prediction.descriptors[target].value

    def mean_answer(self, target: str) -> float:
        """Return what the forest of a target answers to the background, on the mean."""
        return float((self.bundle.forests[target].predict(self.background) @ self._outputs(target)).mean())

    def shapley(self, target: str, row: FloatArray) -> tuple[FloatArray, float]:
        """Return what each feature adds to the mean answer of the target's forest, and that mean."""
        return shapley_values(self.bundle.forests[target], row, self.background, self._outputs(target))

    def attribution(
        self, target: str, base: float, values: FloatArray, others: Mapping[str, float]
    ) -> Attribution:
        """Return the record of a target, with what its features brought at training."""
        found = self.bundle.manifest.get(IMPORTANCES, {}).get(target)
        if found is None:
            raise self._older(f"{IMPORTANCES} of {target} in the manifest")
        # Beyond the features of the curve, a forest may look at answers of another one.
        impurity, permutation = (
            np.asarray(found[kind], dtype=float)[: values.size] for kind in ("impurity", "permutation")
        )
        return Attribution(
            unit=self.prediction.descriptors[target].unit,
            answer=self.answer(target),
            base=base,
            features=values,
            others=others,
            importance=impurity,
            permutation=permutation,
        )

    def _outputs(self, target: str) -> FloatArray:
        return np.asarray(self.bundle.manifest["targets"][target].get("classes", [1.0]), dtype=float)

    def _older(self, missing: str) -> BundleError:
        said = self.bundle.manifest
        command = f"xpdml train --element {said['element']} --modality {said['modality']}"
        return BundleError(
            f"{said['name']}-{said['version']} is of an older format: expected {missing}, found none; train "
            f"it anew with `{command}`"
        )
