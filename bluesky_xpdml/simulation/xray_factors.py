"""Strength with which atoms scatter X-rays forward: the weights of a simulated pair distribution."""

from collections.abc import Iterable
from functools import cache

import numpy as np

from bluesky_xpdml.errors import ReductionError, SimulationError
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.scattering_factors import form_factor


def forward_factors(species: Iterable[str]) -> FloatArray:
    """Return f0 at Q = 0 of neutral atoms, by the Waasmaier-Kirfel sums [electrons].

    Parameters
    ----------
    species
        Chemical symbols, n of them.

    Returns
    -------
    FloatArray
        Close to the atomic numbers, (n,).

    Raises
    ------
    SimulationError
        If a symbol is not tabulated.

    Examples
    --------
    >>> [round(float(factor), 4) for factor in forward_factors(["O", "Ti"])]
    [7.9997, 21.9981]
    """
    return np.array([_forward_factor(symbol) for symbol in species])


@cache
def _forward_factor(symbol: str) -> float:
    try:
        return float(form_factor(symbol, np.zeros(1))[0])
    except ReductionError as error:
        msg = f"no scattering factor for {symbol!r}: expected the symbol of an element up to Cf"
        raise SimulationError(msg) from error
