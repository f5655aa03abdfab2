"""Which part of a pattern becomes G(r), where nobody says, and why."""

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import FloatArray, ScatteringPattern
from bluesky_xpdml.reduction.channels import noise_level
from bluesky_xpdml.reduction.transform import sine_transform

FIRST_Q = 0.5
"""Below, beam stop and small-angle scattering rule [1/angstrom]."""
WINDOW = 2.0
"""Over which the strength of the oscillations is judged [1/angstrom]."""
LEAST_SIGNAL = 0.3
"""Variance of the oscillations of F(Q) over that of its noise, below which Q only adds noise."""
GROWTH = 1.5
"""Thermal motion lets F(Q) fade; where its amplitude grows again by this factor, errors have taken over."""
USUAL_R_POLY = 0.9
"""No bonds but those of hydrogen are shorter [angstrom]."""
LARGEST_R_POLY = 1.4
"""[angstrom]"""
R_POLY_PART = 0.6
"""Of the shortest distance in the sample, where r_poly is safe."""
USED_PART = 0.96
"""Of a pattern: bins at its end hold the few pixels in the detector's corners, and its edges."""
SIGNIFICANT = 3.0
"""A bin counts while its intensity exceeds its standard uncertainty by this factor."""


def first_q(pattern: ScatteringPattern) -> tuple[float, str]:
    """Return where F(Q) begins [1/angstrom], and why.

    Examples
    --------
    >>> first_q(ScatteringPattern(q=np.array([0.2, 0.6, 1.0]), intensity=np.ones(3)))[0]
    0.6
    """
    above = pattern.q[pattern.q >= FIRST_Q]
    q_min = float(above[0]) if above.size else float(pattern.q[0])
    return q_min, f"first point from {FIRST_Q} 1/angstrom on, above beam stop and small-angle scattering"


def last_q(pattern: ScatteringPattern, q_min: float) -> tuple[float, str]:
    """Return how far the pattern can be used [1/angstrom], and why.

    Examples
    --------
    >>> last_q(ScatteringPattern(q=np.array([0.2, 0.6, 1.0]), intensity=np.array([1.0, 1.0, -1.0])), 0.2)
    (0.6, 'beyond, no intensity stands above its noise')
    """
    noise = 0.0 if pattern.variance is None else SIGNIFICANT * np.sqrt(pattern.variance)
    good = np.flatnonzero((pattern.intensity > noise) & (pattern.q >= q_min))
    if good.size == 0:
        raise ReductionError(
            f"no intensity above its noise from {q_min:.3g} 1/angstrom on: the background scale is too "
            "large, or there is no sample"
        )
    end = float(pattern.q[good[-1]])
    if end > USED_PART * pattern.q[-1]:
        reason = f"{USED_PART} of the pattern, without its few outermost pixels"
        return USED_PART * float(pattern.q[-1]), reason
    return end, "beyond, no intensity stands above its noise"


def choose_q_max(q: FloatArray, f: FloatArray, variance: FloatArray | None) -> tuple[float, str]:
    """Return where to end the transform [1/angstrom], and why.

    Q is worth taking while F(Q) oscillates by more than its noise, which comes from the variances, or else
    from how points differ from their neighbours; and while it fades, as thermal motion makes it.

    Parameters
    ----------
    q
        Momentum transfers up to q_max_inst [1/angstrom], (n,).
    f
        Corrected F(Q) [1/angstrom], (n,).
    variance
        Of F(Q) [1/angstrom^2], (n,), or None.

    Raises
    ------
    ReductionError
        If F(Q) does not oscillate by more than its noise anywhere.

    Examples
    --------
    >>> q = np.linspace(0.5, 25.0, 1000)
    >>> noise = np.random.default_rng(1).normal(0.0, 0.1, 1000)
    >>> q_max, reason = choose_q_max(q, np.sin(2 * q) * np.exp(-0.2 * q) + noise, np.full(1000, 0.01))
    >>> 10.0 < q_max < 16.0, reason.startswith("beyond")
    (True, True)
    """
    ends, power, noise = _windows(q, f, variance)
    strong = np.flatnonzero(power > noise)
    if strong.size == 0:
        raise ReductionError(
            "F(Q) oscillates nowhere by more than its noise: count longer, or check the background"
        )
    last = int(strong[-1])
    # Before the first peak there is little as well; fading begins where F(Q) is strongest.
    strongest = int(np.argmax(power[: last // 2 + 1]))
    fade = strongest + int(np.argmin(power[strongest : last + 1]))
    if power[fade : last + 1].max() > GROWTH**2 * power[fade]:
        reason = f"beyond {ends[fade]:.1f} 1/angstrom F(Q) grows again: errors outweigh the structure"
        return float(ends[fade]), reason
    if last == ends.size - 1:
        return float(q[-1]), "F(Q) oscillates by more than its noise up to q_max_inst"
    return float(ends[last]), f"beyond {ends[last]:.1f} 1/angstrom F(Q) oscillates by no more than its noise"


def _windows(
    q: FloatArray, f: FloatArray, variance: FloatArray | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return ends of windows over q, the variance of F(Q) in them, and what noise alone may make of it."""
    ends, powers, noises = [], [], []
    for end in np.arange(q[-1], q[0] + WINDOW, -0.25 * WINDOW)[::-1]:
        inside = (q > end - WINDOW) & (q <= end)
        n_points = np.count_nonzero(inside)
        if n_points < 10:
            continue
        noise = noise_level(q[inside], f[inside]) ** 2
        if variance is not None:
            noise = float(np.mean(variance[inside]))
        # The variance of noise is itself uncertain; four times that much is no chance.
        least = max(LEAST_SIGNAL, 4.0 * np.sqrt(2.0 / n_points))
        ends.append(end)
        powers.append(np.var(f[inside]))
        noises.append((1.0 + least) * noise)
    return np.array(ends), np.array(powers), np.array(noises)


def choose_r_poly(q: FloatArray, f: FloatArray) -> tuple[float, str]:
    """Return below which distance features of G(r) are taken for errors [angstrom], and why.

    Parameters
    ----------
    q
        Momentum transfers up to q_max_inst [1/angstrom], (n,).
    f
        F(Q) corrected with the usual r_poly of 0.9 angstrom [1/angstrom], (n,).

    Examples
    --------
    >>> q = np.linspace(0.5, 25.0, 1000)
    >>> round(choose_r_poly(q, np.sin(2.0 * q) * np.exp(-0.01 * q**2))[0], 2)
    1.2
    """
    r = np.arange(1.1, 4.0, 0.02)
    g, _ = sine_transform(q, f, r, lorch=True)
    peaks = (g[1:-1] > g[:-2]) & (g[1:-1] >= g[2:]) & (g[1:-1] > 0.4 * g.max())
    if not peaks.any():
        return USUAL_R_POLY, "no first shell was found below 4 angstrom: the usual value"
    first = float(r[1:-1][peaks][0])
    r_poly = float(np.clip(R_POLY_PART * first, USUAL_R_POLY, LARGEST_R_POLY))
    return r_poly, f"{R_POLY_PART} of the shortest strong distance, {first:.2f} angstrom, within 0.9 to 1.4"
