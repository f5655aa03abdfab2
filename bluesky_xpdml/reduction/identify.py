"""Whose edge is it? For scans that do not name their element, or not their edge."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, DetectionMode
from bluesky_xpdml.reduction.detection import Signal, is_present, signal_of
from bluesky_xpdml.reduction.edge_contrast import BIN, find_edge
from bluesky_xpdml.reduction.edges import EDGE_ENERGIES
from bluesky_xpdml.reduction.normalisation import find_e0

TOLERANCE = (-12.0, 25.0)
"""How far e0 may lie from the tabulated energy [eV]: oxidised atoms absorb up to 20 eV above the metal."""
ORDER = ("K", "L3", "L2", "L1")
"""Which edge is meant where several are near: the stronger, more often measured one."""
AMBIGUOUS = "the element is ambiguous"
"""How the remark begins that names the other edges near e0."""

_MODES = tuple(mode for mode in DetectionMode if mode is not DetectionMode.REFERENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedEdge:
    """A tabulated edge near a measured one."""

    element: str
    edge: str
    distance: float
    """Measured minus tabulated energy [eV]."""

    def __str__(self) -> str:
        """Say which edge, and how far away."""
        side = "above" if self.distance >= 0.0 else "below"
        return f"{self.element} {self.edge}, {abs(self.distance):.1f} eV {side} the tabulated edge"


def edges_near(e0: float, *, element: str = "", edge: str = "") -> tuple[NamedEdge, ...]:
    """Return the tabulated edges that an edge at e0 may be, the likeliest first.

    K comes before L3, L2 and L1, and among each the nearest.

    Parameters
    ----------
    e0
        Measured edge energy [eV].
    element, edge
        Only this element, or this edge, where it is known.

    Examples
    --------
    >>> [str(near) for near in edges_near(8985.0)]
    ['Cu K, 6.0 eV above the tabulated edge']
    >>> [(near.element, near.edge) for near in edges_near(5990.0)]
    [('Cr', 'K'), ('Ba', 'L1')]
    """
    near = [
        NamedEdge(element=symbol, edge=name, distance=e0 - tabulated)
        for (symbol, name), tabulated in EDGE_ENERGIES.items()
        if TOLERANCE[0] <= e0 - tabulated <= TOLERANCE[1] and element in {"", symbol} and edge in {"", name}
    ]
    return tuple(sorted(near, key=lambda item: (ORDER.index(item.edge), abs(item.distance))))


def name_edge(
    scan: AbsorptionScan, *, e0: float | Literal["auto"] = "auto"
) -> tuple[AbsorptionScan, tuple[str, ...]]:
    """Find the element and the edge of a scan that does not name both.

    Parameters
    ----------
    scan
        What was counted.
    e0
        Where the edge is [eV]; `auto` finds it.

    Returns
    -------
    AbsorptionScan, tuple of str
        The scan with both names where they could be found, and in words how, with the other candidates.

    Raises
    ------
    ReductionError
        If no channel shows an edge, or none of the element that the scan names.

    Examples
    --------
    >>> import numpy as np
    >>> energy = np.arange(8800.0, 9200.0)
    >>> named, said = name_edge(AbsorptionScan(energy=energy, mu=np.arctan((energy - 8985.2) / 2.0)))
    >>> named.element, named.edge, said
    ('Cu', 'K', ('element found from the edge: Cu K, 6.0 eV above the tabulated edge',))
    """
    if scan.element and scan.edge:
        return scan, ()
    if scan.element and all(symbol != scan.element for symbol, _ in EDGE_ENERGIES):
        return scan, ()
    found = _edge_of(scan) if e0 == "auto" else float(e0)
    near = edges_near(found, element=scan.element, edge=scan.edge)
    if near:
        return replace(scan, element=near[0].element, edge=near[0].edge), tuple(_said(scan, near, found))
    if scan.element:
        known = ", ".join(
            f"{edge} {value:.0f}" for (symbol, edge), value in EDGE_ENERGIES.items() if symbol == scan.element
        )
        raise ReductionError(
            f"the scan has its edge at {found:.0f} eV, where {scan.element} has none ({known} eV): check the "
            "element and the energy axis"
        )
    return scan, ()


def _said(scan: AbsorptionScan, near: tuple[NamedEdge, ...], found: float) -> Iterator[str]:
    first, *others = near
    names = ", ".join(f"{other.element} {other.edge} ({other.distance:+.1f} eV)" for other in others)
    how = "edge found from its energy" if scan.element else "element found from the edge"
    yield f"{how}: {first}" + (f"; also near: {names}" if others else "")
    rivals = [f"{other.element} {other.edge}" for other in others if other.edge in {"K", "L3"}]
    if rivals:
        yield (
            f"{AMBIGUOUS}: the edge at {found:.1f} eV may be {first.element} {first.edge} or "
            f"{' or '.join(rivals)}; name the element"
        )
    if first.edge in {"L2", "L1"}:
        yield f"{AMBIGUOUS}: {first.edge} edges are seldom what is measured; name the element"


def _edge_of(scan: AbsorptionScan) -> float:
    """Return the edge energy in the first channel that shows one [eV]."""
    reasons = []
    for mode in (each for each in _MODES if is_present(scan, each)):
        try:
            return _refined(signal_of(scan, mode))
        except ReductionError as error:
            reasons.append(str(error) if mode is DetectionMode.MU else f"{mode}: {error}")
    raise ReductionError("; ".join(reasons) or "the scan holds no channel that gives an absorption")


def _refined(signal: Signal) -> float:
    place = find_edge(signal.energy, signal.mu).energy
    return find_e0(signal.energy, signal.mu, within=(place - 4.0 * BIN, place + 4.0 * BIN))
