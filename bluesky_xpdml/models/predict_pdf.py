"""From a pair distribution function to descriptors.

Every answer is the mean of what forests say: over classes for oxidation state and coordination number, over
trees for the bond length. Its 90 % interval is the spread of that answer times a factor that was calibrated
on formulas which the forests had not seen.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bluesky_xpdml.errors import BundleError
from bluesky_xpdml.features.pdf import FEATURE_NAMES, GRID, SCALE_RANGE, PdfModality, pdf_features
from bluesky_xpdml.models.bundle import Bundle
from bluesky_xpdml.models.forest import Forest
from bluesky_xpdml.models.store import BundleStore
from bluesky_xpdml.records import Descriptor, FloatArray, PairDistribution, Prediction, Quality

Q_MAX_TOLERANCE = 0.05
"""A curve's q_max may lie this far outside the range of training, as a share, before the verdict says so."""
CLASSES = ("oxidation_state", "coordination_number")
"""Targets that forests answer with classes."""
SPREAD_FLOOR: Mapping[str, float] = {
    "oxidation_state": 0.1,
    "coordination_number": 0.1,
    "bond_length": 0.005,
}
"""Added in squares to a spread, so that trees which all agree are still not certain [its unit]."""
UNITS: Mapping[str, str] = {"oxidation_state": "e", "coordination_number": "1", "bond_length": "angstrom"}


def predict_pdf(
    distribution: PairDistribution, store: BundleStore, modality: PdfModality | str, *, element: str
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
    kind = PdfModality(modality)
    bundle = store.find(element, kind.edge, kind)
    _require_input(bundle)
    row = pdf_features(distribution.r, distribution.g)
    return Prediction(
        technique=kind.technique,
        element=element,
        edge=kind.edge,
        quality=_judge(distribution, bundle, element),
        descriptors=descriptors(bundle, row),
        models=(bundle.reference,),
        sample=distribution.sample,
        raw_uids=distribution.raw_uids,
        source=distribution.source,
        completeness=distribution.completeness,
        settings={"reduction": dict(distribution.settings), "modality": str(kind)},
    )


def descriptors(bundle: Bundle, row: FloatArray) -> dict[str, Descriptor]:
    """Answer from the features of one curve.

    Parameters
    ----------
    bundle
        Models of the element.
    row
        Features, (92,).

    Returns
    -------
    dict
        `oxidation_state` [e], `coordination_number` [1] and `bond_length` [angstrom].
    """
    found: dict[str, Descriptor] = {}
    for target, settings in bundle.manifest["targets"].items():
        forest = bundle.forests[target]
        probabilities: dict[str, float] | None = None
        low, high = 0.0, np.inf
        if target in CLASSES:
            classes = np.asarray(settings["classes"], dtype=float)
            shares = forest.predict(row[None, :])[0]
            probabilities = {
                f"{c:.0f}": float(p) for c, p in zip(classes, shares / shares.sum(), strict=True)
            }
            low, high = float(classes.min()), float(classes.max())
        value, spread = (float(each[0]) for each in answers(forest, target, settings, row[None, :]))
        half_width = settings["interval_factor"] * spread
        found[target] = Descriptor(
            value=value,
            low=min(max(value - half_width, low), value),
            high=max(min(value + half_width, high), value),
            unit=settings["unit"],
            probabilities=probabilities,
        )
    return found


def answers(
    forest: Forest, target: str, settings: Mapping[str, Any], rows: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return what a forest answers, and how far its members differ.

    Parameters
    ----------
    forest
        Of one target.
    target
        Name of the target.
    settings
        Of the target: `classes` where it has such.
    rows
        Features, (n, 92).

    Returns
    -------
    value, spread
        Means and standard deviations with the floor of the target [its unit], both (n,).
    """
    if target in CLASSES:
        classes = np.asarray(settings["classes"], dtype=float)
        shares = forest.predict(rows)
        shares = shares / shares.sum(axis=1, keepdims=True)
        value = shares @ classes
        variance = (shares * (classes - value[:, None]) ** 2).sum(axis=1)
    else:
        members = forest.value[forest.leaves(rows)][:, :, 0].astype(np.float64)
        value, variance = members.mean(axis=1), members.var(axis=1)
    return np.asarray(value), np.asarray(np.sqrt(variance + SPREAD_FLOOR[target] ** 2))


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


def _require_input(bundle: Bundle) -> None:
    expected, found = bundle.manifest["input"], input_description()
    for key, value in found.items():
        if expected.get(key) != value:
            msg = (
                f"{bundle.reference.name}-{bundle.reference.version} expects {key} {expected.get(key)}, this "
                f"version computes {value}: use the bundle with the version it came with, or train it anew"
            )
            raise BundleError(msg)


def _judge(distribution: PairDistribution, bundle: Bundle, element: str) -> Quality:
    """Say what makes the answer doubtful beyond the quality of the curve."""
    quality = distribution.quality
    low, high = bundle.manifest["input"]["q_max"]
    q_max = distribution.settings.get("q_max")
    if not isinstance(q_max, int | float):
        quality = quality.note(f"q_max is not known: the model expects {low:.1f} to {high:.1f} 1/angstrom")
    elif not low * (1.0 - Q_MAX_TOLERANCE) <= q_max <= high * (1.0 + Q_MAX_TOLERANCE):
        quality = quality.suspect(
            f"q_max {q_max:.1f}, the model was trained on {low:.1f} to {high:.1f} 1/angstrom"
        )
    if distribution.composition and element not in distribution.composition:
        quality = quality.suspect(
            f"the composition {', '.join(distribution.composition)} holds no {element}: another element?"
        )
    return quality
