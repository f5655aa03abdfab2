"""Energies of absorption edges."""

from bluesky_xpdml.errors import ReductionError

_K = """
Na 1071 Mg 1303 Al 1559 Si 1839 P 2146 S 2472 Cl 2822 Ar 3206 K 3608.4 Ca 4038.5 Sc 4492 Ti 4966 V 5465
Cr 5989 Mn 6539 Fe 7112 Co 7709 Ni 8333 Cu 8979 Zn 9659 Ga 10367 Ge 11103 As 11867 Se 12658 Br 13474
Kr 14326 Rb 15200 Sr 16105 Y 17038 Zr 17998 Nb 18986 Mo 20000 Tc 21044 Ru 22117 Rh 23220 Pd 24350
Ag 25514 Cd 26711 In 27940 Sn 29200 Sb 30491 Te 31814 I 33169 Xe 34561 Cs 35985 Ba 37441 La 38925
Ce 40443 Pr 41991 Nd 43569 Pm 45184 Sm 46834 Eu 48519 Gd 50239 Tb 51996 Dy 53789 Ho 55618 Er 57486
Tm 59390 Yb 61332 Lu 63314 Hf 65351 Ta 67416 W 69525 Re 71676 Os 73871 Ir 76111 Pt 78395 Au 80725
Hg 83102 Tl 85530 Pb 88005 Bi 90526 Po 93105 At 95730 Rn 98404 Fr 101137 Ra 103922 Ac 106755 Th 109651
Pa 112601 U 115606
"""
_L = """
Zr 2223 2307 2532 Nb 2371 2465 2698 Mo 2520 2625 2866 Tc 2677 2793 3043 Ru 2838 2967 3224
Rh 3004 3146 3412 Pd 3173 3330 3604 Ag 3351 3524 3806 Cd 3538 3727 4018 In 3730 3938 4238
Sn 3929 4156 4465 Sb 4132 4380 4698 Te 4341 4612 4939 I 4557 4852 5188 Xe 4786 5107 5453
Cs 5012 5359 5714 Ba 5247 5624 5989 La 5483 5891 6266 Ce 5723 6164 6548 Pr 5964 6440 6835
Nd 6208 6722 7126 Pm 6459 7013 7428 Sm 6716 7312 7737 Eu 6977 7617 8052 Gd 7243 7930 8376
Tb 7514 8252 8708 Dy 7790 8581 9046 Ho 8071 8918 9394 Er 8358 9264 9751 Tm 8648 9617 10116
Yb 8944 9978 10486 Lu 9244 10349 10870 Hf 9561 10739 11271 Ta 9881 11136 11682 W 10207 11544 12100
Re 10535 11959 12527 Os 10871 12385 12968 Ir 11215 12824 13419 Pt 11564 13273 13880 Au 11919 13734 14353
Hg 12284 14209 14839 Tl 12658 14698 15347 Pb 13035 15200 15861 Bi 13419 15711 16388 Po 13814 16244 16939
At 14214 16785 17493 Rn 14619 17337 18049 Fr 15031 17907 18639 Ra 15444 18484 19237 Ac 15871 19083 19840
Th 16300 19693 20472 Pa 16733 20314 21105 U 17166 20948 21757 Np 17610 21600 22427 Pu 18057 22266 23104
Am 18510 22952 23808 Cm 18970 23651 24526
"""
"""Symbol, L3, L2, L1."""


def _table(text: str, edges: tuple[str, ...]) -> dict[tuple[str, str], float]:
    words = text.split()
    width = len(edges) + 1
    return {
        (words[row], edge): float(words[row + 1 + column])
        for row in range(0, len(words), width)
        for column, edge in enumerate(edges)
    }


EDGE_ENERGIES: dict[tuple[str, str], float] = _table(_K, ("K",)) | _table(_L, ("L3", "L2", "L1"))
"""Binding energy of each (element, edge) [eV]: X-ray Data Booklet, LBNL, 3rd ed. (2009), table 1-1; beyond it
Elam, Ravel and Sieber, Radiat. Phys. Chem. 63 (2002) 121."""


def edge_energy(element: str, edge: str) -> float:
    """Return the tabulated energy of an absorption edge [eV].

    Parameters
    ----------
    element
        Chemical symbol.
    edge
        `K`, `L3`, `L2` or `L1`.

    Raises
    ------
    ReductionError
        If the edge is not in the table.

    Examples
    --------
    >>> edge_energy("Fe", "K"), edge_energy("Pt", "L3")
    (7112.0, 11564.0)
    """
    try:
        return EDGE_ENERGIES[element, edge]
    except KeyError:
        raise ReductionError(
            f"no tabulated energy for the {edge} edge of {element}: the table holds K from Na to U "
            "and L1, L2, L3 from Zr to Cm; give e0 explicitly"
        ) from None
