"""From I(Q) to S(Q), F(Q) and G(r).

=========  =========================================================================================
a          scale, sum(I <f^2>) / sum(I^2) over the upper 40 % of the range: a I -> <f^2>
F(Q)       Q (a I - <f^2>) / <f>^2, less a polynomial Q P(Q) that is no structure
S(Q)       1 + F(Q) / Q
G(r)       (2 / pi) * integral of F(Q) sin(Q r) dQ from q_min to q_max
=========  =========================================================================================

The polynomial has the degree n = r_poly * q_max_inst / pi, so that it removes only features of G(r) below
r_poly; between two whole degrees the two are blended (P. Juhas, T. Davis, C. L. Farrow, S. J. L. Billinge,
J. Appl. Cryst. 46 (2013) 560). Without Compton scattering and multiple scattering in the model the scale is
not an absolute one.

The sines of a grid are cached, so that each further pattern costs one product of a matrix and a vector.
Variances go through the same matrix squared.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.scattering_factors import MeanFactors
from bluesky_xpdml.vocabulary import ReasonCode

SCALED_FROM = 0.6
"""Part of q_max_inst above which the intensity is scaled to the form factors."""
COMPTON_UNCERTAINTY = 0.12
"""Relative standard uncertainty of the scale by Compton scattering and background.

The first shell of nickel moves between 10 and 13 neighbours over background scales that users choose.
"""
DEGREES = (1.0, 30.0)
"""Range of the degree of the polynomial: below it corrects nothing, above it fits the structure itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureFunction:
    """F(Q) before its correction. Arrays have the shape (n,)."""

    f: FloatArray
    """[1/angstrom]"""
    variance: FloatArray | None
    """[1/angstrom^2]"""
    scale: float
    """Factor a of the intensity [electron units per unit of the intensity]."""
    uncertainty: float
    """Relative standard uncertainty of the scale."""


def structure_function(
    q: FloatArray, intensity: FloatArray, variance: FloatArray | None, factors: MeanFactors
) -> StructureFunction:
    """Scale an intensity to the form factors and return F(Q), uncorrected."""
    scale = _scale(q, intensity, factors.mean_square, SCALED_FROM, 1.0)
    gain = q / factors.squared_mean
    return StructureFunction(
        f=gain * (scale * intensity - factors.mean_square),
        variance=None if variance is None else (gain * scale) ** 2 * variance,
        scale=scale,
        uncertainty=_uncertainty(q, intensity, factors.mean_square, scale),
    )


def remove_polynomial(q: FloatArray, f: FloatArray, r_poly: float) -> FloatArray:
    """Return F(Q) less the polynomial without constant term that fits it best, (n,).

    Raises
    ------
    ReductionError
        If the degree is implausible for the range.
    """
    degree = r_poly * float(q[-1]) / np.pi
    if not DEGREES[0] <= degree <= min(DEGREES[1], 0.5 * q.size):
        low, high = (limit * np.pi / q[-1] for limit in DEGREES)
        raise ReductionError(
            f"r_poly = {r_poly:g} angstrom asks for a polynomial of degree {degree:.3g} over {q.size} "
            f"points; expected r_poly between {low:.2g} and {high:.2g} for q_max_inst = {q[-1]:.4g}",
            ReasonCode.SETTINGS_INVALID,
        )
    whole = int(degree)
    basis = _basis(np.ascontiguousarray(q).tobytes(), whole + 1)
    parts = np.einsum("ij,i->j", basis, f)
    parts[whole] *= degree - whole
    return np.asarray(f - np.einsum("ij,j->i", basis, parts))


@lru_cache(maxsize=8)
def _basis(grid: bytes, degree: int) -> FloatArray:
    """Return an orthogonal basis of the powers 1 to degree; the first columns serve the lower degrees."""
    q = np.frombuffer(grid)
    return np.asarray(np.linalg.qr((q / q[-1])[:, None] ** np.arange(1, degree + 1))[0])


