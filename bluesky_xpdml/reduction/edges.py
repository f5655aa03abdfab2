"""Absorption edges: their tabulated energies, the edge of a scan, and the element that it belongs to.

An edge is a rise that stays. At each place where the absorption climbs, a straight line with a step is
fitted to both sides, mu = a + b x + step (x > 0), without the edge itself. The edge is the place with the
largest product of slope and step, if its step exceeds the scatter around the fit: its contrast. Noise,
glitches and drifts climb as steeply, but do not stay.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bluesky_xpdml.errors import ReductionError
from bluesky_xpdml.records import AbsorptionScan, DetectionMode, FloatArray
from bluesky_xpdml.reduction.channels import Signal, has_mode, read_mode
from bluesky_xpdml.reduction.noise import binned_slopes
from bluesky_xpdml.reduction.normalisation import find_e0
from bluesky_xpdml.vocabulary import Reason, ReasonCode

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


def _read_table(text: str, edges: tuple[str, ...]) -> dict[tuple[str, str], float]:
    words = text.split()
    width = len(edges) + 1
    return {
        (words[row], edge): float(words[row + 1 + column])
        for row in range(0, len(words), width)
        for column, edge in enumerate(edges)
    }


EDGE_ENERGIES: dict[tuple[str, str], float] = _read_table(_K, ("K",)) | _read_table(_L, ("L3", "L2", "L1"))
"""Binding energy of each (element, edge) [eV]: X-ray Data Booklet, LBNL, 3rd ed. (2009), table 1-1; beyond it
Elam, Ravel and Sieber, Radiat. Phys. Chem. 63 (2002) 121."""

BEFORE = (-100.0, -12.0)
"""Range below a rise that the line is fitted to [eV]."""
AFTER = (15.0, 100.0)
"""Range above it, beyond the white line [eV]."""
CONTRAST = 5.0
"""Smallest ratio of a step to the scatter around it. Of the spectra that beamline staff judged, in the half
that this was chosen on, the bad ones reach 3.8, and the good ones 10.4 or more."""
BIN = 3.0
"""Width of the bins whose slopes are compared [eV]."""
CLIMBS = 30
"""Number of the steepest places that are examined."""
TOLERANCE = (-12.0, 25.0)
"""How far e0 may lie from the tabulated energy [eV]: oxidised atoms absorb up to 20 eV above the metal."""
LIKELIEST = ("K", "L3", "L2", "L1")
"""Which edge is meant if several are near: the stronger, more often measured one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A place where the absorption rises, and how much of the rise stays."""

    energy: float
    """Energy of the steepest place [eV]."""
    height: float
    """Step between the lines before and after [unit of mu]."""
    scatter: float
    """Standard deviation of the residuals [unit of mu]."""

    @property
    def contrast(self) -> float:
        """Step in units of the scatter."""
        if self.scatter > 0.0:
            return self.height / self.scatter
        return math.inf if self.height > 0.0 else 0.0


def find_edge(energy: FloatArray, mu: FloatArray) -> Step:
    """Find the largest rise of a scan that stays.

    Raises
    ------
    ReductionError
        If nothing rises, or the rise is no larger than the scatter around it.
    """
    if energy.size < 10 or not np.ptp(mu) > 0.0:
        raise ReductionError(
            f"no absorption edge: {energy.size} points between {mu.min(initial=np.inf):.4g} and "
            f"{mu.max(initial=-np.inf):.4g}; check that the shutter was open and the detector was read",
            ReasonCode.EDGE_STEP,
        )
    rise = largest_rise(energy, mu)
    if rise is not None and rise.contrast >= CONTRAST:
        return rise
    fall = largest_rise(energy, -mu)
    if fall is not None and fall.contrast >= CONTRAST:
        raise ReductionError(
            f"no absorption edge: the absorption falls by {fall.height:.3g} at {fall.energy:.0f} eV and "
            "rises nowhere as much; check that I0 and It are not exchanged",
            ReasonCode.EDGE_STEP,
        )
    found = "nothing rises and stays"
    if rise is not None:
        found = (
            f"the largest rise, at {rise.energy:.0f} eV, is {max(rise.contrast, 0.0):.1f} times the scatter "
            f"around it, expected {CONTRAST:.0f} or more"
        )
    raise ReductionError(
        f"no absorption edge: {found}; check that the beam hits the sample, that the scan covers the edge, "
        "and the gain of the detectors",
        ReasonCode.EDGE_STEP,
    )


def largest_rise(energy: FloatArray, mu: FloatArray) -> Step | None:
    """Return the place with the largest product of slope and step; None if nothing rises and stays."""
    # Scaled, so that neither tiny nor huge units reach the limits of floating point.
    scale = float(np.ptp(mu)) if energy.size >= 10 else 0.0
    if not scale > 0.0:
        return None
    values = (mu - mu[0]) / scale
    centres, slopes = binned_slopes(energy, values, BIN, median=True)
    rises = [
        (float(slopes[index]) * rise.height, rise)
        for index in np.argsort(-slopes)[:CLIMBS]
        if slopes[index] > 0.0 and (rise := fit_step(energy, values, float(centres[index]))) is not None
    ]
    rising = [pair for pair in rises if pair[1].height > 0.0]
    if not rising:
        return None
    largest = max(rising, key=lambda pair: pair[0])[1]
    return replace(largest, height=scale * largest.height, scatter=scale * largest.scatter)


def fit_step(energy: FloatArray, mu: FloatArray, e0: float) -> Step | None:
    """Fit a straight line with a step at e0 [eV]; None if a side has fewer than three points."""
    x = energy - e0
    before, after = (x > BEFORE[0]) & (x < BEFORE[1]), (x > AFTER[0]) & (x < AFTER[1])
    if np.count_nonzero(before) < 3 or np.count_nonzero(after) < 3:
        return None
    chosen = before | after
    x, values = x[chosen] / AFTER[1], mu[chosen]
    columns = np.column_stack([np.ones_like(x), x, x > 0.0])
    coefficients, *_ = np.linalg.lstsq(columns, values, rcond=None)
    residuals = values - np.einsum("ij,j->i", columns, coefficients)
    return Step(energy=e0, height=float(coefficients[2]), scatter=float(np.std(residuals)))


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedEdge:
    """A tabulated edge near a measured one."""

    element: str
    edge: str
    distance: float
    """Measured minus tabulated energy [eV]."""

    def __str__(self) -> str:
        """Return which edge it is, and how far away."""
        side = "above" if self.distance >= 0.0 else "below"
        return f"{self.element} {self.edge}, {abs(self.distance):.1f} eV {side} the tabulated edge"


def edges_near(e0: float, *, element: str = "", edge: str = "") -> tuple[NamedEdge, ...]:
    """Return the tabulated edges that an edge at e0 [eV] may be, the likeliest first.

    K comes before L3, L2 and L1, and among each the nearest. `element` and `edge` restrict the search.
    """
    near = [
        NamedEdge(element=symbol, edge=name, distance=e0 - tabulated)
        for (symbol, name), tabulated in EDGE_ENERGIES.items()
        if TOLERANCE[0] <= e0 - tabulated <= TOLERANCE[1] and element in {"", symbol} and edge in {"", name}
    ]
    return tuple(sorted(near, key=lambda item: (LIKELIEST.index(item.edge), abs(item.distance))))


def name_edge(
    scan: AbsorptionScan, *, e0: float | Literal["auto"] = "auto"
) -> tuple[AbsorptionScan, tuple[Reason, ...]]:
    """Find the element and the edge of a scan that does not state both.

    Parameters
    ----------
    scan
        What was counted.
    e0
        Edge energy [eV]; `auto` finds it.

    Returns
    -------
    AbsorptionScan, tuple of Reason
        The scan with element and edge, if they were found, and how: `ELEMENT_FROM_EDGE` with the other
        candidates, and `ELEMENT_AMBIGUOUS` if one of them is as likely.

    Raises
    ------
    ReductionError
        If no channel shows an edge, or none of the stated element.

    Examples
    --------
    >>> energy = np.arange(8800.0, 9200.0)
    >>> named, reasons = name_edge(AbsorptionScan(energy=energy, mu=np.arctan((energy - 8985.2) / 2.0)))
    >>> named.element, named.edge, reasons
    ('Cu', 'K', ('element found from the edge: Cu K, 6.0 eV above the tabulated edge',))
    """
    if scan.element and scan.edge:
        return scan, ()
    if scan.element and all(symbol != scan.element for symbol, _ in EDGE_ENERGIES):
        return scan, ()
    energy = _measured_edge(scan) if e0 == "auto" else float(e0)
    near = edges_near(energy, element=scan.element, edge=scan.edge)
    if near:
        named = replace(scan, element=near[0].element, edge=near[0].edge)
        return named, tuple(_describe_candidates(scan, near, energy))
    if scan.element:
        known = ", ".join(
            f"{edge} {value:.0f}" for (symbol, edge), value in EDGE_ENERGIES.items() if symbol == scan.element
        )
        raise ReductionError(
            f"the scan has its edge at {energy:.0f} eV, where {scan.element} has none ({known} eV): check "
            "the element and the energy axis",
            ReasonCode.ELEMENT_CONTRADICTED,
        )
    return scan, ()


def _describe_candidates(
    scan: AbsorptionScan, near: tuple[NamedEdge, ...], energy: float
) -> Iterator[Reason]:
    first, *others = near
    names = ", ".join(f"{other.element} {other.edge} ({other.distance:+.1f} eV)" for other in others)
    how = "edge found from its energy" if scan.element else "element found from the edge"
    yield Reason(
        f"{how}: {first}" + (f"; also near: {names}" if others else ""), ReasonCode.ELEMENT_FROM_EDGE
    )
    rivals = [f"{other.element} {other.edge}" for other in others if other.edge in {"K", "L3"}]
    if rivals:
        yield Reason(
            f"the element is ambiguous: the edge at {energy:.1f} eV may be {first.element} {first.edge} or "
            f"{' or '.join(rivals)}; name the element",
            ReasonCode.ELEMENT_AMBIGUOUS,
        )
    if first.edge in {"L2", "L1"}:
        yield Reason(
            f"the element is ambiguous: {first.edge} edges are seldom what is measured; name the element",
            ReasonCode.ELEMENT_AMBIGUOUS,
        )


def _measured_edge(scan: AbsorptionScan) -> float:
    """Return the edge energy in the first channel that shows one [eV]."""
    reasons = []
    for mode in DetectionMode:
        if mode is DetectionMode.REFERENCE or not has_mode(scan, mode):
            continue
        try:
            return _refined(read_mode(scan, mode))
        except ReductionError as error:
            reasons.append(str(error) if mode is DetectionMode.MU else f"{mode}: {error}")
    message = "; ".join(reasons) or "the scan holds no channel that gives an absorption"
    raise ReductionError(message, ReasonCode.EDGE_STEP)


def _refined(signal: Signal) -> float:
    place = find_edge(signal.energy, signal.mu).energy
    return find_e0(signal.energy, signal.mu, within=(place - 4.0 * BIN, place + 4.0 * BIN))
