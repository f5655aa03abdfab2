"""G(r) as a measurement gives it: with form factors at every Q instead of their values at Q = 0.

The established calculator weighs the pairs of atoms i, j by f_i(0) f_j(0) / <f(0)>^2, whatever Q. A measured
F(Q) has been divided by <f(Q)>^2, and holds f_i(Q) f_j(Q) / <f(Q)>^2. With the Faber-Ziman partials

    g_ij(r) = R_ij(r)/r - 4 pi rho0 c_i c_j r,   F_ij(Q) = sine transform of g_ij
    F(Q)    = sum_ij f_i(Q) f_j(Q) / <f(Q)>^2 F_ij(Q)
    G(r)    = exp(-(q_damp r)^2 / 2) (2 / pi) int_(q_min)^(q_max) F(Q) sin(Q r) dQ

The form factors of light atoms fall faster, so that their pairs weigh less than at Q = 0: over oxides the two
curves correlate by 0.97 to 0.995.
"""

from collections.abc import Mapping

import numpy as np

from bluesky_xpdml.errors import SimulationError
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.scattering_factors import LARGEST_Q, form_factor
from bluesky_xpdml.simulation.pair_distribution import Instrument, displacements
from bluesky_xpdml.simulation.pair_histogram import PairHistogram

MARGIN = 10.0
"""Pairs are needed so much farther than the curve goes [angstrom]."""


def measured_curve(
    pairs: PairHistogram, *, r_max: float, instrument: Instrument, u_iso: float | Mapping[str, float]
) -> tuple[FloatArray, FloatArray]:
    """Compute r [angstrom] and G(r) [1/angstrom^2], (n,), as a perfect measurement of X-rays would give them.

    The arguments are those of `pair_distribution.curve`, with pairs up to 10 angstrom beyond `r_max`. It
    raises `SimulationError` if they end earlier, and `ReductionError` if there is no form factor for an
    element or q_max.
    """
    if pairs.reach < r_max + MARGIN - 1e-9:
        msg = f"pairs were collected up to {pairs.reach:.2f} angstrom: expected {r_max + MARGIN:.2f} or more"
        raise SimulationError(msg)
    step = pairs.r_step
    size = 1 << (2 * int(pairs.reach / step) - 1).bit_length()
    q: FloatArray = 2.0 * np.pi / (size * step) * np.arange(size // 2 + 1, dtype=np.float64)
    used = slice(*np.searchsorted(q, (instrument.q_min, instrument.q_max)))
    spectrum = np.zeros(q.size)
    spectrum[used] = _structure_function(pairs, q, used, size, displacements(pairs, u_iso))
    # An imaginary spectrum has a sine series.
    g = -2.0 / step * np.fft.irfft(1j * spectrum, size)
    kept = int(np.ceil(r_max / step - 1e-9))
    r: FloatArray = step * np.arange(kept, dtype=np.float64)
    return r, np.asarray(g[:kept] * np.exp(-0.5 * (instrument.q_damp * r) ** 2))


def _structure_function(
    pairs: PairHistogram, q: FloatArray, used: slice, size: int, displacement: FloatArray
) -> FloatArray:
    """Return F(Q) [1/angstrom] of the points that are used."""
    number = pairs.counts.sum()
    share = pairs.counts / number
    # Always the same grid, so that factors are looked up once for all curves.
    known = q[: max(used.stop, int(np.searchsorted(q, LARGEST_Q)))]
    factors = np.array([form_factor(symbol, known)[used] for symbol in pairs.species])
    thermal = factors * np.exp(-0.5 * displacement[:, None] * q[used] ** 2)
    weights = thermal[pairs.first] * thermal[pairs.second] / (share @ factors) ** 2
    last = int(pairs.reach / pairs.r_step)
    peaks = -np.fft.rfft(pairs.values[:, :last], size).imag[:, used] / number
    baseline = -np.fft.rfft(pairs.r_step * np.arange(last), size).imag[used] * pairs.r_step
    ordered = np.where(pairs.first == pairs.second, 1.0, 2.0) * share[pairs.first] * share[pairs.second]
    density = 4.0 * np.pi * pairs.number_density * ordered
    return np.asarray((weights * (peaks - np.outer(density, baseline))).sum(axis=0))
