"""From F(Q) to G(r): G(r) = (2 / pi) * integral of F(Q) sin(Q r) dQ from q_min to q_max.

The sines of a grid are kept, so that each further pattern costs one product of a matrix and a vector.
Variances go through the same matrix squared.
"""

from functools import lru_cache

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import FloatArray


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
    """Transform F(Q) to G(r).

    Parameters
    ----------
    q
        Momentum transfers [1/angstrom], ascending, (n,). The sines of this grid are kept for any limits.
    f
        Reduced structure function [1/angstrom], (n,).
    r
        Distances [angstrom], (m,).
    q_min, q_max
        Where the integral begins and ends [1/angstrom]; at the first and the last q if None.
    lorch
        Whether to damp F(Q) by sin(x) / x with x = pi Q / q_max (E. Lorch, J. Phys. C 2 (1969) 229).
    variance
        Of F(Q) [1/angstrom^2], (n,).

    Returns
    -------
    g, variance
        G(r) [1/angstrom^2] and its variance [1/angstrom^4], both (m,); None where `variance` was None.

    Raises
    ------
    ReductionError
        If fewer than two points lie between the limits.

    Examples
    --------
    >>> q, r = np.linspace(0.0, 30.0, 3001), np.array([1.0, 2.0, 3.0])
    >>> g, _ = sine_transform(q, np.sin(2.0 * q) * np.exp(-0.01 * q**2), r)
    >>> g.round(2)
    array([-0.  ,  2.82, -0.  ])
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
    """Return the weights of the trapezoidal rule over the points between the limits, 0 elsewhere."""
    first = int(np.searchsorted(q, q_min - 1e-9))
    last = int(np.searchsorted(q, q_max + 1e-9, side="right"))
    if last - first < 2:
        raise ReductionError(
            f"expected at least two points from q_min = {q_min:g} to q_max = {q_max:g} 1/angstrom; the "
            f"pattern runs from {q[0]:g} to {q[-1]:g}"
        )
    halves = 0.5 * np.diff(q[first:last])
    weights = np.zeros_like(q)
    weights[first : last - 1] += halves
    weights[first + 1 : last] += halves
    return weights


# Few grids are enough for a beamline; one of 1500 by 3000 points takes 54 megabytes.
@lru_cache(maxsize=4)
def _matrices(q: bytes, r: bytes) -> tuple[FloatArray, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    sines = np.sin(np.outer(np.frombuffer(r), np.frombuffer(q)))
    sines *= 2.0 / np.pi
    single = sines.astype(np.float32)
    single *= single
    return sines, single
