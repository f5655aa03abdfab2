"""Distances between the atoms of a crystal, collected once for every curve that is made of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bluesky_xpdml.errors import SimulationError
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.simulation.structure import Structure

IndexArray = NDArray[np.int64]

STENCIL = np.arange(-2, 4)
"""A distance is shared between this many grid points, so that fifth-degree polynomials stay exact."""
BLOCK = 1_000_000
"""Most distances in memory at once."""
SHORTEST = 0.1
"""Atoms nearer than this are an error of the structure [angstrom]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairHistogram:
    """Every pair of a crystal, 1/d on a grid of distances, by kinds of pairs."""

    species: tuple[str, ...]
    """Chemical symbols, sorted, (s,)."""
    counts: FloatArray
    """Atoms of each species in the cell, (s,)."""
    number_density: float
    """Atoms a volume [1/angstrom^3]."""
    first: IndexArray
    """Species of one atom of each kind of pair, by number, (t,)."""
    second: IndexArray
    """Species of the other, (t,)."""
    values: FloatArray
    """Sum of 1/d over the pairs i, j and j, i of a cell [1/angstrom], (t, n)."""
    r_step: float
    """Spacing of the grid, which begins at 0 [angstrom]."""
    reach: float
    """Pairs are complete up to this distance [angstrom]."""


def pair_histogram(structure: Structure, *, reach: float, r_step: float = 0.01) -> PairHistogram:
    """Collect the distances of a structure up to `reach` on a grid of spacing `r_step` [angstrom].

    Each distance is shared between six neighbouring points of the grid, such that a smooth peak put on it
    afterwards is centred on the distance, not on a point of the grid. It raises `SimulationError` if the
    structure is empty, two atoms coincide, or the range is not positive.
    """
    if not structure.species or not 0.0 < r_step < reach < np.inf:
        msg = f"{len(structure.species)} atoms, r_step {r_step}, reach {reach}: expected 0 < r_step < reach"
        raise SimulationError(msg)
    species, number = np.unique(np.array(structure.species), return_inverse=True)
    first, second = np.triu_indices(species.size)
    kind = np.empty((species.size, species.size), dtype=np.int64)
    kind[first, second] = kind[second, first] = np.arange(first.size)
    size = int(np.ceil(reach / r_step)) + STENCIL.size
    values = np.zeros(first.size * size)
    for distances, kinds, weights in _distances(structure, number, kind, reach):
        _share(values, distances / r_step, kinds * size, weights / distances)
    return PairHistogram(
        species=tuple(species.tolist()),
        counts=np.bincount(number).astype(float),
        number_density=len(structure.species) / structure.volume,
        first=first,
        second=second,
        values=values.reshape(first.size, size),
        r_step=r_step,
        reach=reach,
    )


def _distances(
    structure: Structure, number: IndexArray, kind: IndexArray, reach: float
) -> Iterator[tuple[FloatArray, IndexArray, FloatArray]]:
    """Yield distances within reach, their kinds of pairs and how many ordered pairs each stands for."""
    n = len(structure.species)
    i, j = np.triu_indices(n, 1)
    between = structure.fractional[j] - structure.fractional[i]
    between = (between - np.round(between)) @ structure.lattice
    farthest = float(np.sqrt((between**2).sum(axis=1).max(initial=0.0)))
    cells = _translations(structure.lattice, reach + farthest)
    own = np.sqrt((cells**2).sum(axis=1))
    own = own[(own > 0.0) & (own < reach)]
    for symbol, count in enumerate(np.bincount(number)):
        yield own, np.full(own.size, kind[symbol, symbol]), np.full(own.size, float(count))
    squared = (cells**2).sum(axis=1)
    kinds = kind[number[i], number[j]]
    rows = max(1, BLOCK // len(cells))
    for start in range(0, i.size, rows):
        block = between[start : start + rows]
        squares = (block**2).sum(axis=1)[:, None] + squared + 2.0 * block @ cells.T
        near = np.flatnonzero(squares.ravel() < reach**2)
        found = squares.ravel()[near]
        if found.min(initial=np.inf) < SHORTEST**2:
            msg = f"two atoms are nearer than {SHORTEST} angstrom: check the structure for doubled sites"
            raise SimulationError(msg)
        pair = kinds[start : start + rows][near // len(cells)]
        yield np.sqrt(found), pair, np.full(near.size, 2.0)


def _translations(lattice: FloatArray, radius: float) -> FloatArray:
    """Return every lattice vector up to a length, (n, 3)."""
    planes = 1.0 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    most = np.floor(radius / planes).astype(int)
    axes = [np.arange(-limit, limit + 1) for limit in most]
    steps = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = steps @ lattice
    return np.asarray(vectors[(vectors**2).sum(axis=1) <= radius**2])


def _share(values: FloatArray, place: FloatArray, offset: IndexArray, amounts: FloatArray) -> None:
    """Add amounts at fractional places of a grid, by Lagrange's polynomials on six points."""
    whole = place.astype(np.int64)
    t = place - whole
    index = whole + offset
    factors = t - STENCIL[:, None]
    after = [np.ones(1)]
    for factor in factors[:0:-1]:
        after.append(after[-1] * factor)
    before = amounts
    for position, node in enumerate(STENCIL):
        scale = float(np.prod(node - STENCIL[node != STENCIL]))
        share = before * after[-1 - position] / scale
        values += np.bincount(index + node, weights=share, minlength=values.size)
        before = before * factors[position]
