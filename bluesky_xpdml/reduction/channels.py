"""From counted channels to absorption: which channel speaks, and which points are left out.

=============  ==================
transmission   mu = ln(I0 / It)
fluorescence   mu = If / I0
reference      mu = ln(It / Ir)
mu             as given
=============  ==================
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, DetectionMode, FloatArray

MOST_DROPPED = 0.2
"""A channel of which more than this part is unusable is dead."""
SMALLEST_STEP = 0.02
"""Smallest edge step that counts, where mu has absolute units."""
LARGEST_MU = 1e30
"""Numbers beyond are no absorption in any unit; their squares overflow."""
SIGNIFICANT = 5.0
"""An edge step must exceed the noise of the pre-edge by this factor."""


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


def absorption(
    scan: AbsorptionScan,
    *,
    mode: DetectionMode | Literal["auto"] = "auto",
    near: float | None = None,
) -> Signal:
    """Compute the absorption of a scan from the channel that shows it best.

    Transmission is taken where it lives, else fluorescence, else mu as given.

    Parameters
    ----------
    scan
        What was counted.
    mode
        Which channel to use, or `auto`.
    near
        Where the edge should be [eV]; a channel without a rise there gives way to the next.

    Raises
    ------
    ReductionError
        If no channel, or not the one asked for, gives an absorption; the message says why for each.

    Examples
    --------
    >>> i0, it = np.array([2.0, 2.0, 2.0, 4.0]), np.array([2.0, 1.0, 1.0, 4.0])
    >>> signal = absorption(AbsorptionScan(energy=np.arange(4.0), i0=i0, it=it))
    >>> signal.mode, signal.mu.round(3)
    (<DetectionMode.TRANSMISSION: 'transmission'>, array([0.   , 0.693, 0.693, 0.   ]))
    """
    if mode != "auto":
        return _signal(scan, DetectionMode(mode))
    present = [each for each in _ORDER if _is_present(scan, each)]
    dead = []
    for each in present:
        try:
            signal = _signal(scan, each)
            if each != present[-1] and near is not None:
                _require_rise(signal, near)
        except ReductionError as error:
            dead.append(f"{each} not used: {error}")
            continue
        return Signal(energy=signal.energy, mu=signal.mu, mode=each, remarks=(*dead, *signal.remarks))
    raise ReductionError("; ".join(dead) or "the scan holds no channel that gives an absorption")


def noise_level(energy: FloatArray, mu: FloatArray) -> float:
    """Return the noise of a curve: how far points lie from the line between their neighbours [unit of mu].

    The median makes it blind to single glitches, the neighbours to slow structure.

    Parameters
    ----------
    energy
        Strictly ascending energies [eV], (n,).
    mu
        Absorption [any unit], (n,); with fewer than 5 points the result is 0.

    Examples
    --------
    >>> noise_level(np.arange(9.0), 0.1 * np.arange(9.0)) < 1e-12
    True
    """
    if energy.size < 5:
        return 0.0
    deviation = np.abs(neighbour_deviation(energy, mu))
    # np.median costs five times as much as the partition that it makes.
    middle = deviation.size // 2
    return 1.4826 * float(np.partition(deviation, middle)[middle])


def neighbour_deviation(energy: FloatArray, mu: FloatArray) -> FloatArray:
    """Return each inner point's distance from its neighbours' line, scaled to unit noise gain, (n - 2,).

    Parameters
    ----------
    energy
        Strictly ascending energies [eV], (n,).
    mu
        Absorption [any unit], (n,), n > 2.

    Examples
    --------
    >>> neighbour_deviation(np.arange(3.0), np.array([0.0, 3.0, 0.0])).round(3)
    array([2.449])
    """
    left = (energy[2:] - energy[1:-1]) / (energy[2:] - energy[:-2])
    right = 1.0 - left
    deviation = mu[1:-1] - left * mu[:-2] - right * mu[2:]
    return np.asarray(deviation / np.sqrt(1.0 + left**2 + right**2))


_ORDER = (DetectionMode.TRANSMISSION, DetectionMode.FLUORESCENCE, DetectionMode.MU)


def _is_present(scan: AbsorptionScan, mode: DetectionMode) -> bool:
    return all(channel is not None for channel in _channels(scan, mode).values())


def _channels(scan: AbsorptionScan, mode: DetectionMode) -> dict[str, FloatArray | None]:
    """Return what goes in and what comes out in a mode, by the names that people give them."""
    if mode is DetectionMode.TRANSMISSION:
        return {"I0": scan.i0, "It": scan.it}
    if mode is DetectionMode.FLUORESCENCE:
        return {"I0": scan.i0, "If": scan.fluorescence}
    if mode is DetectionMode.REFERENCE:
        return {"It": scan.it, "Ir": scan.ir}
    return {"mu": scan.mu}


def _signal(scan: AbsorptionScan, mode: DetectionMode) -> Signal:
    wanted = _channels(scan, mode)
    channels = {name: values for name, values in wanted.items() if values is not None}
    if len(channels) < len(wanted):
        missing = ", ".join(name for name in wanted if name not in channels)
        raise ReductionError(f"{mode} needs {' and '.join(wanted)}; the scan has no {missing}")
    if mode is DetectionMode.MU:
        return _kept(scan.energy, channels["mu"], mode, ())
    (name_in, intensity), (name_out, response) = channels.items()
    _require_life(name_out, response)
    intensity, response, turned = _positive(intensity, response, f"{name_in} and {name_out}")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        intensity = np.where(intensity > 0.0, intensity, np.nan)
        if mode is DetectionMode.FLUORESCENCE:
            return _kept(scan.energy, response / intensity, mode, turned)
        response = np.where(response > 0.0, response, np.nan)
        return _kept(scan.energy, np.log(intensity / response), mode, turned)


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


def _require_rise(signal: Signal, near: float) -> None:
    """Refuse a channel that shows no edge, where another may."""
    before = (signal.energy > near - 150.0) & (signal.energy < near - 12.0)
    after = (signal.energy > near + 15.0) & (signal.energy < near + 60.0)
    if np.count_nonzero(before) < 5 or not after.any():
        return
    x, level = signal.energy - near, signal.mu[before]
    line = np.polyfit(x[before], level, 1) if np.ptp(x[before]) > 20.0 else np.array([0.0, level.mean()])
    step = float(np.mean(signal.mu[after] - np.polyval(line, x[after])))
    noise = noise_level(signal.energy[before], level)
    floor = SMALLEST_STEP if signal.mode is DetectionMode.TRANSMISSION else 0.0
    if step < max(floor, SIGNIFICANT * noise):
        raise ReductionError(f"no edge near {near:.0f} eV (rise {step:.3g}, noise {noise:.2g})")