def _scale(q: FloatArray, intensity: FloatArray, target: FloatArray, low: float, high: float) -> float:
    chosen = (q >= low * q[-1]) & (q <= high * q[-1])
    upper, counted = target[chosen], intensity[chosen]
    power = float(np.sum(counted**2))
    product = float(np.sum(counted * upper))
    if not (product > 0.0 and power > 0.0):
        raise ReductionError(
            f"no intensity is left above Q = {low * q[-1]:.3g} 1/angstrom (sum {np.sum(counted):.3g}): the "
            "background scale is too large, or q_max_inst lies beyond the data",
            ReasonCode.SIGNAL_TO_NOISE,
        )
    return product / power


def _uncertainty(q: FloatArray, intensity: FloatArray, target: FloatArray, scale: float) -> float:
    """Return how much the scale depends on the range that it is read from, and on Compton scattering."""
    deviations = []
    for low in (0.4, 0.6, 0.8):
        try:
            deviations.append(abs(_scale(q, intensity, target, low, low + 0.2) / scale - 1.0))
        except ReductionError:
            deviations.append(1.0)
    return min(float(np.hypot(max(deviations), COMPTON_UNCERTAINTY)), 1.0)


def sine_transform(
    q: FloatArray,
    f: FloatArray,
    r: FloatArray,
    *,
    q_min: float | None = None,
    q_max: float | None = None,
    lorch: bool = False,
    variance: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray | None]:
    """Transform F(Q) [1/angstrom], (n,), to G(r) [1/angstrom^2] at the distances r [angstrom], (m,).

    The limits of the integral are the first and the last q if None; the sines of a grid of q are cached for
    any limits. `lorch` damps F(Q) by sin(x) / x with x = pi Q / q_max (E. Lorch, J. Phys. C 2 (1969) 229).
    The second result is the variance of G(r) [1/angstrom^4], None if F(Q) has none [1/angstrom^2]. A
    ReductionError is raised if fewer than two points lie between the limits.
    """
    end = float(q[-1]) if q_max is None else q_max
    weights = _weights(q, float(q[0]) if q_min is None else q_min, end)
    if lorch:
        weights = weights * np.sinc(q / end)
    sines, squares = _matrices(np.ascontiguousarray(q).tobytes(), np.ascontiguousarray(r).tobytes())
    # The threads of a matrix product wait for each other on busy machines, far longer than this takes.
    g = np.asarray(np.einsum("ij,j->i", sines, weights * f))
    if variance is None:
        return g, None
    # Single precision is ample for a variance.
    spread = (weights**2 * variance).astype(np.float32)
    return g, np.asarray(np.einsum("ij,j->i", squares, spread), dtype=float)


def _weights(q: FloatArray, q_min: float, q_max: float) -> FloatArray:
    """Return the weights of the trapezoidal rule between the limits, 0 elsewhere."""
    first = int(np.searchsorted(q, q_min - 1e-9))
    last = int(np.searchsorted(q, q_max + 1e-9, side="right"))
    if last - first < 2:
        raise ReductionError(
            f"expected at least two points from q_min = {q_min:g} to q_max = {q_max:g} 1/angstrom; the "
            f"pattern runs from {q[0]:g} to {q[-1]:g}",
            ReasonCode.Q_RANGE,
        )
    halves = 0.5 * np.diff(q[first:last])
    weights = np.zeros_like(q)
    weights[first : last - 1] += halves
    weights[first + 1 : last] += halves
    return weights


# A beamline uses few grids; one of 1500 by 3000 points takes 54 megabytes.
@lru_cache(maxsize=4)
def _matrices(q: bytes, r: bytes) -> tuple[FloatArray, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    sines = np.sin(np.outer(np.frombuffer(r), np.frombuffer(q)))
    sines *= 2.0 / np.pi
    single = sines.astype(np.float32)
    single *= single
    return sines, single
