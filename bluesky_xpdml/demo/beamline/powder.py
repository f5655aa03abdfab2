"""Powder patterns of crystals: Bragg peaks and thermal diffuse scattering, from the cell and its atoms.

For N atoms a cell of volume V that move independently with displacements U, and reciprocal vectors H::

    F_H  = sum_i f_i exp(-U_i H^2 / 2) exp(i H r_i)
    I(Q) = [sum_i f_i^2 (1 - exp(-U_i Q^2)) + sum_H |F_H|^2 2 pi^2 / (V H^2) delta(Q - H)] / N

The first sum makes up for what the second loses to thermal motion, so that I(Q) approaches <f^2>: the Laue
term is in it. Q I(Q) of the peaks is convolved with the resolution, a Gaussian of standard deviation q_damp.
This is a sum over reciprocal space; nothing in it is shared with the calculator of G(r), which sums pairs.
"""

import numpy as np

from bluesky_xpdml.errors import SimulationError
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.scattering_factors import form_factor
from bluesky_xpdml.simulation.structure import Structure

TAIL = 6.0
"""Peaks end this many standard deviations from their centre."""
POINTS_PER_WIDTH = 3.0
"""The grid must have as many points in a standard deviation of the resolution."""


def powder_pattern(structure: Structure, q: FloatArray, *, u_iso: float, q_damp: float) -> FloatArray:
    """Compute the coherent scattering of a powder.

    Parameters
    ----------
    structure
        Cell and atoms.
    q
        Momentum transfer [1/angstrom], evenly spaced from above 0, (n,).
    u_iso
        Isotropic displacement of every atom [angstrom^2].
    q_damp
        Standard deviation of the resolution [1/angstrom].

    Returns
    -------
    FloatArray
        Intensity [electron units per atom], (n,).

    Raises
    ------
    SimulationError
        If the grid is uneven, begins at 0, or is too coarse for the resolution.

    Examples
    --------
    >>> cube = Structure(lattice=3.0 * np.eye(3), fractional=np.zeros((1, 3)), species=("Cu",))
    >>> q = np.arange(0.5, 12.0, 0.005)
    >>> pattern = powder_pattern(cube, q, u_iso=0.005, q_damp=0.03)
    >>> strongest = float(q[np.argmax(pattern)])
    >>> round(strongest, 1) == round(2.0 * np.pi / 3.0, 1)
    True
    """
    step = _require_grid(q, q_damp)
    factors = {symbol: form_factor(symbol, q) for symbol in sorted(set(structure.species))}
    thermal = np.exp(-u_iso * q**2)
    diffuse = np.zeros_like(q)
    for symbol in structure.species:
        diffuse += factors[symbol] ** 2 * (1.0 - thermal)
    lengths, amounts = _peaks(structure, q, factors, u_iso)
    place = (lengths - q[0]) / step
    whole = np.floor(place).astype(np.int64)
    part = place - whole
    weighted = amounts * lengths / step
    peaks = np.bincount(whole, weighted * (1.0 - part), q.size) + np.bincount(
        whole + 1, weighted * part, q.size
    )
    reach = int(np.ceil(TAIL * q_damp / step))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / q_damp) ** 2)
    bragg = np.convolve(peaks, kernel / kernel.sum(), mode="same") / q
    return np.asarray((diffuse + bragg) / len(structure.species))


def _peaks(
    structure: Structure, q: FloatArray, factors: dict[str, FloatArray], u_iso: float
) -> tuple[FloatArray, FloatArray]:
    """Return length and integrated intensity of every reciprocal vector on the grid."""
    indices = _reflections(structure.lattice, float(q[-1]))
    lengths = np.linalg.norm(indices @ _reciprocal(structure.lattice), axis=1)
    inside = (lengths > q[0]) & (lengths < q[-1])
    indices, lengths = indices[inside], lengths[inside]
    amplitude = np.zeros(lengths.size, dtype=np.complex128)
    for symbol, factor in factors.items():
        phases = np.zeros(lengths.size, dtype=np.complex128)
        for position, species in zip(structure.fractional, structure.species, strict=True):
            if species == symbol:
                phases += np.exp(2.0j * np.pi * (indices @ position))
        amplitude += np.interp(lengths, q, factor) * phases
    intensity = np.abs(amplitude) ** 2 * np.exp(-u_iso * lengths**2)
    return lengths, np.asarray(intensity * 2.0 * np.pi**2 / (structure.volume * lengths**2))


def _reflections(lattice: FloatArray, longest: float) -> FloatArray:
    """Return the indices of a box that holds every reciprocal vector up to a length, (n, 3)."""
    most = np.floor(longest * np.linalg.norm(lattice, axis=1) / (2.0 * np.pi)).astype(int)
    axes = [np.arange(-limit, limit + 1) for limit in most]
    box = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return box.astype(np.float64)


def _reciprocal(lattice: FloatArray) -> FloatArray:
    return np.asarray(2.0 * np.pi * np.linalg.inv(lattice).T)


def _require_grid(q: FloatArray, q_damp: float) -> float:
    steps = np.diff(q)
    step = float(steps.mean()) if steps.size else 0.0
    if not (step > 0.0 and q[0] > 0.0 and np.allclose(steps, step, rtol=1e-6)):
        raise SimulationError("expected an evenly spaced, ascending grid of Q above 0")
    if q_damp < POINTS_PER_WIDTH * step:
        msg = (
            f"q_damp {q_damp} on a grid of {step:.4g} 1/angstrom: expected at least {POINTS_PER_WIDTH} steps"
        )
        raise SimulationError(msg)
    return step
