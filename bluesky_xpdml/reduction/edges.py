"""Energies of absorption edges."""

from bluesky_xpdml.errors import ReductionError

_K = """
K 3608.4 Ca 4038.5 Sc 4492 Ti 4966 V 5465 Cr 5989 Mn 6539 Fe 7112 Co 7709 Ni 8333 Cu 8979 Zn 9659 Ga 10367
Ge 11103 As 11867 Se 12658 Br 13474 Kr 14326 Rb 15200 Sr 16105 Y 17038 Zr 17998 Nb 18986 Mo 20000
"""
_L3 = "La 5483 Ce 5723 Hf 9561 Ta 9881 W 10207 Re 10535 Os 10871 Ir 11215 Pt 11564 Au 11919 Pb 13035 Bi 13419"


def _table(text: str, edge: str) -> dict[tuple[str, str], float]:
    words = text.split()
    return {(symbol, edge): float(energy) for symbol, energy in zip(words[::2], words[1::2], strict=True)}


EDGE_ENERGIES: dict[tuple[str, str], float] = _table(_K, "K") | _table(_L3, "L3")
"""Binding energy of each (element, edge) [eV]: X-ray Data Booklet, LBNL, 3rd ed. (2009), table 1-1."""


def edge_energy(element: str, edge: str) -> float:
    """Return the tabulated energy of an absorption edge [eV].

    Parameters
    ----------
    element
        Chemical symbol.
    edge
        `K` or `L3`.

    Raises
    ------
    ReductionError
        If the edge is not in the table.

    Examples
    --------
    >>> edge_energy("Fe", "K")
    7112.0
    """
    try:
        return EDGE_ENERGIES[element, edge]
    except KeyError:
        raise ReductionError(
            f"no tabulated energy for the {edge} edge of {element}: the table holds K from K to Mo and L3 of "
            "the rare earths and 5d metals that are often measured; give e0 explicitly"
        ) from None
