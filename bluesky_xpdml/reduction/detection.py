"""From counted channels to absorption, one detection mode at a time.

==============  ==================
transmission    mu = ln(I0 / It)
fluorescence    mu = If / I0
electron yield  mu = Iy / I0
reference       mu = ln(It / Ir)
mu              as given
==============  ==================
"""

from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, DetectionMode, FloatArray
from bluesky_xpdml.reduction.fluorescence import living_sum

MOST_DROPPED = 0.2
"""A channel of which more than this part is unusable is dead."""
SMALLEST_STEP = 0.02
"""Smallest edge step that counts, where mu has absolute units."""
LARGEST_MU = 1e30
"""Numbers beyond are no absorption in any unit; their squares overflow."""
SIGNIFICANT = 5.0
"""An edge step must exceed the noise of the pre-edge by this factor."""
LOGARITHMS = frozenset({DetectionMode.TRANSMISSION, DetectionMode.REFERENCE})
"""Modes whose absorption has absolute units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Absorption at the points that could be used. Arrays have the shape (n,)."""

    energy: FloatArray
    """Energy as in the scan [eV]."""
    mu: FloatArray
    """Absorption [1 for logarithms, any unit otherwise]."""
    mode: DetectionMode
    remarks: tuple[str, ...] = ()
    """Why other channels were not used, how many points were left out, which signs were turned."""


def is_present(scan: AbsorptionScan, mode: DetectionMode) -> bool:
    """Return whether a scan holds the channels of a mode, dead or alive.

    Parameters
    ----------
    scan
        What was counted.
    mode
        Which channels.

    Examples
    --------
    >>> is_present(AbsorptionScan(energy=np.arange(9.0), mu=np.ones(9)), DetectionMode.TRANSMISSION)
    False
    """
    elements = mode is DetectionMode.FLUORESCENCE and bool(scan.fluorescence_elements)
    return all(
        values is not None or (elements and name == "If") for name, values in _channels(scan, mode).items()
    )


def signal_of(scan: AbsorptionScan, mode: DetectionMode, *, near: float | None = None) -> Signal:
    """Compute the absorption that one detection mode shows.

    Parameters
    ----------
    scan
        What was counted.
    mode
        Which channels to read.
    near
        Where the edge should be [eV]; elements of a fluorescence detector are compared there.

    Raises
    ------
    ReductionError
        If the channels are missing or dead; the message says which and why.

    Examples
    --------
    >>> i0, it = np.array([2.0, 2.0, 2.0, 4.0]), np.array([2.0, 1.0, 1.0, 4.0])
    >>> scan = AbsorptionScan(energy=np.arange(4.0), i0=i0, it=it)
    >>> signal_of(scan, DetectionMode.TRANSMISSION).mu.round(3)
    array([0.   , 0.693, 0.693, 0.   ])
    """
    wanted = _channels(scan, mode)
    remarks: tuple[str, ...] = ()
    if mode is DetectionMode.FLUORESCENCE and scan.fluorescence_elements:
        wanted["If"], remarks = living_sum(scan, near)
    channels = {name: values for name, values in wanted.items() if values is not None}
    if len(channels) < len(wanted):
        missing = ", ".join(name for name in wanted if name not in channels)
        raise ReductionError(f"{mode} needs {' and '.join(wanted)}; the scan has no {missing}")
    if mode is DetectionMode.MU:
        return _kept(scan.energy, channels["mu"], mode, ())
    (name_in, intensity), (name_out, response) = channels.items()
    _require_life(name_out, response)
    intensity, response, turned = _positive(intensity, response, f"{name_in} and {name_out}")
    return _kept(scan.energy, _mu(intensity, response, mode), mode, (*remarks, *turned))


def counted(scan: AbsorptionScan, mode: DetectionMode) -> dict[str, FloatArray]:
    """Return the channels that a mode reads, by the names that people give them.

    Single elements of a fluorescence detector, and their sum where they are given, are left out.

    Parameters
    ----------
    scan
        What was counted.
    mode
        Which channels.

    Examples
    --------
    >>> list(counted(AbsorptionScan(energy=np.arange(9.0), i0=np.ones(9)), DetectionMode.TRANSMISSION))
    ['I0']
    """
    channels = _channels(scan, mode)
    if mode is DetectionMode.FLUORESCENCE and scan.fluorescence_elements:
        del channels["If"]
    return {name: values for name, values in channels.items() if values is not None}


def _channels(scan: AbsorptionScan, mode: DetectionMode) -> dict[str, FloatArray | None]:
    """Return what goes in and what comes out in a mode."""
    return {
        DetectionMode.TRANSMISSION: {"I0": scan.i0, "It": scan.it},
        DetectionMode.FLUORESCENCE: {"I0": scan.i0, "If": scan.fluorescence},
        DetectionMode.ELECTRON_YIELD: {"I0": scan.i0, "Iy": scan.electron_yield},
        DetectionMode.REFERENCE: {"It": scan.it, "Ir": scan.ir},
        DetectionMode.MU: {"mu": scan.mu},
    }[mode]


def _mu(intensity: FloatArray, response: FloatArray, mode: DetectionMode) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        intensity = np.where(intensity > 0.0, intensity, np.nan)
        if mode not in LOGARITHMS:
            return np.asarray(response / intensity)
        response = np.where(response > 0.0, response, np.nan)
        return np.asarray(np.log(intensity / response))


def _positive(
    intensity: FloatArray, response: FloatArray, names: str
) -> tuple[FloatArray, FloatArray, tuple[str, ...]]:
    """Turn the signs of both channels where amplifiers count downwards."""
    with np.errstate(invalid="ignore"):
        negative = np.mean(intensity < 0.0) > 0.5 and np.mean(response < 0.0) > 0.5
    if negative:
        return -intensity, -response, (f"{names} are negative currents; both signs were turned",)
    return intensity, response, ()


def _require_life(name: str, response: FloatArray) -> None:
    """Refuse a response without a spectrum in it; what goes in may well be constant."""
    finite = response[np.isfinite(response)]
    if finite.size == 0:
        raise ReductionError(f"{name} holds no finite number")
    if finite.size > 1 and finite.min() == finite.max():
        raise ReductionError(f"{name} is constant ({finite[0]:.4g}): the detector is dead")


def _kept(energy: FloatArray, mu: FloatArray, mode: DetectionMode, remarks: tuple[str, ...]) -> Signal:
    # Comparing with NaN gives False, so that the bound leaves it out as well.
    keep = np.abs(mu) < LARGEST_MU
    dropped = int(keep.size - np.count_nonzero(keep))
    if dropped > MOST_DROPPED * keep.size:
        raise ReductionError(
            f"{dropped} of {keep.size} points hold NaN or intensities that are not positive, more than "
            f"{MOST_DROPPED:.0%}: the detector is dead, or the columns are exchanged"
        )
    if dropped:
        remarks = (*remarks, f"{dropped} of {keep.size} points with NaN or non-positive intensity left out")
        energy, mu = energy[keep], mu[keep]
    return Signal(energy=energy, mu=mu, mode=mode, remarks=remarks)
