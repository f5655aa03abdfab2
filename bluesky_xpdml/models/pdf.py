"""From a pair distribution function to descriptors.

Every answer is the mean of what forests predict: over classes for oxidation state and coordination number,
over trees for lengths. The 90 % interval of a mean over classes spans it and the conformal set of classes; of
a length it is value -+ factor sqrt(variance of the trees + LENGTH_FLOOR^2). Both were calibrated on formulas
which the forests had not seen, sets within each class.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bluesky_xpdml.features.pdf import FEATURE_NAMES, GRID, SCALE_RANGE, pdf_features
from bluesky_xpdml.models.bundle import CLASSES, Bundle
from bluesky_xpdml.models.forest import (
    SURROUNDINGS,
    Forest,
    likeliest_polyhedron,
    mean_of_classes,
    means_of_members,
)
from bluesky_xpdml.models.novelty import novelty_reasons
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import Estimate, FloatArray, PairDistribution, Prediction, Quality
from bluesky_xpdml.vocabulary import Descriptor, Modality, Reason, ReasonCode

Q_MAX_TOLERANCE = 0.05
"""A curve's q_max may lie this far outside the range of training, as a share, before the verdict says so."""
LENGTH_FLOOR = 0.005
"""Standard deviation of a length when all trees agree [angstrom]."""


def predict_pdf(
    distribution: PairDistribution, store: BundleStore, modality: Modality | str, *, element: str
) -> Prediction:
    """Predict oxidation state, coordination number and bond length of a metal from a PDF.

    Parameters
    ----------
    distribution
        Total or metal-differential pair distribution function.
    store
        Where the bundle is found.
    modality
        `pdf` for all pairs, `dpdf` for pairs with the metal at an ordinary q_max, `dpdf_anomalous` for the
        difference of two patterns below the metal's edge.
    element
        The metal, a chemical symbol.

    Returns
    -------
    Prediction
        With descriptors and 90 % intervals; its quality continues that of the curve.

    Raises
    ------
    ModelNotFoundError
        If there is no bundle for the element and modality.
    BundleError
        If the bundle was trained on other features than this version computes.
    FeatureError
        If the curve does not cover what the model looks at.
    """
    kind = Modality(modality)
    bundle = store.find(element, kind.edge, kind)
    bundle.require_input(input_description())
    row = pdf_features(distribution.r, distribution.g)
    diagnostics = bundle.novelty_diagnostics(row)
    return Prediction(
        technique=kind.technique,
        element=element,
        edge=kind.edge,
        quality=_with_doubts(distribution, bundle, element).suspect(*novelty_reasons(diagnostics)),
        descriptors=_descriptors(bundle, row),
        models=(bundle.reference,),
        sample=distribution.sample,
        raw_uids=distribution.raw_uids,
        source=distribution.source,
        completeness=distribution.completeness,
        settings={"reduction": dict(distribution.settings), "modality": str(kind)},
        diagnostics=diagnostics,
    )


def _descriptors(bundle: Bundle, row: FloatArray) -> dict[Descriptor, Estimate]:
    rows = row[None, :]
    found: dict[Descriptor, Estimate] = {}
    for target, settings in bundle.targets.items():
        forest = bundle.forests[target]
        if target == SURROUNDINGS:
            found |= means_of_members(forest, settings, rows)
        elif target == Descriptor.GEOMETRY:
            found[Descriptor(target)] = likeliest_polyhedron(settings, forest.predict(rows)[0])
        elif target in CLASSES:
            found[Descriptor(target)] = mean_of_classes(settings, forest.predict(rows)[0])
        else:
            found[Descriptor(target)] = _length(forest, settings, rows)
    return found


def length_and_spread(forest: Forest, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation of the trees of a forest of one length [angstrom], both (n,)."""
    members = forest.value[forest.leaves(rows)][:, :, 0].astype(np.float64)
    return members.mean(axis=1), np.sqrt(members.var(axis=1) + LENGTH_FLOOR**2)


def _length(forest: Forest, settings: Mapping[str, Any], rows: FloatArray) -> Estimate:
    value, spread = (float(each[0]) for each in length_and_spread(forest, rows))
    half_width = settings["interval_factor"] * spread
    return Estimate(value=value, low=value - half_width, high=value + half_width, unit=settings["unit"])


def input_description() -> dict[str, Any]:
    """Return what the features of this version are, for the manifest of a bundle.

    Examples
    --------
    >>> len(input_description()["features"])
    92
    """
    return {
        "scale": "G(r) over the distance [angstrom]",
        "grid": GRID.round(9).tolist(),
        "normalisation": f"divided by the rms over {SCALE_RANGE[0]} to {SCALE_RANGE[1]} angstrom",
        "features": list(FEATURE_NAMES),
    }


def _with_doubts(distribution: PairDistribution, bundle: Bundle, element: str) -> Quality:
    """Return the quality of the curve with what makes an answer from it doubtful."""
    quality = distribution.quality
    low, high = bundle.manifest["input"]["q_max"]
    q_max = distribution.settings.get("q_max")
    if not isinstance(q_max, int | float):
        quality = quality.note(
            Reason(
                f"q_max is not known: the model expects {low:.1f} to {high:.1f} 1/angstrom",
                ReasonCode.Q_RANGE,
            )
        )
    elif not low * (1.0 - Q_MAX_TOLERANCE) <= q_max <= high * (1.0 + Q_MAX_TOLERANCE):
        quality = quality.suspect(
            Reason(
                f"q_max {q_max:.1f}, the model was trained on {low:.1f} to {high:.1f} 1/angstrom",
                ReasonCode.Q_RANGE,
            )
        )
    if distribution.composition and element not in distribution.composition:
        quality = quality.suspect(
            Reason(
                f"the composition {', '.join(distribution.composition)} holds no {element}: another element?",
                ReasonCode.ELEMENT_CONTRADICTED,
            )
        )
    return quality
