"""Rules by which manifests of earlier formats are read as if they had been written today.

Format 1 to 2
    Edges are not corrected for pre-edge peaks, the shape counts the same everywhere, intervals are as wide on
    an axis of unknown error as on a calibrated one, and classes with a probability of at least 5 % belong
    to the set: what bundles of format 1 were judged with.
"""

from collections.abc import Mapping
from typing import Any

CLASSES = ("oxidation_state", "coordination_number")


def upgraded(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a manifest with everything that the present format asks for.

    Parameters
    ----------
    manifest
        Of any readable format; it is left as it is.

    Examples
    --------
    >>> old = {"format": 1, "edge_model": {"edge": [14.0]}, "targets": {}}
    >>> upgraded(old)["edge_model"]["pre_edge_shift"]
    0.0
    """
    if manifest["format"] != 1:
        return manifest
    targets = {
        name: _with_thresholds(target) if name in CLASSES else target
        for name, target in manifest.get("targets", {}).items()
    }
    if "edge_model" not in manifest:
        return {**manifest, "targets": targets}
    state = targets.get("oxidation_state")
    if state is not None:
        targets["oxidation_state"] = {
            "interval_factor_uncalibrated": state["interval_factor"],
            "interval_floor": 0.0,
            "forest_sigma_without_peak": state["forest_sigma"],
            "knows_pre_edge_peaks": True,
            **state,
        }
    edge_model = {"pre_edge_shift": 0.0, **manifest["edge_model"]}
    return {**manifest, "edge_model": edge_model, "targets": targets}


def _with_thresholds(target: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"thresholds": [0.95] * len(target.get("classes", ())), **target}
