"""Dead time of counting detectors: what was missed while pulses were processed."""

import math
from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.composition import parse_composition


def deadtime_corrected(
    counts: FloatArray, icr: FloatArray, ocr: FloatArray, *, fast_deadtime: float = 0.0
) -> FloatArray:
    r"""Correct the counts in a region of interest for dead time.

    The slow channel misses 1 - OCR / ICR of the pulses, wherever they lie in the spectrum::

        corrected = counts * x / OCR,    ICR = x exp(-x tau)

    The fast channel, which counts the ICR, has a paralysable dead time tau itself; with tau = 0 the ICR is
    taken as true. (Knoll, Radiation Detection and Measurement, 4th ed. (2010), chapter 4.)

    Parameters
    ----------
    counts
        Counts in the region of interest, (n,).
    icr, ocr
        Input and output count rates of the same element [1/s], (n,); both may be counts over the same time
        where `fast_deadtime` is 0.
    fast_deadtime
        tau [s]; about 1e-7 for digital processors.

    Returns
    -------
    FloatArray
        Counts that would have been seen, (n,); NaN where OCR is not positive, or where no true rate
        gives the ICR.

    Raises
    ------
    ReductionError
        If the arrays differ in length, or the dead time is negative.

    Examples
    --------
    >>> deadtime_corrected(np.array([100.0]), np.array([2e5]), np.array([1.6e5]))
    array([125.])
    """
    if not counts.shape == icr.shape == ocr.shape:
        raise ReductionError(
            f"expected counts, ICR and OCR of one length, found {counts.size}, {icr.size} and {ocr.size}"
        )
    if not (np.isfinite(fast_deadtime) and fast_deadtime >= 0.0):
        raise ReductionError(f"expected a dead time of 0 s or more, found {fast_deadtime}")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        true_rate = _true_rate(icr, fast_deadtime)
        return np.asarray(np.where((ocr > 0.0) & (icr >= 0.0), counts * true_rate / ocr, np.nan))


def _true_rate(icr: FloatArray, deadtime: float) -> FloatArray:
    """Invert ICR = x exp(-x tau) on its rising branch, where x tau < 1."""
    if deadtime == 0.0:
        return icr
    from scipy.special import lambertw

    argument = -icr * deadtime
    possible = argument > -np.exp(-1.0)
    rate = -lambertw(np.where(possible, argument, 0.0)).real / deadtime  # type: ignore[call-overload]
    return np.asarray(np.where(possible, rate, np.nan))


LARGEST_AMPLIFICATION = 20.0
"""A correction that multiplies noise by more than this is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfAbsorption:
    """What the sample is and how it stands; without these the correction is a guess.

    Examples
    --------
    >>> SelfAbsorption(composition="Fe2O3", incidence=45.0, exit=45.0).composition
    'Fe2O3'
    """

    composition: str
    """Formula of the sample with everything in it, the binder too."""
    incidence: float
    """Angle between the incident beam and the surface [degrees]."""
    exit: float
    """Angle between the direction of the detector and the surface [degrees]."""


def self_absorption_ratio(correction: SelfAbsorption, element: str, edge: str) -> float:
    """Return beta: what else absorbs on the way in and out, in jumps of the absorbing shell.

    Parameters
    ----------
    correction
        Composition and geometry.
    element, edge
        The absorbing shell.

    Raises
    ------
    ReductionError
        If the element is not in the composition, an angle is not within 0 to 90 degrees, or the edge is
        not tabulated.

    Examples
    --------
    >>> round(self_absorption_ratio(SelfAbsorption(composition="Fe", incidence=45, exit=45), "Fe", "K"), 2)
    0.34
    """
    import xraydb

    amounts = parse_composition(correction.composition)
    if element not in amounts:
        raise ReductionError(
            f"expected {element} in the composition of the sample, found {correction.composition}"
        )
    for name, angle in (("incidence", correction.incidence), ("exit", correction.exit)):
        if not 0.0 < angle <= 90.0:
            raise ReductionError(f"expected an angle of {name} above 0 and up to 90 degrees, found {angle:g}")
    shell = xraydb.xray_edge(element, edge)
    if shell is None:
        raise ReductionError(f"no cross sections are tabulated for the {edge} edge of {element}")
    masses = {symbol: amount * xraydb.atomic_mass(symbol) for symbol, amount in amounts.items()}

    def total(energy: float) -> float:
        return float(sum(mass * xraydb.mu_elam(symbol, energy) for symbol, mass in masses.items()))

    below, above = total(shell.energy - 1.0), total(shell.energy + 1.0)
    geometry = math.sin(math.radians(correction.incidence)) / math.sin(math.radians(correction.exit))
    return float((below + total(_line_energy(element, edge)) * geometry) / (above - below))


def corrected(norm: FloatArray, beta: float) -> FloatArray:
    """Undo the self-absorption of a normalised spectrum.

    Parameters
    ----------
    norm
        Measured, 0 before and 1 behind the edge, (n,).
    beta
        From `self_absorption_ratio`.

    Raises
    ------
    ReductionError
        If the spectrum rises so high that no sample of this composition, thick and in this geometry, can
        show it, or nearly so.

    Examples
    --------
    >>> true = np.array([0.0, 1.5, 1.0])
    >>> corrected(true * (1.0 + 2.0) / (true + 2.0), 2.0).round(6)
    array([0. , 1.5, 1. ])
    """
    room = 1.0 + beta - norm
    # dx/dm = beta (1 + beta) / room^2 is how noise grows.
    least = math.sqrt(beta * (1.0 + beta) / LARGEST_AMPLIFICATION)
    if room.min() < least:
        raise ReductionError(
            f"the spectrum rises to {norm.max():.2f} edge steps: a thick sample of this composition in this "
            f"geometry cannot show more than {1.0 + beta - least:.2f}; check composition and angles, or the "
            "sample is not thick"
        )
    return np.asarray(norm * beta / room)


def _line_energy(element: str, edge: str) -> float:
    """Return the mean energy of the fluorescence lines of a shell, weighted by their strength [eV]."""
    import xraydb

    lines = [line for line in xraydb.xray_lines(element).values() if line.initial_level == edge]
    if not lines:
        raise ReductionError(f"no fluorescence lines are tabulated for the {edge} edge of {element}")
    strength = sum(line.intensity for line in lines)
    return float(sum(line.energy * line.intensity for line in lines) / strength)
