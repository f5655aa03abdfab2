"""Form factors and Compton scattering of atoms, averaged over a composition.

================  =============================================================================
`<f>^2`           square of the mean form factor, (sum_i c_i f_i(Q))^2
`<f^2>`           mean of the squared form factors, sum_i c_i f_i(Q)^2
Compton           incoherent scattering function, sum_i c_i S_i(Q)
================  =============================================================================

c_i are fractions of the atoms. Form factors are those of D. Waasmaier and A. Kirfel, Acta Cryst. A 51 (1995)
416, for neutral atoms far from an edge; Compton scattering is that of J. H. Hubbell et al., J. Phys. Chem.
Ref. Data 4 (1975) 471.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bluesky_xpdml.errors import ReductionError, needs_extra
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.composition import ELEMENTS, atom_fractions
from bluesky_xpdml.vocabulary import ReasonCode

LARGEST_Q = 75.0
"""The form factors were fitted up to sin(theta) / wavelength = 6 / angstrom [1/angstrom]."""
FIRST_COMPTON = 0.07
"""Below, Compton scattering is extrapolated [1/angstrom]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanFactors:
    """Averages over a composition [electron units per atom]; both have the shape of q."""

    squared_mean: FloatArray
    """<f>^2"""
    mean_square: FloatArray
    """<f^2>"""


def form_factor(element: str, q: FloatArray) -> FloatArray:
    """Return the atomic form factor f(Q) of a neutral atom [electrons], the shape of `q`.

    Parameters
    ----------
    element
        Chemical symbol.
    q
        Momentum transfer [1/angstrom], 0 to 75.

    Raises
    ------
    ReductionError
        If the element is unknown, or q is negative or beyond the table.

    Examples
    --------
    >>> form_factor("Ni", np.array([0.0, 25.0])).round(2)
    array([27.99,  3.68])
    """
    _require(element, q)
    return _form_factor(element, np.ascontiguousarray(q, dtype=float).tobytes()).reshape(np.shape(q))


def mean_factors(composition: str | Mapping[str, float], q: FloatArray) -> MeanFactors:
    """Return <f>^2 and <f^2> of a composition [electron units per atom] at q [1/angstrom], (n,).

    A ReductionError is raised if the composition cannot be read or q is out of range.
    """
    mean, square = np.zeros_like(q, dtype=float), np.zeros_like(q, dtype=float)
    for element, fraction in atom_fractions(composition).items():
        factor = form_factor(element, q)
        mean += fraction * factor
        square += fraction * factor**2
    return MeanFactors(squared_mean=mean**2, mean_square=square)


def compton(composition: str | Mapping[str, float], q: FloatArray) -> FloatArray:
    """Return the incoherent scattering of a composition [electron units per atom] at q [1/angstrom], (n,).

    The recoil that lowers the counted intensity at high energies is left to the caller. A ReductionError is
    raised if the composition cannot be read or q is out of range.
    """
    with needs_extra("scattering"):
        import xraylib

    total = np.zeros_like(q, dtype=float)
    for element, fraction in atom_fractions(composition).items():
        _require(element, q)
        number = ELEMENTS.index(element) + 1
        # The tables begin above 0; below, incoherent scattering vanishes with the square of Q.
        tabulated = np.maximum(q, FIRST_COMPTON)
        values = [xraylib.SF_Compt(number, each / (4.0 * np.pi)) for each in tabulated]
        total += fraction * np.array(values) * (q / tabulated) ** 2
    return total


def _require(element: str, q: FloatArray) -> None:
    if element not in ELEMENTS:
        raise ReductionError(
            f"expected the symbol of an element, found {element!r}", ReasonCode.COMPOSITION_MISSING
        )
    if np.size(q) and not (np.min(q) >= 0.0 and np.max(q) <= LARGEST_Q):
        raise ReductionError(
            f"form factors are known for Q from 0 to {LARGEST_Q:.0f} 1/angstrom, found {np.min(q):.4g} to "
            f"{np.max(q):.4g}: check the unit of the axis",
            ReasonCode.Q_RANGE,
        )


@lru_cache(maxsize=64)
def _form_factor(element: str, grid: bytes) -> FloatArray:
    """Return the form factor on a grid; the table is read from a database."""
    import xraydb

    values = np.asarray(xraydb.f0(element, np.frombuffer(grid) / (4.0 * np.pi)), dtype=float)
    values.flags.writeable = False
    return values
