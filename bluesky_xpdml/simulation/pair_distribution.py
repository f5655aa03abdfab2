"""From a structure to its pair distribution function G(r), total or metal-differential.

Definitions, for N atoms a cell of number density rho0, forward scattering factors f and their mean <f>:

    R(r)/r = sum_i sum_(j != i) w_ij / (N d_ij) gauss(r - d_ij; sigma_ij),   sigma_ij^2 = U_i + U_j
    g(r)   = R(r)/r - 4 pi rho0 w r
    G(r)   = exp(-(q_damp r)^2 / 2) B[g](r)

Peaks are divided by the distance of the pair, and B cuts the sine transform of g on its own grid at q_min and
q_max, as the established calculator does (Juhas et al., Acta Cryst. A71 (2015) 562). The weights:

    total        w_ij = f_i f_j / <f>^2                                   w = 1
    scattering   the same, pairs that involve the metal M                 w = share of their weights
    number       the same                                                 w = share of their number
    anomalous    (delta_iM f_j + delta_jM f_i) / (2 c_M <f>)              w = 1

`anomalous` is what the difference of two patterns below an absorption edge of M shows: metal-metal pairs
weigh twice as strongly against metal-oxygen ones.

Two engines compute this: `numpy` is the calculator of this package; `srreal` is `diffpy.srreal`, if it is
installed (`conda install -c conda-forge diffpy.srreal`), to compare with.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

import numpy as np

from bluesky_xpdml.errors import ReductionError, SimulationError
from bluesky_xpdml.records import FloatArray
from bluesky_xpdml.reduction.scattering_factors import form_factor
from bluesky_xpdml.simulation.pair_histogram import PairHistogram, pair_histogram
from bluesky_xpdml.simulation.structure import Structure

PEAK_PRECISION = 3.33e-6
"""Tails of peaks below this share of the maximum are neglected."""
RIPPLES = 6
"""Number of termination ripples by which the range is extended before the transform is cut."""
LARGEST_EXTENSION = 10.0
"""The range is extended by no more than this [angstrom]."""


class Pairs(StrEnum):
    """Which pairs count, and how."""

    TOTAL = "total"
    SCATTERING = "scattering"
    """Pairs with the metal, baseline by scattering factors: the physical metal-differential PDF."""
    NUMBER = "number"
    """Pairs with the metal, baseline by numbers of atoms: drifts with r; as `diffpy.srreal` returns it."""
    ANOMALOUS = "anomalous"
    """Pairs with the metal as an anomalous difference weighs them."""


class Engine(StrEnum):
    """What computes the curve."""

    NUMPY = "numpy"
    SRREAL = "srreal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """Range and resolution of the experiment that is simulated."""

    q_max: float
    """Upper end of the transform [1/angstrom]."""
    q_min: float = 0.0
    """Lower end of the transform [1/angstrom]."""
    q_damp: float = 0.0
    """Decay of G(r) by the resolution in Q [1/angstrom]."""

    def __post_init__(self) -> None:
        if not (0.0 <= self.q_min < self.q_max < np.inf and self.q_damp >= 0.0):
            msg = (
                f"q_min {self.q_min}, q_max {self.q_max}, q_damp {self.q_damp}: expected "
                "0 <= q_min < q_max and q_damp >= 0 [1/angstrom]"
            )
            raise SimulationError(msg)


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
    q_max, q_min
        Ends of the transform [1/angstrom].
    u_iso
        Isotropic displacement of every atom, or of each species by symbol [angstrom^2].
    r_max, r_step
        End (not included) and spacing of the grid [angstrom].
    q_damp
        Decay of G(r) by the resolution in Q [1/angstrom].
    metal
        If given, only pairs that involve this element count.
    pairs
        How they are weighted; if empty, `scattering` with a metal and `total` without.
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


def reach_needed(r_max: float, instrument: Instrument, u_iso: float) -> float:
    """Return up to which distance a curve to r_max needs pairs [angstrom]; u_iso is the largest."""
    return r_max + sum(_extensions(instrument, u_iso))


def curve(
    pairs: PairHistogram,
    *,
    r_max: float,
    instrument: Instrument,
    u_iso: float | Mapping[str, float],
    which: Pairs = Pairs.TOTAL,
    metal: str = "",
) -> tuple[FloatArray, FloatArray]:
    """Compute r, from 0 in the steps of the histogram, and G(r), as `pair_distribution` does.

    All but the total need the metal. It raises `SimulationError` if the histogram ends too early or is too
    coarse, or the metal is not in the structure.
    """
    displacement = displacements(pairs, u_iso)
    _require_fit(pairs, r_max, instrument, displacement)
    weights, baseline = pair_weights(pairs, which, metal)
    ripple, _ = _extensions(instrument, float(displacement.max()))
    step = pairs.r_step
    n_extended = int(np.ceil((r_max + ripple) / step))
    n_padded = 1 << (n_extended - 1).bit_length()
    variance = displacement[pairs.first] + displacement[pairs.second]
    r: FloatArray = np.arange(n_extended, dtype=np.float64) * step
    g = _peaks(pairs, weights, variance, 2 * n_padded)[:n_extended]
    g -= 4.0 * np.pi * pairs.number_density * baseline * r
    g = _band_limited(g, n_padded, step, instrument)
    kept = int(np.ceil(r_max / step - 1e-9))
    r, g = r[:kept], g[:kept]
    return r, np.asarray(g * np.exp(-0.5 * (instrument.q_damp * r) ** 2))


def pair_weights(pairs: PairHistogram, which: Pairs, metal: str) -> tuple[FloatArray, float]:
    """Return w_ij of each kind of pair, (t,), and w of the baseline."""
    factors = forward_factors(pairs.species)
    share = pairs.counts / pairs.counts.sum()
    mean = float(share @ factors)
    first, second = factors[pairs.first], factors[pairs.second]
    if which is Pairs.TOTAL:
        return first * second / mean**2, 1.0
    if metal not in pairs.species:
        msg = f"{metal or 'no metal'} requested, the structure holds {', '.join(pairs.species)}: name one"
        raise SimulationError(msg)
    position = pairs.species.index(metal)
    is_first, is_second = pairs.first == position, pairs.second == position
    if which is Pairs.ANOMALOUS:
        slope = is_first * second + is_second * first
        return np.asarray(slope / (2.0 * share[position] * mean)), 1.0
    others = np.arange(len(pairs.species)) != position
    without = share[others].sum() if which is Pairs.NUMBER else share[others] @ factors[others] / mean
    return np.where(is_first | is_second, first * second / mean**2, 0.0), float(1.0 - without**2)


def forward_factors(species: Iterable[str]) -> FloatArray:
    """Return f0 at Q = 0 of neutral atoms, by the Waasmaier-Kirfel sums [electrons], (n,)."""
    return np.array([_forward_factor(symbol) for symbol in species])


@cache
def _forward_factor(symbol: str) -> float:
    try:
        return float(form_factor(symbol, np.zeros(1))[0])
    except ReductionError as error:
        msg = f"no scattering factor for {symbol!r}: expected the symbol of an element up to Cf"
        raise SimulationError(msg) from error


def displacements(pairs: PairHistogram, u_iso: float | Mapping[str, float]) -> FloatArray:
    """Return the displacement parameter of each species [angstrom^2], (s,)."""
    if not isinstance(u_iso, Mapping):
        return np.full(len(pairs.species), float(u_iso))
    missing = sorted(set(pairs.species) - set(u_iso))
    if missing:
        raise SimulationError(f"no u_iso for {', '.join(missing)}: name every species")
    return np.array([u_iso[symbol] for symbol in pairs.species], dtype=float)


def _require_fit(
    pairs: PairHistogram, r_max: float, instrument: Instrument, displacement: FloatArray
) -> None:
    smallest = float(displacement.min())
    if not smallest > 0.0 or np.sqrt(2.0 * smallest) < 3.0 * pairs.r_step:
        msg = (
            f"u_iso {smallest:.3g} gives peaks of width {np.sqrt(2.0 * max(smallest, 0.0)):.3g}, less than "
            f"three steps of {pairs.r_step} angstrom: expected wider peaks or a finer r_step"
        )
        raise SimulationError(msg)
    if instrument.q_max > np.pi / pairs.r_step:
        msg = f"q_max {instrument.q_max} needs an r_step below {np.pi / instrument.q_max:.3g} angstrom"
        raise SimulationError(msg)
    needed = reach_needed(r_max, instrument, float(displacement.max()))
    if not r_max > 0.0 or needed > pairs.reach + 1e-9:
        msg = f"pairs up to {pairs.reach:.2f}, r_max {r_max} needs {needed:.2f} angstrom: collect further"
        raise SimulationError(msg)


def _extensions(instrument: Instrument, u_iso: float) -> tuple[float, float]:
    """Return how far ripples and the tails of peaks reach beyond r_max [angstrom]."""
    ripple = RIPPLES * 2.0 * np.pi / instrument.q_max
    tail = float(np.sqrt(-4.0 * u_iso * np.log(PEAK_PRECISION)))
    shrink = min(1.0, LARGEST_EXTENSION / (ripple + tail))
    return ripple * shrink, tail * shrink


def _peaks(pairs: PairHistogram, weights: FloatArray, variance: FloatArray, size: int) -> FloatArray:
    """Return R(r)/r: the histogram of each kind of pair, convolved with its Gaussian."""
    q = 2.0 * np.pi * np.arange(size // 2 + 1) / (size * pairs.r_step)
    counted = np.flatnonzero(weights)
    spectrum = np.zeros(q.size, dtype=np.complex128)
    for value in np.unique(variance[counted]):
        same = counted[variance[counted] == value]
        merged = np.zeros(size)
        length = min(size, pairs.values.shape[1])
        merged[:length] = weights[same] @ pairs.values[same, :length]
        spectrum += np.fft.rfft(merged) * np.exp(-0.5 * value * q**2)
    return np.asarray(np.fft.irfft(spectrum, size) / (pairs.counts.sum() * pairs.r_step))


def _band_limited(g: FloatArray, n_padded: int, step: float, instrument: Instrument) -> FloatArray:
    """Cut the sine transform of g at q_min and q_max, on the grid that zero padding gives it."""
    odd = np.zeros(2 * n_padded)
    odd[: g.size] = g
    odd[:n_padded:-1] = -odd[1:n_padded]
    spectrum = np.fft.rfft(odd)
    q_step = np.pi / (n_padded * step)
    spectrum[int(np.ceil(instrument.q_max / q_step)) :] = 0.0
    spectrum[: int(np.ceil(instrument.q_min / q_step))] = 0.0
    return np.asarray(np.fft.irfft(spectrum, odd.size)[: g.size])


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
