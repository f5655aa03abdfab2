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
    q_max: float | None = None,
    lorch: bool = False,
    variance: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray | None]:
    """Transform F(Q) to G(r).

    Parameters
    ----------
    q
        Momentum transfers [1/angstrom], ascending, (n,). The grid is what is kept, whatever `q_max` is.
    f
        Reduced structure function [1/angstrom], (n,).
    r
        Distances [angstrom], (m,).
    q_max
        Where the integral ends [1/angstrom]; at the last q if None.
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
        If fewer than two points lie below q_max.

    Examples
    --------
    >>> q, r = np.linspace(0.0, 30.0, 3001), np.array([1.0, 2.0, 3.0])
    >>> g, _ = sine_transform(q, np.sin(2.0 * q) * np.exp(-0.01 * q**2), r)
    >>> g.round(2)
    array([-0.  ,  2.82, -0.  ])
    """
    weights = _weights(q, float(q[-1]) if q_max is None else q_max)
    if lorch:
        weights = weights * np.sinc(q / (q[-1] if q_max is None else q_max))
    sines, squares = _matrices(np.ascontiguousarray(q).tobytes(), np.ascontiguousarray(r).tobytes())
    g = np.asarray(sines @ (weights * f))
    if variance is None:
        return g, None
    # Single precision is ample for a variance.
    return g, np.asarray(squares @ (weights**2 * variance).astype(np.float32), dtype=float)


def _weights(q: FloatArray, q_max: float) -> FloatArray:
    """Return the weights of the trapezoidal rule over the points up to q_max, 0 beyond."""
    last = int(np.searchsorted(q, q_max + 1e-9, side="right"))
    if last < 2:
        raise ReductionError(
            f"expected at least two points up to q_max = {q_max:g} 1/angstrom; the pattern begins at {q[0]:g}"
        )
    halves = 0.5 * np.diff(q[:last])
    weights = np.zeros_like(q)
    weights[: last - 1] += halves
    weights[1:last] += halves
    return weights


# Two grids are enough for a beamline; each may hold a hundred megabytes.
@lru_cache(maxsize=2)
def _matrices(q: bytes, r: bytes) -> tuple[FloatArray, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    sines = np.sin(np.outer(np.frombuffer(r), np.frombuffer(q)))
    sines *= 2.0 / np.pi
    single = sines.astype(np.float32)
    single *= single
    return sines, single
