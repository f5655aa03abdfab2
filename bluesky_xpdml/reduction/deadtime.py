"""Dead time of counting detectors: what was missed while pulses were processed."""

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import FloatArray


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
