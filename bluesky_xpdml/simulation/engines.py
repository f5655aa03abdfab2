"""One function from a structure to G(r), whichever calculator answers.

`numpy` is the calculator of this package. `srreal` is `diffpy.srreal`, where it is installed (its compiled
library comes from conda-forge: `conda install -c conda-forge diffpy.srreal`); it is there to compare with.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import numpy as np

from bluesky_xpdml.errors import SimulationError
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.simulation.pair_distribution import (
    Instrument,
    Pairs,
    curve,
    displacements,
    pair_weights,
    reach_needed,
)
from bluesky_xpdml.simulation.pair_histogram import pair_histogram
from bluesky_xpdml.simulation.structure import Structure


class Engine(StrEnum):
    """Who computes."""

    NUMPY = "numpy"
    SRREAL = "srreal"


def pair_distribution(
    structure: Structure,
    *,
    q_max: float,
    u_iso: float | Mapping[str, float],
    r_max: float = 30.0,
    r_step: float = 0.01,
    q_min: float = 0.0,
    q_damp: float = 0.0,
    metal: str = "",
    pairs: Pairs | str = "",
    engine: Engine | str = Engine.NUMPY,
) -> tuple[FloatArray, FloatArray]:
    """Compute the pair distribution function of a structure.

    Parameters
    ----------
    structure
        Cell and atoms.
    q_max
        Upper end of the transform [1/angstrom].
    u_iso
        Isotropic displacement of every atom, or of each species by symbol [angstrom^2].
    r_max, r_step
        End (not included) and spacing of the grid [angstrom].
    q_min
        Lower end of the transform [1/angstrom].
    q_damp
        Decay of G(r) by the resolution in Q [1/angstrom].
    metal
        Where given, only pairs that involve this element count.
    pairs
        How they count; empty for all pairs, or for `scattering` where a metal is named.
    engine
        `numpy` or `srreal`.

    Returns
    -------
    r, g
        Distance [angstrom] and G(r) [1/angstrom^2], both (n,).

    Raises
    ------
    SimulationError
        If the structure or the settings cannot be simulated, or the engine is not installed.

    Examples
    --------
    >>> copper = Structure(
    ...     lattice=1.805 * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]),
    ...     fractional=np.zeros((1, 3)),
    ...     species=("Cu",),
    ... )
    >>> r, g = pair_distribution(copper, q_max=25.0, u_iso=0.005, r_max=10.0)
    >>> round(float(r[np.argmax(g[:300])]), 2)
    2.55
    """
    which = Pairs(pairs or (Pairs.SCATTERING if metal else Pairs.TOTAL))
    instrument = Instrument(q_max=q_max, q_min=q_min, q_damp=q_damp)
    largest = max(u_iso.values(), default=0.0) if isinstance(u_iso, Mapping) else u_iso
    if not (0.0 < r_max < np.inf and 0.0 < largest < np.inf):
        msg = f"r_max {r_max}, u_iso {u_iso}: expected a finite range and positive displacements"
        raise SimulationError(msg)
    histogram = pair_histogram(structure, reach=reach_needed(r_max, instrument, largest), r_step=r_step)
    if Engine(engine) is Engine.NUMPY:
        return curve(histogram, r_max=r_max, instrument=instrument, u_iso=u_iso, which=which, metal=metal)
    share = _baseline_share(pair_weights(histogram, which, metal)[1], which, metal, structure)
    width = dict(zip(histogram.species, displacements(histogram, u_iso).tolist(), strict=True))
    return _by_srreal(structure, width, instrument, (r_max, r_step), metal=metal, baseline_share=share)


def _baseline_share(weight: float, which: Pairs, metal: str, structure: Structure) -> float:
    """Return what the program's own baseline is to be multiplied with."""
    if which is Pairs.ANOMALOUS:
        msg = "the srreal engine knows no anomalous weights: use the numpy engine"
        raise SimulationError(msg)
    if which is Pairs.TOTAL:
        return 1.0
    others = 1.0 - structure.species.count(metal) / len(structure.species)
    return weight / (1.0 - others**2)


def _by_srreal(
    structure: Structure,
    u_iso: Mapping[str, float],
    instrument: Instrument,
    grid: tuple[float, float],
    *,
    metal: str,
    baseline_share: float,
) -> tuple[FloatArray, FloatArray]:
    try:
        from diffpy.srreal.pdfbaseline import ZeroBaseline
        from diffpy.srreal.pdfcalculator import PDFCalculator
        from diffpy.structure import Atom, Lattice
        from diffpy.structure import Structure as DiffpyStructure
    except ImportError as error:
        msg = (
            f"the srreal engine is not installed ({error}): `conda install -c conda-forge diffpy.srreal`, "
            "or use the numpy engine, which agrees with it"
        )
        raise SimulationError(msg) from error
    atoms = [
        Atom(symbol, xyz=position, Uisoequiv=u_iso[symbol])
        for symbol, position in zip(structure.species, structure.fractional, strict=True)
    ]
    crystal = DiffpyStructure(atoms, lattice=Lattice(base=structure.lattice))
    r_max, r_step = grid
    calculator: Any = PDFCalculator(
        rmin=0.0,
        rmax=r_max,
        rstep=r_step,
        qmin=instrument.q_min,
        qmax=instrument.q_max,
        qdamp=instrument.q_damp,
    )
    if metal:
        calculator.maskAllPairs(False)
        calculator.setTypeMask(metal, "all", True)
    r, with_baseline = calculator(crystal)
    calculator.baseline = ZeroBaseline()
    _, peaks = calculator(crystal)
    # The baseline is linear, so the program's own band-limited one may be scaled after the fact.
    return np.asarray(r), np.asarray(peaks + baseline_share * (with_baseline - peaks))
