"""Corrections of measured fluorescence: dead time of the detector, and self-absorption in the sample.

Self-absorption: a thick, concentrated sample damps its own white line. For a sample so thick that nothing
passes, with incidence angle phi and exit angle theta (Troeger et al., Phys. Rev. B 46 (1992) 3283; Booth and
Bridges, Phys. Scr. T115 (2005) 202)::

    If / I0 ~ mu_a(E) / (mu_tot(E) / sin(phi) + mu_tot(E_f) / sin(theta))

mu_a is what the absorbing shell adds, in steps of its own jump x; everything else is beta::

    m = x (1 + beta) / (x + beta)        x = m beta / (1 + beta - m)
    beta = (mu_other(E0) + mu_tot(E_f) sin(phi) / sin(theta)) / jump

m is the measured, x the true spectrum, both 0 before and 1 far behind the edge. Cross sections are those
of Elam, Ravel and Sieber (Radiat. Phys. Chem. 63 (2002) 121). Their slow fall with the energy is left to the
normalisation; samples that are not thick are corrected too much.
"""

import math
from dataclasses import dataclass

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.composition import parse_composition
from bluesky_xpdml.vocabulary import ReasonCode


def correct_deadtime(
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
        if `fast_deadtime` is 0.
    fast_deadtime
        tau [s]; about 1e-7 for digital processors.

    Returns
    -------
    FloatArray
        Counts that would have been seen, (n,); NaN if OCR is not positive or no true rate
        yields the ICR.

    Raises
    ------
    ReductionError
        If the arrays differ in length, or the dead time is negative.

    Examples
    --------
    >>> correct_deadtime(np.array([100.0]), np.array([2e5]), np.array([1.6e5]))
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
    # So small a product has lost its digits, and the correction is 1.
    rate = np.where(argument > -1e-200, icr, rate)
    return np.asarray(np.where(possible, rate, np.nan))


LARGEST_AMPLIFICATION = 20.0
"""A correction that multiplies noise by more than this is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfAbsorption:
    """Composition and geometry of a thick sample."""

    composition: str
    """Formula of the whole sample, with its binder."""
    incidence: float
    """Angle between the incident beam and the surface [degrees]."""
    exit: float
    """Angle between the direction of the detector and the surface [degrees]."""


def self_absorption_ratio(correction: SelfAbsorption, element: str, edge: str) -> float:
    """Return beta of the formula above: all other absorption, in jumps of the absorbing shell."""
    import xraydb

    amounts = parse_composition(correction.composition)
    if element not in amounts:
        raise ReductionError(
            f"expected {element} in the composition of the sample, found {correction.composition}",
            ReasonCode.SELF_ABSORPTION,
        )
    for name, angle in (("incidence", correction.incidence), ("exit", correction.exit)):
        if not 0.0 < angle <= 90.0:
            raise ReductionError(
                f"expected an angle of {name} above 0 and up to 90 degrees, found {angle:g}",
                ReasonCode.SETTINGS_INVALID,
            )
    shell = xraydb.xray_edge(element, edge)
    if shell is None:
        raise ReductionError(
            f"no cross sections are tabulated for the {edge} edge of {element}", ReasonCode.SELF_ABSORPTION
        )
    masses = {symbol: amount * xraydb.atomic_mass(symbol) for symbol, amount in amounts.items()}

    def total(energy: float) -> float:
        return float(sum(mass * xraydb.mu_elam(symbol, energy) for symbol, mass in masses.items()))

    below, above = total(shell.energy - 1.0), total(shell.energy + 1.0)
    geometry = math.sin(math.radians(correction.incidence)) / math.sin(math.radians(correction.exit))
    return float((below + total(_line_energy(element, edge)) * geometry) / (above - below))


def correct_self_absorption(norm: FloatArray, beta: float) -> FloatArray:
    """Undo the self-absorption of a normalised spectrum, x = m beta / (1 + beta - m).

    Raises
    ------
    ReductionError
        If the spectrum rises higher than that of a thick sample of this composition in this geometry can.
    """
    room = 1.0 + beta - norm
    # dx/dm = beta (1 + beta) / room^2 is how noise grows.
    least = math.sqrt(beta * (1.0 + beta) / LARGEST_AMPLIFICATION)
    if room.min() < least:
        raise ReductionError(
            f"the spectrum rises to {norm.max():.2f} edge steps: a thick sample of this composition in this "
            f"geometry cannot show more than {1.0 + beta - least:.2f}; check composition and angles, or the "
            "sample is not thick",
            ReasonCode.SELF_ABSORPTION,
        )
    return np.asarray(norm * beta / room)


def _line_energy(element: str, edge: str) -> float:
    """Return the mean energy of the fluorescence lines of a shell, weighted by their strength [eV]."""
    import xraydb

    lines = [line for line in xraydb.xray_lines(element).values() if line.initial_level == edge]
    if not lines:
        raise ReductionError(
            f"no fluorescence lines are tabulated for the {edge} edge of {element}",
            ReasonCode.SELF_ABSORPTION,
        )
    strength = sum(line.intensity for line in lines)
    return float(sum(line.energy * line.intensity for line in lines) / strength)
