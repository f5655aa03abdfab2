"""Intensities of a total-scattering measurement: powder, Compton scattering, container and air.

The intensity in a direction of momentum transfer Q, in electron units and before geometry::

    I(Q) = sample (I_coherent + R sum c_i S_i) + background (silica + air)

with the incoherent scattering functions S_i and R = (E'/E)^2 for the recoil. The container is silica, whose
shells of neighbours end in a continuum at R0, the air is N2::

    silica   <f^2> + sum c_i n_ij f_i f_j sinc(Q r_ij) exp(-s_ij^2 Q^2 / 2) - <f>^2 4 pi rho h(Q R0) / Q^3
    N2       f^2 (1 + sinc(Q d)),   sinc x = sin x / x,   h(x) = sin x - x cos x

The coherent scattering of a powder is, for N atoms a cell of volume V that move independently with
displacements U, and reciprocal vectors H::

    F_H  = sum_i f_i exp(-U_i H^2 / 2) exp(i H r_i)
    I(Q) = [sum_i f_i^2 (1 - exp(-U_i Q^2)) + sum_H |F_H|^2 2 pi^2 / (V H^2) delta(Q - H)] / N

The first sum makes up for what the second loses to thermal motion, so that I(Q) approaches <f^2>: the Laue
term is in it. Q I(Q) of the peaks is convolved with the resolution, a Gaussian of standard deviation q_damp.
This is a sum over reciprocal space; it shares nothing with the calculator of G(r), which sums pairs.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from bluesky_xpdml.demo.beamline.samples import ScatteringSample
from bluesky_xpdml.errors import SimulationError
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.calibration import energy_of
from bluesky_xpdml.reduction.scattering_factors import compton, form_factor, mean_factors
from bluesky_xpdml.simulation.structure import Structure

REST_ENERGY = 510998.95
"""Of the electron [eV]."""
N2_LENGTH = 1.098
"""Bond length of nitrogen [angstrom]."""
SILICA_DENSITY = 0.066
"""Atoms a volume of fused silica [1/angstrom^3]."""
EDGE_WIDTH = 0.45
"""Standard deviation over which the continuum around an atom begins [angstrom]."""
COARSE_POINTS = 400
"""Number of points at which smooth curves are computed, to be interpolated."""
TAIL = 6.0
"""Peaks end this many standard deviations from their centre."""
POINTS_PER_WIDTH = 3.0
"""Fewest points of the grid per standard deviation of the resolution."""


class Shell(NamedTuple):
    """Neighbours of an atom in silica."""

    centre: str
    neighbour: str
    number: float
    distance: float
    """[angstrom]"""
    width: float
    """Standard deviation of the distance [angstrom]."""


SILICA_SHELLS = (
    Shell("Si", "O", 4.0, 1.61, 0.06),
    Shell("O", "Si", 2.0, 1.61, 0.06),
    Shell("O", "O", 6.0, 2.63, 0.10),
    Shell("Si", "Si", 4.0, 3.08, 0.14),
)
SILICA = {"Si": 1.0 / 3.0, "O": 2.0 / 3.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Illumination:
    """The X-rays, and how strongly sample, container and air scatter them."""

    wavelength: float = 0.1836
    """Of the X-rays [angstrom]."""
    sample: float = 3000.0
    """Scattering of an average sample at Q = 0, if it were a gas [photons/s per pixel]."""
    container: float = 250.0
    """The same for the container."""
    air: float = 60.0
    """The same for the air."""
    q_damp: float = 0.03
    """Standard deviation of the resolution, besides that of the pixels [1/angstrom]."""

    def background_rate(self, q: FloatArray) -> FloatArray:
        """Return the scattering of container and air [photons/s per pixel, before geometry], (n,)."""
        glass = silica_pattern(q) + compton_pattern(SILICA, q, self.wavelength)
        air = nitrogen_pattern(q) + compton_pattern({"N": 1.0}, q, self.wavelength)
        return np.asarray(
            self.container * glass / _forward(SILICA) + self.air * air / (2.0 * _forward({"N": 1.0}))
        )

    def sample_rate(self, sample: ScatteringSample, q: FloatArray) -> FloatArray:
        """Return the scattering of the sample [photons/s per pixel, before geometry], (n,)."""
        coherent = powder_pattern(sample.structure, q, u_iso=sample.u_iso, q_damp=self.q_damp)
        incoherent = compton_pattern(sample.composition, q, self.wavelength)
        return np.asarray(self.sample * (coherent + incoherent) / _forward(sample.composition))


def compton_pattern(composition: dict[str, float], q: FloatArray, wavelength: float) -> FloatArray:
    """Return Compton scattering with its recoil [electron units per atom], (n,)."""
    points = np.linspace(0.0, float(q.max()), COARSE_POINTS)
    smooth = np.interp(q, points, compton(composition, points))
    sine = np.clip(q * wavelength / (4.0 * np.pi), 0.0, 1.0)
    recoil = 1.0 + 2.0 * energy_of(wavelength) / REST_ENERGY * sine**2
    return np.asarray(smooth / recoil**2)


def silica_pattern(q: FloatArray) -> FloatArray:
    """Return the coherent scattering of fused silica [electron units per atom], (n,)."""
    factors = mean_factors(SILICA, q)
    total = factors.mean_square.copy()
    for shell in SILICA_SHELLS:
        pair = form_factor(shell.centre, q) * form_factor(shell.neighbour, q)
        decay = np.exp(-0.5 * (shell.width * q) ** 2)
        total += SILICA[shell.centre] * shell.number * pair * np.sinc(q * shell.distance / np.pi) * decay
    # The continuum begins at R0, so that the atom itself and its shells replace as many atoms of it.
    taken = 1.0 + sum(SILICA[shell.centre] * shell.number for shell in SILICA_SHELLS)
    x = q * (3.0 * taken / (4.0 * np.pi * SILICA_DENSITY)) ** (1.0 / 3.0)
    hole = 4.0 * np.pi * SILICA_DENSITY * (np.sin(x) - x * np.cos(x)) / q**3
    total -= factors.squared_mean * hole * np.exp(-0.5 * (EDGE_WIDTH * q) ** 2)
    return np.maximum(total, 0.0)


def nitrogen_pattern(q: FloatArray) -> FloatArray:
    """Return the coherent scattering of nitrogen gas [electron units per atom], (n,)."""
    return np.asarray(form_factor("N", q) ** 2 * (1.0 + np.sinc(q * N2_LENGTH / np.pi)))


def _forward(composition: dict[str, float]) -> float:
    return _forward_of(tuple(sorted(composition.items())))


@lru_cache
def _forward_of(composition: tuple[tuple[str, float], ...]) -> float:
    """Return <f^2> at Q = 0 [electron units per atom]."""
    return float(mean_factors(dict(composition), np.zeros(1)).mean_square[0])


def powder_pattern(structure: Structure, q: FloatArray, *, u_iso: float, q_damp: float) -> FloatArray:
    """Compute the coherent scattering of a powder [electron units per atom], (n,).

    The momentum transfers are evenly spaced from above 0 [1/angstrom], (n,), and fine enough for the
    resolution, a standard deviation of `q_damp` [1/angstrom], else a `SimulationError` is raised; `u_iso` is
    in angstrom^2.
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
    reciprocal = 2.0 * np.pi * np.linalg.inv(structure.lattice).T
    lengths = np.linalg.norm(indices @ reciprocal, axis=1)
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


def _require_grid(q: FloatArray, q_damp: float) -> float:
    steps = np.diff(q)
    step = float(steps.mean()) if steps.size else 0.0
    if not (step > 0.0 and q[0] > 0.0 and np.allclose(steps, step, rtol=1e-6)):
        raise SimulationError("expected an evenly spaced, ascending grid of Q above 0")
    if q_damp < POINTS_PER_WIDTH * step:
        msg = f"q_damp {q_damp} on steps of {step:.4g} 1/angstrom: expected at least {POINTS_PER_WIDTH} steps"
        raise SimulationError(msg)
    return step
