"""A beamline's own edge curve: how far the edges of its standards lie off the curve of a bundle.

`xpdml calibrate` fits an offset a and a slope b per element to a beamline's own standards and stores them in
a JSON file, with every standard and its residual. The curve of a bundle then becomes, with the covariance C::

    m(v) + a + b (v - 3),  sigma(v)^2 = sigma^2 + (1, v - 3) C (1, v - 3)^T
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_xpdml.errors import ModelError
from bluesky_xpdml.files import read_regular
from bluesky_xpdml.models.bundle import Bundle

FORMAT = 1
"""Number of the file's format; others are refused."""
LARGEST_FILE = 1_000_000
"""No file of calibrations is longer [bytes]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedStandard:
    """One compound of known valence, and its valence by the curve of the other standards."""

    compound: str
    valence: float
    """Formal valence [e]."""
    edge: float
    """Measured edge, corrected for the pre-edge peak [eV above the metal foil]."""
    residual: float
    """Edge minus calibrated curve [eV]."""
    state_before: float
    """Valence by the bundle's own curve [e]."""
    state_left_out: float
    """Valence by the curve calibrated on the other standards [e]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeCalibration:
    """Offset and slope by which the edges of one element lie off the bundle's curve."""

    element: str
    bundle: str
    """Name and version of the bundle that was calibrated."""
    offset: float
    """At valence 3 [eV]."""
    slope: float
    """[eV/e]"""
    covariance: tuple[tuple[float, float], tuple[float, float]]
    """Of offset and slope."""
    sigma: float
    """Standard deviation of an edge around the calibrated curve [eV]."""
    standards: tuple[CalibratedStandard, ...]


def calibrated(bundle: Bundle, calibration: EdgeCalibration) -> Bundle:
    """Return a bundle with the edge curve of a beamline.

    Raises
    ------
    ModelError
        If it was made for another bundle.
    """
    if calibration.bundle != bundle.name:
        raise ModelError(
            f"the calibration of {calibration.element} was made for {calibration.bundle}, {bundle.name} "
            "answers: run xpdml calibrate again, or pin the bundle"
        )
    model = bundle.edge_model
    distance = model.valence - 3.0
    rows = np.stack([np.ones_like(distance), distance], axis=1)
    doubt = np.einsum("ij,jk,ik->i", rows, np.asarray(calibration.covariance), rows)
    edge_model = {
        "valence": model.valence.tolist(),
        "edge": (model.edge + calibration.offset + calibration.slope * distance).tolist(),
        "sigma": np.sqrt(calibration.sigma**2 + doubt).tolist(),
        "pre_edge_shift": model.pre_edge_shift,
    }
    return replace(bundle, manifest={**bundle.manifest, "edge_model": edge_model})


def write_calibrations(path: Path, calibrations: Sequence[EdgeCalibration]) -> None:
    """Write the calibrations of a beamline, one per element, to a JSON file."""
    content = {"format": FORMAT, "elements": [asdict(one) for one in calibrations]}
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_calibrations(path: Path) -> dict[str, EdgeCalibration]:
    """Read the calibrations of a beamline that `write_calibrations` wrote, by element.

    Raises
    ------
    ModelError
        If the file is missing, or is no such file.
    """
    try:
        content = json.loads(read_regular(path, LARGEST_FILE))
        if content["format"] != FORMAT:
            msg = f"{path} has format {content['format']}, this version reads format {FORMAT}"
            raise ModelError(msg)
        return {one["element"]: _from_json(one) for one in content["elements"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        msg = f"{path} holds no calibrations ({error}): expected what `xpdml calibrate` wrote"
        raise ModelError(msg) from error


def _from_json(entry: Mapping[str, Any]) -> EdgeCalibration:
    numbers = {name: float(entry[name]) for name in ("offset", "slope", "sigma")}
    (a, b), (c, d) = ((float(left), float(right)) for left, right in entry["covariance"])
    if not all(map(math.isfinite, (*numbers.values(), a, b, c, d))) or not isinstance(entry["bundle"], str):
        raise ValueError("expected finite numbers and the name of a bundle")
    standards = tuple(CalibratedStandard(**one) for one in entry["standards"])
    return EdgeCalibration(**{**entry, **numbers, "covariance": ((a, b), (c, d)), "standards": standards})
