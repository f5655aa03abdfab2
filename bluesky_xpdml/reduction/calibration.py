"""Calibrations of area detectors from documents, settings and `.poni` files."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from bluesky_xpdml.errors import ReductionError, needs_extra
from bluesky_xpdml.records import Calibration
from bluesky_xpdml.vocabulary import ReasonCode

HOW_TO_GIVE = (
    "give it in the start document as calibration_md {dist [m], poni1, poni2, rot1, rot2, rot3 [rad], "
    "wavelength [m], pixel1, pixel2 [m]}, or as a .poni file"
)
HC = 12398.41984
"""Planck constant times speed of light [eV angstrom]."""

_NAMES = {
    "dist": "distance",
    "distance": "distance",
    "pixelsize1": "pixel1",
    "pixelsize2": "pixel2",
} | {
    name: name
    for name in ("poni1", "poni2", "rot1", "rot2", "rot3", "wavelength", "pixel1", "pixel2", "orientation")
}
_REQUIRED = ("distance", "poni1", "poni2", "rot1", "rot2", "rot3", "wavelength", "pixel1", "pixel2")
_WAVELENGTHS = (1e-13, 1e-9)
_DISTANCES = (1e-3, 100.0)
_PIXELS = (1e-6, 1e-2)


def calibration_from(
    given: Mapping[str, Any] | None,
    *,
    prefix: str = "",
    shape: tuple[int, int] | None = None,
    wavelength: float | None = None,
) -> Calibration:
    """Build a calibration from keys and values, such as `calibration_md` of a start document.

    Case does not matter: `dist` and `Distance`, `poni1` and `Poni1` are the same. Pixels may also be named by
    `Detector_config`, or by a `Detector` that pyFAI knows. `prefix` stands before the keys, such as `pe1_` in
    a stream of calibrations; `shape` (rows, columns) and `wavelength` [angstrom] are used if `given` has
    none. A ReductionError is raised if anything is missing, no number, or implausible: nothing is ever
    assumed.
    """
    if not given:
        raise _invalid(f"no calibration of the detector; {HOW_TO_GIVE}")
    flat = {str(key).removeprefix(prefix).lower(): value for key, value in given.items()}
    found: dict[str, Any] = dict(_detector(flat))
    found |= {_NAMES[key]: value for key, value in flat.items() if key in _NAMES and value is not None}
    if wavelength is not None:
        found.setdefault("wavelength", wavelength * 1e-10)
    missing = [name for name in _REQUIRED if name not in found]
    if missing:
        raise _invalid(f"the calibration lacks {', '.join(missing)}; {HOW_TO_GIVE}")
    numbers = {name: _number(name, found[name]) for name in _REQUIRED}
    calibration = Calibration(
        **numbers,
        shape=shape or _shape(found.get("max_shape") or flat.get("shape")),
        orientation=int(_number("orientation", found.get("orientation") or 3)),
    )
    _require_sound(calibration)
    return calibration


def calibration_from_poni(text: str, *, shape: tuple[int, int] | None = None) -> Calibration:
    r"""Build a calibration from the text of a `.poni` file.

    Parameters
    ----------
    text
        Lines `Key: value`, any version of the format; of several blocks the last counts.
    shape
        Rows and columns of the detector, if the file does not state them.

    Raises
    ------
    ReductionError
        As of `calibration_from`.

    Examples
    --------
    >>> text = "Detector_config: {\"pixel1\": 1e-4, \"pixel2\": 1e-4}\nDistance: 0.2\nPoni1: 0.1\nPoni2: 0.1"
    >>> calibration_from_poni(text + "\nRot1: 0\nRot2: 0\nRot3: 0\nWavelength: 1.8e-11").pixel1
    0.0001
    """
    lines = (line.split("#", 1)[0].partition(":") for line in text.splitlines())
    values = {key.strip(): value.strip() for key, colon, value in lines if colon and key.strip()}
    if not {key.lower() for key in values} & {"distance", "dist"}:
        raise _invalid("expected a .poni file with lines such as 'Distance: 0.2', found none")
    return calibration_from(
        {key: None if value == "None" else value for key, value in values.items()}, shape=shape
    )


def energy_of(wavelength: float) -> float:
    """Return the photon energy [eV] of a wavelength [angstrom]; a ReductionError if it is not positive."""
    if not wavelength > 0.0:
        raise _invalid(f"expected a positive wavelength [angstrom], found {wavelength:g}")
    return HC / wavelength


def describe(calibration: Calibration) -> dict[str, Any]:
    """Return a calibration as plain JSON values that `calibration_from` reads."""
    values = {each.name: getattr(calibration, each.name) for each in fields(calibration)}
    return values | {"shape": list(calibration.shape) if calibration.shape else None}


def _invalid(message: str) -> ReductionError:
    return ReductionError(message, ReasonCode.CALIBRATION_MISSING)


def _detector(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pixels, the shape and the orientation of the stated detector."""
    config = flat.get("detector_config") or {}
    if isinstance(config, str):
        try:
            config = json.loads(config)
        except ValueError:
            raise _invalid(f"Detector_config is no JSON: {config[:60]!r}") from None
    if not isinstance(config, Mapping):
        raise _invalid(f"expected Detector_config as a mapping, found {str(config)[:60]!r}")
    name = str(flat.get("detector") or "")
    known = _known_detector(name) if name.lower() not in {"", "detector"} else {}
    return known | {key: value for key, value in config.items() if value is not None}


def _known_detector(name: str) -> dict[str, Any]:
    """Return the pixels of a detector by its name; empty if pyFAI does not know it.

    Its shape is left out, because detectors are binned and cropped.
    """
    with needs_extra("scattering"):
        from pyFAI.detectors import ALL_DETECTORS

    made = ALL_DETECTORS.get(re.sub(r"[\s-]+", "_", name.lower())) or ALL_DETECTORS.get(name.lower())
    if made is None:
        return {}
    detector = made()
    pixels = {"pixel1": detector.pixel1, "pixel2": detector.pixel2}
    return {key: value for key, value in pixels.items() if value}


def _shape(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    try:
        rows, columns = (int(each) for each in value)
    except (TypeError, ValueError, OverflowError):
        raise _invalid(f"expected the detector's shape as rows and columns, found {value!r}") from None
    return rows, columns


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise _invalid(f"expected {name} of the calibration as a number, found {value!r}") from None
    if not math.isfinite(number):
        raise _invalid(f"expected a finite {name} in the calibration, found {number}")
    return number


def _require_sound(calibration: Calibration) -> None:
    checks = (
        ("wavelength", calibration.wavelength, _WAVELENGTHS),
        ("distance", calibration.distance, _DISTANCES),
        ("pixel1", calibration.pixel1, _PIXELS),
        ("pixel2", calibration.pixel2, _PIXELS),
    )
    for name, value, (low, high) in checks:
        if not low <= value <= high:
            raise _invalid(
                f"the calibration's {name} is {value:g} m: expected {low:g} to {high:g} m; lengths of a "
                "calibration are in metres"
            )
    if calibration.orientation not in {1, 2, 3, 4}:
        raise _invalid(f"expected a detector orientation of 1 to 4, found {calibration.orientation}")
